"""Curves over sizes: planted ones are recovered, absent ones are not invented."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import World, planted, simulate

from weam_ray.study import scaling
from weam_ray.study.comparisons import Question, judge
from weam_ray.study.curves import FORMS, Form, fit
from weam_ray.study.intervals import interval
from weam_ray.study.matching import Arm, Grid, Matched, match
from weam_ray.study.results import View

SIZES = (1000, 2000, 4000, 8000, 16000)


def series_of(gains: np.ndarray, noise: float = 0.0, seeds: int = 3) -> scaling.Series:
    """A series with given mean gains, seeds and 50 items."""
    random = np.random.default_rng(0)
    tables = gains[:, None, None] + noise * random.normal(size=(len(gains), seeds, 50))
    return scaling.Series(
        sizes=SIZES[: len(gains)],
        tables=tables,
        seeds=tuple(str(k) for k in range(seeds)),
        weights=tuple({} for _ in gains),
    )


def judged(one: scaling.Series) -> scaling.Crossed:
    question = Question(name="slope", a=Arm(), b=Arm())
    spread = judge([question], [scaling.slope_contrast(one)])[0].spread
    assert spread is not None
    return spread


CURVES: dict[Form, np.ndarray] = {
    "constant": np.full(5, 0.03),
    "log-linear": 0.01 + 0.012 * np.log2(SIZES),
    "power": 0.002 * np.array(SIZES) ** 0.3,
    "saturating": 0.1 * np.array(SIZES) / (np.array(SIZES) + 3000.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_fits_its_own_curve_and_foretells_the_next_size(form: Form):
    gains = CURVES[form]
    found = fit(form, SIZES[:-1], gains[None, :-1])
    np.testing.assert_allclose(found.at(np.array(SIZES, float))[0], gains, rtol=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_the_held_out_size_picks_the_form_that_made_the_data(form: Form):
    predictions = scaling.held_out(series_of(CURVES[form]))
    best = scaling.best_form([predictions])
    if form == "constant":  # a flat line is a special case of the others
        errors = {one.form: abs(one.error) for one in predictions}
        assert errors["constant"] < 1e-9
    else:
        assert best == form


def test_the_slope_is_that_of_ordinary_least_squares():
    gains = np.array([0.01, 0.05, 0.02, 0.08, 0.06])
    slope = scaling.slope_contrast(series_of(gains)).table.mean()
    assert slope == pytest.approx(np.polyfit(np.log2(SIZES), gains, 1)[0])
    assert fit("log-linear", SIZES, gains[None]).scale[0] == pytest.approx(slope)


@pytest.mark.parametrize("form", ["log-linear", "power", "saturating"])
def test_size_for_is_the_inverse_of_the_curve(form: Form):
    found = fit(form, SIZES, CURVES[form][None])
    size = found.size_for(0.05)
    assert found.at(size)[0, 0] == pytest.approx(0.05, abs=1e-6)


def test_a_curve_that_never_gets_there_says_so():
    saturating = fit("saturating", SIZES, CURVES["saturating"][None])
    falling = fit("log-linear", SIZES, -CURVES["log-linear"][None])
    assert np.isinf(saturating.size_for(0.2)[0]) and np.isinf(falling.size_for(0.05)[0])
    flat = fit("constant", SIZES, CURVES["constant"][None])
    assert flat.size_for(0.02)[0] == 0.0 and np.isinf(flat.size_for(0.04)[0])


def test_draws_have_the_spread_that_the_slope_was_judged_by():
    one = series_of(CURVES["log-linear"], noise=0.2, seeds=5)
    spread = judged(one)
    drawn = scaling.draw(one, spread, draws=20000)
    slopes = fit("log-linear", one.sizes, drawn).scale
    inner = np.quantile(slopes, [0.25, 0.75])
    half = interval(spread, 0.5)
    assert inner == pytest.approx([half.low, half.high], abs=0.2 * spread.seed_part**0.5)
    assert drawn.mean(0) == pytest.approx(one.means, abs=0.02)


def test_draws_are_the_same_every_time():
    one = series_of(CURVES["power"], noise=0.1)
    spread = judged(one)
    np.testing.assert_array_equal(scaling.draw(one, spread), scaling.draw(one, spread))


def test_pairs_needed_brackets_the_truth():
    one = series_of(CURVES["log-linear"], noise=0.02)
    found = scaling.pairs_needed(one, "log-linear", scaling.draw(one, judged(one)), 0.15)
    truth = 2 ** ((0.15 - 0.01) / 0.012)
    assert found.sizes is not None and found.sizes.low < truth < found.sizes.high
    assert not found.extrapolated


def test_a_gain_out_of_sight_is_not_given_a_size():
    one = series_of(CURVES["log-linear"], noise=0.02)
    found = scaling.pairs_needed(one, "log-linear", scaling.draw(one, judged(one)), 0.5)
    assert found.sizes is None and "not in sight" in found.reason


def test_a_gain_beyond_the_largest_size_is_called_an_extrapolation():
    one = series_of(CURVES["log-linear"], noise=0.005)
    found = scaling.pairs_needed(one, "log-linear", scaling.draw(one, judged(one)), 0.19)
    assert found.extrapolated


def test_a_gain_that_the_smallest_size_has_needs_no_curve():
    one = series_of(CURVES["log-linear"], noise=0.005)
    found = scaling.pairs_needed(one, "log-linear", scaling.draw(one, judged(one)), 0.01)
    assert found.at_most == 1000


def test_a_curve_that_contradicts_the_smallest_size_answers_nothing():
    """Three sizes at -4, 20 and 18 points: a constant foretells the last best, and claims all."""
    one = series_of(np.array([-0.036, 0.201, 0.178]), noise=0.005)
    found = scaling.pairs_needed(one, "constant", scaling.draw(one, judged(one)), 0.02)
    assert found.at_most is None
    assert found.sizes is None
    assert "the measurement has not" in found.reason


def test_bands_hold_the_curve_and_widen_beyond_what_was_measured():
    one = series_of(CURVES["log-linear"], noise=0.05)
    found = scaling.band(one, "log-linear", scaling.draw(one, judged(one)))
    assert (found.low <= found.value + 1e-9).all() and (found.value <= found.high + 1e-9).all()
    width = found.high - found.low
    middle = len(width) // 3
    assert width[-1] > width[middle]
    assert found.sizes[-1] == pytest.approx(16000 * scaling.REACH)


def test_planted_slopes_are_covered_and_null_ones_not_claimed():
    """A small calibration; benchmarks/claims.py runs it at full size."""
    covered, claims, studies = 0, 0, 80
    for seed in range(studies):
        for truth in (0.02, 0.0):
            world = World(
                pairs=("en-qaa",),
                languages=("en", "qaa"),
                methods=("weam",),
                items=150,
                seeds=4,
                gain=planted(truth),
            )
            grid = Grid.of(simulate(world, seed).results(), View(), "en")
            gains = {
                n: match(grid, Arm(method="weam", size=n), Arm(method="none"))
                for n in (1000, 4000, 16000)
            }
            one = scaling.series({n: g for n, g in gains.items() if isinstance(g, Matched)})
            assert isinstance(one, scaling.Series)
            found = judge([Question(name="s", a=Arm(), b=Arm())], [scaling.slope_contrast(one)])[0]
            assert found.effect is not None
            if truth:
                covered += found.effect.low <= truth <= found.effect.high
            else:
                claims += found.found
    assert covered / studies > 0.88
    assert claims / studies < 0.1


def test_one_size_has_no_slope_and_no_curve():
    grid = Grid.of(simulate(World(items=30)).results(), View(), "en")
    gain = match(grid, Arm(method="weam", size=1000), Arm(method="none"))
    assert isinstance(gain, Matched)
    assert scaling.series({1000: gain}) == "one size has no slope"
    assert scaling.held_out(series_of(CURVES["constant"][:2])) == ()


def test_partial_pooling_draws_noisy_pairs_further_in():
    pooled = scaling.pool([0.01, 0.02, 0.06], [1e-6, 1e-6, 1e-3])
    assert pooled is not None
    assert pooled.shrunk[2] < 0.04 and pooled.shrunk[0] == pytest.approx(0.01, abs=0.002)
    assert pooled.mean.low < pooled.mean.value < pooled.mean.high


def test_pooling_three_alike_pairs_is_not_certainty():
    pooled = scaling.pool([0.02, 0.02, 0.02], [1e-4, 1e-4, 1e-4])
    assert pooled is not None and pooled.between_sd == 0
    assert pooled.mean.high - pooled.mean.low > 2 * 4.3 * 0.0057
    assert scaling.pool([0.02, 0.03], [1e-4, 1e-4]) is None


def test_the_mean_of_curves_is_over_what_they_share():
    one, other = series_of(CURVES["power"]), series_of(CURVES["constant"][:3], seeds=2)
    mean = scaling.mean_series([one, other])
    assert isinstance(mean, scaling.Series)
    assert mean.sizes == (1000, 2000, 4000) and mean.seeds == ("0", "1")
    assert mean.means == pytest.approx((CURVES["power"][:3] + CURVES["constant"][:3]) / 2)
