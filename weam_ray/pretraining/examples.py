"""Rows for the encoder as columns of integers: tokens, words and links, without a loop a batch.

Legend: R rows, T tokens, W words, K links; `*_start` columns are CSR, one entry longer.
A row is what the encoder reads at once: `[CLS] source [SEP] target [SEP]`, or one side alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weam_ray.errors import DataError
from weam_ray.pretraining.config import ONE_SIDE_A_ROW, PretrainingConfig
from weam_ray.pretraining.masking import I64, U64, mix
from weam_ray.pretraining.sides import (
    I32,
    NO_WORD,
    Side,
    SpecialTokens,
    ragged,
    special_tokens,
    spread,
    starts_of,
    tokenise,
)
from weam_ray.pretraining.words import (
    Words,
    concatenate_words,
    number_words,
    place_words,
    read_links,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSet:
    """A bilingual corpus as training reads it.

    Attributes:
        name: what the record calls it: `en-de`, `en-de/medical`.
        source, target: language codes.
        pairs: `pairs.parquet`, the rows of the subset (docs/design.md).
        links: `links.parquet`, at least these pairs; None for objectives that read no links.
        repeats: pairs that were taken out because a text of theirs is held out.
    """

    name: str
    source: str
    target: str
    pairs: pa.Table
    links: pa.Table | None = None
    repeats: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Rows ready for masking.

    Attributes:
        ids: int32 [T], special tokens included.
        start: int64 [R+1].
        second: int32 [R], place in the row where segment 1 begins; the row's length if nowhere.
        keys: uint64 [R], what masks are drawn from: the pair_id, or a hash of it and the side.
        sets: int32 [R], index into `names`: which of the run's sets a row is of.
        word: int32 [T], the word a token belongs to, −1 for none.
        words: None where the objective reads no links.
        anchored: bool [R], word-aligned's rows that are held near the frozen original.
        group: rows that stay together in a batch and count as one of its `batch_size`: 2 where both
            sides of a pair are rows of their own, else 1.
        group_keys: uint64, one a group: what the order is drawn from; the pair_id, or a line's key.
        group_lengths: int64, one a group: tokens by which groups come to share a batch: those of
            the pair as one row, also where its sides are two.
        names: of the sets.
        shares: float64, one a set: how often its rows are drawn; None: by sizes and temperature.
        whole: int64, one a set: rows of all its text, where no more of it was read than the run can
            use; None: those here.
        facts: what was counted on the way.
    """

    ids: I32
    start: I64
    second: I32
    keys: U64
    sets: I32
    word: I32
    words: Words | None = None
    anchored: npt.NDArray[np.bool_]
    group_keys: U64
    group_lengths: I64
    group: int = 1
    names: tuple[str, ...] = ("",)
    shares: npt.NDArray[np.float64] | None = None
    whole: I64 | None = None
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows R."""
        return len(self.keys)

    @property
    def lengths(self) -> I64:
        """Tokens of each row [R]."""
        return np.diff(self.start)


def build_examples(
    pairs: pa.Table,
    links: pa.Table | None,
    tokenizer: Any,
    config: PretrainingConfig,
    *,
    anchor_target: bool = False,
) -> Examples:
    """Rows of a bilingual corpus in the form the objective reads.

    One row a pair; for `mlm` and `word-aligned` one row a side, source and target in turn, which
    stay in one batch. Order and batches follow from the pair alone (`group_keys`, `group_lengths`),
    so every objective reads the same pairs at the same step, and only what a token can see of them
    differs. The controls' shuffling is done to the data before it comes here
    (:func:`weam_ray.corpus.shuffle_pairs`, :func:`weam_ray.alignment.shuffle_links`).

    Args:
        pairs: `pairs.parquet` (docs/design.md).
        links: `links.parquet`, holding at least these pairs; unread by objectives without links.
        tokenizer: a fast Hugging Face tokenizer.
        config: objective and max_length are read.
        anchor_target: word-aligned holds the target side near the original, not the source.

    Raises:
        DataError: a pair without links, or a link outside its sentence.
    """
    keys = pairs["pair_id"].to_numpy().astype(np.uint64)
    source, target = (
        tokenise(
            pairs[name].to_pylist(),
            pairs[f"{name}_spans"] if config.uses_links else None,
            tokenizer,
        )
        for name in ("source", "target")
    )
    if not config.uses_links:
        return _rows(source, target, keys, tokenizer, config)
    if links is None:
        raise DataError(
            f"{config.objective} reads word links and got none", cure="Pass the corpus's links."
        )
    i_words, j_words = (
        np.diff(ragged(pairs[f"{name}_spans"])[1]) // 2 for name in ("source", "target")
    )
    base = starts_of(i_words + j_words)
    source = number_words(source, i_words, base[:-1])
    target = number_words(target, j_words, base[:-1] + i_words)
    had_tokens = np.zeros(base[-1], np.bool_)
    had_tokens[source.word[source.word >= 0]] = True
    had_tokens[target.word[target.word >= 0]] = True
    examples = _rows(source, target, keys, tokenizer, config, anchor_target)
    words, facts = place_words(examples.word, had_tokens, read_links(keys, links, i_words, j_words))
    return replace(examples, words=words, facts={**examples.facts, **facts})


def build_sentences(
    texts: Sequence[str], keys: U64, tokenizer: Any, max_length: int, second: Sequence[str] = ()
) -> Examples:
    """Rows of monolingual lines for MLM; a line too long for a row becomes several.

    Args:
        texts: lines.
        keys: uint64, one a line, unique over the run.
        tokenizer: a fast Hugging Face tokenizer.
        max_length: tokens a row.
        second: as many lines again, to stand in the second segment; then long lines lose their
            ends instead.
    """
    special = special_tokens(tokenizer)
    side = tokenise(texts, None, tokenizer)
    if second:
        return frame(side, tokenise(second, None, tokenizer), keys, special, max_length)
    room = max_length - 2
    pieces = -(-side.lengths // room)
    row = np.repeat(np.arange(len(pieces)), pieces)
    piece = spread(np.zeros_like(pieces), pieces)
    # Pieces follow each other without gaps, so where they begin is the CSR itself.
    start = np.append(side.start[row] + piece * room, side.start[-1])
    piece_keys = mix(keys[row] ^ mix(piece.astype(np.uint64)))
    return frame(Side(side.ids, side.word, start), None, piece_keys, special, max_length)


def concatenate(parts: Sequence[Examples], names: Sequence[str]) -> Examples:
    """The rows of several sets as one, `sets` saying which is which."""
    tokens = starts_of(np.array([len(part.ids) for part in parts]))
    words = starts_of(np.array([len(part.words.first) if part.words else 0 for part in parts]))
    moved = [
        np.where(part.word >= 0, part.word + words[i], NO_WORD) for i, part in enumerate(parts)
    ]
    return Examples(
        ids=np.concatenate([part.ids for part in parts]),
        start=np.concatenate(
            [[0], *(part.start[1:] + tokens[i] for i, part in enumerate(parts))]
        ).astype(np.int64),
        second=np.concatenate([part.second for part in parts]),
        keys=np.concatenate([part.keys for part in parts]),
        sets=np.repeat(np.arange(len(parts), dtype=np.int32), [part.rows for part in parts]),
        word=np.concatenate(moved).astype(np.int32),
        words=concatenate_words([part.words for part in parts], tokens, words),
        anchored=np.concatenate([part.anchored for part in parts]),
        group_keys=np.concatenate([part.group_keys for part in parts]),
        group_lengths=np.concatenate([part.group_lengths for part in parts]),
        group=parts[0].group,
        names=tuple(names),
        facts={name: sum(part.facts.get(name, 0.0) for part in parts) for name in parts[0].facts},
    )


def _rows(
    source: Side,
    target: Side,
    keys: U64,
    tokenizer: Any,
    config: PretrainingConfig,
    anchor_target: bool = False,
) -> Examples:
    special = special_tokens(tokenizer)
    if config.objective not in ONE_SIDE_A_ROW:
        return frame(source, target, keys, special, config.max_length)
    # Source rows and target rows in turn.
    both = Side(
        np.concatenate([source.ids, target.ids]),
        np.concatenate([source.word, target.word]),
        np.concatenate([source.start, source.start[-1] + target.start[1:]]),
    ).take(np.arange(2 * len(keys)).reshape(2, -1).T.ravel())
    side = np.tile(np.array([0, 1], np.uint64), len(keys))
    examples = frame(both, None, mix(np.repeat(keys, 2) + side), special, config.max_length)
    return replace(
        examples,
        anchored=(side == 1) == anchor_target,
        group=2,
        group_keys=keys,
        group_lengths=_joined(source.lengths + target.lengths, special, config.max_length),
    )


def _joined(tokens: I64, special: SpecialTokens, max_length: int) -> I64:
    """The length of a pair as one row, which truncation cuts to `max_length` and no shorter."""
    return np.minimum(tokens + 2 + len(special.between), max_length)


def frame(
    first: Side, second: Side | None, keys: U64, special: SpecialTokens, max_length: int
) -> Examples:
    """Special tokens around one side or two, longer sides cut first until the row fits."""
    between = special.between if second else ()
    a = first.lengths
    b = second.lengths if second else np.zeros_like(a)
    room = max_length - 2 - len(between)
    a_kept = np.minimum(a, np.maximum(room - b, -(-room // 2))) if second else np.minimum(a, room)
    b_kept = np.minimum(b, room - a_kept)
    start = starts_of(a_kept + b_kept + 2 + len(between))
    ids = np.full(start[-1], special.end, np.int32)
    word = np.full(start[-1], NO_WORD, np.int32)
    ids[start[:-1]] = special.begin
    for side, kept, place in (
        (first, a_kept, start[:-1] + 1),
        (second, b_kept, start[:-1] + 1 + a_kept + len(between)),
    ):
        if side is not None:
            read, write = spread(side.start[:-1], kept), spread(place, kept)
            ids[write], word[write] = side.ids[read], side.word[read]
    return Examples(
        ids=ids,
        start=start,
        second=(a_kept + 1 + len(between) if second else np.diff(start)).astype(np.int32),
        keys=keys,
        sets=np.zeros(len(keys), np.int32),
        word=word,
        anchored=np.zeros(len(keys), np.bool_),
        group_keys=keys,
        group_lengths=np.diff(start),
        facts={
            "rows": len(keys),
            "tokens_in_rows": int(start[-1]),
            "truncated_rows": int(np.sum((a_kept < a) | (b_kept < b))),
            "rows_with_an_empty_side": int(np.sum((a == 0) | ((b == 0) & (second is not None)))),
        },
    )
