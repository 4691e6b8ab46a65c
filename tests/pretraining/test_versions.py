"""A correction that changes an encoder changes its address, and no other encoder's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_study import small_study

from weam_ray.artifacts import Store
from weam_ray.identity import digest
from weam_ray.pretraining import BaseConfig, PretrainingConfig
from weam_ray.pretraining.config import encoder_version
from weam_ray.study.data import find_data
from weam_ray.study.grid import expand


@pytest.mark.parametrize(
    ("replay", "versions"),
    [("0.0", {"mlm": 2, "tlm": 1, "weam": 1}), ("0.3", {"mlm": 3, "tlm": 2, "weam": 2})],
)
def test_encoders_that_a_correction_changed_are_made_anew(
    replay: str, versions: dict[str, int], tmp_path: Path
) -> None:
    grid = "{domain: home, pair: en-qaa, size: 60, method: [mlm, tlm, weam], seed: 0}"
    study = small_study(tmp_path, grid=grid, pretraining__replay_share=replay)
    cells = expand(study, find_data(study, Store(tmp_path / "store"))).cells
    assert {cell.key.method: cell.experiment.encoder.version for cell in cells} == versions


@pytest.mark.parametrize(
    ("settings", "replayed", "version"),
    [
        ({"objective": "word-aligned"}, 0, 2),
        ({"objective": "tlm-shuffled-pairs"}, 0, 1),
        ({"objective": "weam-aligned-only"}, 0, 1),
        ({"objective": "tlm", "replay_share": 0.3, "steps": 9}, 2, 2),
        # Nothing was wrong with one language, or with a budget of epochs.
        ({"objective": "tlm", "replay_share": 0.3, "steps": 9}, 1, 1),
        ({"objective": "tlm", "replay_share": 0.3, "epochs": 1.0}, 2, 1),
        ({"objective": "tlm", "steps": 9}, 2, 1),
        ({"objective": "tlm", "held_out": {}}, 0, 2),
    ],
)
def test_the_version_follows_from_the_settings(
    settings: dict[str, Any], replayed: int, version: int
) -> None:
    assert encoder_version(PretrainingConfig.model_validate(settings), replayed) == version


def test_a_default_that_was_split_by_objective_moves_no_address_but_its_own() -> None:
    # Of the commit before word-aligned lost its weight decay.
    assert digest(BaseConfig().identity()) == "6d24e30e87d99ff5e125"
    assert digest(PretrainingConfig(objective="tlm").identity()) == "2d0a6f32671802b68cc9"
    aligned = PretrainingConfig(objective="word-aligned")
    assert digest(aligned.identity()) != "a6bbbded228e2b9f4b94"
    with_decay = aligned.model_copy(update={"weight_decay": 0.01})
    assert digest(with_decay.identity()) == "a6bbbded228e2b9f4b94"
