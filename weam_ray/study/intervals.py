"""How sure a score or a difference is, over seeds x items.

A study measures each system with a few seeds on the same items. Both are samples: of training runs
that could have been made, and of items that could have been asked (Sellam et al. 2022, "The
MultiBERTs", section 3, whose Multi-Bootstrap resamples both). With 3 to 5 seeds such a bootstrap
is too narrow where seeds differ, since three numbers resampled are still three numbers, and too
wide where they don't, since it counts what is left within a cell up to three times (Owen 2007,
"The pigeonhole bootstrap"). So the default is the two-way crossed random-effects model that it
estimates, solved exactly::

    x[s, i] = mean + a[s] + b[i] + e[s, i]
    Var(mean of x) = (variance of seed means) / S + Var(b) / I

Three repairs keep it honest with few seeds:

- the seed part has few degrees of freedom and the item part many, so the statistic is a sum of a
  scaled t and a normal (the Behrens-Fisher distribution, as in Robinson 1976), not one t with
  Satterthwaite's degrees of freedom: those collapse to a normal whenever three seeds happen to lie
  close together, which in a family of 30 comparisons they will (simulated family-wise error 16-38
  % instead of 5 %);
- within a family of comparisons each seed variance is moderated towards the family's (empirical
  Bayes after Smyth 2004; lent degrees of freedom capped by what comparisons that share cells hold);
- languages share items, so an item's languages are averaged before anything else: the item is the
  cluster.

``benchmarks/statistics.py`` measures coverage and family-wise error by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

Array = NDArray[np.float64]
_NODES = 400
_SMALLEST = 1e-14


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value and the range that holds the truth with the stated probability, as shares."""

    value: float
    low: float
    high: float


