"""What EM is told of one direction of a bitext: the two sides, and the diagonal prior's shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import kernels, sorting
from weam_ray.alignment.encoding import Side

Reasons = dict[str, int]


@dataclass(frozen=True, eq=False)
class Prior:
    """The diagonal prior at one tension, for all shapes: see :mod:`.kernels`."""

    prior: NDArray[np.float64]
    split: NDArray[np.int32]
    powers: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shapes:
    """The distinct (target length, source length) of usable pairs, in ascending order."""

    target_lengths: NDArray[np.int32]
    source_lengths: NDArray[np.int32]
    repeats: NDArray[np.int64]
    """How many pairs have the shape."""
    powers_at: NDArray[np.int64]
    """int64[longest source + 1]: where the powers of a source length begin, or -1."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Where each shape's rows of the prior begin, and how many rows there are: int64[K + 1]."""
        rows = np.zeros(len(self.target_lengths) + 1, np.int64)
        np.cumsum(self.target_lengths, out=rows[1:])
        return rows

    def prior(self, tension: float, null_probability: float) -> Prior:
        """The tables of the diagonal prior at a tension."""
        rows = int(self.rows[-1])
        prior = np.empty((rows, 2))
        split = np.empty(rows, np.int32)
        kernels.prior_table(
            self.target_lengths, self.source_lengths, tension, 1 - null_probability, prior, split
        )
        powers = np.empty(int(self.powers_at.max(initial=-1)) + len(self.powers_at) + 1)
        kernels.power_table(tension, self.powers_at, powers)
        return Prior(prior, split, powers)

    def feature(self, tension: float) -> float:
        """Sum over target words of the diagonal feature that the prior expects."""
        return float(
            kernels.model_feature(self.target_lengths, self.source_lengths, self.repeats, tension)
        )


@dataclass(frozen=True, eq=False)
class Text:
    """One direction of a bitext: words of ``target`` are explained by words of ``source``."""

    source: Side
    target: Side
    usable: NDArray[np.bool_]
    """bool[S]: neither blank nor too long on either side."""
    prior_row: NDArray[np.int64]
    """int64[S]: the first row of the pair's shape in the prior, 0 for unusable pairs."""
    shapes: Shapes

    @property
    def words(self) -> int:
        """Target words in usable pairs."""
        return int(self.shapes.target_lengths.astype(np.int64) @ self.shapes.repeats)

    @property
    def length_ratio(self) -> float:
        """Mean over usable pairs of target length / source length."""
        ratios = self.shapes.target_lengths / self.shapes.source_lengths
        pairs = int(self.shapes.repeats.sum())
        return float(ratios @ self.shapes.repeats) / pairs if pairs else 1.0


def unusable(source: Side, target: Side, max_words: int) -> tuple[NDArray[np.bool_], Reasons]:
    """Which pairs can be aligned, bool[S], and how many can't, by reason."""
    shorter = np.minimum(source.lengths, target.lengths)
    longer = np.maximum(source.lengths, target.lengths)
    blank = shorter == 0
    too_long = ~blank & (longer > max_words)
    reasons = {"blank_side": int(blank.sum()), "too_long": int(too_long.sum())}
    return ~(blank | too_long), reasons


def make_text(source: Side, target: Side, usable: NDArray[np.bool_]) -> Text:
    """One direction of a bitext, with the shapes of its usable pairs."""
    base = int(source.lengths.max(initial=0)) + 1
    key = target.lengths * base + source.lengths
    distinct, inverse, repeats = np.unique(key[usable], return_inverse=True, return_counts=True)
    target_lengths = (distinct // base).astype(np.int32)
    source_lengths = (distinct % base).astype(np.int32)
    powers_at = np.full(int(source_lengths.max(initial=0)) + 1, -1, np.int64)
    lengths = np.unique(source_lengths)
    powers_at[lengths] = np.cumsum(lengths + 1) - (lengths + 1)
    shapes = Shapes(target_lengths, source_lengths, repeats.astype(np.int64), powers_at)
    prior_row = np.zeros(len(source), np.int64)
    prior_row[usable] = shapes.rows[inverse]
    return Text(source, target, usable, prior_row, shapes)


@dataclass(frozen=True, eq=False)
class Records:
    """Occurrences of the target types ``first..last - 1``, sorted by type and then by place."""

    first: int
    sentence: NDArray[np.int32]
    position: NDArray[np.int32]
    type_ptr: NDArray[np.int64]
    """int64[types + 1]: the records of type ``first + t`` are ``type_ptr[t]:type_ptr[t + 1]``."""


def cells_by_type(text: Text) -> NDArray[np.int64]:
    """How many (source word, occurrence) cells each target type has, int64[types + 1]."""
    cells = np.zeros(text.target.types + 1, np.int64)
    sorting.count_cells(
        text.target.tokens, text.target.starts, text.source.starts, text.usable, cells
    )
    return cells


def sort_records(text: Text, first: int, last: int) -> Records:
    """The records of target types ``first`` to ``last - 1``."""
    type_ptr = np.zeros(last - first + 1, np.int64)
    tokens, starts = text.target.tokens, text.target.starts
    sorting.count_records(tokens, starts, text.usable, first, type_ptr)
    np.cumsum(type_ptr, out=type_ptr)
    sentence = np.empty(type_ptr[-1], np.int32)
    position = np.empty(type_ptr[-1], np.int32)
    sorting.fill_records(
        tokens, starts, text.usable, first, type_ptr[:-1].copy(), sentence, position
    )
    return Records(first, sentence, position, type_ptr)
