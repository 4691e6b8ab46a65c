"""What EM is told of one direction of a bitext, and the sorting of its target words by type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import sorting
from weam_ray.alignment.diagonal import Shapes, expected_counts, make_shapes
from weam_ray.alignment.encoding import Side
from weam_ray.alignment.kernels import Given, Occurrences
from weam_ray.alignment.numerics import frozen


@dataclass(frozen=True, eq=False)
class Text:
    """One direction of a bitext of S pairs: words of ``source`` explain words of ``target``."""

    source: Side
    target: Side
    shape: NDArray[np.int32]
    """int32[S]: the number of a pair's shape, -1 where it is blank or too long."""
    shapes: Shapes

    @property
    def given(self) -> Given:
        """The source side as kernels take it."""
        side = self.source
        return Given(frozen(side.tokens), frozen(side.starts), frozen(self.shape))

    @property
    def words(self) -> int:
        """Target words in pairs that can be aligned."""
        return int(self.shapes.target_lengths.astype(np.int64) @ self.shapes.repeats)

    @property
    def longest(self) -> int:
        """Words in the longest source sentence that can be aligned."""
        return int(self.shapes.source_lengths.max(initial=0))

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
        sorting.sum_expected(self.given, lengths, offsets, expected, totals)
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
    return Text(source, target, shape, shapes), reasons


def cells_by_type(text: Text) -> NDArray[np.int64]:
    """How many cells (source word, occurrence) each target type has, int64[types + 1]."""
    cells = np.zeros(text.target.types + 1, np.int64)
    target = text.target
    sorting.count_cells(target.tokens, target.starts, text.shape, text.shapes.source_lengths, cells)
    return cells


def sort_records(text: Text, first: int, last: int) -> Occurrences:
    """The records of target types ``first`` to ``last - 1``, sorted by type and then by place."""
    type_ptr = np.zeros(last - first + 1, np.int64)
    words = (text.target.tokens, text.target.starts, text.shape)
    sorting.count_records(*words, first, type_ptr)
    np.cumsum(type_ptr, out=type_ptr)
    sentence = np.empty(type_ptr[-1], np.int32)
    position = np.empty(type_ptr[-1], np.uint16)
    sorting.fill_records(*words, first, type_ptr[:-1].copy(), sentence, position)
    return Occurrences(frozen(sentence), frozen(position), frozen(type_ptr))
