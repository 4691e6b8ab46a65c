"""Exact match and F1 of answers, normalised by language as MLQA does (Lewis et al. 2020, 5.1).

Lower case, no punctuation (Unicode category P), no articles of the language, then words; Chinese,
Japanese and Thai are compared by character, Latin words in them as words.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.errors import DataError
from weam_ray.transfer.scores import ENCODER, PREDICTIONS_SCHEMA, SCORES_SCHEMA, group_rows

QA_PREDICTIONS_SCHEMA = pa.schema(
    [
        *PREDICTIONS_SCHEMA,
        ("gold_texts", pa.list_(pa.string())),
        ("predicted_text", pa.string()),
        ("exact_match", pa.float32()),
        ("f1", pa.float32()),
    ]
)
"""The layout of all tasks, then the texts and what they score. ``gold`` and ``predicted`` are null,
and ``log_probabilities`` has one number, that of the answer's span within its window."""

_JUDGED = ("predicted_text", "gold_texts", "language")

_ARTICLES = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    # The Arabic article is written onto its word; MLQA cuts it wherever it stands.
    "ar": re.compile("ال"),
}

_BY_CHARACTER = {
    "zh": re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"),
    "ja": re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])"),
    "th": re.compile(r"([\u0e00-\u0e7f])"),
}


def answer_words(text: str, language: str) -> list[str]:
    """The normalised words of an answer."""
    primary = re.split("[-_]", language)[0]
    plain = text.lower().translate(_no_punctuation())
    if articles := _ARTICLES.get(primary):
        plain = articles.sub(" ", plain)
    if by_character := _BY_CHARACTER.get(primary):
        plain = by_character.sub(r" \1 ", plain)
    return plain.split()


def exact_match(predicted: str, answers: Sequence[str], language: str) -> float:
    """1 if the normalised prediction is one of the normalised answers, else 0."""
    words = answer_words(predicted, language)
    return float(any(words == answer_words(answer, language) for answer in answers))


def f1(predicted: str, answers: Sequence[str], language: str) -> float:
    """Largest harmonic mean of word precision and recall over the answers.

    Nothing against nothing, as where an answer is an article alone, counts 0, though exact match is
    then 1: so do the scripts of SQuAD 1.1 and MLQA.
    """
    return max(_f1(answer_words(predicted, language), answer_words(answer, language))
               for answer in answers)  # fmt: skip


def qa_scores(predictions: pa.Table, system: str = ENCODER) -> pa.Table:
    """Exact match and F1 by task, split, selection and language, from predictions alone.

    Args:
        predictions: rows with ``exact_match`` and ``f1``, or with the texts that these follow from.

    Returns:
        A table in scores.parquet's schema; values from 0 to 1, class shares are null.

    Raises:
        DataError: there are no predictions.
    """
    if not len(predictions):
        raise DataError("there are no predictions to score")
    rows = []
    values = _values(predictions)
    columns = ["task", "split", "selection", "language"]
    for key, group in group_rows(predictions, columns).items():
        task, split, selection, language = key
        for metric, by_row in values.items():
            rows.append(
                {
                    "task": task,
                    "language": language,
                    "split": split,
                    "selection": selection,
                    "system": system,
                    "metric": metric,
                    "value": float(by_row[group].mean(dtype=np.float64)),
                    "n": len(group),
                }
            )
    return pa.Table.from_pylist(rows, schema=SCORES_SCHEMA)


def _values(predictions: pa.Table) -> dict[str, NDArray[np.float32]]:
    """Both metrics of every row."""
    measures = {"exact_match": exact_match, "f1": f1}
    if set(measures) <= set(predictions.column_names):
        return {name: np.asarray(predictions[name], np.float32) for name in measures}
    columns = (predictions[name].to_pylist() for name in _JUDGED)
    rows = list(zip(*columns, strict=True))
    return {
        name: np.asarray([measure(*row) for row in rows], np.float32)
        for name, measure in measures.items()
    }


@cache
def _no_punctuation() -> dict[int, None]:
    marks = {code for code in range(0x110000) if unicodedata.category(chr(code)).startswith("P")}
    return dict.fromkeys(marks | set(map(ord, string.punctuation)))


def _f1(predicted: Sequence[str], answer: Sequence[str]) -> float:
    shared = sum((Counter(predicted) & Counter(answer)).values())
    return 2 * shared / (len(predicted) + len(answer)) if shared else 0.0