def wilson(right: int, n: int, level: float = 0.95) -> Interval | None:
    """Wilson's interval of an accuracy: ``right`` of ``n`` independent items; None of no item."""
    if n <= 0:
        return None
    low, high = proportion_confint(right, n, alpha=1 - level, method="wilson")
    return Interval(value=right / n, low=float(low), high=float(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """A seeds x items table reduced to what inference needs.

    ``seed_variance`` is that of the per-seed means (it holds Var(a) + Var(e)/I), with ``df``
    degrees of freedom; ``item_variance`` is the estimate of Var(b), never below 0;
    ``residual`` that of Var(e). With one seed ``seed_variance`` is 0, ``df`` 0, and
    ``item_variance`` is the plain variance over items: nothing is known about seeds.
    """

    mean: float
    seeds: int
    items: int
    seed_variance: float
    item_variance: float
    residual: float
    df: float

    @property
    def item_part(self) -> float:
        """Variance of the mean that comes from the items.

        Never so small that the whole falls below half of what seeds x items independent answers
        would give: two seeds that always answer one class each score exactly a third, and yet know
        nothing. (Only half, for in honest tables the estimate lies on both sides of the whole.)
        """
        independent = (self.item_variance + self.residual) / (self.seeds * self.items)
        return max(self.item_variance / self.items, independent / 2 - self.seed_part)

    @property
    def seed_part(self) -> float:
        """Variance of the mean that comes from the seeds (and from noise within them)."""
        return self.seed_variance / self.seeds

    @property
    def constant(self) -> bool:
        """Whether every seed and item has the same value."""
        return not (self.seed_variance or self.item_variance or self.residual)

    @property
    def seed_sd(self) -> float:
        """Standard deviation between seeds, the noise of finite items taken off."""
        return float(np.sqrt(max(self.seed_variance - self.residual / self.items, 0.0)))

    def moderated(self, seed_variance: float, df: float) -> Crossed:
        """The same table with a seed variance that its family has lent strength to."""
        return Crossed(
            mean=self.mean,
            seeds=self.seeds,
            items=self.items,
            seed_variance=seed_variance,
            item_variance=self.item_variance,
            residual=self.residual,
            df=df,
        )


def crossed(table: NDArray[np.floating]) -> Crossed:
    """Mean squares of a two-way table without replication.

    Args:
        table: shape (seeds, items), one value a seed and item.

    Raises:
        ValueError: the table has no seed or no item.
    """
    values = np.asarray(table, np.float64)
    seeds, items = values.shape
    if not seeds or not items:
        raise ValueError("a table of seeds x items needs one of each")
    by_seed, by_item = values.mean(1), values.mean(0)
    mean = float(by_seed.mean())
    item_square = float(by_item.var(ddof=1)) if items > 1 else 0.0
    if seeds == 1:
        return Crossed(
            mean=mean,
            seeds=1,
            items=items,
            seed_variance=0.0,
            item_variance=item_square,
            residual=0.0,
            df=0.0,
        )
    seed_variance = float(by_seed.var(ddof=1))
    rest = values - by_seed[:, None] - by_item[None, :] + mean
    residual = float((rest**2).sum()) / ((seeds - 1) * max(items - 1, 1))
    return Crossed(
        mean=mean,
        seeds=seeds,
        items=items,
        seed_variance=seed_variance,
        item_variance=max(item_square - residual / seeds, 0.0),
        residual=residual,
        df=float(seeds - 1),
    )


def two_sided_p(effect: Array, seed_part: Array, item_part: Array, df: Array) -> Array:
    """P(|T| >= |effect|) for T = sqrt(seed_part) t(df) + sqrt(item_part) z, per element.

    Exact up to the quadrature: given W ~ chi2(df), T is normal with variance
    ``seed_part * df / W + item_part``. ``df`` 0 means no seed part at all. An effect of exactly 0
    without any spread has p 1; any other effect without spread has p 0.
    """
    effect, seed_part, item_part = (
        np.atleast_1d(np.abs(v)) for v in (effect, seed_part, item_part)
    )
    df = np.atleast_1d(df)
    inflation = np.array([_inflation(float(d)) for d in df])  # (n, nodes): df / W
    variance = seed_part[:, None] * inflation + item_part[:, None] + _SMALLEST
    return np.asarray(special.erfc(effect[:, None] / np.sqrt(2 * variance)) @ _WEIGHTS)


# Midpoints v of (0, 1) stand for the quantiles u = v^4 of W: dense where W is small and the
# variance therefore large, for the tail of T is made there. Weights are du/dv.
_POINTS = (np.arange(_NODES) + 0.5) / _NODES
_WEIGHTS = 4 * _POINTS**3 / (4 * _POINTS**3).sum()


@lru_cache(maxsize=1024)
def _inflation(df: float) -> Array:
    if df <= 0 or not np.isfinite(df):
        return np.full(_NODES, 0.0 if df <= 0 else 1.0)
    return np.asarray(df / stats.chi2.ppf(_POINTS**4, df), np.float64)


def half_width(
    seed_part: Array | float, item_part: Array | float, df: float, level: float = 0.95
) -> Array:
    """The c with P(|T| > c) = 1 - level, T as in :func:`two_sided_p`; shape of the two parts."""
    seed, item = np.asarray(seed_part, np.float64), np.asarray(item_part, np.float64)
    angles, quantiles = _quantiles(round(float(df), 2), round(level, 12))
    angle = np.arctan2(np.sqrt(item), np.sqrt(seed))
    return np.asarray(np.sqrt(seed + item) * np.interp(angle, angles, quantiles))


@lru_cache(maxsize=256)
def _quantiles(df: float, level: float) -> tuple[Array, Array]:
    # T scales, so its quantile is a curve over the angle between its two parts: 0 is all seeds,
    # pi/2 all items. Tabled once, found by bisection, read by interpolation (error below 1e-4).
    angles = np.linspace(0, np.pi / 2, 97)
    seed, item = np.cos(angles) ** 2, np.sin(angles) ** 2
    degrees = np.full(len(angles), df)
    low = np.zeros(len(angles))
    high = np.full(len(angles), 2 * float(stats.t.ppf((1 + level) / 2, df if df > 0 else 1e6)))
    for _ in range(30):
        middle = (low + high) / 2
        outside = two_sided_p(middle, seed, item, degrees) > 1 - level
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return angles, (low + high) / 2


def interval(spread: Crossed, level: float = 0.95) -> Interval:
    """The interval of the mean. With one seed it speaks of items only."""
    half = float(half_width(spread.seed_part, spread.item_part, spread.df, level))
    return Interval(value=spread.mean, low=spread.mean - half, high=spread.mean + half)


def moderate(family: Sequence[Crossed], overlap: NDArray[np.floating]) -> list[Crossed]:
    """Lend each member's seed variance strength from the others, after Smyth (2004, section 6).

    One departure towards caution, since Smyth has thousands of members and we a few: the prior is
    the mean variance; his lies lower. Simulated at 3 and 5 seeds, families of 3-18: intervals cover
    in 94.3-96.4 %, family-wise error at most 5 % where seed variances are alike or the members
    share a baseline; 7.5 % where three members without one spread fourfold in standard deviation
    (with Smyth's prior 8-13 %).

    Args:
        family: comparisons made together.
        overlap: correlation of the members' seed noise, shape (members, members): 0.5 where two
            differences share one cell, 1 on the diagonal. Members that share noise hold fewer
            degrees of freedom than they seem to; ``df * K^2 / sum(overlap^2)`` is what they hold.

    Members with one seed or without any spread, and families of one, come back as they are.
    """
    able = [k for k, one in enumerate(family) if one.df > 0 and not one.constant]
    if len(able) < 2:
        return list(family)
    variance = np.array([max(family[k].seed_variance, _SMALLEST) for k in able])
    df = np.array([family[k].df for k in able])
    shared = np.asarray(overlap, np.float64)[np.ix_(able, able)]
    held = float(df.mean() * len(able) ** 2 / (shared**2).sum())
    prior_df = _prior_df(variance, df)
    prior = float((variance * df).sum() / df.sum())
    moderated = list(family)
    for place, k in enumerate(able):
        lent = min(prior_df, max(held - df[place], 0.0))
        value = (lent * prior + df[place] * variance[place]) / (lent + df[place])
        moderated[k] = family[k].moderated(float(value), float(df[place] + lent))
    return moderated


def _prior_df(variance: Array, df: Array) -> float:
    # Smyth's moment estimator: log variances spread by trigamma(df/2) from chance alone; what they
    # spread beyond that is real and sets how far the family may be trusted.
    centred = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    excess = float(centred.var(ddof=1) - special.polygamma(1, df / 2).mean())
    return np.inf if excess <= 0 else 2 * _trigamma_inverse(excess)


def _trigamma_inverse(value: float) -> float:
    if value < 1e-7:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):  # Newton on 1/trigamma, monotone from this start (Smyth 2004, appendix)
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-9:
            break
    return x
