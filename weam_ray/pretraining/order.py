"""Which rows come when, mixing sets by size and temperature."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from weam_ray.errors import DataError
from weam_ray.pretraining.examples import Examples
from weam_ray.pretraining.masking import BATCH_ORDER, I64, ORDER, draw, seed_word

_BATCHES_A_POOL = 64


class Order:
    """Which rows come when: an endless sequence of pools, mixing the sets of the examples.

    A set's pairs come in a new seeded order every epoch, by a hash of their ids: neither the order
    of the files matters, nor whether a pair is one row or two.

    Attributes:
        lengths: of each group of rows that stay together.
        sizes: groups of each set.
        whole: those of all its text, also where only its beginning is here.
        shares: how often each set is drawn.
        batches_a_pool: batches that are drawn and sorted by length together.
    """

    def __init__(self, examples: Examples, batch_size: int, temperature: float, seed: int) -> None:
        self._seed = seed
        self._group = examples.group
        self._batch_groups = batch_size
        sets = examples.sets[:: self._group]
        self._sets = sets
        self._members = [np.flatnonzero(sets == k) for k in range(len(examples.names))]
        self._keys = [examples.group_keys[member] for member in self._members]
        self.lengths = examples.group_lengths
        self.sizes = np.array([len(member) for member in self._members], np.int64)
        if not self.sizes.all():
            raise DataError(
                "no rows to train on",
                place=examples.names[int(self.sizes.argmin())],
                cure="Give this set text, or leave it out.",
            )
        self.whole = self.sizes if examples.whole is None else examples.whole
        shares = examples.shares
        if shares is None:
            shares = self.whole.astype(np.float64) ** temperature
        self.shares = shares / shares.sum()
        # A pool spans at most one epoch of any set: else a pair's copies would meet in a batch.
        longest = int(np.min(self.sizes / (self.shares * batch_size)))
        self.batches_a_pool = min(max(longest, 1), _BATCHES_A_POOL)
        self._taken = [np.zeros(len(self.sizes), np.int64)]
        self._permutation = lru_cache(maxsize=2 * len(self.sizes))(self._permute)

    def taken(self, batches: int) -> npt.NDArray[np.float64]:
        """Epochs of each set in this many batches.

        Batches are of rows of like length, and so often of one set: those of a pool begun are
        counted row by row.
        """
        pool, rest = divmod(batches, self.batches_a_pool)
        groups = self._taken_before(pool).astype(np.float64)
        if rest:
            drawn = self.pool(pool)[0][:: self._group] // self._group
            first = self._sets[drawn[: rest * self._batch_groups]]
            groups += np.bincount(first, minlength=len(self.sizes))
        return groups / self.whole

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
        by_length = np.argsort(self.lengths[groups], kind="stable")
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
