"""A correction that changes an encoder changes its address, and no other encoder's."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import small_study

from weam_ray.artifacts import Store
from weam_ray.pretraining import PretrainingConfig
from weam_ray.pretraining.config import encoder_version
from weam_ray.study.data import find_data
from weam_ray.study.grid import expand


def test_objectives_whose_pairs_came_in_another_order_are_made_anew(tmp_path: Path) -> None:
    grid = "{domain: home, pair: en-qaa, size: 60, method: [mlm, tlm, weam], seed: 0}"
    study = small_study(tmp_path, grid=grid)
    cells = expand(study, find_data(study, Store(tmp_path / "store"))).cells
    versions = {cell.key.method: cell.experiment.encoder.version for cell in cells}
    assert versions == {"mlm": 2, "tlm": 1, "weam": 1}


@pytest.mark.parametrize(
    ("objective", "version"),
    [("mlm", 2), ("word-aligned", 2), ("tlm-shuffled-pairs", 1), ("weam-aligned-only", 1)],
)
def test_the_version_follows_from_the_settings(objective: str, version: int) -> None:
    config = PretrainingConfig.model_validate({"objective": objective})
    assert encoder_version(config) == version
