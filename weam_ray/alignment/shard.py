"""EM over some target word types: all that a worker owns, and all that it needs to be told.

A target word's expected counts depend on its own occurrences only, given one number per source
word. So the owner of a target type holds all counts (source word, target type), and what travels
in an iteration is one total per source word. Totals are integers (fixed point): they add up to
the same bits whichever way the types are dealt out to blocks, threads and workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import kept, kernels
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.text import Prior, Records, Text, cells_by_type, sort_records

Job = TypeVar("Job")
Out = TypeVar("Out")

BLOCK_ENTRIES = 1 << 21
"""Types are handled in blocks of at most so many possible entries (or of one type)."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a shard is told before an iteration: one number per source word, and the tension."""

    tension: float
    inverse: NDArray[np.float64]
    """float64[V + 1]: what turns a source word's weights into probabilities; [0] is null's."""


@dataclass(eq=False)
class Partial:
    """What a shard tells after an iteration; fixed point throughout, so that sums are exact."""

    totals: NDArray[np.int64]
    """int64[V + 1]: expected counts of each source word."""
    sums: NDArray[np.int64]
    """int64[3]: diagonal feature, null count, log-likelihood."""
    distinct: NDArray[np.int64]
    """int64[V + 1]: target types met by each source word; zero after the first iteration."""

    def __add__(self, other: Partial) -> Partial:
        return Partial(
            self.totals + other.totals, self.sums + other.sums, self.distinct + other.distinct
        )


def fixed_point(words: int) -> float:
    """The power of two that counts are multiplied by: the largest for which no sum overflows."""
    return 2.0 ** (61 - max(1, words).bit_length())


@dataclass(eq=False)
class _Block:
    first: int
    last: int
    """The shard's types ``first..last - 1``, counted from its own first type."""
    row_ptr: NDArray[np.int64]
    row_word: NDArray[np.int32]
    row_count: NDArray[np.float64]
    null_count: NDArray[np.float64]
    cells: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]] | None = None
    """``cell_ptr``, ``cell_entry``, ``cell_place``, once hopeless cells were dropped."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Translation probabilities of some target types, from type ``first`` on."""

    first: int
    row_ptr: NDArray[np.int64]
    row_word: NDArray[np.int32]
    row_prob: NDArray[np.float64]
    null_prob: NDArray[np.float64]


class _Bench:
    """A thread's scratch space and its part of the sums."""

    def __init__(self, source_types: int, longest: int) -> None:
        self.partial = Partial(
            np.zeros(source_types + 1, np.int64),
            np.zeros(3, np.int64),
            np.zeros(source_types + 1, np.int64),
        )
        self.dense = np.zeros(2 * (source_types + 1))
        self.local = np.full(source_types + 1, -1, np.int32)
        self.buffer = np.empty(longest)


