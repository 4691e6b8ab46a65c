"""The inner loops of EM, compiled by Numba: one direction, some target word types.

Names and shapes, with S sentences, T target types, V source types (0 is the null word), and for a
block of types R records (occurrences of its types), U entries (source types met by a type):

- ``tokens`` int32[source tokens], ``starts`` int64[S + 1]: the source side.
- ``prior_row`` int64[S]: where a sentence's rows begin in ``prior`` float64[rows, 2] (the height of
  the diagonal prior just above and below the diagonal) and ``split`` int32[rows] (how many source
  words lie below it). From there the prior falls geometrically: ``powers`` float64[] holds
  exp(-tension k / n), k = 0..n, from ``powers_at`` int64[longest + 1] for each source length n.
- ``record_sentence`` int32[], ``record_position`` int32[]: occurrences, sorted by target type;
  ``type_ptr`` int64[types + 1] bounds each type of the block in them.
- ``row_ptr`` int64[types + 1], ``row_word`` int32[U], ``row_count`` float64[U]: expected counts
  of (source word, target word). ``null_count`` float64[types]: the same for the null word.
- ``dense`` float64[2 (V + 1)]: translation weight and expected count of a source word for the
  type at hand, side by side so that one cache line serves both. All zero between types.
- ``totals`` int64[V + 1]: fixed-point sums of counts per source word. Integers, because their sum
  does not depend on the order of types, blocks, threads or workers.
- ``sums`` int64[3]: diagonal feature, null count, log-likelihood, in fixed point.

No ``fastmath``, no libm in anything that decides a link: the same bits on every machine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types

LOG_UNIT = 1024.0
"""Log-likelihoods are kept in units of this, so that their sums fit the fixed point."""

KEPT = 1e-30
"""A cell is dropped when its word's weight is this much below the best of its record."""

_SMALL = 1e-150
_TINY = 1e-100
LEAST = 1e-300
"""What a probability is taken to be, at least, when its logarithm is wanted."""
i32 = types.Array(types.int32, 1, "C", readonly=True)
i64 = types.Array(types.int64, 1, "C", readonly=True)
f64 = types.Array(types.float64, 1, "C", readonly=True)
f64x2 = types.Array(types.float64, 2, "C", readonly=True)
I32 = types.int32[::1]
I64 = types.int64[::1]
F64 = types.float64[::1]


def kernel(signature: Any) -> Any:
    """Compile a function for one signature, when its module is imported.

    The numpy error model lets loops with divisions vectorise. Compiled code is kept beside the
    module, or in the user's cache folder where that is read-only.
    """
    return njit(signature, cache=True, nogil=True, error_model="numpy")


