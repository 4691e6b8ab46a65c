"""Questions of SQuAD-style files as one table, every answer checked against its context."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from weam_ray.errors import DataError
from weam_ray.transfer.items import hash_order
from weam_ray.transfer.qa.config import QaSet
from weam_ray.transfer.reading import text_lines

QUESTIONS_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("split", pa.string()),
        ("language", pa.string()),
        ("context_language", pa.string()),
        ("item", pa.string()),
        ("question", pa.string()),
        ("context", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("starts", pa.list_(pa.int32())),
    ]
)
"""``language`` is the context's, or ``context-question`` where they differ; ``starts`` are
character offsets of the answers in the context."""


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
        facts[f"{one.task}/{one.split}/{one.languages}"] = {
            "questions": len(found),
            "dropped": {"answer offset does not match its text": dropped},
        }
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
