"""MLflow, written by the driver alone: one experiment a study, a parent run per invocation.

Workers report through Ray. A tracking server that does not answer never stops a sweep: the results
are in the store, and what could not be written is said once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, cast

_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_KIND = "weam_ray.kind"
_CELL = "weam_ray.cell"
_OWNER = "weam_ray.process"
_BATCH = 1000  # metrics a request, MLflow's limit

P = ParamSpec("P")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A value of a training curve: ``weam/loss`` at a step."""

    name: str
    value: float
    step: int


def _while_it_answers(
    write: Callable[Concatenate[Tracker, P], None],
) -> Callable[Concatenate[Tracker, P], None]:
    """Skip the write once a request failed; note the first failure and go on without tracking."""

    @functools.wraps(write)
    def guarded(tracker: Tracker, *args: P.args, **kwargs: P.kwargs) -> None:
        if tracker.problem is not None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # third-party deprecations are not the user's to mend
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                write(tracker, *args, **kwargs)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                tracker.problem = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("tracking stopped: %s", tracker.problem)

    return cast("Callable[Concatenate[Tracker, P], None]", guarded)


@dataclass(kw_only=True)
class Tracker:
    """The study's MLflow experiment, open for one invocation.

    Use :meth:`open`; the methods do nothing once the server failed to answer.
    """

    uri: str
    experiment: str
    _client: Any = None
    _experiment_id: str = ""
    _parent: str = ""
    _runs: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    """Why tracking stopped, for the end of the terminal's output; None while all is well."""

    @classmethod
    def open(cls, uri: str | None, storage: Path, study: str, tags: Mapping[str, str]) -> Self:
        """Open the experiment and start this invocation's parent run.

        Args:
            uri: a tracking URI; None for SQLite at ``storage/mlflow.db``.
            storage: artifacts go to ``storage/mlflow`` when the URI is the default one.
        """
        tracker = cls(uri=uri or f"sqlite:///{storage.absolute()}/mlflow.db", experiment=study)
        tracker._begin(None if uri else storage.absolute() / "mlflow", tags)
        return tracker

    @_while_it_answers
    def _begin(self, artifacts: Path | None, tags: Mapping[str, str]) -> None:
        self._connect(artifacts)
        self._reconcile()
        name = time.strftime("%Y-%m-%d %H:%M:%S")
        self._parent = self._start(name, {_KIND: "invocation", **tags})

    def _connect(self, artifacts: Path | None) -> None:
        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        from mlflow.tracking import MlflowClient

        if artifacts:
            artifacts.mkdir(parents=True, exist_ok=True)
            _make_database(Path(self.uri.removeprefix("sqlite:///")))
        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(self.experiment)
        location = artifacts.as_uri() if artifacts else None
        self._experiment_id = (
            found.experiment_id
            if found
            else self._client.create_experiment(self.experiment, artifact_location=location)
        )

    def _reconcile(self) -> None:
        # A killed process leaves its runs RUNNING; one whose process is gone is ended here.
        for run in self._client.search_runs([self._experiment_id], "attributes.status = 'RUNNING'"):
            owner = run.data.tags.get(_OWNER, "")
            if not _alive(owner):
                self._client.set_terminated(run.info.run_id, status="KILLED")

    def _start(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            self._experiment_id, tags={_NAME: name, _OWNER: _this_process(), **tags}
        )
        return str(run.info.run_id)

    @_while_it_answers
    def start_cell(self, cell: str, name: str, factors: Mapping[str, object]) -> None:
        """Start a child run; factors are params, and tags too so that a flat list can be filtered.

        Args:
            cell: the cell's address, the same in every attempt.
        """
        from mlflow.entities import Param

        tags = {key: str(value) for key, value in factors.items()}
        run = self._start(name, {_KIND: "cell", _CELL: cell, _PARENT: self._parent, **tags})
        self._client.log_batch(run, params=[Param(k, v) for k, v in tags.items()])
        self._runs[cell] = run

    @_while_it_answers
    def curve(self, cell: str | None, points: Sequence[CurvePoint]) -> None:
        """Write training curves to a cell's run (None: the parent's)."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(point.name, point.value, now, point.step)
            for point in points
            if math.isfinite(point.value)
        ]
        run = self._run(cell)
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + _BATCH])

    def scores(self, cell: str | None, values: Mapping[str, float]) -> None:
        """Write final values, such as ``accuracy/qaa``."""
        self.curve(cell, [CurvePoint(name, value, 0) for name, value in values.items()])

    @_while_it_answers
    def files(self, cell: str | None, paths: Iterable[Path]) -> None:
        """Attach files to a cell's run (None: the parent's)."""
        for path in paths:
            self._client.log_artifact(self._run(cell), str(path))

    @_while_it_answers
    def end_cell(self, cell: str, status: str) -> None:
        """End a cell's run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if run := self._runs.pop(cell, None):
            self._client.set_terminated(run, status=status)

    def end(self, status: str) -> None:
        """End the invocation and whatever of its cells is still open."""
        for cell in list(self._runs):
            self.end_cell(cell, "KILLED")
        self._end_parent(status)

    @_while_it_answers
    def _end_parent(self, status: str) -> None:
        self._client.set_terminated(self._parent, status=status)

    def _run(self, cell: str | None) -> str:
        return self._parent if cell is None else self._runs[cell]


def _make_database(path: Path) -> None:
    """Make MLflow's tables beside ``path`` and rename the whole: a process killed while they are
    being made, or two that start together, leave no half-made database behind.
    """
    if path.exists():
        return
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory(dir=path.parent, prefix="mlflow-") as folder:
        draft = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
        # A link fails where a file stands already: the first of two processes wins.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)


def _this_process() -> str:
    return f"{os.uname().nodename}:{os.getpid()}"


def _alive(owner: str) -> bool:
    node, _, pid = owner.partition(":")
    if node != os.uname().nodename:
        return bool(node)  # another machine's process can't be asked: leave its runs alone
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
