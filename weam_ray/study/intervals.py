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

``benchmarks/claims.py`` measures coverage and family-wise error by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from statsmodels.stats.proportion import proportion_confint

Array = NDArray[np.float64]
_SMALLEST = 1e-14
_FALL = 34.0
_STEPS = np.linspace(0.0, 1.0, 128)
_MOST_STEPS = 200


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

        Never so small that the whole falls below a quarter of what seeds x items independent
        answers would give: two seeds that always answer one class each score exactly a third, and
        yet know nothing. (Only a quarter, for in honest tables the estimate lies on both sides of
        the whole: at a half, intervals of three seeds cover in 96.5 % and more.)
        """
        independent = (self.item_variance + self.residual) / (self.seeds * self.items)
        return max(self.item_variance / self.items, independent / 4 - self.seed_part)

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
    return crossed_family([table])[0]


def crossed_family(tables: Sequence[NDArray[np.floating]]) -> list[Crossed]:
    """:func:`crossed` of each table; those of one shape are reckoned together."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, table in enumerate(tables):
        by_shape.setdefault(table.shape, []).append(place)
    found: dict[int, Crossed] = {}
    for places in by_shape.values():
        stacked = np.stack([np.asarray(tables[place], np.float64) for place in places])
        found |= zip(places, _crossed_alike(stacked), strict=True)
    return [found[place] for place in range(len(tables))]


def _crossed_alike(values: Array) -> list[Crossed]:
    tables, seeds, items = values.shape
    if not seeds or not items:
        raise ValueError("a table of seeds x items needs one of each")
    by_seed, by_item = values.mean(2), values.mean(1)
    mean = by_seed.mean(1)
    item_square = by_item.var(1, ddof=1) if items > 1 else np.zeros(tables)
    seed_variance, residual = np.zeros(tables), np.zeros(tables)
    if seeds > 1:
        seed_variance = by_seed.var(1, ddof=1)
        residual = (within(values) ** 2).sum((1, 2)) / ((seeds - 1) * max(items - 1, 1))
        item_square = np.maximum(item_square - residual / seeds, 0.0)
    columns = (mean, seed_variance, item_square, residual)
    return [
        Crossed(
            mean=own[0],
            seeds=seeds,
            items=items,
            seed_variance=own[1],
            item_variance=own[2],
            residual=own[3],
            df=float(seeds - 1),
        )
        for own in zip(*(column.tolist() for column in columns), strict=True)
    ]


def within(values: Array) -> Array:
    """What tables of shape (tables, seeds, items) hold beyond the means of seeds and items."""
    by_seed, by_item = values.mean(2, keepdims=True), values.mean(1, keepdims=True)
    return np.asarray(values - by_seed - by_item + by_seed.mean(1, keepdims=True))


def two_sided_p(effect: Array, seed_part: Array, item_part: Array, df: Array) -> Array:
    """P(|T| >= |effect|) for T = sqrt(seed_part) t(df) + sqrt(item_part) z, per element.

    Exact up to the quadrature: given W ~ chi2(df), T is normal with variance
    ``seed_part * df / W + item_part``. ``df`` 0 means no seed part at all. An effect of exactly 0
    without any spread has p 1; any other effect without spread has p 0.
    """
    effect, seed_part, item_part, df = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, np.float64)) for v in (effect, seed_part, item_part, df))
    )
    inflation, weights = _quadrature(df)
    variance = seed_part[:, None] * inflation + item_part[:, None] + _SMALLEST
    tails = special.erfc(np.abs(effect)[:, None] / np.sqrt(2 * variance))
    return np.asarray((tails * weights).sum(1) / weights.sum(1))


