"""Words become integers: the side of a bitext as EM sees it, and its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Side:
    """One side of S sentences as word types numbered from 1; 0 is kept for the null word."""

    tokens: NDArray[np.int32]
    """int32[words]"""
    starts: NDArray[np.int64]
    """int64[S + 1]: sentence s is ``tokens[starts[s]:starts[s + 1]]``."""
    types: int
    """How many word types there are; the highest number in ``tokens``."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Words in each sentence, int64[S]."""
        return np.diff(self.starts)


def by_frequency(side: Side) -> tuple[Side, NDArray[np.int64]]:
    """The side with its types renumbered by :func:`frequency_ranks`, and their former numbers."""
    new, old = frequency_ranks(np.bincount(side.tokens, minlength=side.types + 1)[1:])
    return Side(new[side.tokens], side.starts, side.types), old


def frequency_ranks(counts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """New numbers for types 1, 2, ..., the most frequent first, ties in the old order.

    Hot words then lie together, in cache.

    Args:
        counts: int64[types], occurrences.

    Returns:
        ``new`` int32[types + 1], by old number, and ``old`` int64[types], the former number of the
        types 1, 2, ...
    """
    old = np.argsort(-counts, kind="stable") + 1
    new = np.empty(len(counts) + 1, np.int32)
    new[0] = 0
    new[old] = np.arange(1, len(counts) + 1, dtype=np.int32)
    return new, old


def renumber(side: Side, words: list[bytes], known: list[bytes]) -> Side:
    """The side, whose type t is ``words[t - 1]``, in the numbers of the ``known`` words.

    Unknown words get the numbers after theirs.
    """
    numbers = {word: number for number, word in enumerate(known, 1)}
    new = np.zeros(len(words) + 1, np.int32)
    for number, word in enumerate(words, 1):
        new[number] = numbers.setdefault(word, len(numbers) + 1)
    return Side(new[side.tokens], side.starts, len(numbers))


def encode_words(
    sentences: Sequence[Sequence[str]], casefold: bool = False
) -> tuple[Side, list[str]]:
    """Sentences of words as a :class:`Side`, and the word of each type, from type 1 on."""
    numbers: dict[str, int] = {}
    tokens: list[int] = []
    starts = np.zeros(len(sentences) + 1, np.int64)
    for index, sentence in enumerate(sentences):
        words = [word.casefold() for word in sentence] if casefold else sentence
        tokens += [numbers.setdefault(word, len(numbers) + 1) for word in words]
        starts[index + 1] = len(tokens)
    side, old = by_frequency(Side(np.array(tokens, np.int32), starts, len(numbers)))
    words = list(numbers)
    return side, [words[number - 1] for number in old]
