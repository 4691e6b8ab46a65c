"""Questions of SQuAD-style files as one table, every answer checked against its context."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.items import find_paths, hash_order
from weam_ray.transfer.qa.config import QaSet, QuestionsConfig
from weam_ray.transfer.reading import open_parquet, parquet_rows, text_lines

QUESTIONS_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("split", pa.string()),
        ("language", pa.string()),
        ("context_language", pa.string()),
        ("question_language", pa.string()),
        ("item", pa.string()),
        ("question", pa.string()),
        ("context", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("starts", pa.list_(pa.int32())),
    ]
)
"""``language`` is the context's, or ``context-question`` where they differ; ``starts`` are
character offsets of the answers in the context."""

_MISMATCH = "answer offset does not match its text"
OTHER_LANGUAGE = "of another language, by TyDiQA's ids"
"""Why a question was not read that is none of the set's: nothing is lost by it."""

Asked = tuple[str, str, dict[str, Any]]
"""Place, context and question as a file has them."""

_TYDIQA = {
    "arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "indonesian": "id",
    "japanese": "ja", "korean": "ko", "russian": "ru", "swahili": "sw", "telugu": "te",
    "thai": "th",
}  # fmt: skip
"""TyDiQA has all languages in one file, told apart by the beginning of the id alone."""


def question_files(task: str, config: QuestionsConfig) -> dict[str, tuple[Path, ...]]:
    """The files of each ``task/split/language`` asked for; their content is part of the identity.

    Raises:
        ConfigError: no pattern at all.
        DataError: a language, or a pair of them, has no file.
        ResourceError: the Hub can't be reached.
    """
    files: dict[str, tuple[Path, ...]] = {}
    for one in question_sets(task, config):
        paths = find_paths(one.path, config)
        if not paths:
            raise DataError(
                f"no {one.split} file of {one.task} for {one.languages}",
                place=one.path,
                cure="Check the path, or take the language out of the questions' languages.",
            )
        files[f"{one.task}/{one.split}/{one.languages}"] = paths
    if not files:
        raise ConfigError("questions name no files", place=f"questions.{task}",
                          cure="Give train, dev or test a path.")  # fmt: skip
    return files


def question_sets(task: str, config: QuestionsConfig) -> list[QaSet]:
    """A set for each split and language, or pair of languages; train, then dev, then test.

    ``path`` is the pattern with the languages filled in: several files match where it has a ``*``.
    """
    sets: list[QaSet] = []
    for language in config.train_languages if config.train else ():
        assert config.train is not None
        path = config.train.replace("{language}", language)
        sets.append(_set(task, "train", path, language, language, config))
    for split in ("dev", "test"):
        for name, one in config.evaluated(task).items():
            pattern: str | None = getattr(one, split)
            for context, question in one.language_pairs() if pattern else ():
                assert pattern is not None
                path = pattern.replace("{context}", context).replace("{question}", question)
                sets.append(_set(name, split, path, context, question, config))
    return sets


def _set(
    task: str, split: str, path: str, context: str, question: str, config: QuestionsConfig
) -> QaSet:
    return QaSet.model_validate(
        {
            "task": task,
            "split": split,
            "path": path,
            "context_language": context,
            "question_language": question,
            "limit": getattr(config, f"{split}_limit"),
            # Only what is learnt from may shrink: what is evaluated has the items that others have.
            "mismatches": config.mismatches if split == "train" else "refuse",
        }
    )


def read_questions(task: str, config: QuestionsConfig) -> tuple[pa.Table, dict[str, Any]]:
    """The questions that a study's settings name, and the facts of :func:`load_questions`.

    Raises:
        ConfigError, DataError, ResourceError: as :func:`question_files`, :func:`load_questions`.
    """
    files = question_files(task, config)
    sets = []
    for one in question_sets(task, config):
        paths = files[f"{one.task}/{one.split}/{one.languages}"]
        sets += [one.model_copy(update={"path": str(path)}) for path in paths]
    return load_questions(sets)


def load_questions(sets: Sequence[QaSet]) -> tuple[pa.Table, dict[str, Any]]:
    """The questions of all sets, and the facts: questions kept and dropped by set.

    Raises:
        DataError: no such file, not SQuAD's json, a question without an answer, an answer offset
            that doesn't match its text (unless the set says ``drop``), an id twice in what is
            evaluated in one language, or a file without questions in it.
    """
    files: dict[str, list[QaSet]] = {}
    for one in sets:
        files.setdefault(f"{one.task}/{one.split}/{one.languages}", []).append(one)
    read = {name: _read_all(group) for name, group in files.items()}
    # In how many sets of its task and split a question is.
    shared = Counter(
        (row["task"], row["split"], row["item"]) for found, _ in read.values() for row in found
    )
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for name, (found, dropped) in read.items():
        chosen = _limited(found, files[name][0], shared)
        rows += chosen
        facts[name] = {"questions": len(chosen), "dropped": dict(dropped)}
    return pa.Table.from_pylist(rows, schema=QUESTIONS_SCHEMA), facts


