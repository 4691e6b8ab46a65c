"""Joining two directions' links, compiled by Numba; the definitions are in :mod:`.symmetrisation`.

F and R are the forward and reverse links of a pair, sorted by source and then target word.
"""

from __future__ import annotations

from numba import njit, types

from weam_ray.alignment.numerics import FLAGS, I32, I64, U8, i16, i32, i64, kernel

_FORWARD, _REVERSE, _BOTH = 1, 2, 3


@kernel(types.int64(i16, i64, types.boolean, I64, I32, I32))
def collect(  # type: ignore[no-untyped-def]
    best, explained_starts, reverse, offsets, source, target
):
    """Links as CSR from ``best`` int16[explained words]: the other side's position, or -1.

    Returns how many there are; ``source`` and ``target`` have room for one an explained word.
    """
    links = 0
    for s in range(explained_starts.size - 1):
        begin, end = explained_starts[s], explained_starts[s + 1]
        if reverse:
            for at in range(begin, end):
                if best[at] >= 0:
                    source[links] = at - begin
                    target[links] = best[at]
                    links += 1
        else:
            row = links
            for at in range(begin, end):
                if best[at] >= 0:
                    # Targets come in order: an insertion by source keeps them so.
                    place = links
                    while place > row and source[place - 1] > best[at]:
                        source[place] = source[place - 1]
                        target[place] = target[place - 1]
                        place -= 1
                    source[place] = best[at]
                    target[place] = at - begin
                    links += 1
        offsets[s + 1] = links
    return links


@njit(inline="always")
def _merge(  # type: ignore[no-untyped-def]
    f, f_end, forward_source, forward_target, r, r_end, reverse_source, reverse_target,
    union_source, union_target, origin,
):  # fmt: skip
    size = 0
    while f < f_end or r < r_end:
        order = 0
        if r == r_end:
            order = -1
        elif f == f_end:
            order = 1
        else:
            order = forward_source[f] - reverse_source[r]
            if order == 0:
                order = forward_target[f] - reverse_target[r]
        if order <= 0:
            union_source[size] = forward_source[f]
            union_target[size] = forward_target[f]
            origin[size] = _FORWARD if order < 0 else _BOTH
            f += 1
            if order == 0:
                r += 1
        else:
            union_source[size] = reverse_source[r]
            union_target[size] = reverse_target[r]
            origin[size] = _REVERSE
            r += 1
        size += 1
    return size


@njit(inline="always")
def _touches(k, size, union_source, union_target, taken):  # type: ignore[no-untyped-def]
    # Is a link taken whose words are both at most one place away? Points are sorted by source.
    i = union_source[k]
    j = union_target[k]
    at = k - 1
    while at >= 0 and union_source[at] >= i - 1:
        if taken[at] and abs(union_target[at] - j) <= 1:
            return True
        at -= 1
    at = k + 1
    while at < size and union_source[at] <= i + 1:
        if taken[at] and abs(union_target[at] - j) <= 1:
            return True
        at += 1
    return False


@kernel(
    types.int64(
        i64, i32, i32, i64, i32, i32, types.boolean, types.boolean, types.boolean,
        types.boolean, I32, I32, I32, FLAGS, FLAGS,
        FLAGS, I64, I32, I32,
    )
)  # fmt: skip
def join(  # type: ignore[no-untyped-def]
    forward_offsets, forward_source, forward_target,
    reverse_offsets, reverse_source, reverse_target, whole_union, grow, final, both_free,
    union_source, union_target, origin, taken, source_done, target_done,
    offsets, source, target,
):  # fmt: skip
    """The links taken from the union of F and R, pair by pair; returns how many.

    Scratch: ``union_source``, ``union_target``, ``origin``, ``taken`` hold the largest union;
    ``source_done`` and ``target_done`` bool[highest word + 1], false throughout between pairs.
    """
    links = 0
    for p in range(forward_offsets.size - 1):
        size = _merge(
            forward_offsets[p], forward_offsets[p + 1], forward_source, forward_target,
            reverse_offsets[p], reverse_offsets[p + 1], reverse_source, reverse_target,
            union_source, union_target, origin,
        )  # fmt: skip
        waiting = 0
        for k in range(size):
            taken[k] = whole_union or origin[k] == _BOTH
            if taken[k]:
                source_done[union_source[k]] = True
                target_done[union_target[k]] = True
            else:
                waiting += 1
        growing = grow and 0 < waiting < size
        while growing:
            growing = False
            for k in range(size):
                if taken[k] or (source_done[union_source[k]] and target_done[union_target[k]]):
                    continue
                if _touches(k, size, union_source, union_target, taken):
                    taken[k] = True
                    source_done[union_source[k]] = True
                    target_done[union_target[k]] = True
                    growing = True
        if final:
            for direction in (_FORWARD, _REVERSE):
                for k in range(size):
                    if taken[k] or not origin[k] & direction:
                        continue
                    i_done = source_done[union_source[k]]
                    j_done = target_done[union_target[k]]
                    if (i_done or j_done) if both_free else (i_done and j_done):
                        continue
                    taken[k] = True
                    source_done[union_source[k]] = True
                    target_done[union_target[k]] = True
        for k in range(size):
            source_done[union_source[k]] = False
            target_done[union_target[k]] = False
            if taken[k]:
                source[links] = union_source[k]
                target[links] = union_target[k]
                links += 1
        offsets[p + 1] = links
    return links


@njit(inline="always")
def _digits(number, out, at):  # type: ignore[no-untyped-def]
    size = 1
    rest = number // 10
    while rest:
        size += 1
        rest //= 10
    for place in range(at + size - 1, at - 1, -1):
        out[place] = 48 + number % 10
        number //= 10
    return at + size


@kernel(types.int64(i64, i32, i32, U8))
def format_links(offsets, source, target, out):  # type: ignore[no-untyped-def]
    """Pharaoh lines of the pairs that ``offsets`` bounds; returns how many bytes they take."""
    at = 0
    for p in range(offsets.size - 1):
        for k in range(offsets[p], offsets[p + 1]):
            if k > offsets[p]:
                out[at] = 32
                at += 1
            at = _digits(source[k], out, at)
            out[at] = 45
            at = _digits(target[k], out, at + 1)
        out[at] = 10
        at += 1
    return at