class Shard:
    """The target types ``first..last - 1`` of one direction, and their part in EM.

    Call :meth:`first`, then :meth:`step` for each further counting iteration, then
    :meth:`links`, each with the parameters that :class:`.em.Coordinator` made of all shards'
    partial sums. Equal input gives equal bits, for any split of the types over shards.

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
        self.config = config
        self.threads = threads
        self.records: Records = sort_records(text, first, last)
        self._scale = fixed_point(text.words)
        self._bounds = _blocks(text, first, last)
        self._blocks: list[_Block] = []
        self._counted = 0

    def first(self) -> Partial:
        """The first iteration, in which all words are equally good translations."""
        prior = self._prior(self.config.initial_tension)
        self._blocks, partial = self._each(self._bounds, lambda *job: self._discover(prior, *job))
        self._counted = 1
        return self._after_pass(partial)

    def step(self, parameters: Parameters) -> Partial:
        """One more counting iteration."""
        prior = self._prior(parameters.tension)
        _, partial = self._each(self._blocks, lambda *job: self._count(prior, parameters, *job))
        self._counted += 1
        return self._after_pass(partial)

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
        scores = np.empty(0) if scores is None else scores
        self._each(self._blocks, lambda *job: self._best(prior, parameters, links, scores, *job))

    def places(self) -> NDArray[np.int64]:
        """Where the shard's words are among all target words, int64[records]."""
        return self.text.target.starts[self.records.sentence] + self.records.position

    def entries(self, parameters: Parameters) -> Iterator[Entries]:
        """The translation probabilities, block by block, in the order of types."""
        for block in self._blocks:
            weights = self._weights(block.row_count) * parameters.inverse[block.row_word]
            null = self._weights(block.null_count) * parameters.inverse[0]
            first = self.records.first + block.first
            yield Entries(first, block.row_ptr, block.row_word, weights, null)

    def _prior(self, tension: float) -> Prior:
        return self.text.shapes.prior(tension, self.config.null_probability)

    def _weights(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.empty_like(counts)
        kernels.weights(counts, self.config.alpha, self.config.variational_bayes, out)
        return out

    def _type_ptr(self, block: _Block) -> NDArray[np.int64]:
        return self.records.type_ptr[block.first : block.last + 1]

    def _where(self, prior: Prior) -> tuple[NDArray[np.generic], ...]:
        text = self.text
        tables = (prior.prior, prior.split, prior.powers, text.shapes.powers_at)
        return (text.source.starts, text.target.starts, text.prior_row, *tables)

    def _discover(self, prior: Prior, bench: _Bench, bounds: tuple[int, int, int]) -> _Block:
        first, last, capacity = bounds
        type_ptr = self.records.type_ptr[first : last + 1]
        row_ptr = np.zeros(last - first + 1, np.int64)
        # Pages of these that stay untouched are never backed by memory.
        row_word = np.empty(capacity + 1, np.int32)
        row_count = np.empty(capacity)
        starts, _, *where = self._where(prior)
        used = kernels.first_pass(
            self.text.source.tokens, starts, *where,
            self.records.sentence, self.records.position, type_ptr, bench.dense, self._scale,
            row_ptr, row_word, row_count, bench.partial.totals, bench.partial.distinct,
        )  # fmt: skip
        occurrences = np.diff(type_ptr)
        nulls = occurrences * self.config.null_probability
        self._note_uniform(bench.partial, occurrences, nulls)
        return _Block(first, last, row_ptr, row_word[:used].copy(), row_count[:used].copy(), nulls)

    def _note_uniform(
        self, partial: Partial, occurrences: NDArray[np.int64], nulls: NDArray[np.float64]
    ) -> None:
        fixed = int((nulls * self._scale + 0.5).astype(np.int64).sum())
        logs = occurrences * (math.log(kept.UNSEEN) * (self._scale / kernels.LOG_UNIT))
        partial.totals[0] += fixed
        partial.distinct[0] += int(np.count_nonzero(occurrences))
        partial.sums += np.array([0, fixed, int(logs.astype(np.int64).sum())])

    def _count(self, prior: Prior, parameters: Parameters, bench: _Bench, block: _Block) -> None:
        kernels.weights(*self._weighing(block.row_count))
        kernels.weights(*self._weighing(block.null_count))
        records = (self.records.sentence, self.records.position, self._type_ptr(block))
        rows = (block.row_ptr, block.row_word, block.row_count, block.null_count)
        rest = (parameters.inverse, self.config.null_probability)
        sums = (bench.partial.totals, bench.partial.sums)
        if block.cells is None:
            kernels.full_pass(
                self.text.source.tokens, *self._where(prior), *records,
                bench.dense, bench.buffer, self._scale, *rows, *rest, *sums,
            )  # fmt: skip
        else:
            kept.kept_pass(
                *self._where(prior), *records,
                bench.dense, bench.buffer, self._scale, *rows, *rest, *block.cells, *sums,
            )  # fmt: skip

    def _weighing(
        self, counts: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, bool, NDArray[np.float64]]:
        return counts, self.config.alpha, self.config.variational_bayes, counts

    def _after_pass(self, partial: Partial) -> Partial:
        # The counts of the first iteration know only of distance: hopeless words show after the
        # second.
        if self._counted == min(2, self.config.iterations - 1):
            self._each(self._blocks, self._keep)
        return partial

    def _keep(self, bench: _Bench, block: _Block) -> None:
        type_ptr = self._type_ptr(block)
        records = int(type_ptr[-1] - type_ptr[0])
        lengths = self.text.source.lengths
        cells = int(lengths[self.records.sentence[type_ptr[0] : type_ptr[-1]]].sum())
        new_ptr = np.zeros_like(block.row_ptr)
        new_word = np.empty_like(block.row_word)
        new_count = np.empty_like(block.row_count)
        cell_ptr = np.zeros(records + 1, np.int64)
        entry = np.empty(cells, np.int32)
        place = np.empty(cells, np.int32)
        entries, used = kernels.keep(
            self.text.source.tokens, self.text.source.starts, self.records.sentence, type_ptr,
            bench.dense, bench.local, kernels.KEPT,
            block.row_ptr, block.row_word, block.row_count, self._weights(block.row_count),
            new_ptr, new_word, new_count, cell_ptr, entry, place,
        )  # fmt: skip
        block.row_ptr = new_ptr
        block.row_word = new_word[:entries].copy()
        block.row_count = new_count[:entries].copy()
        block.cells = (cell_ptr, entry[:used].copy(), place[:used].copy())

    def _best(
        self,
        prior: Prior,
        parameters: Parameters,
        links: NDArray[np.int32],
        scores: NDArray[np.float64],
        _: _Bench,
        block: _Block,
    ) -> None:
        assert block.cells is not None
        kept.kept_links(
            *self._where(prior),
            self.records.sentence, self.records.position, self._type_ptr(block),
            block.row_ptr, block.row_word, self._weights(block.row_count),
            self._weights(block.null_count), parameters.inverse, self.config.null_probability,
            *block.cells, links, scores,
        )  # fmt: skip

    def _each(
        self, jobs: Sequence[Job], work: Callable[[_Bench, Job], Out]
    ) -> tuple[list[Out], Partial]:
        source = self.text.source
        longest = int(source.lengths[self.text.usable].max(initial=0))
        benches = [_Bench(source.types, longest) for _ in range(self.threads)]
        free: SimpleQueue[_Bench] = SimpleQueue()
        for bench in benches:
            free.put(bench)

        def with_bench(job: Job) -> Out:
            bench = free.get()
            try:
                return work(bench, job)
            finally:
                free.put(bench)

        if self.threads == 1:
            done = [with_bench(job) for job in jobs]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                done = list(pool.map(with_bench, jobs))
        partial = benches[0].partial
        for bench in benches[1:]:
            partial += bench.partial
        return done, partial


def _blocks(text: Text, first: int, last: int) -> list[tuple[int, int, int]]:
    """Runs of types, as (first, last, possible entries), counted from the shard's first type."""
    possible = np.minimum(cells_by_type(text)[first:last], text.source.types)
    blocks = []
    begin, size = 0, 0
    for t, entries in enumerate(possible.tolist()):
        if t > begin and size + entries > BLOCK_ENTRIES:
            blocks.append((begin, t, size))
            begin, size = t, 0
        size += entries
    if last > first:
        blocks.append((begin, last - first, size))
    return blocks
