"""Single passes over a side's words, compiled by Numba. Names as in :mod:`.kernels`."""

from __future__ import annotations

from numba import types

from weam_ray.alignment.kernels import GIVEN
from weam_ray.alignment.numerics import F64, FLAGS, I16, I32, I64, U16, f64, i16, i32, i64, kernel


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


@kernel(types.void(i32, i64, i32, types.int64, I64, I32, U16))
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


@kernel(types.void(i32, i64, i32, I64, i16, f64, I16, F64))
def place_records(  # type: ignore[no-untyped-def]
    tokens, starts, shape, places, links, scores, of_words, of_pairs
):
    """From the order of sorted records back to the order of text.

    ``places`` int64[T + 1] holds where each type's records begin, and moves on. ``of_words``
    int16[words] gets each word's link. ``of_pairs`` float64[S], or empty, gets sums of ``scores``,
    added up in the order of words.
    """
    for s in range(shape.size):
        if shape[s] >= 0:
            total = 0.0
            for at in range(starts[s], starts[s + 1]):
                t = tokens[at]
                place = places[t]
                places[t] = place + 1
                of_words[at] = links[place]
                if of_pairs.size:
                    total += scores[place]
            if of_pairs.size:
                of_pairs[s] = total


@kernel(types.void(GIVEN, i32, i32, FLAGS, FLAGS))
def mark_words(given, source_lengths, sentence, done, marks):  # type: ignore[no-untyped-def]
    """Set ``marks`` bool[V + 1] at the source words of the sentences int32[R], in any order.

    ``done`` bool[S] tells which sentences were met before.
    """
    for r in range(sentence.size):
        s = sentence[r]
        if not done[s]:
            done[s] = True
            begin = given.starts[s]
            for at in range(begin, begin + source_lengths[given.shape[s]]):
                marks[given.tokens[at]] = True
