"""EM over some target word types: all that a worker owns, and all that it needs to be told.

A target word's expected counts depend on its own occurrences only, given one number per source
word. So the owner of a target type holds all counts (source word, target type), and what travels
in an iteration is one total per source word. Totals are integers (fixed point): they add up to
the same bits whichever way the types are dealt out to blocks, threads and workers.

The counts of the first iteration are diffuse, many and cheap: they are not kept but made again at
the start of the second, after which most are so small that they can be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from weam_ray.alignment.sorting import mark_words
from weam_ray.alignment.spilling import Kept, Memory, Shelf
from weam_ray.alignment.text import Ground, Records

Out = TypeVar("Out")

Told = Callable[[int], None]
"""Is told of each block that is done how many cells it has, (source word, occurrence)."""

BLOCK_ENTRIES = 1 << 21
"""Types are handled in blocks of at most so many possible entries (or of one type)."""

BLOCK_RECORDS = 1 << 23
"""And of at most so many records (or of one type)."""

HOPELESS = 1e-20
"""An entry is dropped when its weight is this far below the least that the best word of any of its
records can have: at least one word in 1 / (n + 1) of an occurrence. Source words of next to no
counts (:data:`.kernels.RARE`) keep theirs."""


def untold(_: int) -> None:
    """Where nobody wants to know."""


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
    """Some of the shard's types: ``first..``, counted from its own first type; what is long is kept
    on a shelf between uses.
    """

    first: int
    records: slice
    """Of the shard."""
    capacity: int
    cells: int
    type_ptr: NDArray[np.int64]
    """int64[types + 1], from 0."""
    sentence: Kept[np.int32]
    position: Kept[np.uint16]
    row_ptr: NDArray[np.int64]
    row_word: Kept[np.int32]
    row_count: Kept[np.float64]
    null_count: NDArray[np.float64]

    def occurrences(self) -> Occurrences:
        """Its records."""
        sentence, position = self.sentence.read(), self.position.read()
        return Occurrences(frozen(sentence), frozen(position), frozen(self.type_ptr))


class Shard:
    """Some consecutive target types of one direction, and their part in EM.

    Call :meth:`discover` if it is wanted, then :meth:`step` for each counting iteration from the
    second on, then :meth:`links`, each with the parameters that :class:`.em.Coordinator` made of
    all shards' answers. Equal input gives equal bits, for any split of the types over shards.

    Args:
        ground: the side that explains, of all pairs.
        runs: the shard's records in one or more consecutive runs of types.
        threads: how many of its blocks are worked on at a time.
        shelf: where records and counts lie between uses.
    """

    def __init__(
        self,
        ground: Ground,
        runs: Iterable[Records],
        config: AlignmentConfig,
        *,
        threads: int = 1,
        shelf: Shelf | None = None,
    ) -> None:
        self.ground = ground
        self.config = config
        self.threads = threads
        self.first = 1
        self._given = ground.given
        self._scale = fixed_point(ground.words)
        self._shelf = shelf or Memory()
        self._blocks: list[_Block] = []
        self._records = 0
        self._begun = False
        for run in runs:
            if not self._blocks:
                self.first = run.first
            self._take(run)

    def discover(self, told: Told = untold) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
                self._given, prior, block.occurrences(), bench.word, bench.partial.totals, met
            )
            return met

        met, partial = self._each(self._blocks, meet, told)
        return partial.totals, np.concatenate([*met, np.empty(0, np.int64)])

    def source_words(self) -> NDArray[np.int32]:
        """The null word and all words that are beside one of the shard's, ascending."""
        marks = np.zeros(self.ground.types + 1, np.bool_)
        marks[0] = True
        done = np.zeros(len(self.ground.shape), np.bool_)
        for block in self._blocks:
            lengths = frozen(self.ground.shapes.source_lengths)
            mark_words(self._given, lengths, block.sentence.read(), done, marks)
        return np.flatnonzero(marks).astype(np.int32)

    def step(self, parameters: Parameters, told: Told = untold) -> Partial:
        """One counting iteration; the first call makes up for the first iteration, too."""
        prior = self._prior(parameters.tension)
        if self._begun:
            _, partial = self._each(
                self._blocks, lambda *at: self._count(prior, parameters, *at), told
            )
            return partial
        self._begun = True
        before = self._prior(self.config.initial_tension)
        _, partial = self._each(
            self._blocks, lambda *at: self._begin(before, prior, parameters, *at), told
        )
        return partial

    def links(
        self, parameters: Parameters, *, scores: bool = False, told: Told = untold
    ) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
        """The last iteration: the best source position for each of the shard's records.

        Args:
            parameters: what the coordinator made of the last counts.
            scores: whether log-probabilities are wanted.

        Returns:
            int16[records], -1 for the null word; float64[records] log-probabilities, or None.
        """
        prior = self._prior(parameters.tension)
        least = floor(parameters, self.config)
        found = np.empty(self._records, np.int16)
        of_records = np.empty(self._records if scores else 0)

        def link(bench: _Bench, block: _Block) -> None:
            table = self._entries(block, parameters)
            kernels.link(
                self._given, prior, block.occurrences(),
                table.row_ptr, table.row_word, table.row_prob, table.null_prob,
                least, np.ones(len(table.null_prob), np.bool_),
                self.config.null_probability, least.copy(), bench.buffer,
                found[block.records], of_records[block.records],
            )  # fmt: skip

        self._each(self._blocks, link, told)
        return found, of_records if scores else None

    def entries(self, parameters: Parameters) -> Iterator[Entries]:
        """The translation probabilities, block by block, in the order of types."""
        return (self._entries(block, parameters) for block in self._blocks)

    def _take(self, run: Records) -> None:
        records = run.occurrences
        offset = run.first - self.first
        for begin, end, capacity in _bounds(run, self.ground.types):
            at = slice(int(records.type_ptr[begin]), int(records.type_ptr[end]))
            self._blocks.append(
                _Block(
                    first=offset + begin,
                    records=slice(self._records + at.start, self._records + at.stop),
                    capacity=capacity,
                    cells=int(run.cells[begin:end].sum()),
                    type_ptr=records.type_ptr[begin : end + 1] - at.start,
                    sentence=self._shelf.keep(records.sentence[at]),
                    position=self._shelf.keep(records.position[at]),
                    row_ptr=np.zeros(end - begin + 1, np.int64),
                    row_word=Memory().keep(np.empty(0, np.int32)),
                    row_count=Memory().keep(np.empty(0)),
                    null_count=np.zeros(end - begin),
                )
            )
        self._records += len(records.sentence)

    def _entries(self, block: _Block, parameters: Parameters) -> Entries:
        row_word = block.row_word.read()
        probs = _weights(block.row_count.read(), self.config) * parameters.inverse[row_word]
        null = _weights(block.null_count, self.config) * parameters.inverse[0]
        return Entries(self.first + block.first, block.row_ptr, row_word, probs, null)

    def _prior(self, tension: float) -> Prior:
        return self.ground.shapes.prior(tension, self.config.null_probability)

    def _begin(
        self, before: Prior, prior: Prior, parameters: Parameters, bench: _Bench, block: _Block
    ) -> None:
        config = self.config
        # Pages of these that stay untouched are never backed by memory.
        row_word = np.empty(block.capacity + 1, np.int32)
        row_count = np.empty(block.capacity + 1)
        used = kernels.begin(
            self._given, before, prior, block.occurrences(),
            parameters.inverse, config.null_probability, config.alpha, config.variational_bayes,
            self._scale, least_counts(config, self.ground.longest),
            bench.dense, bench.word, bench.count, kernels.RAMP, bench.buffer,
            block.row_ptr, row_word, row_count, block.null_count,
            bench.partial.totals, bench.partial.sums,
        )  # fmt: skip
        # Copies, where nothing is written to disk: views would hold on to all the room.
        block.row_word = self._shelf.keep(row_word[:used].copy())
        block.row_count = self._shelf.keep(row_count[:used].copy())

    def _count(self, prior: Prior, parameters: Parameters, bench: _Bench, block: _Block) -> None:
        row_count = _weights(block.row_count.read(), self.config)
        block.null_count = _weights(block.null_count, self.config)
        kernels.count(
            self._given, prior, block.occurrences(),
            parameters.inverse, self.config.null_probability, self._scale,
            bench.dense, kernels.RAMP, bench.buffer,
            block.row_ptr, block.row_word.read(), row_count, block.null_count,
            bench.partial.totals, bench.partial.sums,
        )  # fmt: skip
        block.row_count.replace(row_count)

    def _each(
        self, blocks: Sequence[_Block], work: Callable[[_Bench, _Block], Out], told: Told
    ) -> tuple[list[Out], Partial]:
        threads = max(1, min(self.threads, len(blocks)))
        benches = [_Bench(self.ground.types, self.ground.longest) for _ in range(threads)]
        free: SimpleQueue[_Bench] = SimpleQueue()
        for bench in benches:
            free.put(bench)

        def with_bench(block: _Block) -> Out:
            bench = free.get()
            try:
                return work(bench, block)
            finally:
                free.put(bench)

        def all_of(found: Iterable[Out]) -> list[Out]:
            # Told by this thread alone, in the order of blocks.
            done = []
            for block, out in zip(blocks, found, strict=True):
                done.append(out)
                told(block.cells)
            return done

        if threads == 1:
            done = all_of(map(with_bench, blocks))
        else:
            with ThreadPoolExecutor(threads) as pool:
                done = all_of(pool.map(with_bench, blocks))
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


def floor(parameters: Parameters, config: AlignmentConfig) -> NDArray[np.float64]:
    """What each source word gives a target word that it has no entry with, float64[V + 1]."""
    return _weights(np.zeros(len(parameters.inverse)), config) * parameters.inverse


def _weights(counts: NDArray[np.float64], config: AlignmentConfig) -> NDArray[np.float64]:
    out = np.empty_like(counts)
    weights(counts, config.alpha, config.variational_bayes, out)
    return out


def _bounds(run: Records, source_types: int) -> Iterator[tuple[int, int, int]]:
    # First type, end and possible entries of each block, types counted from the run's first.
    possible = np.minimum(run.cells, source_types).tolist()
    records = np.diff(run.occurrences.type_ptr).tolist()
    begin, size, held = 0, 0, 0
    for t, (entries, own) in enumerate(zip(possible, records, strict=True)):
        if t > begin and (size + entries > BLOCK_ENTRIES or held + own > BLOCK_RECORDS):
            yield begin, t, size
            begin, size, held = t, 0, 0
        size += entries
        held += own
    if possible:
        yield begin, len(possible), size
