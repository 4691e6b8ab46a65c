"""Questions of SQuAD-style files as one table, every answer checked against its context."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.items import find_paths, hash_order
from weam_ray.transfer.qa.config import QaSet, QuestionsConfig
from weam_ray.transfer.reading import open_parquet, text_lines

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
            "mismatches": config.mismatches,
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
            that doesn't match its text (unless the set says ``drop``), an id twice in a set that is
            evaluated, or a set without questions.
    """
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for one in sets:
        found, dropped = _read(one)
        _check_ids(found, one)
        if one.limit is not None:
            names = [f"{row['item']} {row['question']}" for row in found]
            found = [found[place] for place in sorted(hash_order(names, "limit")[: one.limit])]
        if not found:
            raise DataError("no questions", place=one.path)
        rows += found
        known = facts.setdefault(
            f"{one.task}/{one.split}/{one.languages}", {"questions": 0, "dropped": {_MISMATCH: 0}}
        )
        known["questions"] += len(found)
        known["dropped"][_MISMATCH] += dropped
    return pa.Table.from_pylist(rows, schema=QUESTIONS_SCHEMA), facts


def _read(one: QaSet) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    mismatched: list[tuple[str, str]] = []
    for place, context, question in _questions(one.path):
        answers = question.get("answers") or []
        if not answers:
            raise DataError(
                "no answer",
                place=place,
                cure="Unanswerable questions (SQuAD 2) are not part of these tasks.",
            )
        wrong = [answer for answer in answers if not _matches(context, answer)]
        if wrong:
            start, text = wrong[0].get("answer_start"), wrong[0].get("text")
            there = context[start : start + len(text)] if _is_span(start, text) else None
            mismatched.append(
                (place, f"answer {text!r} at {start}, where the context has {there!r}")
            )
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


def _questions(path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place, context and question, for each question of a file."""
    return _rows(path) if path.endswith(".parquet") else _squad(path)


def _squad(path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
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


def _rows(path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The Hub's rows of SQuAD: id, context, question, answers with lists text and answer_start."""
    with open_parquet(Path(path)) as file:
        wanted = ("id", "context", "question", "answers")
        missing = [name for name in wanted if name not in file.schema_arrow.names]
        if missing:
            raise DataError(f"not SQuAD's columns: no {', '.join(missing)}", place=path)
        for batch in file.iter_batches(columns=list(wanted)):
            for row in batch.to_pylist():
                answers = row["answers"] or {"text": [], "answer_start": []}
                pairs = zip(answers["text"], answers["answer_start"], strict=True)
                found = [{"text": text, "answer_start": start} for text, start in pairs]
                yield f"{path}: {row['id']}", row["context"], {**row, "answers": found}


def _is_span(start: Any, text: Any) -> bool:
    return isinstance(start, int) and isinstance(text, str)


def _matches(context: str, answer: dict[str, Any]) -> bool:
    start, text = answer.get("answer_start"), answer.get("text")
    if not isinstance(start, int) or not isinstance(text, str) or not text or start < 0:
        return False
    return context[start : start + len(text)] == text


def _check_ids(rows: Sequence[dict[str, Any]], one: QaSet) -> None:
    # TyDiQA's training file repeats ids; nothing is told apart by them in training.
    if one.split == "train":
        return
    seen: set[str] = set()
    for row in rows:
        if row["item"] in seen:
            raise DataError(f"question {row['item']!r} is there twice", place=one.path)
        seen.add(row["item"])
