"""Answers that look like a mistake: always the same, or no better than those to other questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
import pyarrow as pa

from weam_ray.transfer.guards import Flag, FlagKind
from weam_ray.transfer.qa.scoring import f1
from weam_ray.transfer.scores import group_rows

ONE_ANSWER_SHARE = 0.1
"""A share of one and the same answer from which answers are called constant."""

_LEAST = 20
"""Questions below which a share says nothing."""

_Z95 = 1.96


def qa_flags(predictions: pa.Table) -> list[Flag]:
    """The flags of every task, language, split and selection in predictions.parquet."""
    texts = predictions["predicted_text"].to_pylist()
    golds = predictions["gold_texts"].to_pylist()
    scores = predictions["f1"].to_numpy()
    found: list[Flag] = []
    columns = ["task", "language", "split", "selection"]
    for key, rows in group_rows(predictions, columns).items():
        task, language, split, selection = key
        own = [texts[row] for row in rows]
        judged = _judge(own, [golds[row] for row in rows], scores[rows], language)
        found += [Flag(kind, task, language, split, selection, message) for kind, message in judged]
    return found


def _judge(
    texts: Sequence[str], golds: Sequence[Sequence[str]], scores: np.ndarray, language: str
) -> Iterator[tuple[FlagKind, str]]:
    n = len(texts)
    answer, count = Counter(texts).most_common(1)[0]
    if n >= _LEAST and count / n >= ONE_ANSWER_SHARE:
        yield "one-answer", f"{count / n:.1%} of {n} answers are {answer!r}"
    # Answers moved on by half the questions belong to other contexts: what they score is chance.
    moved = [*texts[n // 2 :], *texts[: n // 2]]
    chance = np.asarray([f1(*one, language) for one in zip(moved, golds, strict=True)])
    difference = scores - chance
    if difference.mean() <= _Z95 * difference.std() / sqrt(n):
        yield (
            "near-chance",
            f"F1 {scores.mean():.3f} on {n} questions can't be told from that of the same answers"
            f" given to other questions ({chance.mean():.3f})",
        )
