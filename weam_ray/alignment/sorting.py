"""Single passes over a side's words, compiled by Numba. Names as in :mod:`.kernels`."""

from __future__ import annotations

from numba import types

from weam_ray.alignment.kernels import GIVEN
from weam_ray.alignment.numerics import I32, I64, i32, i64, kernel

_U16 = types.Array(types.uint16, 1, "C")


@kernel(types.void(i32, i64, i32, i32, I64))
def count_cells(tokens, starts, shape, source_lengths, cells):  # type: ignore[no-untyped-def]
    """Add to ``cells`` int64[T + 1] the source length of every occurrence of each target type."""
    for s in range(shape.size):
        if shape[s] >= 0:
            for at in range(starts[s], starts[s + 1]):
                cells[tokens[at]] += source_lengths[shape[s]]


@kernel(types.void(i32, i64, i32, types.int64, I64))
def count_records(tokens, starts, shape, first, counts):  # type: ignore[no-untyped-def]
    """Add to ``counts[t + 1]`` the occurrences of target type ``first + t``."""
    size = counts.size - 1
    for s in range(shape.size):
        if shape[s] >= 0:
            for at in range(starts[s], starts[s + 1]):
                t = tokens[at] - first
                if 0 <= t < size:
                    counts[t + 1] += 1


@kernel(types.void(i32, i64, i32, types.int64, I64, I32, _U16))
def fill_records(  # type: ignore[no-untyped-def]
    tokens, starts, shape, first, places, sentence, position
):
    """Put every occurrence at its type's next place; ``places`` int64[types] moves on."""
    size = places.size
    for s in range(shape.size):
        if shape[s] >= 0:
            begin = starts[s]
            for at in range(begin, starts[s + 1]):
                t = tokens[at] - first
                if 0 <= t < size:
                    place = places[t]
                    sentence[place] = s
                    position[place] = at - begin
                    places[t] = place + 1


@kernel(types.void(GIVEN, i32, i64, i64, I64))
def sum_expected(given, source_lengths, offsets, expected, totals):  # type: ignore[no-untyped-def]
    """Add each source word's ``expected`` count, shape by shape from ``offsets``, to ``totals``."""
    for s in range(given.shape.size):
        shape = given.shape[s]
        if shape >= 0:
            begin = given.starts[s]
            for i in range(source_lengths[shape]):
                totals[given.tokens[begin + i]] += expected[offsets[shape] + i]
