"""Which cell to run next: the one after which the slope of its curve is known best.

A curve is the gain of a method over no pre-training, by the logarithm of the size::

    y[n, s] = a + b log2(n) + u[s] + w[n] + e[n, s]

``u`` is what a seed does to all sizes (the baseline's own noise among it), ``w`` what the finite
items do to a size (the same in every seed, so that no seed averages it away), ``e`` the rest. For
given variances the variance of the fitted slope follows from which cells there are, and not from
what they will say: so the slope's interval after each candidate is known before it is run, and what
is running counts as done. Cells are ranked by how much they shorten the mean interval of all
curves, for what they cost (c-optimal design, chosen one at a time: Fedorov 1972).

The interval is that of :func:`slope`, of this model with weak prior knowledge, and not the one a
report states: a report asks for seeds that all sizes have, and takes no variance for granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import stats

from weam_ray.identity import StageConfig

Array = NDArray[np.float64]

_LEVEL_SD = 0.2
"""Prior standard deviation of a gain at one pair: twenty points, so hardly any knowledge."""
_DISCORDANCE = 0.15
"""Share of items on which two of a study's systems differ; 5 to 20 % is usual on XNLI."""


class AdaptiveConfig(StageConfig):
    """Run the grid's cells by what each tells about the slope over sizes, up to a budget."""

    cells: Annotated[int | None, Field(ge=1)] = None
    """Cells with bitext, all in all; what was run before counts."""
    hours: Annotated[float | None, Field(gt=0)] = None
    """Seconds recorded of such cells, in hours; what was run before counts."""
    half_width: Annotated[float | None, Field(gt=0)] = None
    """Stop when every curve's slope is known as well as this: half a 95 % interval, as a share a
    doubling (0.005: half a point)."""
    seed_sd: Annotated[float, Field(gt=0)] = 0.01
    """Standard deviation between seeds that is expected before there are any (XNLI: about a
    point)."""
    prior_df: Annotated[float, Field(gt=0)] = 4.0
    """Seeds' worth of trust in that."""
    slope_sd: Annotated[float, Field(gt=0)] = 0.05
    """Standard deviation of slopes that is expected before there are any, a doubling."""

    @model_validator(mode="after")
    def _an_end(self) -> Self:
        if self.cells is None and self.hours is None and self.half_width is None:
            raise ValueError("it needs an end: cells, hours or half_width")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Curve:
    """What is varied over sizes: one line of one panel of the report."""

    method: str
    domain: str
    pair: str
    rest: str = ""
    """Regime, budget, setting and task, where a study varies them."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """A cell of a curve."""

    curve: Curve
    size: int
    seed: tuple[int, ...]
    """Subset, pre-training and fine-tuning seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A finished cell."""

    point: Point
    gain: float
    """Its accuracy less the baseline's of its fine-tuning seed, 0-1."""
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Variances of the model above."""

    seed: float
    size: float
    cell: float
    df: float
    """Degrees of freedom of what they were estimated from, prior included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A curve's slope a doubling, and half its 95 % interval, as shares."""

    value: float
    half_width: float


Candidate = tuple[Point, ...]
"""Cells of one curve that are run together, because they share an encoder; mostly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate and what it would do."""

    candidate: Candidate
    shrinks: float
    """Half-width of its curve's slope before less after, a cell of it, as a share."""


def rank(
    observations: Sequence[Observation],
    pending: Sequence[Point],
    candidates: Sequence[Candidate],
    config: AdaptiveConfig,
) -> list[Ranked]:
    """Candidates, those first that shrink the slope's interval most for each of their cells.

    Args:
        observations: finished cells.
        pending: cells that run; they count as if finished.
        candidates: cells that may be run next.
        config: what is expected before there is anything.
    """
    noise = estimate_noise(observations, config)
    taken: dict[Curve, list[Point]] = {}
    for point in [*(one.point for one in observations), *pending]:
        taken.setdefault(point.curve, []).append(point)
    before = {
        curve: _half_width(taken.get(curve, ()), noise, config)
        for curve in {one[0].curve for one in candidates}
    }
    found = []
    for one in candidates:
        curve = one[0].curve
        after = _half_width([*taken.get(curve, ()), *one], noise, config)
        found.append(Ranked(candidate=one, shrinks=(before[curve] - after) / len(one)))
    # Of equals the first by its factors, so that the order is the same on every machine.
    return sorted(found, key=lambda one: (-round(one.shrinks, 12), one.candidate))


def slopes(
    observations: Sequence[Observation], curves: Sequence[Curve], config: AdaptiveConfig
) -> dict[Curve, Slope]:
    """Every curve's slope by this model; one without cells has the prior's."""
    noise = estimate_noise(observations, config)
    return {
        curve: slope([one for one in observations if one.point.curve == curve], noise, config)
        for curve in curves
    }


def slope(own: Sequence[Observation], noise: Noise, config: AdaptiveConfig) -> Slope:
    """The slope of one curve from its finished cells."""
    points = [one.point for one in own]
    precision, x, weights = _posterior(points, noise, config)
    gains = np.array([one.gain for one in own])
    mean = np.linalg.solve(precision, x.T @ (weights @ gains)) if own else np.zeros(2)
    return Slope(value=float(mean[1]), half_width=_half_width(points, noise, config))


def _half_width(points: Sequence[Point], noise: Noise, config: AdaptiveConfig) -> float:
    precision, _, _ = _posterior(points, noise, config)
    variance = float(np.linalg.inv(precision)[1, 1])
    return float(stats.t.ppf(0.975, noise.df) * variance**0.5)


