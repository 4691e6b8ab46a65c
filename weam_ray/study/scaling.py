"""How the gain grows with the number of sentence pairs.

Which of the forms of :mod:`weam_ray.study.curves` to believe is decided on the largest size, held
out. The slope of the log-linear form is a contrast of the cells, so its interval is the calibrated
one of :mod:`weam_ray.study.intervals`. The other curves' bands come from a parametric bootstrap:
draws of all sizes' gains together from a multivariate t for the seeds plus a normal for the items,
with the covariance that crossed random effects give (three seeds resampled as they are would
under-cover).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from weam_ray.study.curves import FORMS, Fit, Form, fit
from weam_ray.study.intervals import Crossed, Interval
from weam_ray.study.matching import Matched, same_items

Array = NDArray[np.float64]
DRAWS = 1000
REACH = 4.0
"""Curves are drawn, dashed, up to this multiple of the largest size, and not believed beyond."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Gains by size, seeds and items kept: ``tables`` has shape (sizes, seeds, items)."""

    sizes: tuple[int, ...]
    tables: Array
    seeds: tuple[str, ...]
    weights: tuple[dict[tuple[str, str, int, str, str], float], ...]
    items: NDArray[np.int64] | None = None
    """As in :class:`~weam_ray.study.matching.Matched`."""

    @property
    def gains(self) -> tuple[Matched, ...]:
        """The gain at each size, as it was matched."""
        return tuple(
            Matched(
                seeds=self.seeds,
                table=table,
                right_wrong=None,
                strata=(),
                weights=dict(weights),
                items=self.items,
            )
            for table, weights in zip(self.tables, self.weights, strict=True)
        )

    @property
    def means(self) -> Array:
        """The gain at each size, shape (sizes,)."""
        return np.asarray(self.tables.mean((1, 2)))


def series(by_size: dict[int, Matched]) -> Series | str:
    """Stack the gains of several sizes over the seeds they share, or say why that can't be."""
    if len(by_size) < 2:
        return "one size has no slope"
    sizes = tuple(sorted(by_size))
    shared = set.intersection(*(set(by_size[n].seeds) for n in sizes))
    seeds = tuple(seed for seed in by_size[sizes[0]].seeds if seed in shared)
    if not seeds:
        return "no seed has finished at every size"
    if not same_items(list(by_size.values())):
        return "the sizes were not asked the same items"
    tables = np.stack(
        [by_size[n].table[[by_size[n].seeds.index(seed) for seed in seeds]] for n in sizes]
    )
    return Series(
        sizes=sizes,
        tables=tables,
        seeds=seeds,
        weights=tuple(dict(by_size[n].weights) for n in sizes),
        items=by_size[sizes[0]].items,
    )


def mean_series(parts: Sequence[Series]) -> Series | str:
    """Several curves (pairs, domains) as one, where they have sizes, seeds and items in common."""
    if not parts:
        return "no curve has two sizes"
    sizes = set.intersection(*(set(one.sizes) for one in parts))
    seeds = set.intersection(*(set(one.seeds) for one in parts))
    if len(sizes) < 2 or not seeds:
        return "the curves share fewer than two sizes, or no seed"
    if not same_items([one.gains[0] for one in parts]):
        return "the curves were not asked the same items"
    kept_sizes, kept_seeds = tuple(sorted(sizes)), tuple(s for s in parts[0].seeds if s in seeds)
    tables = [
        one.tables[[one.sizes.index(n) for n in kept_sizes]][
            :, [one.seeds.index(seed) for seed in kept_seeds]
        ]
        for one in parts
    ]
    weights = []
    for n in kept_sizes:
        total: dict[tuple[str, str, int, str, str], float] = {}
        for one in parts:
            for kind, weight in one.weights[one.sizes.index(n)].items():
                total[kind] = total.get(kind, 0.0) + weight / len(parts)
        weights.append(total)
    return Series(
        sizes=kept_sizes,
        tables=np.mean(tables, axis=0),
        seeds=kept_seeds,
        weights=tuple(weights),
        items=parts[0].items,
    )


def slope_contrast(one: Series) -> Matched:
    """The least-squares slope per doubling as a seeds x items table, judged as a difference is."""
    coefficients = _slope_coefficients(one.sizes)
    weights: dict[tuple[str, str, int, str, str], float] = {}
    for coefficient, parts in zip(coefficients, one.weights, strict=True):
        for kind, weight in parts.items():
            weights[kind] = weights.get(kind, 0.0) + float(coefficient) * weight
    return Matched(
        seeds=one.seeds,
        table=np.tensordot(coefficients, one.tables, 1),
        right_wrong=None,
        strata=(),
        weights=weights,
        items=one.items,
    )


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well a form, fitted without the largest size, foretells it."""

    form: Form
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Predicted less measured, as a share."""
        return self.predicted - self.measured