def _read_all(group: Sequence[QaSet]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """All files of one task, split and language; what was dropped, by reason."""
    rows: list[dict[str, Any]] = []
    dropped = Counter({_MISMATCH: 0})
    seen: set[str] = set()
    for one in group:
        every = list(_questions(one.path))
        # By language first: what is wrong with another language's question is not this set's.
        own = _of_language(every, one)
        found, mismatched = _read(own, one)
        dropped[_MISMATCH] += mismatched
        if others := len(every) - len(own):
            dropped[OTHER_LANGUAGE] += others
        if not found:
            raise DataError("no questions", place=one.path)
        # TyDiQA's training file repeats ids; nothing is told apart by them in training.
        if one.split != "train":
            _check_ids(found, seen, one.path)
        rows += found
    return rows, dropped


def _of_language(rows: list[Asked], one: QaSet) -> list[Asked]:
    """The questions in the set's language, where ids name languages as TyDiQA's do."""
    named = [_TYDIQA.get(str(question["id"]).split("-")[0]) for _, _, question in rows]
    if None in named:
        return rows
    own = one.context_language.split("-")[0]
    if rows and own not in named:
        there = ", ".join(sorted({str(name) for name in named}))
        raise DataError(
            f"no questions in {own}; by their ids they are in {there}",
            place=one.path,
            cure="Name one of these languages, or another file.",
        )
    return [row for row, name in zip(rows, named, strict=True) if name == own]


def _limited(
    rows: list[dict[str, Any]], one: QaSet, shared: Mapping[tuple[str, str, str], int]
) -> list[dict[str, Any]]:
    """The first rows in the order of a hash. What is evaluated goes by the id alone, those first
    that most sets have: MLQA asks other questions in each language, and only what two languages
    were both asked can be compared over them.
    """
    if one.limit is None:
        return rows
    if one.split == "train":
        names = [f"{row['item']} {row['question']}" for row in rows]
        order = hash_order(names, "limit").tolist()
    else:
        order = hash_order([row["item"] for row in rows], "limit").tolist()
        order.sort(key=lambda place: -shared[one.task, one.split, rows[place]["item"]])
    return [rows[place] for place in sorted(order[: one.limit])]


def _read(asked: Sequence[Asked], one: QaSet) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    mismatched: list[tuple[str, str]] = []
    for place, context, question in asked:
        answers = _checked(place, context, question)
        wrong = [answer for answer in answers if not _matches(context, answer)]
        if wrong:
            mismatched.append((place, _said(context, wrong[0])))
            continue
        rows.append(
            {
                "task": one.task,
                "split": one.split,
                "language": one.languages,
                "context_language": one.context_language,
                "question_language": one.question_language or one.context_language,
                "item": str(question["id"]),
                "question": question["question"],
                "context": context,
                "answers": [answer["text"] for answer in answers],
                "starts": [answer["answer_start"] for answer in answers],
            }
        )
    if mismatched and one.mismatches == "refuse":
        place, what = mismatched[0]
        raise DataError(
            f"{what} ({len(mismatched)} questions of this file are so)",
            place=place,
            cure="Mend the offsets (characters, not bytes), or set mismatches: drop.",
        )
    return rows, len(mismatched)


def _questions(path: str) -> Iterator[Asked]:
    return _rows(path) if path.endswith(".parquet") else _squad(path)


def _squad(path: str) -> Iterator[Asked]:
    text = "\n".join(line for _, line in text_lines(Path(path)))
    try:
        articles = json.loads(text)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield f"{path}: {question['id']}", paragraph["context"], question
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}", place=f"{path}:{error.lineno}") from None
    except (KeyError, TypeError) as error:
        raise DataError(f"not in SQuAD's format: {error} is missing", place=path) from None


def _checked(place: str, context: Any, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answers of a question whose fields are what SQuAD's are."""
    fields = {"context": context, "question": question.get("question")}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise DataError(f"the {name} is {value!r}, not text", place=place)
    answers = question.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(one, dict) for one in answers):
        raise DataError(
            f"the answers are {answers!r}, not a list of text and answer_start", place=place
        )
    if not answers:
        raise DataError(
            "no answer",
            place=place,
            cure="Unanswerable questions (SQuAD 2) are not part of these tasks.",
        )
    return answers


def _rows(path: str) -> Iterator[Asked]:
    """The Hub's rows of SQuAD: id, context, question, answers with lists text and answer_start."""
    with open_parquet(Path(path)) as file:
        wanted = ("id", "context", "question", "answers")
        missing = [name for name in wanted if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"not SQuAD's columns: no {', '.join(missing)}", place=path)
        for row in parquet_rows(file, Path(path), wanted):
            answers = row["answers"] or {}
            texts, starts = answers.get("text") or [], answers.get("answer_start") or []
            if len(texts) != len(starts):
                raise DataError(
                    f"{len(texts)} answers and {len(starts)} offsets", place=f"{path}: {row['id']}"
                )
            pairs = zip(texts, starts, strict=True)
            found = [{"text": text, "answer_start": start} for text, start in pairs]
            yield f"{path}: {row['id']}", row["context"], {**row, "answers": found}


def _said(context: str, answer: Mapping[str, Any]) -> str:
    start, text = answer.get("answer_start"), answer.get("text")
    there = None
    if isinstance(start, int) and isinstance(text, str):
        there = context[start : start + len(text)]
    return f"answer {text!r} at {start}, where the context has {there!r}"


def _matches(context: str, answer: dict[str, Any]) -> bool:
    start, text = answer.get("answer_start"), answer.get("text")
    if not isinstance(start, int) or not isinstance(text, str) or not text or start < 0:
        return False
    return context[start : start + len(text)] == text


def _check_ids(rows: Sequence[dict[str, Any]], seen: set[str], path: str) -> None:
    for row in rows:
        if row["item"] in seen:
            raise DataError(f"question {row['item']!r} is there twice", place=path)
        seen.add(row["item"])
