"""One side of a corpus as flat columns of tokens, with the word each token lies in.

Legend: N sentences, T tokens; `start` columns have N+1 entries (CSR).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weam_ray.errors import DataError
from weam_ray.pretraining.masking import I64, TokenTable

I32 = npt.NDArray[np.int32]

NO_WORD = -1
_TEXTS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Tokens of N sentences: ids int32 [T], word int32 [T] (−1: none), start int64 [N+1]."""

    ids: I32
    word: I32
    start: I64

    @property
    def lengths(self) -> I64:
        """Tokens of each sentence [N]."""
        return np.diff(self.start)

    def take(self, sentences: I64) -> Side:
        """These sentences, in this order."""
        lengths = self.lengths[sentences]
        flat = spread(self.start[sentences], lengths)
        return Side(self.ids[flat], self.word[flat], starts_of(lengths))


def starts_of(lengths: npt.NDArray[Any]) -> I64:
    """CSR starts of runs of these lengths."""
    starts: I64 = np.zeros(len(lengths) + 1, np.int64)
    starts[1:] = np.cumsum(lengths, dtype=np.int64)
    return starts


def spread(starts: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> I64:
    """`starts[i], starts[i]+1, …` for `lengths[i]` numbers each, one run after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    places: I64 = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    places += np.repeat(starts - (ends - lengths), lengths)
    return places


def tokenise(texts: Sequence[str], spans: pa.ChunkedArray | None, tokenizer: Any) -> Side:
    """Tokens of raw texts in batched calls, and the word each lies in, by character offsets.

    A token belongs to the word its last character is in: a leading space (SentencePiece's `▁`)
    belongs to what follows it. Words are numbered over the whole side, in order.

    Args:
        texts: N sentences, raw.
        spans: words as in `source_spans`; None says that words don't matter.
        tokenizer: a fast Hugging Face tokenizer.
    """
    ids: list[npt.NDArray[Any]] = [np.empty(0, np.int32)]
    last: list[npt.NDArray[Any]] = [np.empty(0, np.int64)]
    lengths: list[int] = []
    # A tokenizer may come, or have been left, with truncation switched on.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        block = list(texts[begin : begin + _TEXTS_AT_ONCE])
        encodings = tokenizer.backend_tokenizer.encode_batch(block, add_special_tokens=False)
        lengths.extend(map(len, encodings))
        ids.append(_flat((encoding.ids for encoding in encodings), np.int32))
        if spans is not None:
            stops = ([stop - 1 for _, stop in encoding.offsets] for encoding in encodings)
            last.append(_flat(stops, np.int64))
    start = starts_of(np.array(lengths, np.int64))
    tokens = np.concatenate(ids)
    if spans is None:
        return Side(tokens, np.full(len(tokens), NO_WORD, np.int32), start)
    return Side(tokens, _words_at(np.concatenate(last), start, texts, spans), start)


def _flat(lists: Iterable[Sequence[int]], dtype: type) -> npt.NDArray[Any]:
    return np.fromiter(chain.from_iterable(lists), dtype)


def _words_at(last: I64, start: I64, texts: Sequence[str], spans: pa.ChunkedArray) -> I32:
    """The word, numbered over the side, that each token's last character lies in, or −1."""
    bounds, span_start = ragged(spans)
    begin_end = bounds.astype(np.int64).reshape(-1, 2)
    # One number line for all sentences: each gets its own stretch of characters.
    stretch = starts_of(np.array([len(text) + 1 for text in texts], np.int64))[:-1]
    base = np.repeat(stretch, np.diff(span_start) // 2)
    begin, end = begin_end[:, 0] + base, begin_end[:, 1] + base
    at = last + np.repeat(stretch, np.diff(start))
    found = np.searchsorted(begin, at, side="right") - 1
    inside = (found >= 0) & (last >= 0)
    inside[inside] = at[inside] < end[found[inside]]
    return np.where(inside, found, NO_WORD).astype(np.int32)


def ragged(column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], I64]:
    """Values and CSR starts of a list column without nulls."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
    offsets = whole.offsets.to_numpy().astype(np.int64)
    values = whole.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    return values, offsets - offsets[0]


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The special tokens a row is framed with: `begin A between B end`."""

    begin: int
    end: int
    double_separator: bool
    """RoBERTa's `</s></s>` between the two sides."""

    @property
    def between(self) -> tuple[int, ...]:
        """What stands between the two sides."""
        return (self.end, self.end) if self.double_separator else (self.end,)


def special_tokens(tokenizer: Any) -> SpecialTokens:
    """How this tokenizer frames one sentence and two, found by asking it.

    Raises:
        DataError: its frame is not `begin A end(end) B end`, or a special token is missing.
    """
    place = str(tokenizer.name_or_path)
    cure = "Use the tokenizer of a masked language model (BERT, RoBERTa, XLM-R, ModernBERT)."
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    if None in (begin, end, tokenizer.pad_token_id, tokenizer.mask_token_id):
        raise DataError(
            "this tokenizer lacks a [CLS], [SEP], [PAD] or [MASK] token", place=place, cure=cure
        )
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a", "a")["input_ids"]
    for double in (False, True):
        tokens = SpecialTokens(begin, end, double)
        if framed == [begin, *inner, *tokens.between, *inner, end]:
            return tokens
    raise DataError(
        f"this tokenizer frames a pair as {framed}, not as [CLS] {inner} [SEP] {inner} [SEP]",
        place=place,
        cure=cure,
    )


def token_table(tokenizer: Any) -> TokenTable:
    """Which tokens can be masked, and what random replacements are drawn from."""
    maskable = np.ones(len(tokenizer), np.bool_)
    maskable[[token for token in tokenizer.all_special_ids if token < len(maskable)]] = False
    return TokenTable(
        maskable=maskable, ordinary=np.flatnonzero(maskable), mask_id=tokenizer.mask_token_id
    )
