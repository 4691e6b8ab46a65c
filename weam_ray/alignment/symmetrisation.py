"""Joining the links of both directions (Koehn, Och and Marcu 2003; as fast_align's ``atools``).

- ``intersection``, ``union``: of the two sets.
- ``grow-diag``: from the intersection, take links of the union that touch a taken one (also
  diagonally) and have a word without a link, again and again until none is left.
- ``grow-diag-final``: then also links of the forward and after them of the reverse direction, of
  which at least one word has no link yet.
- ``grow-diag-final-and``: the same with both words.

Links are tried in the order of their source and then target word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import growing
from weam_ray.alignment.config import Symmetrisation
from weam_ray.alignment.links import Links
from weam_ray.errors import AlignerError


def symmetrise(forward: Links, reverse: Links, method: Symmetrisation) -> Links:
    """Both directions' links as one.

    Args:
        forward: links of the direction that explains target words.
        reverse: links of the other direction, as (source, target) all the same.

    Raises:
        AlignerError: the directions have different numbers of pairs.
    """
    if len(forward) != len(reverse):
        raise AlignerError(
            f"{len(forward)} pairs forward, {len(reverse)} in reverse: not the same text"
        )
    if method in ("forward", "reverse"):
        return forward if method == "forward" else reverse
    largest = int((forward.counts + reverse.counts).max(initial=0))
    scratch = [np.empty(largest, np.int32) for _ in range(3)]
    offsets = np.zeros(len(forward) + 1, np.int64)
    room = len(forward.source) + len(reverse.source)
    source, target = np.empty(room, np.int32), np.empty(room, np.int32)
    used = growing.join(
        forward.offsets, forward.source, forward.target,
        reverse.offsets, reverse.source, reverse.target,
        method == "union", method.startswith("grow"),
        "final" in method, method == "grow-diag-final-and",
        *scratch, np.empty(largest, np.bool_),
        _none_done(forward.source, reverse.source), _none_done(forward.target, reverse.target),
        offsets, source, target,
    )  # fmt: skip
    return Links(offsets, source[:used].copy(), target[:used].copy())


def _none_done(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.bool_]:
    return np.zeros(max(int(first.max(initial=-1)), int(second.max(initial=-1))) + 1, np.bool_)
