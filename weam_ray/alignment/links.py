"""Word links of many pairs in one record, and where they come from and go to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.errors import AlignerError


@dataclass(frozen=True, eq=False)
class Links:
    """The links of n pairs, L in all, each pair's sorted by source and then target word.

    Pair p's links are ``source[k]-target[k]`` for k in ``offsets[p]:offsets[p + 1]``, as 0-based
    word indices.

    Raises:
        AlignerError: the arrays don't fit together.
    """

    offsets: NDArray[np.int64]
    """int64[n + 1], from 0 to L, never falling."""
    source: NDArray[np.int32]
    """int32[L]"""
    target: NDArray[np.int32]
    """int32[L]"""

    def __post_init__(self) -> None:
        fits = len(self.offsets) and self.offsets[0] == 0
        if not fits or not self.offsets[-1] == len(self.source) == len(self.target):
            raise AlignerError("links whose offsets don't bound their words")

    @classmethod
    def from_pairs(cls, pairs: Iterable[Iterable[tuple[int, int]]]) -> Links:
        """Links given as (source, target) word indices for each pair, in any order."""
        rows = [sorted(set(pair)) for pair in pairs]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        flat = np.array([point for row in rows for point in row], np.int32).reshape(-1, 2)
        return cls(offsets, flat[:, 0].copy(), flat[:, 1].copy())

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray | pa.Array) -> Links:
        """Links from a list<int32> column of flattened indices i0, j0, i1, j1, ..."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        lengths = np.asarray(column.value_lengths().fill_null(0), np.int64)
        values = np.asarray(column.flatten(), np.int32)
        if (lengths % 2).any():
            raise AlignerError("a list of links of odd length: source and target must alternate")
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths // 2, out=offsets[1:])
        return cls(offsets, values[0::2].copy(), values[1::2].copy())

    def to_arrow(self) -> pa.Array:
        """A list<int32> array of flattened indices i0, j0, i1, j1, ..., one list a pair."""
        flat = np.empty(2 * len(self.source), np.int32)
        flat[0::2] = self.source
        flat[1::2] = self.target
        if 2 * self.offsets[-1] >= 2**31:
            raise AlignerError("more links than one Arrow list column holds; write them in parts")
        return pa.ListArray.from_arrays(pa.array(2 * self.offsets, pa.int32()), pa.array(flat))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, pair: int) -> list[tuple[int, int]]:
        """The links of one pair."""
        if not -len(self) <= pair < len(self):
            raise IndexError(pair)
        at = slice(*self.offsets[[pair % len(self), pair % len(self) + 1]])
        return list(zip(self.source[at].tolist(), self.target[at].tolist(), strict=True))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self[pair] for pair in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Links) and all(
            np.array_equal(mine, theirs)
            for mine, theirs in (
                (self.offsets, other.offsets),
                (self.source, other.source),
                (self.target, other.target),
            )
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many links each pair has, int64[n]."""
        return np.diff(self.offsets)

    def select(self, pairs: Sequence[int] | NDArray[np.int64]) -> Links:
        """The links of some pairs, in the order asked for."""
        chosen = np.asarray(pairs, np.int64)
        counts = self.counts[chosen]
        offsets = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], counts)
        return Links(offsets, self.source[places], self.target[places])
