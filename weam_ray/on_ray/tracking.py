"""The sweep's way to MLflow: a thread of its own, and a server that may be down.

What happened is put into a queue and written in order by one thread of the driver, the single
writer; workers report through Ray. A server that does not answer never stops a sweep and is not
waited for: results are in the store, and :meth:`Tracker.catch_up` pushes what is missing, whenever
that is, once.
"""

from __future__ import annotations

import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from weam_ray.on_ray.mlflow_runs import CellFacts, CellOutcome, StudyPage, StudyRuns

_PATIENCE = {
    # MLflow's own are 7 retries of 120 s each, with pauses that double.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_DRAIN = 120.0

Write = Callable[[StudyRuns], None]


class Tracker:
    """The study's MLflow experiment. The methods return at once, and never raise.

    Args:
        uri: a tracking URI; None for SQLite at ``storage/mlflow.db``.
        storage: of the study.
        study: name of the experiment.
        tags: of the experiment.
    """

    def __init__(self, uri: str | None, storage: Path, study: str, tags: Mapping[str, str]) -> None:
        self.uri = uri or f"sqlite:///{storage.absolute()}/mlflow.db"
        self.problem: str | None = None
        """Why tracking stopped; None while all is well."""
        self.pushed = 0
        """Cells that were written here though an earlier invocation finished them."""
        self._written = 0
        self.experiment = ""
        """Its number on the server, once that has answered."""
        database = self.uri.removeprefix("sqlite:///")
        # A database keeps no files; left unsaid, they would go to wherever the command was given.
        self._artifacts = Path(database).parent / "mlflow" if database != self.uri else None
        self._study = study
        self._tags = dict(tags)
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def start_cell(self, cell: CellFacts) -> None:
        """A cell has a worker."""
        self._queue.put(lambda runs: runs.start_cell(cell))

    def finish_cell(self, cell: CellFacts, outcome: Callable[[], CellOutcome]) -> None:
        """A cell is in the store; ``outcome`` reads it there, in the tracker's own thread."""
        self._queue.put(lambda runs: runs.finish_cell(cell, outcome()))

    def end_cell(self, cell: CellFacts, status: str, files: Iterable[Path] = ()) -> None:
        """A cell ended without a result: ``FAILED`` or ``KILLED``."""
        there = [path for path in files if path.exists()]
        self._queue.put(lambda runs: runs.end_cell(cell.address, status, there))

    def catch_up(self, cells: Sequence[tuple[CellFacts, Callable[[], CellOutcome]]]) -> None:
        """Write those of these finished cells that no run here shows as finished."""

        def write(runs: StudyRuns) -> None:
            for cell, outcome in cells:
                if not runs.is_finished(cell.address):
                    runs.finish_cell(cell, outcome())
                    self.pushed += 1
                self._written += 1

        self._queue.put(write)

    def report(self, files: Sequence[Path], page: StudyPage) -> None:
        """Attach the report, and say what the experiment's pages open with."""
        self._queue.put(lambda runs: runs.report(files, page))

    def end(self, status: str) -> None:
        """End the invocation, and wait until all is written or has failed.

        Thousands of cells take their time; only a server that takes none is given up.
        """
        self._queue.put(lambda runs: runs.end(status))
        self._queue.put(None)
        before = -1
        while self._thread.is_alive() and before < self._written:
            before = self._written
            self._thread.join(_SECONDS_TO_DRAIN)
        if self._thread.is_alive() and self.problem is None:
            self.problem = f"nothing was written for {_SECONDS_TO_DRAIN:.0f} s"

    def _work(self) -> None:
        runs: StudyRuns | None = None
        while (write := self._queue.get()) is not None:
            if self.problem is not None:
                continue  # the rest is for `catch_up`, once the server answers again
            try:
                if runs is None:
                    runs = self._open()
                write(runs)
                self._written += 1
            except Exception as error:  # whatever a server says, the sweep goes on
                self.problem = f"{type(error).__name__}: {error}".splitlines()[0]

    def _open(self) -> StudyRuns:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        if self.uri.startswith(("http://", "https://")):
            _knock(self.uri)
        runs = StudyRuns.open(self.uri, self._study, self._tags, self._artifacts)
        self.experiment = runs.experiment
        runs.begin()
        return runs


def _knock(uri: str) -> None:
    """Find out within seconds whether anything answers there at all.

    Raises:
        OSError: nothing does.
    """
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:
        return  # a gateway before it may have no such page: somebody answers