def _posterior(
    points: Sequence[Point], noise: Noise, config: AdaptiveConfig
) -> tuple[Array, Array, Array]:
    """Precision of (level, slope), design of shape (cells, 2), inverse covariance of the gains."""
    prior = np.diag([_LEVEL_SD**-2, config.slope_sd**-2])
    sizes = np.array([point.size for point in points], float)
    # Centred where it does not matter: the prior's level is that of a middling size.
    x = np.column_stack([np.ones(len(points)), np.log2(sizes) - 12.0])
    seeds = np.array([[one.seed == other.seed for other in points] for one in points], float)
    same = np.array([[one.size == other.size for other in points] for one in points], float)
    shape = (len(points), len(points))
    covariance = noise.seed * seeds.reshape(shape) + noise.size * same.reshape(shape)
    weights = np.linalg.inv(covariance + noise.cell * np.eye(len(points)))
    return np.asarray(prior + x.T @ weights @ x), x, np.asarray(weights)


def estimate_noise(observations: Sequence[Observation], config: AdaptiveConfig) -> Noise:
    """The variances, over all curves together, drawn towards what was expected.

    Within a curve a gain is taken apart by size and by seed (a two-way table with gaps); what is
    left is the cells' own noise.
    """
    own, df, between, seeds = 0.0, 0.0, 0.0, 0.0
    curves: dict[Curve, list[Observation]] = {}
    for one in observations:
        curves.setdefault(one.point.curve, []).append(one)
    for cells in curves.values():
        rest, left, seed_sum, seed_df = _residuals(cells)
        own, df = own + rest, df + left
        between, seeds = between + seed_sum, seeds + seed_df
    prior, weight = config.seed_sd**2, config.prior_df
    cell = (own + weight * prior) / (df + weight)
    # The seed part is shared with the baseline; it is expected to be as large as the cells' own.
    seed = max((between + weight * prior) / (seeds + weight), 0.0)
    items = [one.items for one in observations if one.items > 0]
    size = _DISCORDANCE / (2 * float(np.mean(items))) if items else 0.0
    return Noise(seed=seed, size=size, cell=cell, df=df + weight)


def _residuals(cells: Sequence[Observation]) -> tuple[float, float, float, float]:
    """(sum of squares, its df) within sizes and seeds, and the same of the seeds' own part."""
    sizes = sorted({one.point.size for one in cells})
    seeds = sorted({one.point.seed for one in cells})
    gains = np.array([one.gain for one in cells])
    by_size = np.array([[one.point.size == n for n in sizes] for one in cells], float)
    by_seed = np.array([[one.point.seed == s for s in seeds] for one in cells], float)
    both = np.column_stack([by_size, by_seed])
    rest = float(_squares(both, gains))
    left = len(cells) - int(np.linalg.matrix_rank(both))
    total = float(_squares(by_size, gains))
    seed_df = int(np.linalg.matrix_rank(both)) - len(sizes)
    if seed_df <= 0:
        return rest, left, 0.0, 0.0
    own = rest / left if left else 0.0
    # Means over a seed's cells hold 1 / cells of the cells' own noise.
    share = len(cells) / len(seeds)
    return rest, left, max(total - rest - seed_df * own, 0.0) / share, float(seed_df)


def _squares(design: Array, gains: Array) -> float:
    fitted = design @ np.linalg.lstsq(design, gains, rcond=None)[0]
    return float(((gains - fitted) ** 2).sum())


def observe(rows: pd.DataFrame, baseline: str, source: str) -> list[Observation]:
    """Finished cells of a view's result rows, each as a gain over the baseline.

    Args:
        rows: of one view (see :class:`weam_ray.study.results.View`).
        baseline: the method without bitext; a cell whose fine-tuning seed it does not have is
            compared with the mean of those it has, and left out where it has none.
        source: the language that isn't looked at.
    """
    from weam_ray.study.results import target_languages

    plain = rows[rows["method"] == baseline]
    known: dict[tuple[str, int], list[float]] = {}
    means: dict[str, list[float]] = {}
    for language, seed, value in plain[["language", "finetuning_seed", "value"]].itertuples(
        index=False
    ):
        known.setdefault((str(language), int(seed)), []).append(float(value))
        means.setdefault(str(language), []).append(float(value))
    found = []
    for _, group in rows[rows["pair"] != ""].groupby("cell", sort=False):
        first = group.iloc[0]
        wanted = target_languages(str(first["pair"]), source, set(group["language"]))
        own = group[group["language"].isin(wanted) & group["language"].isin(list(means))]
        if not len(own):
            continue
        seed = int(first["finetuning_seed"])
        gains = [
            float(value) - float(np.mean(known.get((str(language), seed), means[str(language)])))
            for language, value in own[["language", "value"]].itertuples(index=False)
        ]
        found.append(
            Observation(
                point=point_of({str(k): v for k, v in first.items()}),
                gain=float(np.mean(gains)),
                items=int(own["n"].min()),
            )
        )
    return found


def point_of(factors: Mapping[str, object]) -> Point:
    """A cell's place in its curve, from its factors (a result row, or ``CellKey.factors()``)."""
    names = ("regime", "budget", "setting", "task")
    rest = [str(factors[name]) for name in names[:2] if factors.get(name)]
    seeds = ("subset_seed", "pretraining_seed", "finetuning_seed")
    return Point(
        curve=Curve(
            method=str(factors["method"]),
            domain=str(factors["domain"]),
            pair=str(factors["pair"]),
            rest=" ".join(rest),
        ),
        size=int(str(factors["size"])),
        seed=tuple(int(str(factors[name])) for name in seeds),
    )
