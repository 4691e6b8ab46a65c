"""The one global sequence of batches: a pure function of (examples, settings, seed).

Rows are taken in pools of up to 64 batches. A pool's rows are sorted by length and cut into
batches, whose order is then shuffled; masks, replacements and partners are drawn for a whole pool
at once, so that a batch is a few slices. Which worker asks, and for how much of a batch at a time,
changes nothing in what the batch holds.

Legend: B rows, L places, M masked tokens, A of them with a partner, K partner tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining.config import Pooling, TrainingConfig
from weam_ray.pretraining.examples import Examples
from weam_ray.pretraining.masking import (
    BATCH_ORDER,
    I64,
    ORDER,
    TokenTable,
    corrupt,
    draw,
    seed_word,
    token_keys,
)
from weam_ray.pretraining.partners import linked_places, partners
from weam_ray.pretraining.sides import spread, starts_of

_BATCHES_A_POOL = 64


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
        owner_K, partners_K, weights_K: the exchanged vector of the masked token aligned_A[owner] is
            the weighted sum of the vectors at its partners' places.
        left_K, right_K: word-aligned only: places whose vectors are to meet.
        anchored_B: word-aligned only: rows held near the original.
        tokens: real tokens here.
        padded: whether any place here is padding.
    """

    ids_BL: Tensor
    real_BL: Tensor
    segments_BL: Tensor
    places_M: Tensor
    targets_M: Tensor
    aligned_A: Tensor
    owner_K: Tensor
    partners_K: Tensor
    weights_K: Tensor
    left_K: Tensor
    right_K: Tensor
    anchored_B: Tensor
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


