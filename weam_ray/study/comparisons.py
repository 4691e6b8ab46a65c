"""Comparisons: is one arm of the grid better than another, by how much, and could we have seen it?

A family of comparisons is asked together: seed variances lend each other strength, Holm's
correction runs over all of them, and each comes with the effect it could have detected. Methods are
in :mod:`weam_ray.study.intervals` and :mod:`weam_ray.study.power`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from weam_ray.study.intervals import (
    Crossed,
    Interval,
    crossed_family,
    intervals,
    moderate,
    p_values,
)
from weam_ray.study.matching import Arm, Grid, Languages, Matched, match
from weam_ray.study.power import Noise, detectable
from weam_ray.study.sharing import overlap

LEVEL = 0.95
FEWEST_SEEDS = 2
"""With one seed nothing is known of the spread between seeds, so nothing is claimed."""
FEWEST_ITEMS = 10
"""Below this a mean over items is not near normal: one item right or wrong is the whole effect."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """``a`` against ``b``."""

    name: str
    """How the report calls it: "WEAM against TLM"."""
    a: Arm
    b: Arm
    languages: Languages | None = None
    """None: the language of each cell's own bitext."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """One seed of a comparison."""

    seed: str
    difference: float
    only_a: int | None
    """Items that only a got right; None where a seed averages several cells."""
    only_b: int | None
    mcnemar_p: float | None
    """Exact, two-sided. None where the seed holds several languages, whose items are not
    independent, or several cells."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The answer to a :class:`Question`. Effects are shares (0.01 = 1 point)."""

    question: Question
    effect: Interval | None
    """None where the question can't be asked; ``reason`` says why."""
    reason: str = ""
    p: float | None = None
    p_holm: float | None = None
    """Holm-adjusted over the family. None with a single seed."""
    tests: int = 1
    """Comparisons that Holm's correction runs over."""
    spread: Crossed | None = None
    seeds: tuple[SeedResult, ...] = ()
    bootstrap: Interval | None = None
    """Percentile Multi-Bootstrap over seeds x items, for contrast; only where it was asked for."""
    strata: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def claimable(self) -> bool:
        """Whether there are seeds and items enough to speak of anything but these runs."""
        return not self.too_little

    @property
    def too_little(self) -> str:
        """Why nothing can be claimed; "" where something can."""
        if self.spread is None:
            return self.reason or "nothing was compared"
        if self.spread.seeds < FEWEST_SEEDS:
            return "one seed says nothing of the spread between seeds"
        if self.spread.items < FEWEST_ITEMS:
            return f"{self.spread.items} of the {FEWEST_ITEMS} items that it takes at least"
        return ""

    @cached_property
    def detectable(self) -> float | None:
        """The true effect that would have been found with 80 % probability at Holm's first step.

        None where nothing varies, which says nothing of what would have been seen.
        """
        one = self.spread
        if one is None or one.constant:
            return None
        return detectable(one.seed_part, one.item_part, one.df, alpha=(1 - LEVEL) / self.tests)

    @property
    def identical(self) -> bool:
        """Both arms answered every item alike."""
        return self.spread is not None and self.spread.constant and self.spread.mean == 0

    @property
    def found(self) -> bool:
        """A difference that holds after Holm's correction."""
        return self.claimable and self.p_holm is not None and self.p_holm < 1 - LEVEL


def compare_family(
    grid: Grid, questions: Sequence[Question], *, bootstrap: bool = False
) -> list[Comparison]:
    """Answer questions as one family: moderated seed variances, Holm over all that can be asked.

    Args:
        grid: the cells.
        questions: the family.
        bootstrap: compute the percentile interval too.
    """
    matches = [match(grid, one.a, one.b, one.languages) for one in questions]
    answers = judge(questions, matches)
    if not bootstrap:
        return answers
    return [
        one if isinstance(table, str) else replace(one, bootstrap=multi_bootstrap(table.table))
        for one, table in zip(answers, matches, strict=True)
    ]


