"""The next cell is the one that tells most about the slope."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planned_study import read_small

from weam_ray.errors import ConfigError
from weam_ray.study.adaptive import (
    AdaptiveConfig,
    Curve,
    Noise,
    Observation,
    Point,
    estimate_noise,
    observe,
    point_of,
    rank,
    slope,
    slopes,
)

CONFIG = AdaptiveConfig(cells=10)
EN_DE = Curve(method="weam", domain="law", pair="en-de")
EN_FR = Curve(method="weam", domain="law", pair="en-fr")
SIZES = (1000, 4000, 16000, 64000)


def point(size: int, seed: int = 0, curve: Curve = EN_DE) -> Point:
    return Point(curve=curve, size=size, seed=(seed, seed, seed))


def seen(size: int, seed: int = 0, gain: float = 0.0, curve: Curve = EN_DE) -> Observation:
    return Observation(point=point(size, seed, curve), gain=gain, items=5010)


def first(*observations: Observation, candidates: list[Point]) -> Point:
    return rank(observations, (), [(one,) for one in candidates], CONFIG)[0].candidate[0]


def test_after_the_smallest_size_the_largest_tells_most() -> None:
    candidates = [point(size) for size in SIZES[1:]]
    assert first(seen(1000), candidates=candidates) == point(64000)


def test_the_curve_that_is_known_least_comes_first() -> None:
    known = [seen(size, seed) for size in (1000, 64000) for seed in range(3)]
    other = [seen(1000, 0, curve=EN_FR), seen(64000, 0, curve=EN_FR)]
    candidates = [point(64000, 3), point(64000, 1, EN_FR)]
    assert first(*known, *other, candidates=candidates) == point(64000, 1, EN_FR)


def test_what_runs_counts_as_done() -> None:
    candidates = [(point(64000, 1),), (point(1000, 1),)]
    begun = [seen(1000), seen(64000)]
    alone = rank(begun, (), candidates, CONFIG)[0].candidate
    beside = rank(begun, alone, candidates, CONFIG)
    assert beside[0].candidate != alone


def test_a_seed_that_other_sizes_have_tells_more_than_a_new_one() -> None:
    """Its own part falls out of the slope once it is there at both ends."""
    begun = [seen(1000, 0), seen(64000, 0), seen(1000, 1)]
    assert first(*begun, candidates=[point(64000, 2), point(64000, 1)]) == point(64000, 1)


def test_cells_that_share_an_encoder_are_judged_for_each_of_them() -> None:
    single = (point(64000, 1),)
    double = (point(4000, 1), point(4000, 2))
    found = {one.candidate: one.shrinks for one in rank([seen(1000)], (), [single, double], CONFIG)}
    assert found[single] > found[double] > 0


def test_the_order_of_candidates_does_not_matter() -> None:
    candidates = [(point(size, seed),) for size in SIZES for seed in range(2)]
    assert rank([], (), candidates, CONFIG) == rank([], (), candidates[::-1], CONFIG)


def test_the_slope_of_exact_gains_is_theirs() -> None:
    cells = [seen(size, seed, 0.01 * np.log2(size)) for size in SIZES for seed in range(5)]
    quiet = Noise(seed=1e-8, size=1e-9, cell=1e-8, df=30)
    found = slope(cells, quiet, CONFIG)
    assert found.value == pytest.approx(0.01, abs=1e-4)
    assert found.half_width < 1e-3


def test_the_interval_is_generalised_least_squares_written_out() -> None:
    """Against a loop over cells: covariance by hand, no matrices of indicators."""
    points = [point(1000, 0), point(64000, 0), point(64000, 1)]
    noise = Noise(seed=4e-4, size=1e-5, cell=1e-4, df=10)
    covariance = np.zeros((3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        covariance[i, j] += noise.seed * (points[i].seed == points[j].seed)
        covariance[i, j] += noise.size * (points[i].size == points[j].size)
        covariance[i, j] += noise.cell * (i == j)
    x = np.array([[1.0, np.log2(one.size) - 12.0] for one in points])
    precision = np.diag([0.2**-2, CONFIG.slope_sd**-2]) + x.T @ np.linalg.inv(covariance) @ x
    sd = np.linalg.inv(precision)[1, 1] ** 0.5
    found = slope([seen(one.size, one.seed[0]) for one in points], noise, CONFIG)
    assert found.half_width == pytest.approx(2.2281 * sd, rel=1e-4)  # t of 10 df


def test_a_curve_without_cells_has_the_priors_slope() -> None:
    found = slopes([], [EN_DE], CONFIG)[EN_DE]
    assert found.value == 0.0
    assert found.half_width > CONFIG.slope_sd


def test_noise_is_that_of_the_draws_once_there_are_many() -> None:
    random = np.random.default_rng(0)
    cells = []
    for curve, seed in itertools.product((EN_DE, EN_FR), range(60)):
        shift = random.normal(0, 0.02)
        cells += [seen(n, seed, shift + random.normal(0, 0.005), curve) for n in SIZES]
    found = estimate_noise(cells, CONFIG)
    assert found.cell == pytest.approx(0.005**2, rel=0.2)
    assert found.seed == pytest.approx(0.02**2, rel=0.35)


def simulated_gain(random: np.random.Generator) -> dict[Point, float]:
    """Two pairs, four sizes, five seeds: slopes, seeds and cells drawn as the model says."""
    gains = {}
    for curve, truth in ((EN_DE, 0.012), (EN_FR, 0.004)):
        shifts = random.normal(0, 0.01, 5)
        wobble = random.normal(0, 0.15**0.5 / 5010**0.5 / 2**0.5, len(SIZES))
        for (place, size), seed in itertools.product(enumerate(SIZES), range(5)):
            noise = random.normal(0, 0.01)
            level = truth * (np.log2(size) - 10)
            gains[point(size, seed, curve)] = level + shifts[seed] + wobble[place] + noise
    return gains


def error(order: str, budget: int, random: np.random.Generator) -> tuple[float, float]:
    """Squared error and mean half-width of the two slopes after a budget of cells."""
    gains = simulated_gain(random)
    done: list[Observation] = []
    left = sorted(gains)  # pair by pair, size by size, as a study file lists them
    for _ in range(budget):
        chosen = left[0]
        if order == "adaptive":
            chosen = rank(done, (), [(one,) for one in left], CONFIG)[0].candidate[0]
        elif order == "seed by seed":
            chosen = min(left, key=lambda one: (one.seed, one.curve, one.size))
        left.remove(chosen)
        done.append(Observation(point=chosen, gain=gains[chosen], items=5010))
    found = slopes(done, [EN_DE, EN_FR], CONFIG)
    squares = [(found[EN_DE].value - 0.012) ** 2, (found[EN_FR].value - 0.004) ** 2]
    return float(np.mean(squares)), float(np.mean([one.half_width for one in found.values()]))


@pytest.mark.parametrize("fixed", ["as listed", "seed by seed"])
def test_it_beats_a_fixed_order_at_the_same_number_of_cells(fixed: str) -> None:
    studies = 25
    own = [error("adaptive", 12, np.random.default_rng(n)) for n in range(studies)]
    other = [error(fixed, 12, np.random.default_rng(n)) for n in range(studies)]
    assert np.mean([one[0] for one in own]) < 0.8 * np.mean([one[0] for one in other])
    assert np.mean([one[1] for one in own]) < 0.95 * np.mean([one[1] for one in other])


def test_its_intervals_hold_the_truth() -> None:
    inside = 0
    for n in range(40):
        gains = simulated_gain(np.random.default_rng(1000 + n))
        done = [Observation(point=one, gain=gain, items=5010) for one, gain in gains.items()]
        found = slopes(done, [EN_DE, EN_FR], CONFIG)
        for curve, truth in ((EN_DE, 0.012), (EN_FR, 0.004)):
            inside += abs(found[curve].value - truth) <= found[curve].half_width
    assert inside / 80 >= 0.9


# --- from result rows


def row(cell: str, method: str, seed: int, value: float, **factors: object) -> dict[str, object]:
    own = {"domain": "", "pair": "", "size": 0, "regime": "", "budget": ""}
    seeds = {"subset_seed": seed, "pretraining_seed": seed, "finetuning_seed": seed}
    rest = {"language": "de", "value": value, "n": 100}
    return {"cell": cell, "method": method, **own, **seeds, **rest, **factors}


LAW = {"domain": "law", "pair": "en-de", "size": 1000, "regime": "pool"}


def test_a_gain_is_over_the_baseline_of_the_same_seed_else_over_all() -> None:
    rows = pd.DataFrame(
        [
            row("a", "none", 0, 0.4),
            row("b", "none", 1, 0.6),
            row("c", "weam", 1, 0.7, **LAW),
            row("d", "weam", 2, 0.7, **LAW),
        ]
    )
    same, other = observe(rows, "none", "en")
    assert same.gain == pytest.approx(0.1)
    assert other.gain == pytest.approx(0.2)
    assert same.point == Point(
        curve=Curve(method="weam", domain="law", pair="en-de", rest="pool"),
        size=1000,
        seed=(1, 1, 1),
    )


def test_without_a_baseline_there_is_no_gain() -> None:
    assert observe(pd.DataFrame([row("c", "weam", 1, 0.7, **LAW)]), "none", "en") == []


def test_regime_and_budget_are_curves_of_their_own() -> None:
    curves = {
        point_of(row("c", "weam", 0, 0.7, **{**LAW, **change})).curve
        for change in ({}, {"regime": "subset"}, {"budget": "1 epoch"})
    }
    assert len(curves) == 3


def test_a_budget_below_one_cell_is_refused_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="adaptive.cells"):
        read_small(tmp_path, adaptive={"cells": 0})


def test_an_adaptive_study_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="adaptive"):
        read_small(tmp_path, adaptive={})


def test_an_adaptive_study_of_several_settings_is_refused(tmp_path: Path) -> None:
    grid = {"setting": ["zero-shot", "translate-train-all"], "method": ["none", "weam"]}
    with pytest.raises(ConfigError, match="one task and setting"):
        read_small(tmp_path, adaptive={"cells": 2}, grid=grid)
