"""Counting sort of target words by type, compiled by Numba. Names as in :mod:`.kernels`."""

from __future__ import annotations

from numba import types

from weam_ray.alignment.kernels import I32, I64, i32, i64, kernel

_flags = types.Array(types.boolean, 1, "C", readonly=True)


@kernel(types.void(i32, i64, i64, _flags, I64))
def count_cells(tokens, target_starts, starts, usable, cells):  # type: ignore[no-untyped-def]
    """Add to ``cells`` int64[T + 1] the source length of every occurrence of each type."""
    for s in range(usable.size):
        if usable[s]:
            n = starts[s + 1] - starts[s]
            for at in range(target_starts[s], target_starts[s + 1]):
                cells[tokens[at]] += n


@kernel(types.void(i32, i64, _flags, types.int64, I64))
def count_records(tokens, starts, usable, first, counts):  # type: ignore[no-untyped-def]
    """Add to ``counts[t + 1]`` the occurrences of type ``first + t``."""
    types = counts.size - 1
    for s in range(usable.size):
        if usable[s]:
            for at in range(starts[s], starts[s + 1]):
                t = tokens[at] - first
                if 0 <= t < types:
                    counts[t + 1] += 1


@kernel(types.void(i32, i64, _flags, types.int64, I64, I32, I32))
def fill_records(  # type: ignore[no-untyped-def]
    tokens, starts, usable, first, places, sentence, position
):
    """Put every occurrence at its type's next place; ``places`` int64[types] moves on."""
    types = places.size
    for s in range(usable.size):
        if usable[s]:
            begin = starts[s]
            for at in range(begin, starts[s + 1]):
                t = tokens[at] - first
                if 0 <= t < types:
                    place = places[t]
                    sentence[place] = s
                    position[place] = at - begin
                    places[t] = place + 1
