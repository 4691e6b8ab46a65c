"""No claim is made where TLM, which reads the other sentence, predicts no better than MLM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_study import small_study

from weam_ray.artifacts import Artifact, Step, Store
from weam_ray.study.config import StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.grid import Cell, expand
from weam_ray.study.loss_gate import asks_for_losses, loss_gates

GRID = "{domain: home, pair: en-qaa, size: 60, method: [none, weam, tlm, mlm], seed: [0, 1]}"


@dataclass
class Losses:
    """A store that has an encoder of each objective and seed, with these facts."""

    facts: dict[tuple[str, int], dict[str, float]]

    def find(self, step: Step) -> Artifact | None:
        pretraining: Any = step.config.pretraining  # type: ignore[attr-defined]
        found = self.facts.get((pretraining.objective, pretraining.seed))
        if found is None:
            return None
        return Artifact(address=step.address, path=Path(), record={"facts": found})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    return small_study(tmp_path_factory.mktemp("study"), grid=GRID)


@pytest.fixture(scope="module")
def cells(study: StudyConfig) -> tuple[Cell, ...]:
    return expand(study, find_data(study, Store(Path(study.storage) / "store"))).cells


def losses(tlm: list[float], mlm: list[float]) -> Losses:
    known = (("tlm", tlm), ("mlm", mlm))
    return Losses(
        {
            (name, seed): {"final_loss_mp": value}
            for name, values in known
            for seed, value in enumerate(values)
        }
    )


def test_the_gate_holds_where_tlm_is_below_mlm(study: StudyConfig, cells: tuple[Cell, ...]) -> None:
    [gate] = loss_gates(study, cells, losses([5.0, 5.2], [5.6, 5.1]))
    assert gate.passed is True
    assert gate.detail == ("TLM 5.10, MLM 5.35 nats a masked token; lower in 1 of 2 matched runs")


def test_the_gate_fails_where_it_is_not(study: StudyConfig, cells: tuple[Cell, ...]) -> None:
    [gate] = loss_gates(study, cells, losses([5.7, 5.2], [5.6, 5.1]))
    assert gate.passed is False
    assert "more steps, or a base trained longer" in gate.detail


def test_a_held_out_loss_counts_before_one_of_training(
    study: StudyConfig, cells: tuple[Cell, ...]
) -> None:
    store = losses([5.7], [5.6])
    store.facts["tlm", 0]["final_held_out_loss_mp"] = 5.0
    store.facts["mlm", 0]["final_held_out_loss_mp"] = 5.5
    [gate] = loss_gates(study, cells, store)
    assert gate.passed is True


def test_runs_of_other_seeds_are_not_compared(study: StudyConfig, cells: tuple[Cell, ...]) -> None:
    store = Losses({("tlm", 0): {"final_loss_mp": 5.0}, ("mlm", 1): {"final_loss_mp": 6.0}})
    [gate] = loss_gates(study, cells, store)
    assert gate.passed is None


def test_a_study_without_mlm_is_not_asked(tmp_path: Path) -> None:
    assert not asks_for_losses(small_study(tmp_path))
    assert asks_for_losses(small_study(tmp_path, grid=GRID))
