"""A study in MLflow's words: one experiment, a parent run an invocation, a child run a cell.

Every call here talks to the tracking server and raises what it raises; :mod:`.tracking` stands
before it, so that a sweep neither waits for a server nor ends with one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from weam_ray.on_ray.mlflow_store import client_of, make_database

PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"
NOTE = "mlflow.note.content"
KIND = "weam_ray.kind"
CELL = "weam_ray.cell"
OWNER = "weam_ray.process"
ATTEMPT = "weam_ray.attempt"
PREVIOUS = "weam_ray.previous_attempt"
_EXPERIMENT_TAGS = {
    # Opens on runs and charts; left unsaid, MLflow 3 asks whether this is about prompts.
    "mlflow.experimentKind": "custom_model_development",
}
_VIEWS = "mlflow.sharedViewState."
VIEW = "cells"
"""Name of the shared view that :class:`StudyPage` describes."""
_BATCH = 1000  # metrics a request, MLflow's limit
_PAGE = 1000
_STARTED = psutil.Process().create_time()
"""Of this process, seconds since the epoch."""
_SECONDS_APART = 2.0
"""By which two readings of one start may differ: the kernel counts from a boot whose time the clock
corrects."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A value of a training curve: ``pretraining/loss`` at a step."""

    name: str
    value: float
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """Something a cell was trained or scored on."""

    name: str
    """``home en-qaa``."""
    digest: str
    """Of its content: the last part of its address."""
    source: str
    """Where it lies."""
    rows: int | None
    role: str
    """``pre-training``, ``evaluation``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFacts:
    """What is known of a cell before it runs."""

    address: str
    """The same in every attempt, on every machine: what a cell is known by."""
    name: str
    factors: Mapping[str, object]
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further params: what the cells of a study may differ in beside the factors."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutcome:
    """What a finished cell has to show."""

    curves: Sequence[CurvePoint]
    scores: Mapping[str, float]
    files: Sequence[Path]
    datasets: Sequence[DatasetFacts] = ()
    config: str | None = None
    """All settings of the cell as JSON: what :func:`weam_ray.run_experiment` makes it anew from."""
    model: Path | None = None
    """The encoder's folder; its settings are logged, and its place, not its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage:
    """What the experiment's pages open with."""

    note: str
    """Markdown; its first line is all that is seen before somebody unfolds it."""
    params: Sequence[str]
    """The factors that the study varies: columns, and axes of the parallel coordinates."""
    metrics: Sequence[str]
    """Columns; the list is sorted by the first."""

    def view(self) -> str:
        """The state of the runs page, as its own Views > Share button writes it (MLflow 3.17)."""
        common = {"metricSectionId": "study", "deleted": False, "isGenerated": False}
        parallel = {
            "uuid": "parallel",
            "type": "PARALLEL",
            "runsCountToCompare": 100,
            "selectedParams": list(self.params),
            "selectedMetrics": list(self.metrics[:1]),
            "showAllRuns": True,
        }
        bars = [
            {
                "uuid": f"bar{place}",
                "type": "BAR",
                "runsCountToCompare": 20,
                "metricKey": metric,
                "displayName": metric,
            }
            for place, metric in enumerate(self.metrics)
        ]
        section = {"uuid": "study", "name": "Cells", "display": True, "isReordered": False}
        columns = [f"params.`{name}`" for name in self.params]
        columns += [f"metrics.`{name}`" for name in self.metrics]
        state = {
            "searchFilter": f"tags.`{KIND}` = 'cell'",
            "orderByKey": f"metrics.`{self.metrics[0]}`",
            "orderByAsc": False,
            "selectedColumns": columns,
            "compareRunCharts": [{**common, **one} for one in (parallel, *bars)],
            "compareRunSections": [{**section, "deleted": False, "isGenerated": False}],
        }
        return json.dumps(state)


@dataclass(frozen=True, slots=True)
class _Attempts:
    count: int
    last: str
    finished: bool


