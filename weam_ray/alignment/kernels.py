"""The inner loops of EM, compiled by Numba: one direction, some target word types.

Names and shapes, with S pairs, V source types (0 is the null word), and for some target types R
records (their occurrences) and U entries (source types that a target type was met with):

- :class:`Given`: the source side. :class:`.diagonal.Prior`: the prior of each shape.
- :class:`Occurrences`: records, sorted by type.
- ``row_ptr`` int64[types + 1], ``row_word`` int32[U], ``row_count`` float64[U]: expected counts
  of (source word, target word). ``null_count`` float64[types]: the same for the null word.
- ``dense`` float64[2 (V + 1)]: translation probability and expected count of a source word for the
  type at hand, side by side so that one cache line serves both. All zero between types.
- ``inverse`` float64[V + 1]: turns a source word's weights into probabilities.
- ``totals`` int64[V + 1]: fixed-point sums of counts per source word. Integers, because their sum
  does not depend on the order of types, blocks, threads or workers.
- ``sums`` int64[3]: diagonal feature, null count, log-likelihood, in fixed point.

Tuples of arrays are taken apart before any loop, and nothing is inlined by Numba itself: both count
references to arrays, which costs more than a cell's arithmetic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from weam_ray.alignment.diagonal import PRIOR
from weam_ray.alignment.numerics import (
    F64,
    I16,
    I32,
    I64,
    LEAST,
    exp_digamma,
    f64,
    flags,
    i32,
    i64,
    kernel,
    log_of,
    prefetch,
)

LOG_UNIT = 1024.0
"""Log-likelihoods are kept in units of this, so that their sums fit the fixed point."""

UNSEEN = 1e-9
"""Probability of a pair of words of which one is unknown. Source: fast_align."""

RARE = 1e3
"""A source word whose parameter is larger keeps all its entries: it has a seventh of a count or
less, so that what is hopeless beside others' counts may be all there is of its own, and its
probability then one. Such words stand in short sentences alone, and have few entries."""

CLEARLY = 1 + 1e-9
"""Words this near to the best tie with it, and the leftmost is linked: rounding must not decide
between the same word twice, equally far from the diagonal."""


U = np.uint64
ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
"""Places are unsigned in inner loops: Numba looks at the sign of every signed index."""

AHEAD, FARTHER = np.uint64(8), np.uint64(16)
"""Records of one type lie in sentences far apart: their words are fetched so many records before
their turn, and what says where they are still earlier."""

LINE = np.uint64(16)
"""Words in a cache line."""


class Given(NamedTuple):
    """The side that explains."""

    tokens: NDArray[np.int32]
    """int32[source words]"""
    starts: NDArray[np.int64]
    """int64[S]: where a sentence begins in them."""
    shape: NDArray[np.int32]
    """int32[S]: the number of a pair's shape, -1 where it can't be aligned."""


class Occurrences(NamedTuple):
    """Occurrences of some target types."""

    sentence: NDArray[np.int32]
    """int32[R]"""
    position: NDArray[np.uint16]
    """uint16[R]: place in the target sentence."""
    type_ptr: NDArray[np.int64]
    """int64[types + 1]: the records of a type."""


GIVEN = types.NamedTuple((i32, i64, i32), Given)
RECORDS = types.NamedTuple(
    (i32, types.Array(types.uint16, 1, "C", readonly=True), i64), Occurrences
)
RAMP = np.arange(1.0, 32769.0)


@njit(error_model="numpy")
def _fetch(r, tokens, starts, shape_of, rows, split_of, heights, sentence, position):  # type: ignore[no-untyped-def]
    last = U(sentence.size - 1)
    s = U(sentence[min(r + FARTHER, last)])
    prefetch(starts, s)
    prefetch(shape_of, s)
    r = min(r + AHEAD, last)
    s = U(sentence[r])
    row = U(rows[U(shape_of[s])]) + U(position[r])
    prefetch(split_of, row)
    prefetch(heights, TWO * row)
    begin = U(starts[s])
    prefetch(tokens, begin)
    prefetch(tokens, begin + LINE)
    prefetch(tokens, begin + LINE + LINE)
    prefetch(tokens, begin + LINE + LINE + LINE)


@njit(error_model="numpy")
def _collect(first, last, tokens, starts, shape_of, prior, sentence, position, dense, word):  # type: ignore[no-untyped-def]
    # Counts of the first iteration, in which all words are equally good: the prior, which is
    # positive, so that a count of zero says "not met yet". Returns how many words were met.
    _, n_of, rows, split_of, heights, slopes, slopes_at = prior
    used = ZERO
    for r in range(U(first), U(last)):
        _fetch(r, tokens, starts, shape_of, rows, split_of, heights, sentence, position)
        s = U(sentence[r])
        begin = U(starts[s])
        shape = U(shape_of[s])
        n = U(n_of[shape])
        row = U(rows[shape]) + U(position[r])
        split = U(split_of[row])
        slope = U(slopes_at[n]) + n - split
        height = heights[row, 1]
        for i in range(ZERO, split):
            e = tokens[begin + i]
            at = TWO * U(e) + ONE
            old = dense[at]
            word[used] = e
            used += U(old == 0.0)
            dense[at] = old + height * slopes[slope + i]
        height = heights[row, 0]
        for i in range(split, n):
            e = tokens[begin + i]
            at = TWO * U(e) + ONE
            old = dense[at]
            word[used] = e
            used += U(old == 0.0)
            dense[at] = old + height * slopes[slope + i]
    return used


@njit(error_model="numpy")
def _explain(  # type: ignore[no-untyped-def]
    first, last, tokens, starts, shape_of, prior, sentence, position,
    dense, null, ramp, buffer, scale, sums,
):  # fmt: skip
    # One type's records: from the probabilities in ``dense`` to expected counts there. Returns the
    # expected count of the null word, whose probability is ``null``.
    m_of, n_of, rows, split_of, heights, slopes, slopes_at = prior
    nulls = feature = logs = 0.0
    product = 1.0
    for r in range(U(first), U(last)):
        _fetch(r, tokens, starts, shape_of, rows, split_of, heights, sentence, position)
        s = U(sentence[r])
        begin = U(starts[s])
        shape = U(shape_of[s])
        n = U(n_of[shape])
        j = U(position[r])
        row = U(rows[shape]) + j
        split = U(split_of[row])
        slope = U(slopes_at[n]) + n - split
        per_n = 1.0 / np.float64(np.int64(n))
        along = np.float64(np.int64(j)) / m_of[shape]
        # Probability times slope; its sum, and its sum weighted by the distance from the diagonal.
        below = below_far = above = above_far = 0.0
        for i in range(ZERO, split):
            weight = dense[TWO * U(tokens[begin + i])] * slopes[slope + i]
            buffer[i] = weight
            below += weight
            below_far += weight * abs(ramp[i] * per_n - along)
        for i in range(split, n):
            weight = dense[TWO * U(tokens[begin + i])] * slopes[slope + i]
            buffer[i] = weight
            above += weight
            above_far += weight * abs(ramp[i] * per_n - along)
        up = heights[row, 0]
        down = heights[row, 1]
        total = null + (down * below + up * above)
        share = 1.0 / total
        nulls += null * share
        feature -= (down * below_far + up * above_far) * share
        logs, product = log_of(total, logs, product)
        down *= share
        up *= share
        for i in range(ZERO, split):
            dense[TWO * U(tokens[begin + i]) + ONE] += buffer[i] * down
        for i in range(split, n):
            dense[TWO * U(tokens[begin + i]) + ONE] += buffer[i] * up
    logs += math.log(product)
    sums[0] += np.int64(feature * scale)
    sums[1] += np.int64(nulls * scale + 0.5)
    sums[2] += np.int64(logs * (scale / LOG_UNIT))
    return nulls


@kernel(types.void(GIVEN, PRIOR, RECORDS, I32, I64, I64))
def discover(given, prior, records, seen, distinct, met):  # type: ignore[no-untyped-def]
    """How many target types each source word meets, and the reverse.

    Adds to ``distinct`` int64[V + 1], sets ``met`` int64[types]. ``seen`` int32[V + 1] is scratch
    that holds no type's number.
    """
    tokens, starts, shape_of = given
    _, n_of, rows, split_of, heights, _, _ = prior
    sentence, position, type_ptr = records
    for t in range(type_ptr.size - 1):
        words = 0
        for r in range(U(type_ptr[t]), U(type_ptr[t + 1])):
            _fetch(r, tokens, starts, shape_of, rows, split_of, heights, sentence, position)
            s = U(sentence[r])
            begin = U(starts[s])
            for at in range(begin, begin + U(n_of[U(shape_of[s])])):
                e = U(tokens[at])
                new = seen[e] != t
                seen[e] = t
                distinct[e] += new
                words += new
        met[t] = words
        distinct[0] += words > 0


@kernel(
    types.int64(
        GIVEN, PRIOR, PRIOR, RECORDS, f64, types.float64, types.float64, types.boolean,
        types.float64, f64, F64, I32, F64, f64, F64, I64, I32, F64, F64, I64, I64,
    )
)  # fmt: skip
def begin(  # type: ignore[no-untyped-def]
    given, first_prior, prior, records, inverse, null_prior, alpha, variational,
    scale, least, dense, word, count, ramp, buffer,
    row_ptr, row_word, row_count, null_count, totals, sums,
):  # fmt: skip
    """The first two iterations of each type in one go: what the first one counts is not kept.

    Entries whose count after the second is not above ``least`` float64[longest source + 1], by the
    longest sentence of the type, are dropped, but for source words of next to no counts at all
    (:data:`RARE`). ``word`` int32[V + 2] and ``count`` float64[V + 1] are scratch. Returns how many
    entries there are.
    """
    tokens, starts, shape_of = given
    sentence, position, type_ptr = records
    n_of = prior.source_lengths
    entries = ZERO
    for t in range(type_ptr.size - 1):
        first = type_ptr[t]
        last = type_ptr[t + 1]
        used = _collect(
            first, last, tokens, starts, shape_of, first_prior, sentence, position, dense, word
        )
        for k in range(ZERO, used):
            at = TWO * U(word[k]) + ONE
            count[k] = dense[at]
            dense[at] = 0.0
        null = null_prior * (last - first)
        if variational:
            for k in range(ZERO, used):
                count[k] = exp_digamma(count[k] + alpha)
            null = exp_digamma(null + alpha)
        for k in range(ZERO, used):
            e = U(word[k])
            dense[TWO * e] = count[k] * inverse[e]
        null *= inverse[0] * null_prior
        nulls = _explain(
            first, last, tokens, starts, shape_of, prior, sentence, position,
            dense, null, ramp, buffer, scale, sums,
        )  # fmt: skip
        null_count[t] = nulls
        totals[0] += np.int64(nulls * scale + 0.5)
        longest = 0
        for r in range(U(first), U(last)):
            longest = max(longest, n_of[U(shape_of[U(sentence[r])])])
        enough = least[longest]
        for k in range(ZERO, used):
            e = U(word[k])
            value = dense[TWO * e + ONE]
            dense[TWO * e] = 0.0
            dense[TWO * e + ONE] = 0.0
            totals[e] += np.int64(value * scale + 0.5)
            row_word[entries] = word[k]
            row_count[entries] = value
            entries += U((value > enough) | (inverse[e] > RARE))
        row_ptr[t + 1] = entries
    return np.int64(entries)


@kernel(
    types.void(
        GIVEN, PRIOR, RECORDS, f64, types.float64, types.float64, F64, f64, F64,
        i64, i32, F64, F64, I64, I64,
    )
)  # fmt: skip
def count(  # type: ignore[no-untyped-def]
    given, prior, records, inverse, null_prior, scale, dense, ramp, buffer,
    row_ptr, row_word, row_count, null_count, totals, sums,
):  # fmt: skip
    """A further iteration: ``row_count`` and ``null_count`` bring weights and leave counts."""
    tokens, starts, shape_of = given
    sentence, position, type_ptr = records
    for t in range(type_ptr.size - 1):
        for k in range(row_ptr[t], row_ptr[t + 1]):
            e = row_word[k]
            dense[2 * e] = row_count[k] * inverse[e]
        nulls = _explain(
            type_ptr[t], type_ptr[t + 1], tokens, starts, shape_of, prior, sentence, position,
            dense, null_count[t] * inverse[0] * null_prior, ramp, buffer, scale, sums,
        )  # fmt: skip
        null_count[t] = nulls
        totals[0] += np.int64(nulls * scale + 0.5)
        for k in range(row_ptr[t], row_ptr[t + 1]):
            e = row_word[k]
            value = dense[2 * e + 1]
            dense[2 * e] = 0.0
            dense[2 * e + 1] = 0.0
            totals[e] += np.int64(value * scale + 0.5)
            row_count[k] = value


@kernel(
    types.void(
        GIVEN, PRIOR, RECORDS, i64, i32, f64, f64, f64, flags,
        types.float64, F64, F64, I16, F64,
    )
)  # fmt: skip
def link(  # type: ignore[no-untyped-def]
    given, prior, records, row_ptr, row_word, row_prob, null_prob, floor, known,
    null_prior, probs, buffer, links, scores,
):  # fmt: skip
    """The most probable source position of each record's word, or -1, into ``links`` int16[R].

    ``scores`` float64[R], or empty, gets the log-probability of each. Ties go to the null
    word, then to the leftmost. ``floor`` float64[V + 1] is the probability that a source word gives
    a target word that it has no entry with; ``probs`` float64[V + 1] is scratch that equals it. A
    type that is not ``known`` (bool[types]) is as probable beside any word.
    """
    tokens, starts, shape_of = given
    _, n_of, rows, split_of, heights, slopes, slopes_at = prior
    sentence, position, type_ptr = records
    for t in range(type_ptr.size - 1):
        for k in range(row_ptr[t], row_ptr[t + 1]):
            probs[row_word[k]] = row_prob[k]
        for r in range(U(type_ptr[t]), U(type_ptr[t + 1])):
            _fetch(r, tokens, starts, shape_of, rows, split_of, heights, sentence, position)
            s = U(sentence[r])
            begin = U(starts[s])
            shape = U(shape_of[s])
            n = U(n_of[shape])
            row = U(rows[shape]) + U(position[r])
            split = U(split_of[row])
            slope = U(slopes_at[n]) + n - split
            down = heights[row, 1]
            up = heights[row, 0]
            for i in range(ZERO, n):
                prob = probs[U(tokens[begin + i])] if known[t] else UNSEEN
                buffer[i] = prob * slopes[slope + i]
            null = null_prior * (null_prob[t] if known[t] else UNSEEN)
            best = total = null
            for i in range(ZERO, split):
                buffer[i] *= down
                total += buffer[i]
                best = max(best, buffer[i])
            for i in range(split, n):
                buffer[i] *= up
                total += buffer[i]
                best = max(best, buffer[i])
            place = -1
            if null * CLEARLY < best:
                place = 0
                while buffer[U(place)] * CLEARLY < best:
                    place += 1
            links[r] = place
            if scores.size:
                scores[r] = math.log(max(total, LEAST))
        for k in range(row_ptr[t], row_ptr[t + 1]):
            probs[row_word[k]] = floor[row_word[k]]
