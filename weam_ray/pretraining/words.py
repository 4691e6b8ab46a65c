"""Where words are in a row's tokens, and which words are linked.

Words are numbered over all pairs: a pair's source words first, then its target words.
Legend: W words, K links; `link_start` is CSR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weam_ray.errors import DataError
from weam_ray.pretraining.masking import I64, U64
from weam_ray.pretraining.sides import I32, NO_WORD, Side, ragged, spread, starts_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """Words and their links.

    Attributes:
        first: int64 [W], flat place of a word's first token.
        length: int32 [W], its tokens, neighbours; 0 if it has none left in the row.
        link_start: int64 [W+1] and link_to: int32 [K]: a word's partners from left to right. A link
            stands twice, once from each side.
    """

    first: I64
    length: I32
    link_start: I64
    link_to: I32


def number_words(side: Side, counts: I64, base: I64) -> Side:
    """A side whose words are numbered from `base` in each sentence, not from the side's start."""
    shift = np.repeat(base - starts_of(counts)[:-1], side.lengths)
    word = np.where(side.word >= 0, side.word + shift, NO_WORD).astype(np.int32)
    return Side(side.ids, word, side.start)


def read_links(keys: U64, links: pa.Table, source_words: I64, target_words: I64) -> tuple[I64, I64]:
    """The links of these pairs, as words numbered over all pairs: [K] and [K].

    Raises:
        DataError: a pair without links, or a link outside its sentence.
    """
    known = links["pair_id"].to_numpy().astype(np.uint64)
    row = _find(known, keys)
    if (missing := row < 0).any():
        raise DataError(
            f"{int(missing.sum())} of {len(keys)} pairs have no links",
            place=f"pair_id {int(keys[missing.argmax()])}",
            cure="Align the corpus that holds these pairs.",
        )
    values, start = ragged(links["links"])
    lengths = np.diff(start)[row]
    ij = values[spread(start[row], lengths)].astype(np.int64).reshape(-1, 2)
    pair = np.repeat(np.arange(len(keys)), lengths // 2)
    i, j = ij[:, 0], ij[:, 1]
    outside = (i < 0) | (j < 0) | (i >= source_words[pair]) | (j >= target_words[pair])
    if outside.any():
        bad = int(outside.argmax())
        raise DataError(
            f"link {i[bad]}-{j[bad]} is outside a pair of {source_words[pair[bad]]} and "
            f"{target_words[pair[bad]]} words",
            place=f"pair_id {int(keys[pair[bad]])}",
            cure="Links count words from 0; align again if the corpus changed.",
        )
    base = starts_of(source_words + target_words)[pair]
    return base + i, base + source_words[pair] + j


def _find(known: U64, keys: U64) -> I64:
    """Where each key stands in `known`, or −1."""
    if not len(known):
        return np.full(len(keys), -1)
    order = np.argsort(known, kind="stable")
    row = order[np.minimum(np.searchsorted(known, keys, sorter=order), len(known) - 1)]
    return np.where(known[row] == keys, row, -1)


def place_words(
    word: I32, had_tokens: npt.NDArray[np.bool_], linked: tuple[I64, I64]
) -> tuple[Words, dict[str, float]]:
    """Words in framed rows, with the links both of whose words still have a token.

    Args:
        word: int32 [T], the word of each token of the framed rows.
        had_tokens: bool [W], before rows were cut.
        linked: from :func:`read_links`.
    """
    total = len(had_tokens)
    place = np.flatnonzero(word >= 0)
    owner = word[place]
    first = np.zeros(total, np.int64)
    first[owner[::-1]] = place[::-1]  # from right to left: the leftmost token stays
    length = np.bincount(owner, minlength=total).astype(np.int32)
    u, v = linked
    present = (length[u] > 0) & (length[v] > 0)
    wordless = ~(had_tokens[u] & had_tokens[v])
    here, there = u[present], v[present]
    ends = np.unique(np.concatenate([here * total + there, there * total + here]))
    words = Words(
        first=first,
        length=length,
        link_start=starts_of(np.bincount(ends // total, minlength=total)),
        link_to=(ends % total).astype(np.int32),
    )
    facts: dict[str, float] = {
        "words": total,
        "links": len(u),
        "links_without_token": int(wordless.sum()),
        "links_truncated": int((~present & ~wordless).sum()),
        "tokens_in_words": len(owner),
        "tokens_in_linked_words": int((np.diff(words.link_start) > 0)[owner].sum()),
    }
    return words, facts


def concatenate_words(parts: Sequence[Words | None], tokens: I64, words: I64) -> Words | None:
    """Words of several sets as one; `tokens` and `words` say where each set's numbers begin."""
    known = [(i, part) for i, part in enumerate(parts) if part is not None]
    if not known:
        return None
    links = starts_of(np.array([len(part.link_to) for _, part in known]))
    starts = [part.link_start[1:] + links[n] for n, (_, part) in enumerate(known)]
    return Words(
        first=np.concatenate([part.first + tokens[i] for i, part in known]),
        length=np.concatenate([part.length for _, part in known]),
        link_start=np.concatenate([np.zeros(1, np.int64), *starts]),
        link_to=np.concatenate([part.link_to + words[i] for i, part in known]).astype(np.int32),
    )
