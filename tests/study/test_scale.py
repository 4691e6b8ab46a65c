"""What a cell more costs a plan and a report: a few files of its own, and nothing of the others."""

from __future__ import annotations

import builtins
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned_study import plan_of, read_small, store_of
from simulated import World, simulate
from test_ledger import finished

from weam_ray import identity
from weam_ray.experiment import Experiment
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell
from weam_ray.study.ledger import Invocation, report_input
from weam_ray.study.lines import cell_questions, keys_of, lines_of
from weam_ray.study.matching import Arm, Grid, match
from weam_ray.study.planned_power import planned_power
from weam_ray.study.publish import publish
from weam_ray.study.results import View

ENDS = 3
"""What a cell is run for: transfer, retrieval, probe."""


class Opened:
    """Files opened below a folder, by Python or by Arrow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.paths: list[str] = []

    @contextmanager
    def below(self, folder: Path) -> Iterator[None]:
        """Count within."""

        def noting(real: Callable[..., Any]) -> Callable[..., Any]:
            def opening(file: Any, *arguments: Any, **named: Any) -> Any:
                if str(file).startswith(str(folder)):
                    self.paths.append(str(file))
                return real(file, *arguments, **named)

            return opening

        self.paths = []
        with self._monkeypatch.context() as patch:
            patch.setattr(builtins, "open", noting(open))
            patch.setattr(io, "open", noting(io.open))
            # Arrow opens files by itself where it is given a path.
            for place, name in ((pa, "memory_map"), (pq, "ParquetFile"), (pq, "read_table")):
                patch.setattr(place, name, noting(getattr(place, name)))
            yield


def study_of(folder: Path, seeds: int) -> StudyConfig:
    folder.mkdir()
    grid = {"method": ["tlm", "weam"], "size": [2, 4], "seed": list(range(seeds))}
    return read_small(folder, grid=grid)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


def a_cell_more(few: int, many: int) -> float:
    """Of studies of four cells a seed, two and six seeds."""
    return (many - few) / 16


def test_a_plan_looks_once_for_each_step_of_a_cell(tmp_path: Path, opened: Opened):
    found = []
    for seeds in (2, 6):
        study = study_of(tmp_path / str(seeds), seeds)
        with opened.below(store_of(study).root):
            assert len(plan_of(study).cells_to_run) == 4 * seeds
        found.append(len(opened.paths))
    assert a_cell_more(*found) == ENDS + 1  # and the encoder, which they want


def test_a_finished_cell_is_told_by_its_ends_alone(tmp_path: Path, opened: Opened):
    found = []
    for seeds in (2, 6):
        study = study_of(tmp_path / str(seeds), seeds)
        finished(study)
        with opened.below(store_of(study).root):
            assert not plan_of(study).missing
        found.append(len(opened.paths))
    assert a_cell_more(*found) == ENDS


def test_a_report_reads_every_file_of_a_cell_once(tmp_path: Path, opened: Opened):
    found = []
    for seeds in (2, 6):
        study = study_of(tmp_path / str(seeds), seeds)
        plan, store = finished(study), store_of(study)
        with opened.below(store.root):
            told = Invocation(command="", started="", wall_seconds=0.0)
            publish(report_input(study, plan, store, {}, told), study.folder)
        assert len(set(opened.paths)) == len(opened.paths)
        found.append(len(opened.paths))
    # Four records; scores, predictions, retrieval and probe.
    assert a_cell_more(*found) == ENDS + 1 + 4


def test_input_files_are_hashed_for_the_study_and_not_for_each_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Path] = []
    real = identity._file_hash

    def hashing(path: Any, *rest: Any) -> str:
        asked.append(path)
        return real(path, *rest)

    monkeypatch.setattr(identity, "_file_hash", hashing)
    counts = []
    for seeds in (1, 5):
        asked.clear()
        plan_of(study_of(tmp_path / str(seeds), seeds))
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_cells_share_the_steps_that_are_the_same(tmp_path: Path):
    cells = [cell.experiment for cell in plan_of(study_of(tmp_path / "study", 3)).cells]
    assert len({id(cell.items) for cell in cells}) == 1
    assert len({id(cell.corpora[0]) for cell in cells}) == 1
    # A method may vary these, and where it doesn't they are equal.
    for name in ("base", "tokens", "sanity"):
        steps = {id(step): step for step in (getattr(cell, name) for cell in cells)}
        assert len(steps) <= 2 * 3 and len({step.address for step in steps.values()}) == 1


def test_what_is_shared_does_not_travel(tmp_path: Path):
    cell = plan_of(study_of(tmp_path / "study", 1)).cells[0]
    address = cell.experiment.transfer.address
    again = pickle.loads(pickle.dumps(cell))
    assert Experiment(again.config, again.shared).transfer.address == address


def test_a_question_looks_at_the_cells_of_its_arms_alone(monkeypatch: pytest.MonkeyPatch):
    looked: list[Arm] = []
    real = Arm.takes

    def takes(arm: Arm, cell: Any) -> bool:
        looked.append(arm)
        return real(arm, cell)

    monkeypatch.setattr(Arm, "takes", takes)
    counts = []
    for sizes in ((100, 200), (100, 200, 400, 800)):
        world = World(sizes=sizes, items=12)
        grid = Grid.of(
            simulate(world).results(), View(split=world.split, selection=world.selection), "en"
        )
        keys = keys_of(grid, lines_of(grid.cells))
        looked.clear()
        for question in cell_questions(keys):
            match(grid, question.a, question.b)
        counts.append(len(looked) / len(keys))
    assert counts[1] <= counts[0] * 1.1


def test_power_sets_no_cell_beside_every_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    study = study_of(tmp_path / "study", 2)
    plan, store = plan_of(study), store_of(study)

    def refuse(one: object, other: object) -> bool:
        raise AssertionError("cells are compared, which takes the square of them")

    monkeypatch.setattr(Cell, "__eq__", refuse)
    assert planned_power(study, plan, store) is not None
