"""EM over shards: what is made of their partial sums between iterations, and the whole of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.kernels import LOG_UNIT, UNSEEN
from weam_ray.alignment.numerics import weights
from weam_ray.alignment.shard import Entries, Parameters, Partial, Shard, fixed_point
from weam_ray.alignment.text import Text, cells_by_type

_TENSION_STEPS = 8
_TENSION_RATE = 20.0
_TENSION_BOUNDS = (0.1, 14.0)


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
        low, high = _TENSION_BOUNDS
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


@dataclass(frozen=True, eq=False)
class Trained:
    """One direction after EM."""

    links: NDArray[np.int32]
    """int32[target words]: the source position that explains each, or -1."""
    scores: NDArray[np.float64] | None
    """float64[target words]: log-probability of each, where asked for."""
    parameters: Parameters
    history: list[Iteration]
    met: NDArray[np.int64] | None
    """int64[target types + 1]: source words met by each target type, where it was counted."""
    entries: list[Entries]
    """Translation probabilities in the order of target types, where asked for; else empty."""
    floor: NDArray[np.float64]
    """float64[V + 1]: probability of a target word with which a source word has no entry."""


def split_types(text: Text, shards: int) -> list[tuple[int, int]]:
    """Bounds of ``shards`` runs of target types with about as many cells each."""
    done = np.cumsum(cells_by_type(text)[1:])
    total = int(done[-1]) if len(done) else 0
    marks = [total * part // shards for part in range(1, shards)]
    inner = (np.searchsorted(done, marks, side="left") + 1).tolist()
    bounds = [1, *inner, text.target.types + 1]
    return [(first, max(first, last)) for first, last in zip(bounds, bounds[1:], strict=False)]


def train(
    text: Text,
    config: AlignmentConfig,
    *,
    shards: int = 1,
    threads: int = 1,
    scores: bool = False,
    entries: bool = False,
    distinct: NDArray[np.int64] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Trained:
    """One direction, in this process. The result is the same for any ``shards`` and ``threads``.

    Args:
        distinct: how many target types each source word meets, int64[V + 1], where the other
            direction has counted it; else it is counted.
        tick: called after each of the ``config.iterations`` iterations.
    """
    bounds = split_types(text, shards)
    owners = [Shard(text, first, last, config, threads=threads) for first, last in bounds]
    met = None
    if distinct is None:
        found = [owner.discover() for owner in owners]
        distinct = np.sum([of_sources for of_sources, _ in found], axis=0)
        # The null word of the other direction meets every source word that occurs.
        occurring = np.array([np.count_nonzero(distinct[1:])])
        met = np.concatenate([occurring, *(of_targets for _, of_targets in found)])
    coordinator = Coordinator(text, config, distinct)
    parameters = coordinator.start()
    tick()
    for _ in range(config.iterations - 2):
        parameters = coordinator.update([owner.step(parameters) for owner in owners])
        tick()
    links = np.full(len(text.target.tokens), -1, np.int32)
    of_words = np.zeros(len(links)) if scores else None
    for owner in owners:
        owner.links(parameters, links, of_words)
    tick()
    kept = [part for owner in owners for part in owner.entries(parameters)] if entries else []
    return Trained(
        links=links,
        scores=of_words,
        parameters=parameters,
        history=coordinator.history,
        met=met,
        entries=kept,
        floor=owners[0].floor(parameters),
    )
