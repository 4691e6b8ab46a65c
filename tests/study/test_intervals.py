"""Intervals over seeds x items hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from weam_ray.study.intervals import (
    Crossed,
    crossed,
    half_width,
    interval,
    moderate,
    two_sided_p,
    wilson,
)


def slow_crossed(table: np.ndarray) -> tuple[float, float, float, float]:
    """Mean squares of a two-way layout, as a textbook writes the sums."""
    seeds, items = table.shape
    mean = sum(table[s][i] for s in range(seeds) for i in range(items)) / (seeds * items)
    rows = [sum(table[s]) / items for s in range(seeds)]
    columns = [sum(table[s][i] for s in range(seeds)) / seeds for i in range(items)]
    between_seeds = sum((r - mean) ** 2 for r in rows) / (seeds - 1)
    between_items = sum((c - mean) ** 2 for c in columns) / (items - 1)
    rest = sum(
        (table[s][i] - rows[s] - columns[i] + mean) ** 2 for s in range(seeds) for i in range(items)
    ) / ((seeds - 1) * (items - 1))
    return mean, between_seeds, max(between_items - rest / seeds, 0.0), rest


def test_crossed_agrees_with_the_textbook_sums():
    table = np.random.default_rng(0).normal(size=(4, 7))
    fast = crossed(table)
    assert (fast.mean, fast.seed_variance, fast.item_variance, fast.residual) == pytest.approx(
        slow_crossed(table)
    )


def test_variance_components_are_recovered():
    random = np.random.default_rng(1)
    found = []
    for _ in range(400):
        seeds, items = random.normal(0, 0.3, 4), random.normal(0, 0.5, 50)
        found.append(
            crossed(seeds[:, None] + items[None, :] + random.normal(0, 1.0, (4, 50))),
        )
    assert np.mean([one.item_variance for one in found]) == pytest.approx(0.25, rel=0.1)
    assert np.mean([one.residual for one in found]) == pytest.approx(1.0, rel=0.03)
    assert np.mean([one.seed_variance for one in found]) == pytest.approx(0.09 + 1 / 50, rel=0.15)


def test_p_is_students_when_only_seeds_vary_and_normal_when_only_items_do():
    effect = np.array([0.5, 2.0, 4.3, 12.0])
    ones, zeros = np.ones(4), np.zeros(4)
    for df in (1.0, 2.0, 4.0, 9.5):
        students = two_sided_p(effect, ones, zeros, np.full(4, df))
        assert students == pytest.approx(2 * stats.t.sf(effect, df), rel=1e-3)
    normal = two_sided_p(effect, zeros, ones, np.full(4, 2.0))
    assert normal == pytest.approx(2 * stats.norm.sf(effect), rel=1e-3)


def test_p_of_a_mixture_agrees_with_brute_force():
    random = np.random.default_rng(2)
    draws = np.sqrt(0.7) * random.standard_t(3, 1_000_000) + np.sqrt(0.3) * random.normal(
        size=1_000_000
    )
    for effect in (1.0, 3.0, 6.0):
        fast = two_sided_p(np.array([effect]), np.array([0.7]), np.array([0.3]), np.array([3.0]))
        assert fast[0] == pytest.approx((np.abs(draws) >= effect).mean(), rel=0.03)


@pytest.mark.parametrize("df", [0.0, 1.0, 2.0, 7.3])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_half_width_is_where_p_meets_the_level(df: float, level: float):
    for seed_part, item_part in ((0.2, 0.8), (1e-6, 2e-6), (0.9, 0.0)):
        if not df:
            seed_part, item_part = 0.0, 0.5
        half = half_width(seed_part, item_part, df, level)
        p = two_sided_p(
            np.array([float(half)]), np.array([seed_part]), np.array([item_part]), np.array([df])
        )
        assert p[0] == pytest.approx(1 - level, rel=0.01)


def test_one_seed_gives_an_interval_of_items_only():
    table = np.random.default_rng(3).normal(0.1, 1.0, (1, 400))
    found = interval(crossed(table))
    half = 1.96 * table.std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), 1e-3)


def test_runs_that_each_answer_one_class_are_not_certain_of_a_third():
    """Balanced labels make their accuracies equal to the last digit; nothing is known by that."""
    gold = np.arange(300) % 3
    found = interval(crossed(np.stack([gold == 0, gold == 1]).astype(float)))
    independent = wilson(200, 600)
    assert independent is not None
    width = independent.high - independent.low
    assert found.value == pytest.approx(1 / 3)
    assert found.high - found.low > 0.6 * width


def test_identical_values_have_no_width_and_no_nan():
    for shape in ((1, 1), (1, 50), (3, 1), (3, 50)):
        found = interval(crossed(np.zeros(shape)))
        assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_wilson_agrees_with_its_formula_and_stays_inside():
    found = wilson(8, 10)
    z, p, n = 1.959964, 0.8, 10
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    everything = wilson(10, 10)
    assert everything is not None and 0.999 < everything.high <= 1.0 and everything.low < 0.8
    assert wilson(0, 0) is None


def spread(variance: float, df: float = 2.0) -> Crossed:
    return Crossed(
        mean=0.0,
        seeds=3,
        items=100,
        seed_variance=variance,
        item_variance=0.1,
        residual=0.1,
        df=df,
    )


def test_moderation_draws_variances_together_and_adds_degrees_of_freedom():
    family = [spread(v) for v in (0.5, 1.0, 1.5, 0.9)]
    moderated = moderate(family, np.eye(4))
    variances = [one.seed_variance for one in moderated]
    assert max(variances) - min(variances) < 0.3
    assert all(one.df > 2 for one in moderated)
    assert np.mean(variances) == pytest.approx(0.975, rel=0.05)


def test_members_that_share_a_cell_lend_fewer_degrees_of_freedom():
    family = [spread(1.0 + 0.01 * k) for k in range(30)]
    shared = np.full((30, 30), 0.5)
    np.fill_diagonal(shared, 1.0)
    alone, together = moderate(family, np.eye(30)), moderate(family, shared)
    assert alone[0].df == pytest.approx(60)
    held = 2 * 900 / (30 + 30 * 29 / 4)
    assert together[0].df == pytest.approx(held)


def test_wildly_different_variances_lend_each_other_next_to_nothing():
    """What is lent errs towards caution: a small variance is raised, a large one hardly lowered."""
    family = [spread(v) for v in (1e-6, 1e-3, 1.0, 1e3, 1e6)]
    moderated = moderate(family, np.eye(5))
    assert all(2 < one.df < 2.3 for one in moderated)
    assert moderated[-1].seed_variance > 0.9e6
    assert all(
        after.seed_variance > before.seed_variance
        for before, after in zip(family[:-1], moderated[:-1], strict=True)
    )


def test_a_single_seed_or_a_family_of_one_is_not_moderated():
    alone = [spread(1.0)]
    assert moderate(alone, np.eye(1)) == alone
    unseeded = [spread(0.0, df=0.0), spread(1.0), spread(0.0, df=0.0)]
    assert moderate(unseeded, np.eye(3)) == unseeded


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.003, 0.03])
def test_families_cover_the_truth_and_rarely_claim_falsely(seeds: int, seed_sd: float):
    """A small calibration; benchmarks/claims.py runs it at full size."""
    random = np.random.default_rng(4)
    studies, arms, items = 250, 6, 200
    covered, false_claims = 0, 0
    shared = np.full((arms, arms), 0.5)
    np.fill_diagonal(shared, 1.0)
    for _ in range(studies):
        cells = (
            random.normal(0, 0.5, (1, 1, items))
            + random.normal(0, 0.3, (arms + 1, 1, items))
            + random.normal(0, seed_sd, (arms + 1, seeds, 1))
            + random.normal(0, 0.4, (arms + 1, seeds, items))
        )
        family = moderate([crossed(cells[k + 1] - cells[0]) for k in range(arms)], shared)
        bounds = [interval(one) for one in family]
        covered += sum(one.low <= 0 <= one.high for one in bounds)
        p = two_sided_p(
            *np.array([(f.mean, f.seed_part, f.item_part, f.df) for f in family]).T,
        )
        false_claims += p.min() < 0.05 / arms
    assert 0.925 < covered / (studies * arms) < 0.98
    assert false_claims / studies < 0.09
