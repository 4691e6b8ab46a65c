"""Answers that need no encoder, so that a reader's score can be read against something."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from weam_ray.transfer.bags import words
from weam_ray.transfer.qa.scoring import qa_scores
from weam_ray.transfer.scores import NO_SELECTION

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？।])")


def qa_sanity_rows(questions: pa.Table) -> pa.Table:
    """Exact match and F1 of two answers to every evaluated question.

    - first-sentence: the context's first sentence, whatever the question.
    - word-overlap-only: the sentence that shares most words with the question, the first of equals.

    Returns:
        A table in scores.parquet's schema; ``selection`` is ``none``.
    """
    asked = questions.filter(pc.not_equal(questions["split"], "train"))
    contexts = [sentences(text) for text in asked["context"].to_pylist()]
    wanted = [set(words(text)) for text in asked["question"].to_pylist()]
    answers = {
        "first-sentence": [found[0] for found in contexts],
        "word-overlap-only": [
            _closest(found, want) for found, want in zip(contexts, wanted, strict=True)
        ],
    }
    tables = []
    for system, texts in answers.items():
        predictions = pa.table(
            {
                "task": asked["task"],
                "split": asked["split"],
                "language": asked["language"],
                "selection": pa.array([NO_SELECTION] * len(asked), pa.string()),
                "gold_texts": asked["answers"],
                "predicted_text": texts,
            }
        )
        tables.append(qa_scores(predictions, system))
    return pa.concat_tables(tables).combine_chunks()


def _closest(found: list[str], wanted: set[str]) -> str:
    return max(found, key=lambda sentence: len(wanted & set(words(sentence))))


def sentences(context: str) -> list[str]:
    """The sentences of a context, roughly; at least one."""
    return [one for one in _SENTENCE_END.split(context) if one.strip()] or [context]
