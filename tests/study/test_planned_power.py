"""What a plan says it could see, before it spends."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_study import plan_of, read_small, store_of
from simulated import World, simulate
from test_ledger import finished

from weam_ray.study.config import StudyConfig
from weam_ray.study.ledger import study_view
from weam_ray.study.planned_power import PlannedPower, planned_power, power_text
from weam_ray.study.power import Noise, detectable_effect
from weam_ray.study.results import Correctness, Results

GRID = {"method": ["none", "weam"], "size": [2, 4], "seed": [0, 1, 2]}


def power_of(study: StudyConfig) -> PlannedPower:
    found = planned_power(study, plan_of(study), store_of(study))
    assert found is not None
    return found


def test_stated_noise_gives_what_the_test_itself_would_find(tmp_path: Path):
    stated = {"discordance": 0.2, "seed_sd": 0.01, "effect": 0.3}
    study = read_small(tmp_path, grid=GRID, power=stated)
    found = power_of(study)
    # WEAM against none, and its slope: one family.
    assert (found.seeds, found.comparisons) == (3, 2)
    noise = Noise(discordance=0.2, seed_sd=0.01)
    assert found.detectable == detectable_effect(noise, seeds=3, items=found.items, comparisons=2)
    assert "as stated" in power_text(found) and "for 30 points" in power_text(found)


def test_without_a_pilot_the_noise_is_called_assumed(tmp_path: Path):
    assert "noise assumed" in power_text(power_of(read_small(tmp_path, grid=GRID)))


def simulated_dev(study: StudyConfig) -> Results:
    """Answers to dev items with a known spread between seeds, as the study's view wants them."""
    view = study_view(study)
    world = World(items=2000, seeds=12, seed_sd=0.03, split="dev", selection=view.selection)
    found = simulate(world).results()
    correct = Correctness(
        arrays={(c, view.task, *rest): one for (c, _, *rest), one in found.correct.arrays.items()},
        positions={(view.task, "dev"): found.correct.positions["nli", "dev"]},
    )
    return Results(rows=found.rows.assign(task=view.task), correct=correct)


def test_finished_cells_are_a_pilot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    study = read_small(tmp_path, grid=GRID)
    plan = finished(study)
    monkeypatch.setattr(Results, "read", lambda rows, root: simulated_dev(study))
    found = power_of(study)
    assert f"the dev items of {len(plan.cells)} finished cells" in power_text(found)
    assert found.noise.seed_sd == pytest.approx(0.03, rel=0.5)
    stated = read_small(tmp_path, grid=GRID, power={"seed_sd": 0.002})
    half = power_of(stated)
    assert half.noise.seed_sd == 0.002 and half.noise.discordance == found.noise.discordance
    assert "stated in part" in power_text(half)


def test_one_seed_is_said_to_claim_nothing(tmp_path: Path):
    study = read_small(tmp_path, grid={**GRID, "seed": [0]})
    assert "with one seed nothing can be claimed" in power_text(power_of(study))


def test_crossed_seeds_count_as_their_outermost(tmp_path: Path):
    grid = {"method": ["tlm", "weam"], "seed": [0, 1], "finetuning_seed": [0, 1, 2]}
    assert power_of(read_small(tmp_path, grid=grid)).seeds == 2


def test_a_study_that_compares_nothing_has_no_power(tmp_path: Path):
    study = read_small(tmp_path, grid={"method": "none"})
    assert planned_power(study, plan_of(study), store_of(study)) is None
    assert "can't be said" in power_text(None)


@pytest.mark.parametrize("wrong", [{"effect": 0}, {"discordance": 1.2}, {"seed_sd": -0.1}])
def test_impossible_noise_is_refused(wrong: dict[str, float], tmp_path: Path):
    from weam_ray.errors import ConfigError

    with pytest.raises(ConfigError):
        read_small(tmp_path, power=wrong)
