"""Words of a table's text, by their character spans, as numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.alignment.encoding import Side, by_frequency
from weam_ray.alignment.interning import Vocabulary, place_spans
from weam_ray.errors import DataError


def encode_spans(texts: pa.ChunkedArray, spans: pa.ChunkedArray, casefold: bool, name: str) -> Side:
    """The words of a column of texts.

    Args:
        texts: string column.
        spans: list<int32> column of character offsets, flattened: start0, end0, start1, end1, ...
        casefold: count words that differ in case only as one.
        name: of the text column, for errors.

    Raises:
        DataError: spans that are odd in number, out of order or beyond the text.
    """
    text = texts.cast(pa.large_string()).combine_chunks().fill_null("")
    ranges = spans.cast(pa.large_list(pa.int32())).combine_chunks()
    lengths = np.asarray(ranges.value_lengths().fill_null(0), np.int64)
    if (lengths % 2).any():
        raise DataError(
            f"{name}_spans of odd length",
            place=f"row {int(np.flatnonzero(lengths % 2)[0]) + 1}",
            cure="Spans are start and end offsets, by turns.",
        )
    span_starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=span_starts[1:])
    _, offsets, data = text.buffers()
    starts = np.frombuffer(offsets, np.int64, len(text) + 1, 8 * text.offset)
    buffer = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    begins = np.empty(span_starts[-1] // 2, np.int64)
    ends = np.empty_like(begins)
    flat = np.ascontiguousarray(ranges.flatten(), np.int32)
    wrong = place_spans(buffer, starts, flat, span_starts, begins, ends)
    if wrong >= 0:
        raise DataError(f"{name}_spans out of order or beyond the text", place=f"row {wrong + 1}")
    vocabulary = Vocabulary()
    tokens = vocabulary.number(buffer, begins, ends)
    merged, words = merge_types(vocabulary.words(), casefold)
    return by_frequency(Side(merged[tokens], span_starts // 2, len(words)))[0]


def merge_types(words: list[bytes], casefold: bool) -> tuple[NDArray[np.int32], list[bytes]]:
    """Numbers for types of which some are one when case does not count.

    Returns:
        int32[types + 1], the number that each type gets, and the words of these numbers.
    """
    if not casefold:
        return np.arange(len(words) + 1, dtype=np.int32), words
    folded: dict[bytes, int] = {}
    new = np.zeros(len(words) + 1, np.int32)
    for number, word in enumerate(words, 1):
        # Ill-formed bytes stand for themselves.
        lower = word.decode("utf8", "surrogateescape").casefold()
        key = lower.encode("utf8", "surrogateescape")
        new[number] = folded.setdefault(key, len(folded) + 1)
    return new, list(folded)
