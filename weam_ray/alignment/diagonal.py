"""The diagonal prior: for each shape of a pair, where a target word expects its source word.

A shape is (m target words, n source words). The prior of source word i of 1..n for target word j
of 1..m is exp(-tension |i / n - j / m|) / z. On each side of the diagonal it is a geometric
series, so a row of it is two heights and a slope that all pairs with the same n share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from weam_ray.alignment.numerics import F64, I64, F64x2, exp, f64, f64x2, frozen, i32, i64, kernel


class Prior(NamedTuple):
    """The prior of K shapes at one tension, as kernels take it."""

    target_lengths: NDArray[np.int32]
    """int32[K]"""
    source_lengths: NDArray[np.int32]
    """int32[K]"""
    rows: NDArray[np.int64]
    """int64[K + 1]: where a shape's rows begin, one row for each target position."""
    split: NDArray[np.int32]
    """int32[rows]: how many source words lie below the diagonal."""
    heights: NDArray[np.float64]
    """float64[rows, 2]: the prior just above and just below the diagonal."""
    slopes: NDArray[np.float64]
    """For each n, 2 n values falling to both sides of their middle, from 1 on: the slopes of a row
    are the n values that end ``split`` places before the end."""
    slopes_at: NDArray[np.int64]
    """int64[longest + 1]: where the slopes of n begin."""


PRIOR = types.NamedTuple((i32, i32, i64, i32, f64x2, f64, i64), Prior)


@kernel(types.void(i32, i32, i32, types.float64, types.float64, F64x2))
def fill_heights(m_of, n_of, split, tension, not_null, heights):  # type: ignore[no-untyped-def]
    """The prior just above and below the diagonal; a row sums to ``not_null``."""
    row = 0
    for shape in range(m_of.size):
        m = m_of[shape]
        n = n_of[shape]
        per_m = 1.0 / m
        rate = -tension / n
        steps = 1.0 - exp(rate)
        for j in range(m):
            at = split[row + j]
            across = (j + 1.0) * n * per_m
            up = exp(rate * (at + 1 - across))
            down = exp(rate * (across - at))
            above = 1.0 - exp(rate * (n - at))
            below = 1.0 - exp(rate * at)
            scale = not_null * steps / (up * above + down * below)
            heights[row + j, 0] = up * scale
            heights[row + j, 1] = down * scale
        row += m


@kernel(types.void(types.float64, i64, F64))
def fill_slopes(tension, slopes_at, slopes):  # type: ignore[no-untyped-def]
    """exp(-tension k / n), k = n - 1, ..., 1, 0, 0, 1, ..., n - 1, for every n with a place."""
    for n in range(1, slopes_at.size):
        at = slopes_at[n]
        if at >= 0:
            for k in range(n):
                slopes[at + n + k] = exp(-tension * k / n)
                slopes[at + n - 1 - k] = slopes[at + n + k]


@kernel(types.float64(i32, i32, i64, i32, i64, types.float64, F64))
def model_feature(  # type: ignore[no-untyped-def]
    m_of, n_of, repeats, split, exchanged, tension, buffer
):
    """Sum over target words of the diagonal feature -|i / n - j / m| that the prior expects.

    As fast_align has it: the normaliser is that of the exchanged lengths, ``exchanged`` int64[rows]
    being j m / n, rounded down. Arithmetico-geometric series in closed form; one without terms
    comes out as zero. ``buffer`` float64[longest target] is scratch.
    """
    total = 0.0
    row = 0
    for shape in range(m_of.size):
        m = m_of[shape]
        n = n_of[shape]
        per_m, per_n = 1.0 / m, 1.0 / n
        ratio = exp(-tension * per_n)
        down = 1.0 / (ratio - 1.0)
        z_steps = 1.0 / (1.0 - exp(-tension * per_m))
        for j in range(m):
            along = (j + 1.0) * per_m
            at = split[row + j] + 0.0
            up_first = -abs((at + 1.0) * per_n - along)
            up = exp(tension * up_first)
            up_end = up * exp(-tension * (n - at) * per_n)
            up_last = up_first - (n - at - 1.0) * per_n
            low_first = -abs(at * per_n - along)
            low = exp(tension * low_first)
            low_end = low * exp(-tension * at * per_n)
            low_last = low_first - (at - 1.0) * per_n
            value = (up_last * up_end - up_first * up) + (low_last * low_end - low_first * low)
            ends = (up_end - up * ratio) + (low_end - low * ratio)
            value = value * down + per_n * ends * down * down
            across = (j + 1.0) * per_n
            at = exchanged[row + j] + 0.0
            # fast_align counts m - at without a sign: below zero it is enormous, its power zero.
            power = exp(-tension * max(0.0, m - at) * per_m) if at <= m else 0.0
            z_up = exp(-tension * abs((at + 1.0) * per_m - across)) * (1.0 - power)
            z_low = 1.0 - exp(-tension * at * per_m)
            z_low *= exp(-tension * abs(at * per_m - across))
            buffer[j] = value / ((z_up + z_low) * z_steps)
        of_shape = 0.0
        for j in range(m):
            of_shape += buffer[j]
        total += repeats[shape] * of_shape
        row += m
    return total


