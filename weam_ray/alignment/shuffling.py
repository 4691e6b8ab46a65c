"""Links that tell nothing, with the marginals of links that do: the control for WEAM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment.links import Links
from weam_ray.errors import AlignerError


def shuffle_links(links: Links, seed: int, pair_ids: NDArray[np.uint64]) -> Links:
    """Each pair's linked target words trade places in one random cycle.

    Every pair keeps its number of links, and every word that was linked is; each source word keeps
    its number of links. No link survives unless the pair has only one linked target word. The
    outcome for a pair depends on the seed, its id and its links only.

    Args:
        pair_ids: uint64[n], one a pair.

    Raises:
        AlignerError: there are not as many ids as pairs.
    """
    if len(pair_ids) != len(links):
        raise AlignerError(f"{len(links)} pairs but {len(pair_ids)} pair ids")
    pair = np.repeat(np.arange(len(links)), links.counts)
    words, which = np.unique(
        pair << 32 | links.target.astype(np.int64), return_inverse=True
    )  # one for each (pair, linked target word), in order
    owner, word = words >> 32, words & 0xFFFFFFFF
    mixed = _mix(pair_ids.astype(np.uint64) ^ _mix(np.array([seed % 2**64], np.uint64)))
    order = np.lexsort((_mix(mixed[owner] ^ _mix(word.astype(np.uint64))), owner))
    after = np.empty_like(word)
    after[order] = word[_next_in_cycle(order, owner)]
    target = after[which].astype(np.int32)
    sort = np.lexsort((target, links.source, pair))
    return Links(links.offsets, links.source[sort], target[sort])


def _next_in_cycle(order: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    # The successor of each element of ``order`` within its owner's run, the last's is the first.
    if not len(order):
        return order
    runs = owner[order]
    begins = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
    successor = np.roll(order, -1)
    successor[np.r_[begins[1:], len(order)] - 1] = order[begins]
    return successor


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64 (Steele, Lea and Flood 2014).
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
