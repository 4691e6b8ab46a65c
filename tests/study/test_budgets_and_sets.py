"""Budget rules and sets of pairs as factors; a base model that is a folder of the user's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from planned_study import read_small, store_of, write_data

from weam_ray.errors import ConfigError
from weam_ray.experiment import BaseStep, EncoderStep
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell, Grid, expand
from weam_ray.study.plan import make_plan
from weam_ray.study.workload import Shape, Workbook


def grid_of(study: StudyConfig) -> Grid:
    return expand(study, study.data_dir)


def encoder_of(cell: Cell) -> EncoderStep:
    assert isinstance(cell.experiment.encoder.config, EncoderStep)
    return cell.experiment.encoder.config


def test_fixed_steps_and_fixed_epochs_cross_with_the_sizes(tmp_path: Path) -> None:
    rules = {"budget": ["7 steps", "1 epoch", "2.5 epochs"], "method": ["none", "weam"]}
    grid = grid_of(read_small(tmp_path, grid=rules))
    assert [cell.key.label for cell in grid.cells] == [
        "none.s0",
        "law.en-de.2.weam.7-steps.s0",
        "law.en-de.2.weam.1-epoch.s0",
        "law.en-de.2.weam.2.5-epochs.s0",
        "law.en-de.4.weam.7-steps.s0",
        "law.en-de.4.weam.1-epoch.s0",
        "law.en-de.4.weam.2.5-epochs.s0",
    ]
    lasts = [encoder_of(cell).pretraining for cell in grid.cells[1:4]]
    assert [(one.steps, one.epochs) for one in lasts] == [(7, None), (None, 1.0), (None, 2.5)]


def test_without_a_rule_the_budget_is_that_of_pre_training(tmp_path: Path) -> None:
    plain = grid_of(read_small(tmp_path, grid={"method": "weam"})).cells[0]
    assert plain.key.budget == "" and encoder_of(plain).pretraining.steps == 4
    named = grid_of(read_small(tmp_path, grid={"method": "weam", "budget": "4 steps"})).cells[0]
    assert named.experiment.transfer.address == plain.experiment.transfer.address


def test_two_budgets_are_two_curves_of_a_report(tmp_path: Path) -> None:
    cells = grid_of(read_small(tmp_path, grid={"method": "weam", "budget": ["4 steps", "1 epoch"]}))
    names = {cell.key.reported_method for cell in cells.cells}
    assert names == {"weam (4 steps)", "weam (1 epoch)"}


def test_cells_of_one_budget_can_be_left_out(tmp_path: Path) -> None:
    study = read_small(
        tmp_path,
        grid={"method": "weam", "budget": ["4 steps", "1 epoch"]},
        exclude=[{"budget": "1 epoch", "size": 4}],
    )
    assert len(grid_of(study).cells) == 3


@pytest.mark.parametrize("rule", ["0 steps", "1 pass", "epochs", "-1 epochs", "1.5 steps"])
def test_a_rule_that_says_nothing_is_refused(tmp_path: Path, rule: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        read_small(tmp_path, grid={"method": "weam", "budget": rule})


def test_a_set_of_pairs_is_one_encoder_trained_on_all(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"pair": ["en-de+en-fr", "en-de"], "method": "weam"})
    both, _, alone, _ = grid_of(study).cells
    assert both.key.label == "law.en-de+en-fr.2.weam.s0"
    assert [one[0] for one in encoder_of(both).sets] == ["en-de/law", "en-fr/law"]
    assert both.experiment.links[0].address == alone.experiment.links[0].address, "shared"
    assert both.experiment.encoder.address != alone.experiment.encoder.address


def test_a_set_with_a_pair_that_has_no_text_is_a_hole(tmp_path: Path) -> None:
    grid = grid_of(
        read_small(tmp_path, grid={"domain": "talks", "pair": "en-de+en-fr", "method": "weam"})
    )
    assert not grid.cells
    assert "no talks text for en-fr" in grid.holes[0].reason


def test_a_set_of_pairs_has_no_single_language_to_translate_training_items_to(
    tmp_path: Path,
) -> None:
    factors = {"pair": "en-de+en-fr", "method": "weam", "setting": "translate-train"}
    languages = {"train_languages": ["en", "de", "fr"]}
    grid = grid_of(read_small(tmp_path, grid=factors, items=languages))
    assert not grid.cells
    assert "translate-train" in grid.holes[0].reason


# --- a base that lies in a folder


SHAPE = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16, "vocab_size": 30}


def base_study(folder: Path, model: Path) -> StudyConfig:
    write_data(folder / "data")
    return read_small(
        folder, base={"model": str(model)}, texts=None, text_languages=[], grid={"method": "weam"}
    )


def test_moving_a_local_model_changes_no_address_and_changing_it_does(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "config.json").write_text(json.dumps(SHAPE))
    before = grid_of(base_study(tmp_path / "a", first)).cells[0].experiment
    second = tmp_path / "second"
    shutil.move(first, second)
    after = grid_of(base_study(tmp_path / "a", second)).cells[0].experiment
    assert after.transfer.address == before.transfer.address
    (second / "model.safetensors").write_bytes(b"others")
    changed = grid_of(base_study(tmp_path / "a", second)).cells[0].experiment
    assert changed.base.address != before.base.address


def test_a_hub_models_name_is_what_it_is_known_by(tmp_path: Path) -> None:
    one, other = (
        grid_of(base_study(tmp_path, Path(name))).cells[0].experiment.base
        for name in ("bert-base-multilingual-cased", "xlm-roberta-base")
    )
    assert one.address != other.address


def test_a_model_has_a_random_encoder_as_well_as_a_base_from_scratch(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    base = {"model": "bert-base-multilingual-cased"}
    grid = {"method": ["none", "random"]}
    study = read_small(tmp_path, base=base, texts=None, text_languages=[], grid=grid)
    plain, untrained = (cell.experiment.base for cell in grid_of(study).cells)
    assert plain.address != untrained.address
    assert isinstance(untrained.config, BaseStep) and untrained.config.base.steps == 0


def test_the_shape_of_a_local_model_is_read_from_its_folder(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(SHAPE))
    study = base_study(tmp_path, model)
    plan = make_plan(study, study.data_dir, store_of(study))
    (base,) = (step for step in plan.steps.values() if step.stage == "base")
    found = Workbook(plan.steps, store_of(study)).shape(base.address)
    assert found == Shape(layers=2, hidden=8, intermediate=16, vocabulary=30)
    (model / "config.json").write_text("{}")
    assert Workbook(plan.steps, store_of(study)).shape(base.address) is None