@njit(inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    # exp for -700 <= x <= 700 by a Taylor polynomial on |r| <= ln(2) / 2, error below 4e-16. The
    # magic constant rounds to the nearest integer; the shift puts it into the exponent's bits.
    x = max(x, -700.0)
    k = (x * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@njit(inline="always")
def _exp_digamma(x):  # type: ignore[no-untyped-def]
    # psi(x) = psi(x + 8) - sum 1/(x + k); the eight fractions are paired into one division, and
    # exp(psi(y + 1/2)) = y + 1/(24 y) - ... needs no logarithm. Relative error below 2e-11.
    u = x * (x + 7.0)
    a = u * (u + 6.0)
    b = (u + 10.0) * (u + 12.0)
    s = (2.0 * x + 7.0) * ((2.0 * u + 6.0) * b + (2.0 * u + 22.0) * a) / (a * b)
    y = x + 7.5
    z = 1.0 / (y * y)
    series = 37.0 / 5760.0 - z * (10313.0 / 2903040.0 - z * (5509121.0 / 1393459200.0))
    return y * (1.0 + z * (1.0 / 24.0 - z * series)) * _exp(-s)


@kernel(types.void(f64, types.float64, types.boolean, F64))
def weights(counts, alpha, variational, out):  # type: ignore[no-untyped-def]
    """Unnormalised translation weights: exp(psi(count + alpha)), or the counts themselves."""
    if variational:
        for k in range(counts.size):
            out[k] = _exp_digamma(counts[k] + alpha)
    else:
        for k in range(counts.size):
            out[k] = counts[k]


@kernel(types.void(i32, i32, types.float64, types.float64, types.float64[:, ::1], I32))
def prior_table(  # type: ignore[no-untyped-def]
    target_lengths, source_lengths, tension, not_null, prior, split
):
    """Heights of the diagonal prior on both sides of the diagonal, for each shape and position."""
    row = 0
    for shape in range(target_lengths.size):
        m = target_lengths[shape]
        n = source_lengths[shape]
        ratio = _exp(-tension / n)
        for j in range(1, m + 1):
            at = j * n // m
            up = _exp(-tension * ((at + 1) / n - j / m))
            down = _exp(-tension * (j / m - at / n))
            above = (1.0 - _exp(-tension * (n - at) / n)) / (1.0 - ratio)
            below = (1.0 - _exp(-tension * at / n)) / (1.0 - ratio)
            z = (up * above + down * below) / not_null
            prior[row, 0] = up / z
            prior[row, 1] = down / z
            split[row] = at
            row += 1


@kernel(types.void(types.float64, i64, F64))
def power_table(tension, powers_at, powers):  # type: ignore[no-untyped-def]
    """exp(-tension k / n) for k = 0..n, for every source length n that has a place."""
    for n in range(1, powers_at.size):
        at = powers_at[n]
        if at >= 0:
            for k in range(n + 1):
                powers[at + k] = _exp(-tension * k / n)


@njit(inline="always")
def _z(i, m, n, tension):  # type: ignore[no-untyped-def]
    split = i * n / m
    floor = math.floor(split)
    ratio = _exp(-tension / n)
    # fast_align counts n - floor without a sign, so a negative one is enormous and its power 0.
    top = n - floor
    shrink = _exp(-tension * top / n) if top >= 0 else 0.0
    z = 0.0
    if top != 0:
        z += _exp(-tension * abs((floor + 1) / n - i / m)) * (1.0 - shrink) / (1.0 - ratio)
    if floor != 0:
        below = 1.0 - _exp(-tension * floor / n)
        z += _exp(-tension * abs(floor / n - i / m)) * below / (1.0 - ratio)
    return z


@njit(inline="always")
def _series(first, scale, ratio, step, count, shrink):  # type: ignore[no-untyped-def]
    last = step * (count - 1) + first
    after = scale * shrink
    down = ratio - 1.0
    return (last * after - first * scale) / down - step * (after - scale * ratio) / (down * down)


@njit(inline="always")
def log_of(total, logs, product):  # type: ignore[no-untyped-def]
    """One logarithm for many factors: they are multiplied as long as the product is in range."""
    if total < _TINY:
        return logs + math.log(max(total, LEAST)), product
    product *= total
    if product < _SMALL:
        return logs + math.log(product), 1.0
    return logs, product


@kernel(types.float64(i32, i32, i64, types.float64))
def model_feature(target_lengths, source_lengths, repeats, tension):  # type: ignore[no-untyped-def]
    """Sum over target words of the expected diagonal feature under the prior alone.

    As fast_align has it: the normaliser is taken with the two lengths exchanged.
    """
    total = 0.0
    for shape in range(target_lengths.size):
        m = target_lengths[shape]
        n = source_lengths[shape]
        ratio = _exp(-tension / n)
        of_shape = 0.0
        for j in range(1, m + 1):
            z = _z(j, n, m, tension)
            floor = j * n // m
            top = n - floor
            value = 0.0
            if top:
                first = -abs((floor + 1) / n - j / m)
                shrink = _exp(-tension * top / n)
                value += _series(first, _exp(first * tension), ratio, -1.0 / n, top, shrink)
            if floor:
                first = -abs(floor / n - j / m)
                shrink = _exp(-tension * floor / n)
                value += _series(first, _exp(first * tension), ratio, -1.0 / n, floor, shrink)
            of_shape += value / z
        total += repeats[shape] * of_shape
    return total


@kernel(
    types.int64(
        i32, i64, i64, f64x2, i32, f64, i64,
        i32, i32, i64, F64, types.float64, I64, I32, F64, I64, I64,
    )
)  # fmt: skip
def first_pass(  # type: ignore[no-untyped-def]
    tokens, starts, prior_row, prior, split, powers, powers_at,
    record_sentence, record_position, type_ptr, dense, scale,
    row_ptr, row_word, row_count, totals, distinct,
):  # fmt: skip
    """The first iteration and the discovery of entries in one: all words translate equally well.

    Posteriors are then the prior, which is positive: a count of zero says "not met yet".
    """
    used = 0
    for t in range(type_ptr.size - 1):
        row = used
        for r in range(type_ptr[t], type_ptr[t + 1]):
            s = record_sentence[r]
            at = starts[s]
            n = starts[s + 1] - at
            p = prior_row[s] + record_position[r]
            middle = split[p]
            base = powers_at[n]
            down = prior[p, 1]
            for i in range(middle):
                e = tokens[at + i]
                old = dense[2 * e + 1]
                row_word[used] = e
                used += old == 0.0
                dense[2 * e + 1] = old + down * powers[base + middle - 1 - i]
            up = prior[p, 0]
            for i in range(middle, n):
                e = tokens[at + i]
                old = dense[2 * e + 1]
                row_word[used] = e
                used += old == 0.0
                dense[2 * e + 1] = old + up * powers[base + i - middle]
        for k in range(row, used):
            e = row_word[k]
            count = dense[2 * e + 1]
            dense[2 * e + 1] = 0.0
            row_count[k] = count
            totals[e] += np.int64(count * scale + 0.5)
            distinct[e] += 1
        row_ptr[t + 1] = used
    return used


@kernel(
    types.void(
        i32, i64, i64, i64, f64x2, i32, f64, i64,
        i32, i32, i64, F64, F64, types.float64, i64, i32, F64, F64, f64,
        types.float64, I64, I64,
    )
)  # fmt: skip
def full_pass(  # type: ignore[no-untyped-def]
    tokens, starts, target_starts, prior_row, prior, split, powers, powers_at,
    record_sentence, record_position, type_ptr, dense, buffer, scale,
    row_ptr, row_word, row_count, null_count, inverse, null_prior, totals, sums,
):  # fmt: skip
    """One iteration over all cells. ``row_count`` and ``null_count`` bring weights, leave counts.

    ``inverse`` float64[V + 1] turns a source word's weights into probabilities.
    """
    for t in range(type_ptr.size - 1):
        for k in range(row_ptr[t], row_ptr[t + 1]):
            e = row_word[k]
            dense[2 * e] = row_count[k] * inverse[e]
        null = null_count[t] * inverse[0] * null_prior
        nulls = 0.0
        feature = 0.0
        logs = 0.0
        product = 1.0
        for r in range(type_ptr[t], type_ptr[t + 1]):
            s = record_sentence[r]
            at = starts[s]
            n = starts[s + 1] - at
            j = record_position[r]
            p = prior_row[s] + j
            middle = split[p]
            base = powers_at[n]
            down = prior[p, 1]
            up = prior[p, 0]
            per_source = 1.0 / n
            along = j / (target_starts[s + 1] - target_starts[s])
            total = null
            off = 0.0
            for i in range(middle):
                weight = dense[2 * tokens[at + i]] * (down * powers[base + middle - 1 - i])
                buffer[i] = weight
                total += weight
                off += weight * abs((i + 1) * per_source - along)
            for i in range(middle, n):
                weight = dense[2 * tokens[at + i]] * (up * powers[base + i - middle])
                buffer[i] = weight
                total += weight
                off += weight * abs((i + 1) * per_source - along)
            share = 1.0 / total
            for i in range(n):
                dense[2 * tokens[at + i] + 1] += buffer[i] * share
            nulls += null * share
            feature -= off * share
            logs, product = log_of(total, logs, product)
        logs += math.log(product)
        for k in range(row_ptr[t], row_ptr[t + 1]):
            e = row_word[k]
            count = dense[2 * e + 1]
            row_count[k] = count
            dense[2 * e] = 0.0
            dense[2 * e + 1] = 0.0
            totals[e] += np.int64(count * scale + 0.5)
        null_count[t] = nulls
        totals[0] += np.int64(nulls * scale + 0.5)
        sums[0] += np.int64(feature * scale)
        sums[1] += np.int64(nulls * scale + 0.5)
        sums[2] += np.int64(logs * (scale / LOG_UNIT))


@kernel(
    types.UniTuple(types.int64, 2)(
        i32, i64, i32, i64, F64, I32, types.float64,
        i64, i32, f64, f64, I64, I32, F64, I64, I32, I32,
    )
)  # fmt: skip
def keep(  # type: ignore[no-untyped-def]
    tokens, starts, record_sentence, type_ptr, dense, local, kept,
    row_ptr, row_word, row_count, row_weight,
    new_ptr, new_word, new_count, cell_ptr, cell_entry, cell_place,
):  # fmt: skip
    """List the cells that still matter: all but those of hopeless words of a record.

    A word is hopeless in a record when its weight is ``kept`` times the best one's. Entries that no
    record keeps are dropped. ``local`` int32[V + 1] is scratch, -1 throughout between types.

    Returns: how many entries and how many cells there are now.
    """
    entries = 0
    cells = 0
    first = type_ptr[0]
    for t in range(type_ptr.size - 1):
        for k in range(row_ptr[t], row_ptr[t + 1]):
            e = row_word[k]
            dense[2 * e] = row_weight[k]
            dense[2 * e + 1] = row_count[k]
        row = entries
        for r in range(type_ptr[t], type_ptr[t + 1]):
            s = record_sentence[r]
            at = starts[s]
            n = starts[s + 1] - at
            best = 0.0
            for i in range(n):
                best = max(best, dense[2 * tokens[at + i]])
            least = best * kept
            for i in range(n):
                e = tokens[at + i]
                if dense[2 * e] >= least:
                    entry = local[e]
                    if entry < 0:
                        entry = entries - row
                        local[e] = entry
                        new_word[entries] = e
                        new_count[entries] = dense[2 * e + 1]
                        entries += 1
                    cell_entry[cells] = entry
                    cell_place[cells] = i
                    cells += 1
            cell_ptr[r - first + 1] = cells
        for k in range(row_ptr[t], row_ptr[t + 1]):
            e = row_word[k]
            dense[2 * e] = 0.0
            dense[2 * e + 1] = 0.0
        for k in range(row, entries):
            local[new_word[k]] = -1
        new_ptr[t + 1] = entries
    return entries, cells