class Order:
    """Which rows come when: an endless sequence of pools, mixing the sets of the examples.

    A set's rows come in a new seeded order every epoch, by a hash of their keys, so the order of
    the files doesn't matter.
    """

    def __init__(self, examples: Examples, batch_size: int, temperature: float, seed: int) -> None:
        self._seed = seed
        self._group = examples.group
        self._batch_groups = batch_size
        sets = examples.sets[:: self._group]
        self._members = [np.flatnonzero(sets == k) for k in range(len(examples.names))]
        self._keys = [examples.keys[:: self._group][member] for member in self._members]
        lengths = np.add.reduceat(examples.lengths, np.arange(0, examples.rows, self._group))
        self._lengths = lengths
        self.sizes = np.array([len(member) for member in self._members], np.int64)
        if not self.sizes.all():
            raise DataError(
                "no rows to train on",
                place=examples.names[int(self.sizes.argmin())],
                cure="Give this set text, or leave it out.",
            )
        shares = examples.shares
        if shares is None:
            shares = self.sizes.astype(np.float64) ** temperature
        self.shares = shares / shares.sum()
        # A pool spans at most one epoch of any set: else a pair's copies would meet in a batch.
        longest = int(np.min(self.sizes / (self.shares * batch_size)))
        self.batches_a_pool = min(max(longest, 1), _BATCHES_A_POOL)
        self._taken = [np.zeros(len(self.sizes), np.int64)]
        self._permutation = lru_cache(maxsize=2 * len(self.sizes))(self._permute)

    def taken(self, batches: int) -> npt.NDArray[np.float64]:
        """Epochs of each set in this many batches; a pool begun counts by its share."""
        pool, rest = divmod(batches, self.batches_a_pool)
        before, after = self._taken_before(pool), self._taken_before(pool + 1)
        rows = before + (after - before) * (rest / self.batches_a_pool)
        return rows / self.sizes

    def pool(self, number: int) -> tuple[I64, I64]:
        """Rows and their epochs, in the order of the pool's batches."""
        before, after = self._taken_before(number), self._taken_before(number + 1)
        chosen, epochs = [], []
        for k, (begin, end) in enumerate(zip(before, after, strict=True)):
            at = np.arange(begin, end)
            epoch = at // self.sizes[k]
            for e in np.unique(epoch):
                within = at[epoch == e] % self.sizes[k]
                chosen.append(self._members[k][self._permutation(k, int(e))[within]])
            epochs.append(epoch)
        groups, epoch = np.concatenate(chosen), np.concatenate(epochs)
        order = self._bucketed(number, groups)
        rows = groups[order, None] * self._group + np.arange(self._group)
        return rows.ravel(), np.repeat(epoch[order], self._group)

    def _permute(self, k: int, epoch: int) -> I64:
        return np.argsort(draw(seed_word(self._seed, epoch), self._keys[k], ORDER), kind="stable")

    def _bucketed(self, number: int, groups: I64) -> I64:
        """Neighbours in length share a batch; batches in random order."""
        # Ties by the seeded order the groups came in.
        by_length = np.argsort(self._lengths[groups], kind="stable")
        batches = by_length.reshape(self.batches_a_pool, self._batch_groups)
        ticket = draw(
            seed_word(self._seed, number),
            np.arange(self.batches_a_pool, dtype=np.uint64),
            BATCH_ORDER,
        )
        return batches[np.argsort(ticket, kind="stable")].ravel()

    def _taken_before(self, number: int) -> I64:
        """Groups each set has given before this pool: as near to its share as whole rows allow."""
        a_pool = self.batches_a_pool * self._batch_groups
        while len(self._taken) <= number:
            before = self._taken[-1]
            wanted = np.maximum(self.shares * (len(self._taken) * a_pool) - before, 0)
            wanted *= a_pool / wanted.sum()
            give = np.floor(wanted).astype(np.int64)
            largest = np.argsort(give - wanted, kind="stable")
            give[largest[: a_pool - int(give.sum())]] += 1
            self._taken.append(before + give)
        return self._taken[number]


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
        if config.batch_size < world:
            raise ConfigError(
                f"batch_size {config.batch_size} can't be split over {world} workers",
                cure=f"Use at most {config.batch_size} workers, or a larger batch.",
            )
        self.order = Order(examples, config.batch_size, config.temperature, config.seed)
        self._rows = config.batch_size * examples.group
        self._examples, self._config, self._table = examples, config, table
        self._pad_id, self._pooling, self._one_to_many = pad_id, pooling, one_to_many
        self._rank, self._world = rank, world
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
        first = within * self._rows
        return [
            self._slice(pool, first, first + begin, first + end) for begin, end in self._shares()
        ]

    def _shares(self) -> Iterator[tuple[int, int]]:
        """Row ranges of this worker's micro-batches within a batch."""
        group = self._examples.group
        groups = self._rows // group
        begin = groups * self._rank // self._world
        end = groups * (self._rank + 1) // self._world
        step = self._config.micro_batch or groups
        for low in range(begin, end, step):
            yield low * group, min(low + step, end) * group

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
            partner=partner,
            partner_start=starts_of(counts),
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

    def _slice(self, pool: _Pool, batch_begin: int, begin: int, end: int) -> Batch:
        """Rows [begin, end) of the pool as a padded batch; its whole begins at batch_begin."""
        low, high = pool.start[begin], pool.start[end]
        lengths = pool.lengths[begin:end]
        width = int(lengths.max())
        place = (pool.row[low:high] - begin) * width + pool.position[low:high]
        ids = np.full((end - begin) * width, self._pad_id, np.int64)
        ids[place] = pool.seen[low:high]
        columns = np.arange(width)
        m0, m1 = pool.masked_start[begin], pool.masked_start[end]
        masked = pool.masked[m0:m1]
        k0, k1 = pool.partner_start[m0], pool.partner_start[m1]
        counts = pool.counts[m0:m1]
        aligned = np.flatnonzero(counts)
        w0, w1 = pool.left_start[begin], pool.left_start[end]
        whole = slice(batch_begin, batch_begin + self._rows)
        b0, b1 = pool.masked_start[[whole.start, whole.stop]]
        tensor = torch.from_numpy
        return Batch(
            ids_BL=tensor(ids.reshape(-1, width)),
            real_BL=tensor(columns < lengths[:, None]),
            segments_BL=tensor((columns >= pool.second[begin:end, None]).astype(np.int64)),
            places_M=tensor(place[masked - low]),
            targets_M=tensor(pool.ids[masked]),
            aligned_A=tensor(aligned),
            owner_K=tensor(np.repeat(np.arange(len(aligned)), counts[aligned])),
            partners_K=tensor(place[pool.partner[k0:k1] - low]),
            weights_K=tensor(pool.weights[k0:k1]),
            left_K=tensor(place[pool.left[w0:w1] - low]),
            right_K=tensor(place[pool.right[w0:w1] - low]),
            anchored_B=tensor(pool.anchored[begin:end]),
            tokens=int(high - low),
            padded=bool(high - low < len(ids)),
            all_tokens=int(pool.start[whole.stop] - pool.start[whole.start]),
            all_masked=int(b1 - b0),
            all_aligned=int(np.count_nonzero(pool.counts[b0:b1])),
            all_links=int(pool.left_start[whole.stop] - pool.left_start[whole.start]),
            all_anchored=int(pool.lengths[whole][pool.anchored[whole]].sum()),
        )


def _with_frame(left: I64, right: I64, start: I64) -> tuple[I64, I64]:
    """Adds each pair's [CLS]–[CLS] and [SEP]–[SEP] (Cao et al. 2020, section 3.2)."""
    left = np.concatenate([left, start[:-1:2], start[1::2] - 1])
    right = np.concatenate([right, start[1:-1:2], start[2::2] - 1])
    order = np.argsort(left, kind="stable")
    return left[order], right[order]
