"""The inner loops over kept cells, and the reading-off of links. Names as in :mod:`.kernels`.

Kept cells of a block: ``cell_ptr`` int64[R + 1] bounds each record's cells in ``cell_entry``
int32[] (index of the entry within its type's row) and ``cell_place`` int32[] (source position).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from weam_ray.alignment.kernels import (
    F64,
    I32,
    I64,
    LEAST,
    LOG_UNIT,
    f64,
    f64x2,
    i32,
    i64,
    kernel,
    log_of,
)

UNSEEN = 1e-9
"""Probability of a pair of words of which one is unknown to the model. Source: fast_align."""

CLEARLY = 1 + 1e-9
"""A later word must be this much better: the same word twice, equally far from the diagonal, is a
tie that rounding must not decide."""


@njit(inline="always")
def _prior(place, middle, up, down, powers, base):  # type: ignore[no-untyped-def]
    if place >= middle:
        return up * powers[base + place - middle]
    return down * powers[base + middle - 1 - place]


@kernel(
    types.void(
        i64, i64, i64, f64x2, i32, f64, i64,
        i32, i32, i64, F64, F64, types.float64, i64, i32, F64, F64, f64,
        types.float64, i64, i32, i32, I64, I64,
    )
)  # fmt: skip
def kept_pass(  # type: ignore[no-untyped-def]
    starts, target_starts, prior_row, prior, split, powers, powers_at,
    record_sentence, record_position, type_ptr, sums_of_row, buffer, scale,
    row_ptr, row_word, row_count, null_count, inverse, null_prior,
    cell_ptr, cell_entry, cell_place, totals, sums,
):  # fmt: skip
    """One iteration over the kept cells; otherwise as :func:`.kernels.full_pass`.

    ``sums_of_row`` float64[longest row] is scratch, zero throughout between types.
    """
    first = type_ptr[0]
    for t in range(type_ptr.size - 1):
        row = row_ptr[t]
        for k in range(row, row_ptr[t + 1]):
            row_count[k] *= inverse[row_word[k]]
        null = null_count[t] * inverse[0] * null_prior
        nulls = 0.0
        feature = 0.0
        logs = 0.0
        product = 1.0
        for r in range(type_ptr[t], type_ptr[t + 1]):
            s = record_sentence[r]
            n = starts[s + 1] - starts[s]
            j = record_position[r]
            p = prior_row[s] + j
            middle = split[p]
            base = powers_at[n]
            up = prior[p, 0]
            down = prior[p, 1]
            per_source = 1.0 / n
            along = j / (target_starts[s + 1] - target_starts[s])
            total = null
            off = 0.0
            cell = cell_ptr[r - first]
            cells = cell_ptr[r - first + 1] - cell
            for c in range(cells):
                place = cell_place[cell + c]
                weight = row_count[row + cell_entry[cell + c]]
                weight *= _prior(place, middle, up, down, powers, base)
                buffer[c] = weight
                total += weight
                off += weight * abs((place + 1) * per_source - along)
            share = 1.0 / total
            for c in range(cells):
                sums_of_row[cell_entry[cell + c]] += buffer[c] * share
            nulls += null * share
            feature -= off * share
            logs, product = log_of(total, logs, product)
        logs += math.log(product)
        for k in range(row, row_ptr[t + 1]):
            count = sums_of_row[k - row]
            sums_of_row[k - row] = 0.0
            row_count[k] = count
            totals[row_word[k]] += np.int64(count * scale + 0.5)
        null_count[t] = nulls
        totals[0] += np.int64(nulls * scale + 0.5)
        sums[0] += np.int64(feature * scale)
        sums[1] += np.int64(nulls * scale + 0.5)
        sums[2] += np.int64(logs * (scale / LOG_UNIT))


@kernel(
    types.void(
        i64, i64, i64, f64x2, i32, f64, i64,
        i32, i32, i64, i64, i32, f64, f64, f64,
        types.float64, i64, i32, i32, I32, F64,
    )
)  # fmt: skip
def kept_links(  # type: ignore[no-untyped-def]
    starts, target_starts, prior_row, prior, split, powers, powers_at,
    record_sentence, record_position, type_ptr, row_ptr, row_word, row_weight, null_weight,
    inverse, null_prior, cell_ptr, cell_entry, cell_place, links, scores,
):  # fmt: skip
    """The most probable source position of each target word, or -1, into ``links`` int32[tokens].

    ``scores`` float64[tokens] gets the log-probability of each target word. Ties go to the null
    word, then to the leftmost word, as in fast_align.
    """
    first = type_ptr[0]
    for t in range(type_ptr.size - 1):
        row = row_ptr[t]
        null = null_weight[t] * inverse[0] * null_prior
        for r in range(type_ptr[t], type_ptr[t + 1]):
            s = record_sentence[r]
            n = starts[s + 1] - starts[s]
            j = record_position[r]
            p = prior_row[s] + j
            middle = split[p]
            base = powers_at[n]
            up = prior[p, 0]
            down = prior[p, 1]
            best = null
            link = -1
            total = null
            for c in range(cell_ptr[r - first], cell_ptr[r - first + 1]):
                place = cell_place[c]
                k = row + cell_entry[c]
                weight = row_weight[k] * inverse[row_word[k]]
                weight *= _prior(place, middle, up, down, powers, base)
                total += weight
                if weight > best * CLEARLY:
                    best = weight
                    link = place
            links[target_starts[s] + j] = link
            if scores.size:
                scores[target_starts[s] + j] = math.log(max(total, LEAST))


@kernel(
    types.void(
        i32, i64, i64, i64, f64x2, i32, f64, i64,
        i32, i32, i64, F64, i64, i32, f64, f64, f64, types.boolean[::1],
        types.float64, I32, F64,
    )
)  # fmt: skip
def model_links(  # type: ignore[no-untyped-def]
    tokens, starts, target_starts, prior_row, prior, split, powers, powers_at,
    record_sentence, record_position, type_ptr, dense, row_ptr, row_word, row_prob, null_prob,
    floor, known, null_prior, links, scores,
):  # fmt: skip
    """As :func:`kept_links`, for new text with a finished model's probabilities.

    ``floor`` float64[V + 1] is the probability of a target word that was never met beside the
    source word. A target type that is not ``known`` (bool[types]) is as probable beside any word.
    """
    for t in range(type_ptr.size - 1):
        for k in range(row_ptr[t], row_ptr[t + 1]):
            dense[2 * row_word[k]] = row_prob[k]
        for r in range(type_ptr[t], type_ptr[t + 1]):
            s = record_sentence[r]
            at = starts[s]
            n = starts[s + 1] - at
            j = record_position[r]
            p = prior_row[s] + j
            middle = split[p]
            base = powers_at[n]
            up = prior[p, 0]
            down = prior[p, 1]
            best = (null_prob[t] if known[t] else UNSEEN) * null_prior
            link = -1
            total = best
            for i in range(n):
                e = tokens[at + i]
                weight = UNSEEN
                if known[t]:
                    weight = dense[2 * e] if dense[2 * e] > 0.0 else floor[e]
                weight *= _prior(i, middle, up, down, powers, base)
                total += weight
                if weight > best * CLEARLY:
                    best = weight
                    link = i
            links[target_starts[s] + j] = link
            if scores.size:
                scores[target_starts[s] + j] = math.log(max(total, LEAST))
        for k in range(row_ptr[t], row_ptr[t + 1]):
            dense[2 * row_word[k]] = 0.0
