"""What the driver does when a job starts, reports and ends: the terminal and MLflow are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from weam_ray.artifacts import Store
from weam_ray.on_ray.jobs import CellJob, Job
from weam_ray.on_ray.tracking import CurvePoint, Tracker
from weam_ray.progress import Progress
from weam_ray.study.grid import Cell, CellKey
from weam_ray.study.report_input import FailedCell
from weam_ray.terminal import Board, so_far


@dataclass(kw_only=True)
class SweepWatcher:
    """Listens to jobs; the single writer of the tracking server."""

    board: Board
    tracker: Tracker
    store: Store
    logs: Path
    split: str
    selection: str
    """The view whose accuracies are shown and tracked under ``accuracy/<language>``."""
    cells: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    """Cells of each job, by the job's name; a job without any makes something shared."""
    failures: dict[CellKey, FailedCell] = field(default_factory=dict)

    def expect(self, jobs: Sequence[CellJob]) -> None:
        """Name the cells of the jobs that are about to run."""
        self.cells = {item.job.name: item.cells for item in jobs}

    def started(self, job: Job) -> None:
        """A job has a worker: its cells' runs begin."""
        self.board.start(job.name)
        for cell in self.cells.get(job.name, ()):
            self.tracker.start_cell(
                cell.experiment.transfer.address, cell.key.label, cell.key.factors()
            )

    def progressed(self, job: Job, progress: Progress) -> None:
        """A stage reported."""
        self.board.progress(job.name, progress)

    def finished(self, job: Job) -> None:
        """All of a job is in the store: its curves, scores and files are tracked."""
        cells = self.cells.get(job.name, ())
        accuracies: dict[str, float] = {}
        for cell in cells:
            accuracies = self._track(cell)
        self.board.end(job.name, so_far(accuracies), cells=len(cells))

    def failed(self, job: Job, message: str) -> None:
        """A job ended without its steps; those of its cells that are done stay done."""
        log = self.logs / f"{job.name}.log"
        lost = [cell for cell in self.cells.get(job.name, ()) if not self._done(cell)]
        for cell in self.cells.get(job.name, ()):
            if self._done(cell):
                self._track(cell)
                continue
            self.failures[cell.key] = FailedCell(
                factors=cell.key.label, error=message, log=str(log)
            )
            address = cell.experiment.transfer.address
            self.tracker.files(address, [log] if log.exists() else [])
            self.tracker.end_cell(address, "FAILED")
        self.board.end(job.name, f"{message} — log: {log}", cells=len(lost), failed=True)

    def _done(self, cell: Cell) -> bool:
        return all(self.store.find(step) is not None for step in cell.experiment.ends())

    def _track(self, cell: Cell) -> dict[str, float]:
        experiment = cell.experiment
        done = self.store.find(experiment.transfer)
        assert done is not None
        address = experiment.transfer.address
        if experiment.encoder is not experiment.base and (
            made := self.store.find(experiment.encoder)
        ):
            self.tracker.curve(address, _points(made.path, "pretraining"))
        self.tracker.curve(address, _points(done.path, "finetuning"))
        accuracies = self._accuracies(done.path)
        self.tracker.scores(address, accuracies)
        self.tracker.files(address, [done.path / "record.json", done.path / "predictions.parquet"])
        self.tracker.end_cell(address, "FINISHED")
        return accuracies

    def _accuracies(self, folder: Path) -> dict[str, float]:
        table = pq.read_table(folder / "scores.parquet").to_pylist()
        return {
            f"accuracy/{row['language']}": float(row["value"])
            for row in table
            if row["split"] == self.split and row["selection"] == self.selection
        }


def _points(folder: Path, prefix: str) -> list[CurvePoint]:
    path = folder / "curve.parquet"
    if not path.exists():
        return []
    return [
        CurvePoint(name=f"{prefix}/{row['metric']}", value=row["value"], step=row["step"])
        for row in pq.read_table(path).to_pylist()
    ]