def _quadrature(df: Array) -> tuple[Array, Array]:
    """Values of df / W for W ~ chi2(df) and their weights, both of shape (n, nodes).

    The trapezoidal rule in x = log(W / df), whose density exp(df / 2 (x - e^x)) is analytic and
    falls to e^-34 of its mode at both ends: no other rule converges faster there.
    """
    seeded = df > 0
    safe = np.where(seeded, np.minimum(df, 1e12), 1.0)[:, None]
    # e^x - 1 - x is at least -x - 1 for x < 0, x^2 / 3 for -1 < x < 0, x^2 / 2 and e^x / 2 - 1 for
    # x > 0; the ends are where that makes 68 / df.
    reach = 2 * _FALL / safe
    low = -np.where(3 * reach <= 1, np.sqrt(3 * reach), 1 + reach)
    high = np.minimum(np.sqrt(2 * reach), np.log(2 * (1 + reach)))
    x = low + (high - low) * _STEPS
    weights = np.exp(safe / 2 * (x - np.expm1(x)))
    weights /= weights.sum(1, keepdims=True)
    return np.where(seeded[:, None], np.exp(-x), 0.0), weights


def half_width(
    seed_part: Array | float, item_part: Array | float, df: Array | float, level: float = 0.95
) -> Array:
    """The c with P(|T| > c) = 1 - level, T as in :func:`two_sided_p`; of their common shape."""
    seed, item, degrees = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (seed_part, item_part, df))
    )
    shape = seed.shape
    seed, item, degrees = seed.ravel(), item.ravel(), degrees.ravel()
    seed = np.where(degrees > 0, seed, 0.0)
    total = seed + item
    # T scales, so the parts are taken as shares of the whole.
    share = np.divide(item, total, out=np.ones_like(item), where=total > 0)
    inflation, weights = _quadrature(degrees)
    sd = np.sqrt((1 - share)[:, None] * inflation + share[:, None])
    # P(|T| > c) is convex in c, so Newton's steps from the left of the root never pass it. The
    # items alone are to its left, for T is never less spread than they.
    root = special.ndtri((1 + level) / 2) * np.sqrt(share)
    for _ in range(_MOST_STEPS):
        scaled = root[:, None] / sd
        outside = (special.erfc(scaled / np.sqrt(2)) * weights).sum(1)
        density = (np.exp(-(scaled**2) / 2) / sd * weights).sum(1) * np.sqrt(2 / np.pi)
        step = (outside - (1 - level)) / density
        root = root + step
        if (np.abs(step) <= 1e-9 * root).all():
            break
    return np.asarray((np.sqrt(total) * root).reshape(shape))


def interval(spread: Crossed, level: float = 0.95) -> Interval:
    """The interval of the mean. With one seed it speaks of items only."""
    return intervals([spread], level)[0]


def intervals(spreads: Sequence[Crossed], level: float = 0.95) -> list[Interval]:
    """:func:`interval` of each."""
    _, seed_part, item_part, df = _columns(spreads)
    halves = half_width(seed_part, item_part, df, level).tolist()
    return [
        Interval(value=one.mean, low=one.mean - half, high=one.mean + half)
        for one, half in zip(spreads, halves, strict=True)
    ]


def p_values(spreads: Sequence[Crossed]) -> list[float]:
    """The two-sided p value of each mean, against a truth of 0."""
    return [float(p) for p in two_sided_p(*_columns(spreads))]


def _columns(spreads: Sequence[Crossed]) -> tuple[Array, Array, Array, Array]:
    rows = [(one.mean, one.seed_part, one.item_part, one.df) for one in spreads]
    mean, seed_part, item_part, df = np.array(rows, np.float64).reshape(-1, 4).T
    return mean, seed_part, item_part, df


def moderate(family: Sequence[Crossed], overlap: NDArray[np.floating]) -> list[Crossed]:
    """Lend each member's seed variance strength from the others, after Smyth (2004, section 6).

    One departure towards caution, since Smyth has thousands of members and we a few: the prior is
    the mean variance; his lies lower. Simulated at 3 and 5 seeds, families of 3-18: intervals cover
    in 94.3-96.4 %, family-wise error at most 5 % where seed variances are alike or the members
    share a baseline; 7.5 % where three members without one spread fourfold in standard deviation
    (with Smyth's prior 8-13 %).

    Args:
        family: comparisons made together.
        overlap: correlation of the members' seed noise, shape (members, members), 1 on the
            diagonal (:mod:`weam_ray.study.sharing`): 0.5 where two differences share one cell.
            Members that share noise hold fewer degrees of freedom than they seem to:
            ``df * K^2 / sum(overlap^2)``.

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
