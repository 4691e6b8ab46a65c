"""EM over some target word types: all that a worker owns, and all that it needs to be told.

A target word's expected counts depend on its own occurrences only, given one number per source
word. So the owner of a target type holds all counts (source word, target type), and what travels
in an iteration is one total per source word. Totals are integers (fixed point): they add up to
the same bits whichever way the types are dealt out to blocks, threads and workers.

The counts of the first iteration are diffuse, many and cheap: they are not kept but made again at
the start of the second, after which most are so small that they can be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import kernels
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.diagonal import Prior
from weam_ray.alignment.kernels import Occurrences
from weam_ray.alignment.numerics import frozen, weights
from weam_ray.alignment.text import Text, cells_by_type, sort_records

Job = TypeVar("Job")
Out = TypeVar("Out")

BLOCK_ENTRIES = 1 << 21
"""Types are handled in blocks of at most so many possible entries (or of one type)."""

HOPELESS = 1e-20
"""An entry is dropped when its weight is this far below the least that the best word of any of its
records can have: at least one word in 1 / (n + 1) of an occurrence."""

_LONG = 100
"""A sentence of more words is taken to have a word that explains a hundredth of an occurrence."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a shard is told before an iteration: one number per source word, and the tension."""

    tension: float
    inverse: NDArray[np.float64]
    """float64[V + 1]: what turns a source word's weights into probabilities; [0] is null's."""


@dataclass(eq=False)
class Partial:
    """What a shard tells after an iteration; fixed point, so that sums are exact."""

    totals: NDArray[np.int64]
    """int64[V + 1]: expected counts of each source word."""
    sums: NDArray[np.int64]
    """int64[3]: diagonal feature, null count, log-likelihood."""

    def __add__(self, other: Partial) -> Partial:
        return Partial(self.totals + other.totals, self.sums + other.sums)


@dataclass(frozen=True, eq=False)
class Entries:
    """Translation probabilities of some target types, from type ``first`` on."""

    first: int
    row_ptr: NDArray[np.int64]
    row_word: NDArray[np.int32]
    row_prob: NDArray[np.float64]
    null_prob: NDArray[np.float64]


def fixed_point(words: int) -> float:
    """The power of two that counts are multiplied by: the largest for which no sum overflows."""
    return float(2.0 ** (61 - max(1, words).bit_length()))


class _Bench:
    """A thread's scratch space and its part of the sums."""

    def __init__(self, source_types: int, longest: int) -> None:
        self.partial = Partial(np.zeros(source_types + 1, np.int64), np.zeros(3, np.int64))
        self.dense = np.zeros(2 * (source_types + 1))
        self.word = np.full(source_types + 2, -1, np.int32)
        self.count = np.empty(source_types + 1)
        self.buffer = np.empty(longest)


@dataclass(eq=False)
class _Block:
    """Some of the shard's types: ``first..last - 1``, counted from its own first type."""

    first: int
    records: Occurrences
    capacity: int
    row_ptr: NDArray[np.int64]
    row_word: NDArray[np.int32]
    row_count: NDArray[np.float64]
    null_count: NDArray[np.float64]


