"""Comparisons: is one arm of the grid better than another, by how much, and could we have seen it?

A family of comparisons is asked together: seed variances lend each other strength, Holm's
correction runs over all of them, and each comes with the effect it could have detected. Methods are
in :mod:`weam_ray.study.intervals` and :mod:`weam_ray.study.power`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from weam_ray.study.intervals import Crossed, Interval, crossed, interval, moderate, two_sided_p
from weam_ray.study.matching import Arm, Grid, Languages, Matched, match, overlap
from weam_ray.study.power import detectable

LEVEL = 0.95
FEWEST_SEEDS = 2
"""With one seed nothing is known of the spread between seeds, so nothing is claimed."""


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
    detectable: float | None = None
    """The true effect that would have been found with 80 % probability at Holm's first step. None
    where nothing varies, which says nothing of what would have been seen."""
    spread: Crossed | None = None
    seeds: tuple[SeedResult, ...] = ()
    strata: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def claimable(self) -> bool:
        """Whether there are seeds enough to speak of anything but these runs."""
        return self.spread is not None and self.spread.seeds >= FEWEST_SEEDS

    @property
    def identical(self) -> bool:
        """Both arms answered every item alike."""
        return self.spread is not None and self.spread.constant and self.spread.mean == 0

    @property
    def found(self) -> bool:
        """A difference that holds after Holm's correction."""
        return self.claimable and self.p_holm is not None and self.p_holm < 1 - LEVEL


def compare_family(grid: Grid, questions: Sequence[Question]) -> list[Comparison]:
    """Answer questions as one family: moderated seed variances, Holm over all that can be asked."""
    matches = [match(grid, one.a, one.b, one.languages) for one in questions]
    return judge(questions, matches)


def judge(questions: Sequence[Question], matches: Sequence[Matched | str]) -> list[Comparison]:
    """The comparisons of tables already matched; see :func:`compare_family`."""
    able = [(k, one) for k, one in enumerate(matches) if not isinstance(one, str)]
    spreads = [crossed(one.table) for _, one in able]
    if able:
        spreads = moderate(spreads, overlap([one for _, one in able]))
    answers = [
        Comparison(question=question, effect=None, reason=one if isinstance(one, str) else "")
        for question, one in zip(questions, matches, strict=True)
    ]
    tests = max(sum(spread.seeds >= FEWEST_SEEDS for spread in spreads), 1)
    for (place, matched), spread in zip(able, spreads, strict=True):
        answers[place] = _answer(questions[place], matched, spread, tests)
    return _holm(answers)


def _answer(question: Question, matched: Matched, spread: Crossed, tests: int) -> Comparison:
    parts = np.array([spread.seed_part]), np.array([spread.item_part]), np.array([spread.df])
    p = float(two_sided_p(np.array([spread.mean]), *parts)[0])
    return Comparison(
        question=question,
        effect=interval(spread, LEVEL),
        p=p,
        detectable=None
        if spread.constant
        else detectable(spread.seed_part, spread.item_part, spread.df, alpha=(1 - LEVEL) / tests),
        spread=spread,
        seeds=_seed_results(matched),
        strata=tuple(one.label for one in matched.strata),
        languages=matched.languages,
        notes=matched.notes,
    )


def _seed_results(matched: Matched) -> tuple[SeedResult, ...]:
    counts = matched.right_wrong
    one_language = sum(len(one.languages) for one in matched.strata) == 1
    results = []
    for place, seed in enumerate(matched.seeds):
        only_a, only_b = (None, None) if counts is None else map(int, counts[place])
        independent = only_a is not None and only_b is not None and one_language
        results.append(
            SeedResult(
                seed=seed,
                difference=float(matched.table[place].mean()),
                only_a=only_a,
                only_b=only_b,
                mcnemar_p=mcnemar(only_a, only_b)
                if independent and only_a is not None and only_b is not None
                else None,
            )
        )
    return tuple(results)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test: are discordant items split evenly? 1 where there are none."""
    n, fewer = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * float(special.bdtr(fewer, n, 0.5))) if n else 1.0


def _holm(answers: list[Comparison]) -> list[Comparison]:
    able = [k for k, one in enumerate(answers) if one.claimable and one.p is not None]
    if not able:
        return answers
    for k, p in zip(able, holm([answers[k].p or 0.0 for k in able]), strict=True):
        answers[k] = replace(answers[k], p_holm=p)
    return answers


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (1979). statsmodels' agree, but collect garbage at every call."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, np.float64)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


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
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    block = max(1, 20_000_000 // items)
    for start in range(0, draws, block):
        here = min(block, draws - start)
        by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=here) / seeds
        by_item = random.multinomial(items, np.full(items, 1 / items), size=here) / items
        means[start : start + here] = ((by_item @ values.T) * by_seed).sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(values.mean()), low=float(low), high=float(high))
