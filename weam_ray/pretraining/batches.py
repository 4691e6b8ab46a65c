"""The one global sequence of batches: a pure function of (examples, settings, seed).

Rows are taken in pools of up to 64 batches. A pool's rows are sorted by length and cut into
batches, whose order is then shuffled; masks, replacements and partners are drawn for a whole pool
at once, so that a batch is a few slices. Which worker asks, and for how much of a batch at a time,
changes nothing in what the batch holds.

Legend: B rows, L places, M masked tokens, A of them with a partner, U exchanged vectors that are no
masked token's own, K partner tokens, R = M + U vectors the head reads, N = M + A predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weam_ray.errors import ConfigError
from weam_ray.pretraining.config import Pooling, TrainingConfig
from weam_ray.pretraining.examples import Examples
from weam_ray.pretraining.masking import (
    I64,
    TokenTable,
    corrupt,
    token_keys,
)
from weam_ray.pretraining.order import Order
from weam_ray.pretraining.partners import linked_places, partners
from weam_ray.pretraining.sides import spread, starts_of


@dataclass(slots=True, eq=False)
class Batch:
    """Rows of one batch, or one worker's or micro-batch's share of it, padded to L places.

    Places count over the flattened [B·L]. `all_*` count over the whole batch on all workers, so
    that shares add up to the batch's loss.

    Attributes:
        ids_BL: tokens as the encoder sees them.
        real_BL: false at padding.
        segments_BL: 0 and 1.
        places_M, targets_M: where masked tokens are and what they were.
        aligned_A: which masked tokens (index into M) have a partner, increasing.
        row_A: which of the R vectors each of them is predicted from after the exchange: below M the
            vector of that masked token, else exchanged vector row − M. The subwords of a word share
            one, and a partner that is one masked token has its own: neither is read twice.
        owner_K, partners_K, weights_K: exchanged vector `owner` is the weighted sum of the vectors
            at its partners' places.
        order_N: the predictions, own ones (M) before exchanged ones (A), in order of their vectors.
        row_start: [R+1], on the CPU: where in that order each vector's predictions begin.
        left_K, right_K: word-aligned only: places whose vectors are to meet.
        anchored_S: word-aligned only: rows held near the original, increasing.
        moved_N, held_N: their real tokens: places over [B·L], and over these rows alone, [S·L].
        tokens: real tokens here.
        padded: whether any place here is padding.
    """

    ids_BL: Tensor
    real_BL: Tensor
    segments_BL: Tensor
    places_M: Tensor
    targets_M: Tensor
    aligned_A: Tensor
    row_A: Tensor
    owner_K: Tensor
    partners_K: Tensor
    weights_K: Tensor
    order_N: Tensor
    row_start: I64
    left_K: Tensor
    right_K: Tensor
    anchored_S: Tensor
    moved_N: Tensor
    held_N: Tensor
    tokens: int
    padded: bool
    all_tokens: int
    all_masked: int
    all_aligned: int
    all_links: int
    all_anchored: int

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        if device.type == "cpu":
            return self
        moved = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                value = value.pin_memory().to(device, non_blocking=True)
            moved[item.name] = value
        return Batch(**moved)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pool:
    """Everything drawn for the rows of a pool, flat; `*_start` say where rows begin."""

    start: I64
    lengths: I64
    row: I64
    position: I64
    ids: I64
    seen: I64
    second: I64
    anchored: npt.NDArray[np.bool_]
    masked: I64
    masked_start: I64
    counts: I64
    vector: I64
    partner: I64
    partner_start: I64
    weights: npt.NDArray[np.float32]
    left: I64
    right: I64
    left_start: I64


class Batches:
    """Batches by number, for one worker of several, in one piece or in micro-batches."""

    def __init__(
        self,
        examples: Examples,
        config: TrainingConfig,
        table: TokenTable,
        pad_id: int,
        *,
        pooling: Pooling = "mean",
        one_to_many: str = "mean",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Sets the sequence up; nothing is drawn yet.

        Args:
            examples: rows of all sets.
            config: batch size, masking, seed, mixing, micro-batch.
            table: what can be masked.
            pad_id: the padding token.
            pooling: of a partner's subwords.
            one_to_many: what several partners make.
            rank: this worker, from 0.
            world: workers.

        Raises:
            ConfigError: fewer rows a batch than workers.
        """
        self._rank, self._world = rank, world
        self._refuse_fewer_than_workers(config.batch_size, "batch_size")
        self.order = Order(examples, config.batch_size, config.temperature, config.seed)
        self._rows = config.batch_size * examples.group
        self._examples, self._config, self._table = examples, config, table
        self._pad_id, self._pooling, self._one_to_many = pad_id, pooling, one_to_many
        self._current: tuple[int, _Pool] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The sets mixed here."""
        return self._examples.names

    @property
    def has_links(self) -> bool:
        """Whether masked tokens can have partners."""
        return self._examples.words is not None

    def batch(self, number: int) -> list[Batch]:
        """This worker's share of batch `number`, in micro-batches."""
        which, within = divmod(number, self.order.batches_a_pool)
        if self._current is None or self._current[0] != which:
            self._current = (which, self._draw(*self.order.pool(which)))
        pool = self._current[1]
        whole = slice(within * self._rows, (within + 1) * self._rows)
        return [self._slice(pool, whole, *rows) for rows in self._shares(whole)]

    def every_row(self) -> Iterator[Batch]:
        """This worker's share of one batch that is every row once, in pieces of like length.

        Masks are those of the first epoch. As ever, the values of the pieces add up to the batch's.

        Raises:
            ConfigError: fewer rows than workers.
        """
        group, lengths = self._examples.group, self.order.lengths
        groups = len(lengths)
        self._refuse_fewer_than_workers(groups, "held-out pairs")
        rows = np.argsort(lengths, kind="stable")[:, None] * group + np.arange(group)
        pool = self._draw(rows.ravel(), np.zeros(rows.size, np.int64))
        pieces = max(groups // self._config.batch_size, 1)
        whole = slice(0, rows.size)
        for piece in range(pieces):
            begin, end = (groups * at // pieces * group for at in (piece, piece + 1))
            for part in self._shares(slice(begin, end)):
                yield self._slice(pool, whole, *part)

    def _shares(self, rows: slice) -> Iterator[tuple[int, int]]:
        """Row ranges of this worker's micro-batches within these rows: as many on every worker."""
        group, world = self._examples.group, self._world
        first, groups = rows.start // group, (rows.stop - rows.start) // group
        begin, end = (first + groups * rank // world for rank in (self._rank, self._rank + 1))
        largest = -(-groups // world)
        # Workers that shard the model have to call it equally often, so none is left without rows.
        parts = min(-(-largest // (self._config.micro_batch or largest)), groups // world)
        for part in range(parts):
            low, high = (begin + (end - begin) * at // parts for at in (part, part + 1))
            yield low * group, high * group

    def _refuse_fewer_than_workers(self, groups: int, what: str) -> None:
        if groups < self._world:
            raise ConfigError(
                f"{what} {groups} can't be split over {self._world} workers",
                cure=f"Use at most {groups} workers, or more rows.",
            )

    def _draw(self, rows: I64, epochs: I64) -> _Pool:
        examples, config = self._examples, self._config
        lengths = examples.lengths[rows]
        start = starts_of(lengths)
        flat = spread(examples.start[rows], lengths)
        row = np.repeat(np.arange(len(rows)), lengths)
        position = flat - examples.start[rows][row]
        ids = examples.ids[flat].astype(np.int64)
        moved = start[:-1] - examples.start[rows]  # from a row's place in the columns to the pool
        left = right = masked = np.empty(0, np.int64)
        seen = ids
        if examples.group == 2 and examples.words is not None:
            left, right = linked_places(examples.words, examples.word[flat], flat, start)
            right = right + moved[row[left] + 1]
            left, right = _with_frame(left, right, start)
        else:
            keys = token_keys(config.seed, epochs[row], examples.keys[rows][row], position)
            seen, is_masked = corrupt(
                ids, keys, self._table, config.masking_rate, config.corruption
            )
            masked = np.flatnonzero(is_masked)
        counts, partner, weights = self._partners(masked, flat)
        partner = partner + np.repeat(moved[row[masked]], counts)
        partner_start = starts_of(counts)
        return _Pool(
            start=start,
            lengths=lengths,
            row=row,
            position=position,
            ids=ids,
            seen=seen,
            second=examples.second[rows].astype(np.int64),
            anchored=examples.anchored[rows],
            masked=masked,
            masked_start=np.searchsorted(masked, start),
            counts=counts,
            vector=self._vectors(masked, flat, moved[row[masked]], partner, partner_start),
            partner=partner,
            partner_start=partner_start,
            weights=weights,
            left=left,
            right=right,
            left_start=np.searchsorted(left, start),
        )

    def _partners(self, masked: I64, flat: I64) -> tuple[I64, I64, npt.NDArray[np.float32]]:
        words = self._examples.words
        if words is None or not len(masked):
            return np.zeros(len(masked), np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        place = flat[masked]
        return partners(words, place, self._examples.word[place], self._pooling, self._one_to_many)

    def _vectors(self, masked: I64, flat: I64, moved: I64, partner: I64, partner_start: I64) -> I64:
        """A number for each masked token's exchanged vector, the same only for the same vector.

        Below the pool's number of tokens it is a token's own vector: that of the one partner.
        """
        words, counts = self._examples.words, np.diff(partner_start)
        if words is None or not len(partner):
            return np.zeros(len(masked), np.int64)
        tokens = len(flat)
        if self._pooling == "same-index":
            several = 2 * tokens + masked
        else:  # all subwords of a word have its partners
            word = np.maximum(self._examples.word[flat[masked]], 0)
            several = tokens + words.first[word] + moved
        first = partner[np.minimum(partner_start[:-1], len(partner) - 1)]
        return np.where(counts == 1, first, several)

    def _slice(self, pool: _Pool, whole: slice, begin: int, end: int) -> Batch:
        """Rows [begin, end) of the pool, padded, as a share of the batch that is rows `whole`."""
        low, high = pool.start[begin], pool.start[end]
        lengths = pool.lengths[begin:end]
        width = int(lengths.max())
        row_of, column = pool.row[low:high] - begin, pool.position[low:high]
        place = row_of * width + column
        ids = np.full((end - begin) * width, self._pad_id, np.int64)
        ids[place] = pool.seen[low:high]
        columns = np.arange(width)
        m0, m1 = pool.masked_start[begin], pool.masked_start[end]
        masked = pool.masked[m0:m1]
        aligned = np.flatnonzero(pool.counts[m0:m1])
        row, told = _head_rows(masked, pool.vector[m0:m1][aligned])
        told = m0 + aligned[told]
        parts = spread(pool.partner_start[told], pool.counts[told])
        rows = np.concatenate([np.arange(len(masked)), row])
        w0, w1 = pool.left_start[begin], pool.left_start[end]
        b0, b1 = pool.masked_start[[whole.start, whole.stop]]
        rank = np.cumsum(pool.anchored[begin:end]) - 1
        anchored = np.flatnonzero(pool.anchored[begin:end][row_of])
        tensor = torch.from_numpy
        return Batch(
            ids_BL=tensor(ids.reshape(-1, width)),
            real_BL=tensor(columns < lengths[:, None]),
            segments_BL=tensor((columns >= pool.second[begin:end, None]).astype(np.int64)),
            places_M=tensor(place[masked - low]),
            targets_M=tensor(pool.ids[masked]),
            aligned_A=tensor(aligned),
            row_A=tensor(row),
            owner_K=tensor(np.repeat(np.arange(len(told)), pool.counts[told])),
            partners_K=tensor(place[pool.partner[parts] - low]),
            weights_K=tensor(pool.weights[parts]),
            order_N=tensor(np.argsort(rows, kind="stable")),
            row_start=starts_of(np.bincount(rows, minlength=len(masked) + len(told))),
            left_K=tensor(place[pool.left[w0:w1] - low]),
            right_K=tensor(place[pool.right[w0:w1] - low]),
            anchored_S=tensor(np.flatnonzero(pool.anchored[begin:end])),
            moved_N=tensor(place[anchored]),
            held_N=tensor(rank[row_of[anchored]] * width + column[anchored]),
            tokens=int(high - low),
            padded=bool(high - low < len(ids)),
            all_tokens=int(pool.start[whole.stop] - pool.start[whole.start]),
            all_masked=int(b1 - b0),
            all_aligned=int(np.count_nonzero(pool.counts[b0:b1])),
            all_links=int(pool.left_start[whole.stop] - pool.left_start[whole.start]),
            all_anchored=int(pool.lengths[whole][pool.anchored[whole]].sum()),
        )


def _head_rows(masked: I64, vector: I64) -> tuple[I64, I64]:
    """Which of the head's rows each exchanged vector is, and who first needs each further one.

    Args:
        masked: places of the masked tokens, whose own vectors are the first rows; increasing.
        vector: from `_Pool.vector` [A].

    Returns:
        row [A], and for each row after the masked tokens' own an index into A [U].
    """
    at = np.minimum(np.searchsorted(masked, vector), max(len(masked) - 1, 0))
    row = at.astype(np.int64)
    further = np.flatnonzero(masked[at] != vector)
    _, first, inverse = np.unique(vector[further], return_index=True, return_inverse=True)
    row[further] = len(masked) + inverse
    return row, further[first]


def _with_frame(left: I64, right: I64, start: I64) -> tuple[I64, I64]:
    """Adds each pair's [CLS]–[CLS] and [SEP]–[SEP] (Cao et al. 2020, section 3.2)."""
    left = np.concatenate([left, start[:-1:2], start[1::2] - 1])
    right = np.concatenate([right, start[1:-1:2], start[2::2] - 1])
    order = np.argsort(left, kind="stable")
    return left[order], right[order]