@dataclass(kw_only=True)
class StudyRuns:
    """The study's experiment, open for one invocation. Use :meth:`open`."""

    client: Any
    experiment: str
    parent: str = ""
    _open: dict[str, str] = field(default_factory=dict)
    _attempts: dict[str, _Attempts] = field(default_factory=dict)

    @classmethod
    def open(
        cls, uri: str, study: str, tags: Mapping[str, str], artifacts: Path | None
    ) -> StudyRuns:
        """Find or make the experiment, and end what killed processes left running.

        Args:
            uri: a tracking URI.
            study: name of the experiment.
            tags: of the experiment.
            artifacts: folder for files, where the URI is a database of ours.
        """
        if artifacts:
            artifacts.mkdir(parents=True, exist_ok=True)
            make_database(Path(uri.removeprefix("sqlite:///")))
        client = client_of(uri)
        found = client.get_experiment_by_name(study)
        if found:
            number = found.experiment_id
        else:
            place = artifacts.as_uri() if artifacts else None
            number = client.create_experiment(study, artifact_location=place, tags=_EXPERIMENT_TAGS)
        for key, value in tags.items():
            client.set_experiment_tag(number, key, value)
        runs = cls(client=client, experiment=number)
        runs._look_back()
        return runs

    def begin(self) -> None:
        """Start this invocation's parent run."""
        tags = {KIND: "invocation", OWNER: _this_process()}
        self.parent = self._create(time.strftime("%Y-%m-%d %H:%M:%S"), tags)

    def _look_back(self) -> None:
        for run in self._runs():
            tags, running = run.data.tags, run.info.status == "RUNNING"
            if running and not _alive(tags.get(OWNER, "")):
                # Its process was killed and can't say so any more.
                self.client.set_terminated(run.info.run_id, status="KILLED")
            if cell := tags.get(CELL):
                before = self._attempts.get(cell, _Attempts(0, "", False))
                done = before.finished or run.info.status == "FINISHED"
                self._attempts[cell] = _Attempts(before.count + 1, run.info.run_id, done)

    def _runs(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                order_by=["attributes.start_time ASC"],
                max_results=_PAGE,
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment, tags={NAME: name, **tags})
        return str(run.info.run_id)

    def is_finished(self, cell: str) -> bool:
        """Whether some run of this cell, of whatever invocation, is complete here."""
        return cell in self._attempts and self._attempts[cell].finished

    def start_cell(self, cell: CellFacts) -> None:
        """Start a child run; factors are params, and tags too so that a flat list can be filtered.

        A further attempt is a new run, with the number of the attempt and the run before it.
        """
        from mlflow.entities import Param

        factors = {key: str(value) for key, value in cell.factors.items()}
        before = self._attempts.get(cell.address, _Attempts(0, "", False))
        tags = {
            KIND: "cell",
            CELL: cell.address,
            OWNER: _this_process(),
            PARENT: self.parent,
            ATTEMPT: str(before.count + 1),
            **({PREVIOUS: before.last} if before.last else {}),
            **cell.tags,
            **factors,
        }
        run = self._create(cell.name, tags)
        params = {**factors, **{key: str(value) for key, value in cell.settings.items()}}
        self.client.log_batch(run, params=[Param(key, value) for key, value in params.items()])
        self._open[cell.address] = run
        self._attempts[cell.address] = _Attempts(before.count + 1, run, before.finished)

    def finish_cell(self, cell: CellFacts, outcome: CellOutcome) -> None:
        """Write all a finished cell has to show, and end its run."""
        if cell.address not in self._open:
            self.start_cell(cell)
        run = self._open[cell.address]
        scores = [CurvePoint(name, value, 0) for name, value in outcome.scores.items()]
        self.points(run, [*outcome.curves, *scores])
        for path in outcome.files:
            self.client.log_artifact(run, str(path))
        if outcome.config is not None:
            self.client.log_text(run, outcome.config, "cell.json")
        self._inputs(run, outcome.datasets)
        if outcome.model is not None:
            self._model(run, cell, outcome.model)
        attempts = self._attempts[cell.address]
        self.end_cell(cell.address, "FINISHED")
        self._attempts[cell.address] = _Attempts(attempts.count, attempts.last, True)

    def points(self, run: str, points: Iterable[CurvePoint]) -> None:
        """Metrics by step; what is no number is left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(point.name, point.value, now, point.step)
            for point in points
            if math.isfinite(point.value)
        ]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + _BATCH])

    def _inputs(self, run: str, datasets: Sequence[DatasetFacts]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=one.name,
                    digest=one.digest,
                    source_type="local",
                    source=json.dumps({"uri": one.source}),
                    profile=None if one.rows is None else json.dumps({"num_rows": one.rows}),
                ),
                [InputTag("mlflow.data.context", one.role)],
            )
            for one in datasets
        ]
        if inputs:
            self.client.log_inputs(run, inputs)

    def _model(self, run: str, cell: CellFacts, folder: Path) -> None:
        from mlflow.entities import LoggedModelOutput

        # Weights of every cell would fill the server's disk; they stay in the store.
        model = self.client.create_logged_model(
            self.experiment,
            name=cell.name.replace("/", "-").replace(":", "-").replace(".", "-"),
            source_run_id=run,
            tags={"weam_ray.folder": str(folder)},
            params={key: str(value) for key, value in cell.factors.items()},
            model_type="encoder",
        )
        for name in ("config.json", "record.json"):
            if (folder / name).exists():
                self.client.log_model_artifact(model.model_id, str(folder / name))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])

    def end_cell(self, cell: str, status: str, files: Sequence[Path] = ()) -> None:
        """End a cell's run, if it has one: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if run := self._open.pop(cell, None):
            for path in files:
                self.client.log_artifact(run, str(path))
            self.client.set_terminated(run, status=status)

    def report(self, files: Sequence[Path], page: StudyPage) -> None:
        """Attach the report to the invocation, and its answer to the experiment's first page."""
        for path in files:
            self.client.log_artifact(self.parent, str(path))
        self.client.set_tag(self.parent, NOTE, page.note)
        self.client.set_experiment_tag(self.experiment, NOTE, page.note)
        self.client.set_experiment_tag(self.experiment, f"{_VIEWS}{VIEW}", page.view())

    def end(self, status: str) -> None:
        """End the invocation and whatever of its cells is still open."""
        for cell in list(self._open):
            self.end_cell(cell, "KILLED")
        self.client.set_terminated(self.parent, status=status)


def cells_address(experiment: str) -> str:
    """The page of the cells, below the server's own address."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def _this_process() -> str:
    return f"{os.uname().nodename}:{os.getpid()}:{_STARTED:.0f}"


def _alive(owner: str) -> bool:
    node, _, process = owner.partition(":")
    if node != os.uname().nodename:
        return bool(node)  # another machine's process can't be asked: leave its runs alone
    number, _, started = process.partition(":")
    try:
        found = psutil.Process(int(number)).create_time()
    except (psutil.NoSuchProcess, ValueError):
        return False
    # Numbers are given out again, in a container within minutes.
    return not started or abs(found - float(started)) <= _SECONDS_APART
