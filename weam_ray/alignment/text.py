"""What EM is told of one direction of a bitext, and the sorting of its target words by type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import sorting
from weam_ray.alignment.diagonal import Shapes, expected_counts, make_shapes
from weam_ray.alignment.encoding import Side
from weam_ray.alignment.kernels import Given, Occurrences
from weam_ray.alignment.numerics import frozen


@dataclass(frozen=True, eq=False)
class Ground:
    """The side that explains, V types: all that a shard must know beside its own words."""

    tokens: NDArray[np.int32]
    """int32[source words]"""
    starts: NDArray[np.int64]
    """int64[S + 1]"""
    shape: NDArray[np.int32]
    """int32[S]: the number of a pair's shape, -1 where it is blank or too long."""
    shapes: Shapes
    types: int
    """V"""

    @property
    def given(self) -> Given:
        """As kernels take it."""
        return Given(frozen(self.tokens), frozen(self.starts), frozen(self.shape))

    @property
    def words(self) -> int:
        """Target words in pairs that can be aligned."""
        return int(self.shapes.target_lengths.astype(np.int64) @ self.shapes.repeats)

    @property
    def cells(self) -> int:
        """All (source word, occurrence of a target word) in pairs that can be aligned."""
        lengths = self.shapes.target_lengths.astype(np.int64) * self.shapes.source_lengths
        return int(lengths @ self.shapes.repeats)

    @property
    def longest(self) -> int:
        """Words in the longest source sentence that can be aligned."""
        return int(self.shapes.source_lengths.max(initial=0))

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        shapes = int(sum(array.nbytes for array in vars(self.shapes).values()))
        return self.tokens.nbytes + self.starts.nbytes + self.shape.nbytes + shapes


@dataclass(frozen=True, eq=False)
class Text:
    """One direction of a bitext of S pairs: words of ``source`` explain words of ``target``."""

    source: Side
    target: Side
    ground: Ground

    @property
    def shape(self) -> NDArray[np.int32]:
        """int32[S]: the number of a pair's shape, -1 where it is blank or too long."""
        return self.ground.shape

    @property
    def shapes(self) -> Shapes:
        """The distinct shapes of the pairs that can be aligned."""
        return self.ground.shapes

    @property
    def words(self) -> int:
        """Target words in pairs that can be aligned."""
        return self.ground.words

    @property
    def length_ratio(self) -> float:
        """Mean over pairs that can be aligned of target length / source length."""
        ratios = self.shapes.target_lengths / self.shapes.source_lengths
        pairs = int(self.shapes.repeats.sum())
        return float(ratios @ self.shapes.repeats) / pairs if pairs else 1.0

    def first_totals(
        self, tension: float, null_probability: float, scale: float
    ) -> NDArray[np.int64]:
        """Fixed-point sums of the first iteration's counts, int64[V + 1]: only places matter."""
        lengths = self.shapes.source_lengths
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        expected = np.empty(int(offsets[-1]), np.int64)
        expected_counts(self.shapes.prior(tension, null_probability), scale, expected)
        totals = np.zeros(self.source.types + 1, np.int64)
        sorting.sum_expected(self.ground.given, lengths, offsets, expected, totals)
        totals[0] = int(self.words * null_probability * scale)
        return totals


def make_text(source: Side, target: Side, max_words: int) -> tuple[Text, dict[str, int]]:
    """One direction of a bitext, and how many pairs can't be aligned, by reason."""
    blank = np.minimum(source.lengths, target.lengths) == 0
    too_long = ~blank & (np.maximum(source.lengths, target.lengths) > max_words)
    usable = ~(blank | too_long)
    shapes, numbers = make_shapes(target.lengths[usable], source.lengths[usable])
    shape = np.full(len(source), -1, np.int32)
    shape[usable] = numbers
    reasons = {"blank_side": int(blank.sum()), "too_long": int(too_long.sum())}
    ground = Ground(source.tokens, source.starts, shape, shapes, source.types)
    return Text(source, target, ground), reasons


def cells_by_type(text: Text) -> NDArray[np.int64]:
    """How many cells (source word, occurrence) each target type has, int64[types + 1]."""
    cells = np.zeros(text.target.types + 1, np.int64)
    target = text.target
    sorting.count_cells(target.tokens, target.starts, text.shape, text.shapes.source_lengths, cells)
    return cells


@dataclass(frozen=True, eq=False)
class Records:
    """The records of consecutive target types from ``first`` on, sorted by type, then place."""

    first: int
    occurrences: Occurrences
    cells: NDArray[np.int64]
    """int64[types]: cells of each type."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.cells.nbytes + sum(array.nbytes for array in self.occurrences)


def sort_records(text: Text, first: int, last: int) -> Occurrences:
    """The records of target types ``first`` to ``last - 1``, sorted by type and then by place."""
    type_ptr = record_places(text, first, last)
    words = (text.target.tokens, text.target.starts, text.shape)
    sentence = np.empty(type_ptr[-1], np.int32)
    position = np.empty(type_ptr[-1], np.uint16)
    sorting.fill_records(*words, first, type_ptr[:-1].copy(), sentence, position)
    return Occurrences(frozen(sentence), frozen(position), frozen(type_ptr))


def record_places(text: Text, first: int, last: int) -> NDArray[np.int64]:
    """Where the records of each of some types begin, int64[last - first + 1]."""
    type_ptr = np.zeros(last - first + 1, np.int64)
    sorting.count_records(text.target.tokens, text.target.starts, text.shape, first, type_ptr)
    return np.cumsum(type_ptr, out=type_ptr)


def sorted_in_runs(
    text: Text, cells: NDArray[np.int64], first: int, last: int, at_most: int
) -> Iterator[Records]:
    """All records of types ``first`` to ``last - 1``, at most so many at a time (or one type's).

    Each run is a pass over the target words.

    Args:
        cells: what :func:`cells_by_type` gives.
    """
    ends = record_places(text, first, last)[1:]
    begin, done = first, 0
    while begin < last:
        end = first + int(np.searchsorted(ends, done + at_most, side="right"))
        end = min(max(end, begin + 1), last)
        yield Records(begin, sort_records(text, begin, end), cells[begin:end])
        begin, done = end, int(ends[end - first - 1])


def in_order_of_text(
    text: Text, links: NDArray[np.int16], scores: NDArray[np.float64] | None
) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
    """What was found for all records, sorted by type, back in the order of words.

    Args:
        links: int16[records], a source position or -1.
        scores: float64[records], log-probabilities, or None.

    Returns:
        int16[target words] links, -1 in pairs that can't be aligned; float64[S] sums of scores.
    """
    of_words = np.full(len(text.target.tokens), -1, np.int16)
    of_pairs = np.zeros(len(text.shape) if scores is not None else 0)
    places = np.concatenate([[0], record_places(text, 1, text.target.types + 1)])
    sorting.place_records(
        text.target.tokens, text.target.starts, text.shape, places, links,
        np.empty(0) if scores is None else scores, of_words, of_pairs,
    )  # fmt: skip
    return of_words, None if scores is None else of_pairs