def judge(questions: Sequence[Question], matches: Sequence[Matched | str]) -> list[Comparison]:
    """The comparisons of tables already matched; see :func:`compare_family`."""
    able = [(k, one) for k, one in enumerate(matches) if not isinstance(one, str)]
    spreads = moderated([one for _, one in able])
    answers = [
        Comparison(question=question, effect=None, reason=one if isinstance(one, str) else "")
        for question, one in zip(questions, matches, strict=True)
    ]
    told = zip(able, spreads, intervals(spreads, LEVEL), p_values(spreads), strict=True)
    for (place, matched), spread, bounds, p in told:
        answers[place] = Comparison(
            question=questions[place],
            effect=_possible(bounds, matched),
            p=p,
            spread=spread,
            seeds=_seed_results(matched),
            strata=tuple(one.label for one in matched.strata),
            languages=matched.languages,
            notes=matched.notes,
        )
    return together(answers)[0]


def moderated(tables: Sequence[Matched]) -> list[Crossed]:
    """The spreads of tables that are one family, each lent strength from the others."""
    spreads = crossed_family([one.table for one in tables])
    return moderate(spreads, overlap(tables, spreads)) if tables else []


def _possible(one: Interval, matched: Matched) -> Interval:
    """No difference of two shares is beyond -1 to 1, whatever two seeds make of it."""
    most = sum(abs(weight) for weight in matched.weights.values()) / 2
    return Interval(value=one.value, low=max(one.low, -most), high=min(one.high, most))


def _seed_results(matched: Matched) -> tuple[SeedResult, ...]:
    counts = matched.right_wrong
    one_language = sum(len(one.languages) for one in matched.strata) == 1
    results = []
    for place, difference in enumerate(matched.table.mean(1).tolist()):
        only_a, only_b = (None, None) if counts is None else map(int, counts[place])
        told = one_language and only_a is not None and only_b is not None
        results.append(
            SeedResult(
                seed=matched.seeds[place],
                difference=difference,
                only_a=only_a,
                only_b=only_b,
                mcnemar_p=mcnemar(only_a or 0, only_b or 0) if told else None,
            )
        )
    return tuple(results)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test: are discordant items split evenly? 1 where there are none."""
    n, fewer = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * float(special.bdtr(fewer, n, 0.5))) if n else 1.0


def together(*families: Sequence[Comparison]) -> tuple[list[Comparison], ...]:
    """Families judged apart, whose claims stand together: Holm and detectable effects over all.

    Seed variances stay moderated within each family, for a slope's is on another scale than a
    difference's.
    """
    every = [one for family in families for one in family]
    tests = max(sum(one.claimable for one in every), 1)
    able = [k for k, one in enumerate(every) if one.claimable and one.p is not None]
    adjusted = dict(zip(able, holm([every[k].p or 0.0 for k in able]), strict=True))
    corrected = iter(
        replace(one, tests=tests, p_holm=adjusted.get(k, one.p_holm)) for k, one in enumerate(every)
    )
    return tuple([next(corrected) for _ in family] for family in families)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (1979). statsmodels' agree, but collect garbage at every call."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, np.float64)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def measured_noise(answers: Sequence[Comparison]) -> Noise | None:
    """The medians of what comparisons of several seeds measured; None where there are none."""
    spreads = [
        one.spread
        for one in answers
        if one.spread is not None
        and one.spread.seeds > 1
        and one.spread.item_variance + one.spread.residual > 0
    ]
    if not spreads:
        return None
    total = float(np.median([s.item_variance + s.residual + s.mean**2 for s in spreads]))
    shared = [s.item_variance / (s.item_variance + s.residual) for s in spreads]
    return Noise(
        discordance=min(total, 1.0),
        seed_sd=float(np.median([s.seed_sd for s in spreads])) / 2**0.5,
        item_share=float(np.median(shared)),
    )


def multi_bootstrap(
    table: NDArray[np.floating], *, draws: int = 2000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Percentile interval of the mean by resampling seeds and items together (Sellam et al. 2022).

    Kept beside the model-based interval for comparison: with S seeds it sees (S - 1)/S of the
    variance between them, and noise within cells up to three times. Deterministic in ``seed``.

    Args:
        table: shape (seeds, items).
    """
    values = np.asarray(table, np.float64)
    seeds, items = values.shape
    # Items with the same answers are alike to a draw: only how many of each kind it takes matters.
    kinds, counts = np.unique(values, axis=1, return_counts=True)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    block = max(1, 20_000_000 // len(counts))
    for start in range(0, draws, block):
        here = min(block, draws - start)
        by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=here) / seeds
        by_item = random.multinomial(items, counts / items, size=here) / items
        means[start : start + here] = ((by_item @ kinds.T) * by_seed).sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(values.mean()), low=float(low), high=float(high))
