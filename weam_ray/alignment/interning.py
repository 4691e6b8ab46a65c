"""Words of a byte buffer become numbers: a hash table over bytes, compiled by Numba.

``buffer`` uint8[] holds the text; word w is ``buffer[begins[w]:ends[w]]``. A vocabulary keeps the
bytes of its types one after the other in ``arena`` uint8[], type t (from 1) at
``bounds[t - 1]:bounds[t]``, with its hash in ``hashes``; ``slots`` int32[power of two] is the
open-addressing table, 0 where free.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numba import types
from numpy.typing import NDArray

from weam_ray.alignment.numerics import I32, I64, U8, i32, i64, kernel, u8

_U64 = types.Array(types.uint64, 1, "C")

_NEWLINE = 10

Item = TypeVar("Item", bound=np.generic)


@kernel(types.UniTuple(types.int64, 2)(u8, types.int64, I64, I64, I64))
def split_words(buffer, size, begins, ends, starts):  # type: ignore[no-untyped-def]
    """Find words between ASCII white space, as ``bytes.split`` does, line by line.

    ``starts`` int64[lines + 1] gets the first word of each line. Returns words and lines; a last
    line without a line feed counts.
    """
    words = 0
    lines = 0
    inside = False
    for at in range(size):
        byte = buffer[at]
        if byte == 32 or 9 <= byte <= 13:
            if inside:
                ends[words] = at
                words += 1
                inside = False
            if byte == _NEWLINE:
                lines += 1
                starts[lines] = words
        elif not inside:
            begins[words] = at
            inside = True
    if inside:
        ends[words] = size
        words += 1
    if size and buffer[size - 1] != _NEWLINE:
        lines += 1
        starts[lines] = words
    return words, lines


@kernel(types.int64(u8, i64, i32, i64, I64, I64))
def place_spans(  # type: ignore[no-untyped-def]
    buffer, text_starts, spans, span_starts, begins, ends
):
    """Turn character spans of UTF-8 texts into byte spans.

    Text r is ``buffer[text_starts[r]:text_starts[r + 1]]`` and its spans, flattened, are
    ``spans[span_starts[r]:span_starts[r + 1]]``. Returns the first row whose spans are not
    ascending, or go beyond the text; -1 if there is none.
    """
    word = 0
    for row in range(text_starts.size - 1):
        at = text_starts[row]
        end = text_starts[row + 1]
        character = 0
        for k in range(span_starts[row], span_starts[row + 1]):
            wanted = spans[k]
            if wanted < character:
                return row
            while character < wanted:
                if at == end:
                    return row
                at += 1
                # Continuation bytes are 10xxxxxx.
                while at < end and buffer[at] & 0xC0 == 0x80:
                    at += 1
                character += 1
            if (k - span_starts[row]) % 2 == 0:
                begins[word] = at
            else:
                ends[word] = at
                word += 1
    return -1


@kernel(
    types.UniTuple(types.int64, 2)(u8, i64, i64, types.int64, types.int64, I32, _U64, I64, U8, I32)
)
def intern(  # type: ignore[no-untyped-def]
    buffer, begins, ends, word, known, slots, hashes, bounds, arena, tokens
):
    """Number the words from ``word`` on, until done or out of room.

    Returns the next word to do and how many types are known.
    """
    mask = slots.size - 1
    while word < begins.size:
        begin = begins[word]
        length = ends[word] - begin
        # FNV-1a, 64 bits.
        mixed = np.uint64(0xCBF29CE484222325)
        for at in range(begin, begin + length):
            mixed = (mixed ^ np.uint64(buffer[at])) * np.uint64(0x100000001B3)
        slot = np.int64(mixed ^ (mixed >> np.uint64(32))) & mask
        while True:
            number = slots[slot]
            if number == 0:
                if 2 * known >= mask or known == hashes.size:
                    return word, known
                first = bounds[known]
                if first + length > arena.size:
                    return word, known
                for at in range(length):
                    arena[first + at] = buffer[begin + at]
                hashes[known] = mixed
                known += 1
                bounds[known] = first + length
                slots[slot] = known
                number = known
                break
            first = bounds[number - 1]
            if hashes[number - 1] == mixed and bounds[number] - first == length:
                same = True
                for at in range(length):
                    if arena[first + at] != buffer[begin + at]:
                        same = False
                        break
                if same:
                    break
            slot = (slot + 1) & mask
        tokens[word] = number
        word += 1
    return word, known


@kernel(types.void(_U64, types.int64, I32))
def rehash(hashes, known, slots):  # type: ignore[no-untyped-def]
    """Fill an empty table with the known types."""
    mask = slots.size - 1
    for t in range(known):
        mixed = hashes[t]
        slot = np.int64(mixed ^ (mixed >> np.uint64(32))) & mask
        while slots[slot] != 0:
            slot = (slot + 1) & mask
        slots[slot] = t + 1


class Vocabulary:
    """Distinct words, as bytes, numbered from 1 in the order of their first appearance."""

    def __init__(self) -> None:
        self.types = 0
        self._slots = np.zeros(1 << 12, np.int32)
        self._hashes = np.empty(1 << 11, np.uint64)
        self._bounds = np.zeros((1 << 11) + 1, np.int64)
        self._arena = np.empty(1 << 15, np.uint8)

    def number(
        self, buffer: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """The numbers of words given by where they are in a buffer; new words are added."""
        tokens = np.empty(len(begins), np.int32)
        word = 0
        while word < len(begins):
            word, self.types = intern(
                buffer, begins, ends, word, self.types,
                self._slots, self._hashes, self._bounds, self._arena, tokens,
            )  # fmt: skip
            if word < len(begins):
                self._grow(int(ends[word] - begins[word]))
        return tokens

    def words(self) -> list[bytes]:
        """The types, type 1 first."""
        arena = self._arena[: self._bounds[self.types]].tobytes()
        bounds = self._bounds[: self.types + 1].tolist()
        return [arena[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]

    def _grow(self, length: int) -> None:
        used = int(self._bounds[self.types])
        if used + length > len(self._arena):
            self._arena = _longer(self._arena, 2 * used + length)
        if self.types == len(self._hashes):
            self._hashes = _longer(self._hashes, 2 * self.types)
            self._bounds = _longer(self._bounds, 2 * self.types + 1)
        if 2 * self.types >= len(self._slots) - 1:
            self._slots = np.zeros(4 * len(self._slots), np.int32)
            rehash(self._hashes, self.types, self._slots)


def _longer(array: NDArray[Item], size: int) -> NDArray[Item]:
    out = np.empty(size, array.dtype)
    out[: len(array)] = array
    return out
