"""What the driver tells MLflow and the terminal of its jobs, and which columns a person gets."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from planned_study import plan_of, read_small, store_of

from weam_ray.on_ray.jobs import cell_jobs
from weam_ray.on_ray.mlflow_runs import CellFacts, CellOutcome
from weam_ray.on_ray.watching import SweepWatcher, study_page
from weam_ray.study.answer import Answer
from weam_ray.terminal import Board


class Told:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def start_cell(self, cell: CellFacts) -> None:
        self.heard.append(("started", cell.name))

    def finish_cell(self, cell: CellFacts, outcome: Callable[[], CellOutcome]) -> None:
        self.heard.append(("finished", cell.name))

    def end_cell(self, cell: CellFacts, status: str, files: Iterable[Path] = ()) -> None:
        self.heard.append((status, cell.name))


@pytest.fixture
def watched(tmp_path: Path) -> tuple[SweepWatcher, Any]:
    """A watcher of a study with one seed, and the job of its only cell with bitext."""
    study = read_small(tmp_path, grid={"size": 2, "method": "weam"})
    plan = plan_of(study)
    (item,) = cell_jobs(plan, study.resources)
    watcher = SweepWatcher(
        board=Board(file=io.StringIO()),
        tracker=Told(),  # type: ignore[arg-type]
        store=store_of(study),
        logs=tmp_path / "logs",
        split="test",
    )
    watcher.expect([item])
    return watcher, item.job


def test_every_try_of_a_cell_is_a_run_and_the_last_one_says_how_it_ended(
    watched: tuple[SweepWatcher, Any], tmp_path: Path
) -> None:
    watcher, job = watched
    log = tmp_path / "logs" / f"{job.name}.log"
    log.parent.mkdir()
    log.write_text("Traceback …")
    watcher.started(job)
    watcher.retried(job, "CUDA error")
    watcher.failed(job, "CUDA error again", bad_input=False)
    assert isinstance(watcher.tracker, Told)
    assert [what for what, _ in watcher.tracker.heard] == ["started", "FAILED", "started", "FAILED"]
    (failure,) = watcher.failures.values()
    assert (failure.error, failure.log) == ("CUDA error again", str(log))
    said = watcher.board.console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{job.name} is tried again: CUDA error" in said
    assert str(log) in said.replace("\n", "")


def columns(tmp_path: Path, **grid: Any) -> Sequence[str]:
    study = read_small(tmp_path, grid=grid)
    found = Answer(first_line="", sentences=(), claims=False)
    return study_page(study, found, plan_of(study).cells).params


def test_mlflow_opens_with_the_factors_that_vary_and_each_seed_once(tmp_path: Path) -> None:
    methods = {"method": ["none", "weam"]}
    assert columns(tmp_path, **methods, size=2) == ["method"]
    assert columns(tmp_path, **methods, size=[2, 4], seed=[0, 1]) == [
        "method",
        "size",
        "finetuning_seed",
    ]
    assert columns(
        tmp_path, **methods, size=2, pretraining_seed=[0, 1], finetuning_seed=[0, 1]
    ) == [
        "method",
        "pretraining_seed",
        "finetuning_seed",
    ]
    assert columns(tmp_path, **methods, size=2, pair=["en-de", "en-fr"]) == ["method", "pair"]