class Shard:
    """The target types ``first..last - 1`` of one direction, and their part in EM.

    Call :meth:`discover`, then :meth:`step` for each counting iteration from the second on, then
    :meth:`links`, each with the parameters that :class:`.em.Coordinator` made of all shards'
    answers. Equal input gives equal bits, for any split of the types over shards.

    Args:
        text: both sides of all pairs; of the target side only the shard's types are read.
        first: the first target type, counted from 1.
        last: the end of the types.
        threads: how many of its blocks are worked on at a time.
    """

    def __init__(
        self, text: Text, first: int, last: int, config: AlignmentConfig, *, threads: int = 1
    ) -> None:
        self.text = text
        self.first = first
        self.config = config
        self.threads = threads
        self._given = text.given
        self._scale = fixed_point(text.words)
        self._records = sort_records(text, first, last)
        self._blocks = _blocks(self._records, cells_by_type(text)[first:last], text.source.types)
        self._begun = False

    def discover(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who meets whom in the text.

        Returns:
            How many of the shard's types each source word meets, int64[V + 1] (of the null word:
            how many occur), and how many source words each of the shard's types meets,
            int64[types]; the other direction can use the latter as its own.
        """
        prior = self._prior(self.config.initial_tension)

        def meet(bench: _Bench, block: _Block) -> NDArray[np.int64]:
            met = np.empty(len(block.null_count), np.int64)
            bench.word[:] = -1
            kernels.discover(
                self._given, prior, block.records, bench.word, bench.partial.totals, met
            )
            return met

        met, partial = self._each(self._blocks, meet)
        return partial.totals, np.concatenate([*met, np.empty(0, np.int64)])

    def step(self, parameters: Parameters) -> Partial:
        """One counting iteration; the first call makes up for the first iteration, too."""
        prior = self._prior(parameters.tension)
        if self._begun:
            _, partial = self._each(self._blocks, lambda *job: self._count(prior, parameters, *job))
            return partial
        self._begun = True
        before = self._prior(self.config.initial_tension)
        _, partial = self._each(
            self._blocks, lambda *job: self._begin(before, prior, parameters, *job)
        )
        return partial

    def links(
        self,
        parameters: Parameters,
        links: NDArray[np.int32],
        scores: NDArray[np.float64] | None = None,
    ) -> None:
        """The last iteration: the best source position of each of the shard's target words.

        Args:
            parameters: what the coordinator made of the last counts.
            links: int32[target words], written at the shard's words; -1 for the null word.
            scores: float64[target words] for their log-probabilities, or None.
        """
        prior = self._prior(parameters.tension)
        floor = self.floor(parameters)
        scores = np.empty(0) if scores is None else scores

        def link(bench: _Bench, block: _Block) -> None:
            found = self._entries(block, parameters)
            kernels.link(
                self._given, prior, block.records, self.text.target.starts,
                found.row_ptr, found.row_word, found.row_prob, found.null_prob,
                floor, np.ones(len(found.null_prob), np.bool_),
                self.config.null_probability, floor.copy(), bench.buffer, links, scores,
            )  # fmt: skip

        self._each(self._blocks, link)

    def places(self) -> NDArray[np.int64]:
        """Where the shard's words are among all target words, int64[records]."""
        return self.text.target.starts[self._records.sentence] + self._records.position

    def entries(self, parameters: Parameters) -> Iterator[Entries]:
        """The translation probabilities, block by block, in the order of types."""
        return (self._entries(block, parameters) for block in self._blocks)

    def floor(self, parameters: Parameters) -> NDArray[np.float64]:
        """What each source word gives a target word that it has no entry with, float64[V + 1]."""
        return self._weights(np.zeros(len(parameters.inverse))) * parameters.inverse

    def _entries(self, block: _Block, parameters: Parameters) -> Entries:
        probs = self._weights(block.row_count) * parameters.inverse[block.row_word]
        null = self._weights(block.null_count) * parameters.inverse[0]
        return Entries(self.first + block.first, block.row_ptr, block.row_word, probs, null)

    def _prior(self, tension: float) -> Prior:
        return self.text.shapes.prior(tension, self.config.null_probability)

    def _weights(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.empty_like(counts)
        weights(counts, self.config.alpha, self.config.variational_bayes, out)
        return out

    def _begin(
        self, before: Prior, prior: Prior, parameters: Parameters, bench: _Bench, block: _Block
    ) -> None:
        config = self.config
        # Pages of these that stay untouched are never backed by memory.
        row_word = np.empty(block.capacity + 1, np.int32)
        row_count = np.empty(block.capacity + 1)
        used = kernels.begin(
            self._given, before, prior, block.records,
            parameters.inverse, config.null_probability, config.alpha, config.variational_bayes,
            self._scale, least_counts(config, self.text.longest),
            bench.dense, bench.word, bench.count, kernels.RAMP, bench.buffer,
            block.row_ptr, row_word, row_count, block.null_count,
            bench.partial.totals, bench.partial.sums,
        )  # fmt: skip
        block.row_word = row_word[:used].copy()
        block.row_count = row_count[:used].copy()

    def _count(self, prior: Prior, parameters: Parameters, bench: _Bench, block: _Block) -> None:
        block.row_count = self._weights(block.row_count)
        block.null_count = self._weights(block.null_count)
        kernels.count(
            self._given, prior, block.records, parameters.inverse, self.config.null_probability,
            self._scale, bench.dense, kernels.RAMP, bench.buffer,
            block.row_ptr, block.row_word, block.row_count, block.null_count,
            bench.partial.totals, bench.partial.sums,
        )  # fmt: skip

    def _each(
        self, jobs: Sequence[Job], work: Callable[[_Bench, Job], Out]
    ) -> tuple[list[Out], Partial]:
        threads = max(1, min(self.threads, len(jobs)))
        benches = [_Bench(self.text.source.types, self.text.longest) for _ in range(threads)]
        free: SimpleQueue[_Bench] = SimpleQueue()
        for bench in benches:
            free.put(bench)

        def with_bench(job: Job) -> Out:
            bench = free.get()
            try:
                return work(bench, job)
            finally:
                free.put(bench)

        if threads == 1:
            done = [with_bench(job) for job in jobs]
        else:
            with ThreadPoolExecutor(threads) as pool:
                done = list(pool.map(with_bench, jobs))
        partial = benches[0].partial
        for bench in benches[1:]:
            partial += bench.partial
        return done, partial


def least_counts(config: AlignmentConfig, longest: int) -> NDArray[np.float64]:
    """By the length of the longest sentence, the count an entry must pass to be kept.

    Returns float64[longest + 1]; -1 where nothing is hopeless, as without variational Bayes.
    """
    if not config.variational_bayes:
        return np.full(longest + 1, -1.0)
    lengths = np.minimum(np.arange(longest + 1), _LONG)

    def weight(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.empty_like(counts)
        weights(counts, config.alpha, True, out)
        return out

    hopeless = HOPELESS * weight(1.0 / (lengths + 1))
    low, high = np.zeros(longest + 1), np.ones(longest + 1)
    for _ in range(50):
        middle = (low + high) / 2
        above = weight(middle) > hopeless
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(weight(np.zeros(longest + 1)) > hopeless, -1.0, low)


def _blocks(records: Occurrences, cells: NDArray[np.int64], source_types: int) -> list[_Block]:
    possible = np.minimum(cells, source_types).tolist()
    blocks = []
    begin, size = 0, 0
    for t, entries in enumerate(possible):
        if t > begin and size + entries > BLOCK_ENTRIES:
            blocks.append(_block(records, begin, t, size))
            begin, size = t, 0
        size += entries
    if possible:
        blocks.append(_block(records, begin, len(possible), size))
    return blocks


def _block(records: Occurrences, first: int, last: int, capacity: int) -> _Block:
    type_ptr = frozen(records.type_ptr[first : last + 1])
    return _Block(
        first=first,
        records=records._replace(type_ptr=type_ptr),
        capacity=capacity,
        row_ptr=np.zeros(last - first + 1, np.int64),
        row_word=np.empty(0, np.int32),
        row_count=np.empty(0),
        null_count=np.zeros(last - first),
    )