@kernel(types.void(PRIOR, types.float64, I64))
def expected_counts(prior, scale, counts):  # type: ignore[no-untyped-def]
    """How many target words the prior alone expects at each source position of each shape.

    ``counts`` int64[sum of n] gets them in fixed point, shape after shape.
    """
    begin = 0
    for shape in range(prior.source_lengths.size):
        n = prior.source_lengths[shape]
        for i in range(n):
            expected = 0.0
            for row in range(prior.rows[shape], prior.rows[shape + 1]):
                side = 1 if i < prior.split[row] else 0
                at = prior.slopes_at[n] + n - prior.split[row]
                expected += prior.heights[row, side] * prior.slopes[at + i]
            counts[begin + i] = np.int64(expected * scale + 0.5)
        begin += n


@dataclass(frozen=True, eq=False)
class Shapes:
    """The distinct shapes of the pairs that can be aligned, in ascending order."""

    target_lengths: NDArray[np.int32]
    source_lengths: NDArray[np.int32]
    repeats: NDArray[np.int64]
    """int64[K]: how many pairs have the shape."""
    rows: NDArray[np.int64]
    """As in :class:`Prior`."""
    split: NDArray[np.int32]
    exchanged: NDArray[np.int64]
    """int64[rows]: how many target words would lie below, were the lengths exchanged."""
    slopes_at: NDArray[np.int64]

    def prior(self, tension: float, null_probability: float) -> Prior:
        """The prior at a tension; a row of it sums to what the null word leaves."""
        heights = np.empty((len(self.split), 2))
        fill_heights(
            self.target_lengths, self.source_lengths, self.split,
            tension, 1 - null_probability, heights,
        )  # fmt: skip
        slopes = np.empty(2 * int(np.unique(self.source_lengths).sum()))
        fill_slopes(tension, self.slopes_at, slopes)
        tables = (self.target_lengths, self.source_lengths, self.rows, self.split)
        return Prior(*[frozen(table) for table in (*tables, heights, slopes, self.slopes_at)])

    def feature(self, tension: float) -> float:
        """Sum over target words of the diagonal feature that the prior expects."""
        buffer = np.empty(int(self.target_lengths.max(initial=0)))
        lengths = (self.target_lengths, self.source_lengths, self.repeats)
        return float(model_feature(*lengths, self.split, self.exchanged, tension, buffer))


def make_shapes(
    target_lengths: NDArray[np.int64], source_lengths: NDArray[np.int64]
) -> tuple[Shapes, NDArray[np.int32]]:
    """The distinct shapes of pairs, and the number of each pair's shape, int32[pairs]."""
    base = int(source_lengths.max(initial=0)) + 1
    distinct, shape, repeats = np.unique(
        target_lengths * base + source_lengths, return_inverse=True, return_counts=True
    )
    m, n = distinct // base, distinct % base
    rows = np.zeros(len(m) + 1, np.int64)
    np.cumsum(m, out=rows[1:])
    j = np.arange(rows[-1]) - np.repeat(rows[:-1], m) + 1
    slopes_at = np.full(base, -1, np.int64)
    lengths = np.unique(n)
    slopes_at[lengths] = 2 * (np.cumsum(lengths) - lengths)
    shapes = Shapes(
        target_lengths=m.astype(np.int32),
        source_lengths=n.astype(np.int32),
        repeats=repeats.astype(np.int64),
        rows=rows,
        split=(j * np.repeat(n, m) // np.repeat(m, m)).astype(np.int32),
        exchanged=j * np.repeat(m, m) // np.repeat(n, m),
        slopes_at=slopes_at,
    )
    return shapes, shape.astype(np.int32)
