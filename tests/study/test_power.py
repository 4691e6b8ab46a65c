"""Power: what the plan calls detectable is found as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from weam_ray.study.intervals import crossed, two_sided_p
from weam_ray.study.power import (
    Noise,
    detectable,
    detectable_effect,
    power_of,
    seeds_needed,
)


def test_the_well_known_figures_for_5010_items_come_out():
    """One model against another, items only: 0.9 / 1.25 / 1.5 / 1.8 points."""
    found = [
        100 * detectable_effect(Noise(discordance=q, seed_sd=0.0), seeds=1, items=5010)
        for q in (0.05, 0.10, 0.15, 0.20)
    ]
    assert found == pytest.approx([0.9, 1.25, 1.5, 1.8], abs=0.05)


def test_the_figures_for_seed_noise_alone_come_out_when_the_noise_is_known():
    """Seed sd 0.5, normal quantiles: 1.1 / 0.9 / 0.6 points at 3 / 5 / 10 seeds an arm."""
    found = [100 * detectable(2 * 0.005**2 / s, 0.0, df=1e6) for s in (3, 5, 10)]
    assert found == pytest.approx([1.1, 0.9, 0.6], abs=0.05)


def test_unknown_seed_noise_costs_more_than_known_noise():
    known = detectable(2 * 0.005**2 / 3, 0.0, df=1e6)
    assert detectable(2 * 0.005**2 / 3, 0.0, df=2.0) > 1.5 * known


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_detectable_effect_is_found_in_four_studies_of_five(seeds: int):
    random = np.random.default_rng(0)
    items, studies = 400, 1500
    noise = Noise(discordance=0.15, seed_sd=0.01, item_share=0.5)
    effect = detectable_effect(noise, seeds=seeds, items=items)
    shared, own = np.sqrt(0.15 * 0.5), np.sqrt(0.15 * 0.5)
    found = 0
    for _ in range(studies):
        spread = crossed(
            effect
            + random.normal(0, np.sqrt(2) * 0.01, (seeds, 1))
            + random.normal(0, shared, (1, items))
            + random.normal(0, own, (seeds, items))
        )
        p = two_sided_p(
            np.array([spread.mean]),
            np.array([spread.seed_part]),
            np.array([spread.item_part]),
            np.array([spread.df]),
        )
        found += p[0] < 0.05
    assert found / studies == pytest.approx(0.8, abs=0.045)


def test_power_at_no_effect_is_near_alpha_and_grows_to_one():
    assert power_of(0.0, 1e-4, 1e-4, 4.0) == pytest.approx(0.045, abs=0.01)
    rising = [power_of(e, 1e-4, 1e-4, 4.0) for e in (0.0, 0.01, 0.03, 0.1)]
    assert rising == sorted(rising) and rising[-1] > 0.99


def test_seeds_needed_is_the_first_number_that_suffices():
    noise = Noise(discordance=0.1, seed_sd=0.005)
    seeds = seeds_needed(0.02, noise, items=5010)
    assert seeds is not None
    assert detectable_effect(noise, seeds=seeds, items=5010) <= 0.02
    assert detectable_effect(noise, seeds=seeds - 1, items=5010) > 0.02


def test_more_seeds_do_not_make_up_for_few_items():
    assert seeds_needed(0.005, Noise(discordance=0.1, seed_sd=0.005), items=5010) is None


def test_a_family_costs_power_and_its_shared_variance_gives_some_back():
    noise = Noise(discordance=0.1, seed_sd=0.005)
    alone = detectable_effect(noise, seeds=3, items=5010)
    family = detectable_effect(noise, seeds=3, items=5010, comparisons=10, family_df=2.0)
    lent = detectable_effect(noise, seeds=3, items=5010, comparisons=10)
    assert alone < lent < family


def test_nothing_to_blur_makes_everything_detectable():
    assert detectable(0.0, 0.0, df=0.0) == 0.0


def test_power_without_seeds_or_items_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        detectable_effect(Noise(discordance=0.1, seed_sd=0.0), seeds=0, items=10)
