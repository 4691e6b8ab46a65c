"""What a study could have seen: detectable effects, and the seeds an effect needs.

Power is that of the test in :mod:`weam_ray.study.intervals`: the estimate is normal around the
true effect with variance ``seed_part + item_part``, and the critical value follows from the seed
variance that the study happens to measure, which is chi-square with ``df`` degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from weam_ray.study.intervals import Crossed, half_width

Array = NDArray[np.float64]
_MIDPOINTS = (np.arange(64) + 0.5) / 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What blurs a paired difference of two systems; from a pilot, or stated.

    Effects and standard deviations are shares (0.01 = 1 point).
    """

    discordance: float
    """Share of items on which exactly one of the two systems is right, 0-1. 0.10 is common."""
    seed_sd: float
    """Standard deviation of one system's accuracy between seeds. 0.006 for mBERT on XNLI."""
    item_share: float = 1.0
    """Part of the item variance that is the same in every seed, 0-1. 1 is the careful choice: more
    seeds then do not make up for few items."""

    @classmethod
    def of(cls, spread: Crossed, discordance: float) -> Noise:
        """The noise that a comparison measured."""
        total = spread.item_variance + spread.residual
        return cls(
            discordance=discordance,
            seed_sd=spread.seed_sd / np.sqrt(2),
            item_share=spread.item_variance / total if total > 0 else 1.0,
        )

    def parts(self, seeds: int, items: int) -> tuple[float, float]:
        """(seed part, item part) of the variance of the mean difference."""
        shared = self.discordance * self.item_share
        own = self.discordance - shared
        return (2 * self.seed_sd**2 + own / items) / seeds, shared / items


def power_of(
    effect: float, seed_part: float, item_part: float, df: float, alpha: float = 0.05
) -> float:
    """Probability that a true ``effect`` is found at level ``alpha``, two-sided."""
    sd = float(np.sqrt(seed_part + item_part))
    if sd == 0:
        return 1.0 if effect else alpha
    return _found(effect, _critical(seed_part, item_part, df, alpha), sd)


def _critical(seed_part: float, item_part: float, df: float, alpha: float) -> Array:
    # What the study will measure as seed variance is uncertain, and the bar moves with it.
    measured = seed_part * (_measured_shares(round(df, 6)) if df > 0 else np.zeros(1))
    return half_width(measured, np.full_like(measured, item_part), df, 1 - alpha)


@lru_cache(maxsize=1024)
def _measured_shares(df: float) -> Array:
    return np.asarray(stats.chi2.ppf(_MIDPOINTS, df) / df)


def _found(effect: float, critical: Array, sd: float) -> float:
    above = special.ndtr((effect - critical) / sd)
    return float((above + special.ndtr((-critical - effect) / sd)).mean())


def detectable(
    seed_part: float, item_part: float, df: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true effect found with probability ``power`` at level ``alpha``."""
    sd = float(np.sqrt(seed_part + item_part))
    if sd == 0:
        return 0.0
    critical = _critical(seed_part, item_part, df, alpha)
    high = 4 * sd
    while _found(high, critical, sd) < power:
        high *= 2
    root = optimize.brentq(lambda e: _found(e, critical, sd) - power, 0.0, high, xtol=sd * 1e-4)
    return float(root)


def detectable_effect(
    noise: Noise,
    *,
    seeds: int,
    items: int,
    comparisons: int = 1,
    family_df: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The detectable effect of a planned study, as a share.

    Args:
        noise: see :class:`Noise`.
        seeds: matched seeds of each system.
        items: items asked of each.
        comparisons: size of the family; the level is ``alpha / comparisons``, Holm's first step.
        family_df: degrees of freedom of the seed variance when the family lends strength
            (:func:`weam_ray.study.intervals.moderate`); None takes what comparisons with one
            baseline hold (:func:`shared_baseline_df`).

    Raises:
        ValueError: fewer than one seed, item or comparison.
    """
    if seeds < 1 or items < 1 or comparisons < 1:
        raise ValueError("power needs at least one seed, one item and one comparison")
    seed_part, item_part = noise.parts(seeds, items)
    held = shared_baseline_df(seeds, comparisons) if family_df is None else family_df
    df = max(held, float(seeds - 1))
    if seeds == 1:
        # Nothing measures the seed noise: what is found holds for this seed alone.
        seed_part, item_part, df = 0.0, noise.discordance / items, 0.0
    return detectable(seed_part, item_part, df, alpha / comparisons, power)


def shared_baseline_df(seeds: int, comparisons: int) -> float:
    """Degrees of freedom that a family holds when all its members share one baseline.

    Differences that share a cell correlate by 0.5, so K of them hold
    ``(S - 1) K^2 / (K + K (K - 1) / 4)``: 2 become 8 at most, however large the family.
    """
    k = comparisons
    return (seeds - 1) * k**2 / (k + k * (k - 1) / 4)


def seeds_needed(
    effect: float,
    noise: Noise,
    *,
    items: int,
    comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    most: int = 200,
) -> int | None:
    """The fewest seeds (at least 2) that make ``effect`` detectable; None if ``most`` do not."""

    def enough(seeds: int) -> bool:
        found = detectable_effect(
            noise, seeds=seeds, items=items, comparisons=comparisons, alpha=alpha, power=power
        )
        return found <= effect

    if not enough(most):
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