def held_out(one: Series) -> tuple[HeldOut, ...]:
    """Every form's prediction of the largest size; empty with fewer than three sizes."""
    if len(one.sizes) < 3:
        return ()
    means = one.means
    return tuple(
        HeldOut(
            form=form,
            predicted=float(
                fit(form, one.sizes[:-1], means[None, :-1]).at(np.array([one.sizes[-1]]))[0, 0]
            ),
            measured=float(means[-1]),
        )
        for form in FORMS
    )


def best_form(predictions: Sequence[tuple[HeldOut, ...]]) -> Form | None:
    """The form with the smallest squared error over curves; None without a held-out size."""
    errors = {
        form: [one.error**2 for curve in predictions for one in curve if one.form == form]
        for form in FORMS
    }
    known = [(float(np.mean(errors[form])), form) for form in FORMS if errors[form]]
    return min(known, key=lambda one: one[0])[1] if known else None


def draw(one: Series, spread: Crossed, *, seed: int = 0, draws: int = DRAWS) -> Array:
    """Gains at all sizes as they might have come out: shape (draws, sizes).

    Args:
        one: the gains.
        spread: the judged slope of the same series; its moderation (variance and degrees of
            freedom) is applied to the whole seed covariance.
        seed: of the draws.
        draws: how many.
    """
    random = np.random.default_rng(seed)
    seed_root, item_root = (_root(part) for part in _covariances(one, spread))
    heavy = np.ones(draws)
    if spread.df > 0:
        heavy = np.sqrt(spread.df / np.maximum(random.chisquare(spread.df, draws), 1e-9))
    size = (draws, len(one.sizes))
    by_seed = random.standard_normal(size) @ seed_root * heavy[:, None]
    return np.asarray(one.means + by_seed + random.standard_normal(size) @ item_root)


def _covariances(one: Series, spread: Crossed) -> tuple[Array, Array]:
    """Seed and item covariance of the sizes' mean gains, in agreement with the judged slope."""
    sizes, seeds, items = one.tables.shape
    by_seed, by_item = one.tables.mean(2), one.tables.mean(1)
    item_cov = np.atleast_2d(np.cov(by_item)) / items if items > 1 else np.zeros((sizes, sizes))
    if seeds == 1:
        return np.zeros((sizes, sizes)), item_cov
    rest = one.tables - by_seed[:, :, None] - by_item[:, None, :] + one.means[:, None, None]
    residual = np.einsum("asi,bsi->ab", rest, rest) / ((seeds - 1) * max(items - 1, 1))
    item_root = _root(item_cov - residual / (seeds * items))
    item_cov = item_root @ item_root  # negative estimates are set to 0
    contrast = _slope_coefficients(one.sizes)
    own = contrast @ residual @ contrast
    lack = spread.item_part - contrast @ item_cov @ contrast
    if own > 0 and lack > 0:
        item_cov = item_cov + residual * (lack / own)
    raw = float((contrast @ by_seed).var(ddof=1))
    scale = spread.seed_variance / raw if raw > 0 else 1.0
    return np.cov(by_seed) / seeds * scale, item_cov


def _slope_coefficients(sizes: Sequence[int]) -> Array:
    x = np.log2(np.array(sizes, float))
    return np.asarray((x - x.mean()) / ((x - x.mean()) ** 2).sum())


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _refitted(one: Series, form: Form, draws: Array) -> list[tuple[NDArray[np.bool_], Fit]]:
    """Every draw fitted with the form that foretells its own largest size best.

    Which form is right is as uncertain as its parameters: with the form held, intervals of "how
    many pairs" covered in 82-93 % (choice inside the bootstrap, after Efron 2014). With fewer than
    three sizes nothing can be held out, and ``form`` is taken.
    """
    if len(one.sizes) < 3:
        return [(np.ones(len(draws), np.bool_), fit(form, one.sizes, draws))]
    last = np.array([one.sizes[-1]])
    errors = [
        np.abs(fit(other, one.sizes[:-1], draws[:, :-1]).at(last)[:, 0] - draws[:, -1])
        for other in FORMS
    ]
    chosen = np.argmin(errors, axis=0)
    taken = [(np.asarray(chosen == place), other) for place, other in enumerate(FORMS)]
    return [(own, fit(other, one.sizes, draws[own])) for own, other in taken if own.any()]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A fitted curve with its 95 % band, at ``sizes``; beyond ``largest`` it is a guess."""

    form: Form
    sizes: Array
    value: Array
    low: Array
    high: Array
    largest: int


def band(one: Series, form: Form, draws: Array, *, points: int = 33) -> Band:
    """One form's curve through the gains, from the smallest size to REACH times the largest."""
    grid = np.geomspace(one.sizes[0], one.sizes[-1] * REACH, points)
    curves = np.empty((len(draws), points))
    for own, fitted in _refitted(one, form, draws):
        curves[own] = fitted.at(grid)
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    return Band(
        form=form,
        sizes=grid,
        value=fit(form, one.sizes, one.means[None]).at(grid)[0],
        low=low,
        high=high,
        largest=one.sizes[-1],
    )


