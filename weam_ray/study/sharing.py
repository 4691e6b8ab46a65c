"""How much noise comparisons share: what a family's variances can lend each other depends on it.

Two comparisons with one baseline see the same runs of it. Of what seeds do to them there are two
parts. Shifts of whole runs: one number a run, too few to tell how much of them is shared, so the
cells that two comparisons have in common say it, as if every cell's shifts were alike. And noise
within the runs, item by item: there are enough items to measure what of it is shared. (One baseline
scored in two languages answers them with noise of their own; taken as all the same, intervals of
18 configurations with three seeds covered in 96.1-96.7 %.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from weam_ray.study.intervals import Crossed, within
from weam_ray.study.matching import Matched, same_items

Array = NDArray[np.float64]


def overlap(matched: Sequence[Matched], spreads: Sequence[Crossed]) -> Array:
    """Correlation of the comparisons' seed noise, in size: shape (comparisons, comparisons).

    Args:
        matched: the comparisons.
        spreads: of their tables, before any moderation.
    """
    weights = _weights(matched)
    shifts = weights @ weights.T
    if not _alike(matched) or not any(one.residual for one in spreads):
        return _correlation(shifts)
    inner = _within_together([one.table for one in matched])
    between = sum(one.seed_variance for one in spreads) - float(np.trace(inner))
    entering = float(np.trace(shifts))
    variance = max(between, 0.0) / entering if entering > 0 else 0.0
    return _correlation(variance * shifts + inner)


def _weights(matched: Sequence[Matched]) -> Array:
    kinds = sorted({kind for one in matched for kind in one.weights})
    places = {kind: place for place, kind in enumerate(kinds)}
    found = np.zeros((len(matched), len(kinds)))
    for row, one in zip(found, matched, strict=True):
        for kind, weight in one.weights.items():
            row[places[kind]] = weight
    return found


def _alike(matched: Sequence[Matched]) -> bool:
    """Whether every table has the same seeds and items, several of both."""
    first = matched[0]
    seeds, items = first.table.shape
    several = seeds > 1 and items > 1
    return several and same_items(matched) and all(one.seeds == first.seeds for one in matched)


def _within_together(tables: Sequence[NDArray[np.floating]]) -> Array:
    """Covariance of the tables' seed means that comes from noise within the cells."""
    stacked = np.stack([np.asarray(table, np.float64) for table in tables])
    _, seeds, items = stacked.shape
    rest = within(stacked).reshape(len(tables), -1)
    return np.asarray(rest @ rest.T / ((seeds - 1) * (items - 1) * items), np.float64)


def _correlation(covariance: Array) -> Array:
    sds = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.outer(sds, sds)
    found = np.abs(np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0))
    np.fill_diagonal(found, 1.0)
    return np.asarray(np.minimum(found, 1.0))
