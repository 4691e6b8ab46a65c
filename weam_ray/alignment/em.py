"""EM over shards: what is made of their partial sums between iterations, and the whole of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.kernels import LOG_UNIT, UNSEEN
from weam_ray.alignment.numerics import weights
from weam_ray.alignment.shard import Entries, Parameters, Partial, Shard, Told, fixed_point, floor
from weam_ray.alignment.spilling import Memory, Shelf
from weam_ray.alignment.text import Text, cells_by_type, in_order_of_text, sorted_in_runs

_TENSION_STEPS = 8
_TENSION_RATE = 20.0
TENSION_BOUNDS = (0.1, 14.0)
"""Between which the tension is estimated. Source: fast_align."""


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """What is known after one counting iteration, as fast_align prints it."""

    log_likelihood: float
    """Natural logarithm, summed over target words."""
    perplexity: float
    null_share: float
    """Expected share of target words that the null word explains."""
    tension: float
    """Tension of the next iteration."""


@dataclass(eq=False)
class Coordinator:
    """Turns all shards' answers into the parameters of the next iteration.

    Args:
        distinct: how many target types each source word meets, int64[V + 1]: the sum of what
            :meth:`.shard.Shard.discover` tells.
    """

    text: Text
    config: AlignmentConfig
    distinct: NDArray[np.int64]
    history: list[Iteration] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tension = self.config.initial_tension
        self._scale = fixed_point(self.text.words)

    def start(self) -> Parameters:
        """Parameters after the first iteration, in which all words are equally good."""
        null = self.config.null_probability
        totals = self.text.first_totals(self._tension, null, self._scale)
        self._note(self.text.words * math.log(UNSEEN), null)
        return Parameters(self._tension, self._inverse(totals / self._scale))

    def update(self, partials: Sequence[Partial]) -> Parameters:
        """Parameters after a further iteration, from all shards' sums in any order."""
        partial = reduce(add, partials)
        words = max(1, self.text.words)
        feature, nulls, logs = (float(value) / self._scale for value in partial.sums)
        if self.config.optimise_tension:
            self._optimise_tension(feature / words, words)
        self._note(logs * LOG_UNIT, nulls / words)
        return Parameters(self._tension, self._inverse(partial.totals / self._scale))

    def _note(self, log_likelihood: float, null_share: float) -> None:
        perplexity = math.exp(-log_likelihood / max(1, self.text.words))
        self.history.append(
            Iteration(
                log_likelihood=log_likelihood,
                perplexity=perplexity,
                null_share=null_share,
                tension=self._tension,
            )
        )

    def _optimise_tension(self, feature: float, words: int) -> None:
        # Gradient ascent on the tension, with fast_align's steps and bounds.
        low, high = TENSION_BOUNDS
        for _ in range(_TENSION_STEPS):
            expected = self.text.shapes.feature(self._tension) / words
            moved = self._tension + (feature - expected) * _TENSION_RATE
            self._tension = min(max(moved, low), high)

    def _inverse(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        variational = self.config.variational_bayes
        if variational:
            totals = totals + self.config.alpha * self.distinct
        totals[totals == 0] = 1.0
        out = np.empty_like(totals)
        weights(totals, 0.0, variational, out)
        return np.asarray(1.0 / out, np.float64)


class Team(Protocol):
    """The shards of one direction, wherever they work; together they own all target types.

    ``told`` may hear of blocks as they are done; a team that does not know leaves it out.
    """

    def discover(self, told: Told) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As :meth:`.shard.Shard.discover`, of all types."""

    def step(self, parameters: Parameters, told: Told) -> Sequence[Partial]:
        """All shards' answers to one counting iteration, in any order."""

    def links(
        self, parameters: Parameters, *, scores: bool, told: Told
    ) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
        """As :meth:`.shard.Shard.links`, of all records in the order of types."""

    def entries(self, parameters: Parameters) -> Iterator[Entries]:
        """Translation probabilities, in the order of types."""


Hire = Callable[[Text, AlignmentConfig], AbstractContextManager[Team]]
"""Brings a team together for one direction, for the length of a block."""

RUN_RECORDS = 1 << 25
"""Where records go to disk, so many are sorted at a time: 6 bytes each, a pass over the text."""


class Threads:
    """A team in this process."""

    def __init__(
        self,
        text: Text,
        config: AlignmentConfig,
        *,
        shards: int = 1,
        threads: int = 1,
        shelf: Shelf | None = None,
    ) -> None:
        shelf = shelf or Memory()
        cells = cells_by_type(text)
        at_most = RUN_RECORDS if shelf.on_disk else max(1, text.words)
        self.shards = [
            Shard(
                text.ground,
                sorted_in_runs(text, cells, first, last, at_most),
                config,
                threads=threads,
                shelf=shelf,
            )
            for first, last in split_types(cells, shards)
        ]

    def discover(self, told: Told) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who meets whom."""
        return together([shard.discover(told) for shard in self.shards])

    def step(self, parameters: Parameters, told: Told) -> Sequence[Partial]:
        """One after the other."""
        return [shard.step(parameters, told) for shard in self.shards]

    def links(
        self, parameters: Parameters, *, scores: bool, told: Told
    ) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
        """One after the other."""
        return end_to_end(
            [shard.links(parameters, scores=scores, told=told) for shard in self.shards]
        )

    def entries(self, parameters: Parameters) -> Iterator[Entries]:
        """Block by block."""
        return (part for shard in self.shards for part in shard.entries(parameters))


def threads_of(shards: int = 1, threads: int = 1, shelf: Shelf | None = None) -> Hire:
    """Hires this process' own threads; ``shelf`` says where they keep things meanwhile."""

    @contextmanager
    def hire(text: Text, config: AlignmentConfig) -> Iterator[Team]:
        with (shelf or Memory()).another() as own:
            team = Threads(text, config, shards=shards, threads=threads, shelf=own)
            if shelf is not None:
                # The explained side is not wanted again before the end.
                shelf.release()
            yield team

    return hire


def together(
    found: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What consecutive shards discovered, as one."""
    return (
        np.sum([of_sources for of_sources, _ in found], axis=0),
        np.concatenate([of_targets for _, of_targets in found]),
    )


def end_to_end(
    found: Sequence[tuple[NDArray[np.int16], NDArray[np.float64] | None]],
) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
    """The links and scores of consecutive shards, as one."""
    if len(found) == 1:
        return found[0]
    scores = [part for _, part in found if part is not None]
    return np.concatenate([links for links, _ in found]), np.concatenate(scores) if scores else None


@dataclass(frozen=True, eq=False)
class Trained:
    """One direction after EM."""

    links: NDArray[np.int16]
    """int16[target words]: the source position that explains each, or -1."""
    scores: NDArray[np.float64] | None
    """float64[S]: log-probability of the words of each pair, where asked for."""
    parameters: Parameters
    history: list[Iteration]
    met: NDArray[np.int64] | None
    """int64[target types + 1]: source words met by each target type, where it was counted."""
    entries: list[Entries]
    """Translation probabilities in the order of target types, where asked for; else empty."""
    floor: NDArray[np.float64]
    """float64[V + 1]: probability of a target word with which a source word has no entry."""


def split_types(cells: NDArray[np.int64], shards: int) -> list[tuple[int, int]]:
    """Bounds of ``shards`` runs of target types with about as many cells each.

    Args:
        cells: what :func:`.text.cells_by_type` gives.
    """
    done = np.cumsum(cells[1:])
    total = int(done[-1]) if len(done) else 0
    marks = [total * part // shards for part in range(1, shards)]
    inner = (np.searchsorted(done, marks, side="left") + 1).tolist()
    bounds = [1, *inner, len(cells)]
    return [(first, max(first, last)) for first, last in zip(bounds, bounds[1:], strict=False)]


Tick = Callable[[int, float], None]
"""Is told how many iterations are done, and what share of the next one."""


def no_tick(_: int, __: float) -> None:
    """Where nobody wants to know."""


class _Meter:
    """How far EM is, told at each block's and each iteration's end."""

    def __init__(self, cells: int, tick: Tick) -> None:
        self._all = cells
        self._tick = tick
        self._iterations = 0
        self._cells = 0

    def block(self, cells: int) -> None:
        """A block is done. With the last one a pass is, but not yet the iteration."""
        self._cells += cells
        if self._cells < self._all:
            self._tick(self._iterations, self._cells / self._all)

    def iteration(self) -> None:
        """An iteration is done."""
        self._iterations += 1
        self._cells = 0
        self._tick(self._iterations, 0.0)


def train(
    text: Text,
    config: AlignmentConfig,
    hire: Hire | None = None,
    *,
    scores: bool = False,
    entries: bool = False,
    distinct: NDArray[np.int64] | None = None,
    tick: Tick = no_tick,
) -> Trained:
    """One direction. The result is the same for any team.

    Args:
        hire: where the team comes from; one thread of this process if None.
        distinct: how many target types each source word meets, int64[V + 1], where the other
            direction has counted it; else it is counted.
        tick: called after each of the ``config.iterations`` iterations, and within one after each
            block of a team that tells of them.
    """
    meter = _Meter(text.ground.cells, tick)
    with (hire or threads_of())(text, config) as team:
        met = None
        if distinct is None:
            distinct, of_targets = team.discover(meter.block)
            # The null word of the other direction meets every source word that occurs.
            met = np.concatenate([[np.count_nonzero(distinct[1:])], of_targets])
        coordinator = Coordinator(text, config, distinct)
        parameters = coordinator.start()
        meter.iteration()
        for _ in range(config.iterations - 2):
            parameters = coordinator.update(team.step(parameters, meter.block))
            meter.iteration()
        found = team.links(parameters, scores=scores, told=meter.block)
        kept = list(team.entries(parameters)) if entries else []
    links, of_pairs = in_order_of_text(text, *found)
    meter.iteration()
    return Trained(
        links=links,
        scores=of_pairs,
        parameters=parameters,
        history=coordinator.history,
        met=met,
        entries=kept,
        floor=floor(parameters, config),
    )