@dataclass(frozen=True, kw_only=True)
class PairsNeeded:
    """The answer to "how many pairs for this gain?"."""

    gain: float
    sizes: Interval | None
    """Pairs; ``high`` may be inf. None when the data can't say."""
    reason: str = ""
    extrapolated: bool = False
    """The value lies beyond the largest size measured."""
    at_most: int | None = None
    """A size measured that has the gain; set where no curve can say more. Of
    :func:`pairs_needed`, the smallest one by the curve alone."""
    more_than: int | None = None
    """The largest size measured that has it not, for sure."""


def pairs_needed(one: Series, form: Form, draws: Array, gain: float) -> PairsNeeded:
    """Pairs for a gain over no pre-training, by one form, within REACH times what was measured."""
    smallest, largest = one.sizes[0], one.sizes[-1]
    found = np.empty(len(draws))
    for own, fitted in _refitted(one, form, draws):
        found[own] = fitted.size_for(gain)
    found = np.sort(found)
    value = float(fit(form, one.sizes, one.means[None]).size_for(gain)[0])
    reached = found <= largest * REACH
    low, high = (float(found[min(int(q * len(found)), len(found) - 1)]) for q in (0.025, 0.975))
    if reached.mean() < 0.5 or value > largest * REACH:
        return PairsNeeded(
            gain=gain,
            sizes=None,
            reason=f"a gain of that size is not in sight within {REACH:.0f} times the largest size",
        )
    if high <= smallest and one.means[0] < gain:
        # A constant foretold the largest size best; the smallest size itself says otherwise.
        return PairsNeeded(
            gain=gain,
            sizes=None,
            reason=f"the curve has it at {smallest:g} pairs already, the measurement has not",
        )
    if high <= smallest:
        return PairsNeeded(gain=gain, sizes=None, at_most=smallest)
    return PairsNeeded(
        gain=gain,
        sizes=Interval(
            value=max(value, 1.0),
            low=max(min(low, value), 1.0),
            high=max(high, value) if high <= largest * REACH else float("inf"),
        ),
        extrapolated=value > largest,
    )


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Slopes of several pairs seen as draws from one population of pairs (partial pooling)."""

    mean: Interval
    between_sd: float
    """Standard deviation of true slopes between pairs."""
    shrunk: tuple[float, ...]
    """Each pair's slope, drawn towards the mean as far as its noise asks for."""


def pool(slopes: Sequence[float], variances: Sequence[float]) -> Pooled | None:
    """Random effects over pairs: Paule-Mandel's between variance, Hartung-Knapp's interval.

    None with fewer than three pairs, which say nothing about other pairs. Takes the slopes'
    errors as independent; shared items make the interval a little wide.
    """
    from statsmodels.stats.meta_analysis import combine_effects

    if len(slopes) < 3 or min(variances) <= 0:
        return None
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # slopes exactly alike: its i2 divides by 0
        found = combine_effects(np.array(slopes), np.array(variances), method_re="iterated")
    tau2 = max(float(found.tau2), 0.0)
    mean = float(found.mean_effect_re)
    # Hartung-Knapp, but never narrower than without: three alike slopes prove little.
    error = max(float(found.sd_eff_w_re_hksj), float(found.sd_eff_w_re))
    half = float(stats.t.ppf(0.975, len(slopes) - 1)) * error
    return Pooled(
        mean=Interval(value=mean, low=mean - half, high=mean + half),
        between_sd=float(np.sqrt(tau2)),
        shrunk=tuple(
            (slope * tau2 + mean * variance) / (tau2 + variance)
            for slope, variance in zip(slopes, variances, strict=True)
        ),
    )
