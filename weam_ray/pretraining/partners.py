"""Which vectors take a masked token's place: links between words spelled out in tokens.

Legend: Q queried tokens, K partner tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weam_ray.pretraining.config import Pooling
from weam_ray.pretraining.masking import I64
from weam_ray.pretraining.sides import I32, spread
from weam_ray.pretraining.words import Words

F32 = npt.NDArray[np.float32]


def partners(
    words: Words, place: I64, word: I32, pooling: Pooling, one_to_many: str
) -> tuple[I64, I64, F32]:
    """The partner tokens of queried tokens and the weights of their vectors.

    Token q's exchanged vector is Σ weight·h[partner] over its partners; the weights of a token add
    up to 1: the mean over linked words of what `pooling` makes of each word's subwords.

    Args:
        words: words and links of the rows.
        place: int64 [Q], flat places of the queried tokens.
        word: int32 [Q], their words, −1 for none.
        pooling: what stands for a partner of several subwords.
        one_to_many: `mean`, `first` or `drop`.

    Returns:
        counts int64 [Q] (0: unaligned), partner places int64 [K], weights float32 [K].
    """
    owner_word = np.maximum(word, 0)
    begin = words.link_start[owner_word]
    linked = np.where(word >= 0, words.link_start[owner_word + 1] - begin, 0)
    if one_to_many == "drop":
        linked = np.where(linked > 1, 0, linked)
    elif one_to_many == "first":
        linked = np.minimum(linked, 1)
    query = np.repeat(np.arange(len(place)), linked)
    partner = words.link_to[spread(begin, linked)]
    first, length = words.first[partner], words.length[partner].astype(np.int64)
    share = 1.0 / linked[query]
    if pooling == "mean":
        counts = np.bincount(query, weights=length, minlength=len(place)).astype(np.int64)
        return counts, spread(first, length), np.repeat(share / length, length).astype(np.float32)
    if pooling == "last":
        first = first + length - 1
    elif pooling == "same-index":
        own_place = place[query] - words.first[owner_word[query]]
        first = first + np.minimum(own_place, length - 1)
    return linked, first, share.astype(np.float32)


def linked_places(words: Words, word: I32, flat: I64, start: I64) -> tuple[I64, I64]:
    """Links between the two rows of each pair, from last subword to last subword.

    Args:
        words: words and links.
        word: int32 [T], words of the tokens of a pool whose even rows are sources.
        flat: int64 [T], where those tokens stand in the examples' columns.
        start: int64 [R+1], where the pool's rows begin.

    Returns:
        Places of source tokens in the pool [K], increasing, and places of their partners in the
        examples' columns [K].
    """
    source = np.repeat(np.arange(len(start) - 1) % 2 == 0, np.diff(start))
    owner = np.maximum(word, 0)
    last = (word >= 0) & (flat == words.first[owner] + words.length[owner] - 1) & source
    place = np.flatnonzero(last)
    begin = words.link_start[owner[place]]
    linked = words.link_start[owner[place] + 1] - begin
    partner = words.link_to[spread(begin, linked)]
    return np.repeat(place, linked), words.first[partner] + words.length[partner] - 1
