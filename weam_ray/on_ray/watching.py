"""What the driver does when a job starts, reports and ends: the terminal and MLflow are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from weam_ray.artifacts import Artifact, Store
from weam_ray.on_ray.jobs import CellJob, Job
from weam_ray.on_ray.mlflow_runs import CellFacts, CellOutcome, CurvePoint, DatasetFacts, StudyPage
from weam_ray.on_ray.tracking import Tracker
from weam_ray.progress import Progress
from weam_ray.study.answer import Answer
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import NO_SEED, Cell, CellKey
from weam_ray.study.ledger import study_view
from weam_ray.study.report_input import FailedCell
from weam_ray.study.results import target_languages
from weam_ray.study.tasks import evaluated_languages, source_language
from weam_ray.terminal import Board, so_far

_LANGUAGES = 6
"""Columns of single languages on MLflow's page; more don't fit beside the factors."""


@dataclass(kw_only=True)
class SweepWatcher:
    """Listens to jobs; the single writer of the tracking server."""

    board: Board
    tracker: Tracker
    store: Store
    logs: Path
    split: str
    """The items whose scores, by each cell's own first rule, are shown and tracked under
    ``accuracy/<language>``."""
    targets: Sequence[str] = ()
    """Languages of the study's pairs but the source, whose mean is ``target_accuracy``."""
    cells: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    """Cells of each job, by the job's name; a job without any makes something shared."""
    failures: dict[CellKey, FailedCell] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    """Why shared things could not be made of the input there is; no cell can do without them."""
    on_refusal: Callable[[], None] = lambda: None
    """Called at such a one, to end what runs."""
    shared_failures: dict[str, str] = field(default_factory=dict)
    """Errors of jobs that make something shared, by name."""

    def expect(self, jobs: Sequence[CellJob]) -> None:
        """Name the cells of the jobs that are about to run."""
        self.cells = {**self.cells, **{item.job.name: item.cells for item in jobs}}
        self.board.expect(sum(len(item.cells) for item in jobs))

    def started(self, job: Job) -> None:
        """A job has a worker: its cells' runs begin."""
        self.board.start(job.name)
        for cell in self.cells.get(job.name, ()):
            self.tracker.start_cell(cell_facts(cell))

    def progressed(self, job: Job, progress: Progress) -> None:
        """A stage reported."""
        self.board.progress(job.name, progress)

    def finished(self, job: Job) -> None:
        """All of a job is in the store: its curves, scores and files are tracked."""
        cells = self.cells.get(job.name, ())
        accuracies: dict[str, float] = {}
        for cell in cells:
            self._track(cell)
            accuracies = self._reader(cell).scores()
        self.board.end(job.name, so_far(accuracies), cells=len(cells))

    def failed(self, job: Job, message: str, *, bad_input: bool) -> None:
        """A job ended without its steps; those of its cells that are done stay done."""
        if bad_input and job.name not in self.cells:
            self.refusals.append(message)
            self.on_refusal()
        log = self.logs / f"{job.name}.log"
        cells = self.cells.get(job.name, ())
        lost = [cell for cell in cells if not self._done(cell)]
        for cell in cells:
            if self._done(cell):
                self._track(cell)
                continue
            self.failures[cell.key] = FailedCell(
                factors=cell.key.label, error=message, log=str(log) if log.exists() else ""
            )
            self.tracker.end_cell(cell_facts(cell), "FAILED", [log])
        if not cells:
            self.shared_failures[job.name] = message
        where = f" — log: {log}" if log.exists() else ""
        self.board.end(job.name, f"{message}{where}", cells=len(lost), failed=True)

    def retried(self, job: Job, message: str) -> None:
        """A job starts again: to MLflow another attempt of its cells."""
        self.board.say(f"↻ {job.name} is tried again: {message}")
        for cell in self.cells.get(job.name, ()):
            self.tracker.end_cell(cell_facts(cell), "FAILED")
        self.started(job)

    def stopped(self, job: Job) -> None:
        """A job was ended before its time: its cells are neither done nor failed."""
        for cell in self.cells.get(job.name, ()):
            if self._done(cell):
                self._track(cell)
            else:
                self.tracker.end_cell(cell_facts(cell), "KILLED")
        self.board.drop(job.name)

    def catch_up(self, cells: Sequence[Cell]) -> None:
        """Track finished cells that the server does not know: it was down, or is another one."""
        done = [cell for cell in cells if self._done(cell)]
        self.tracker.catch_up([(cell_facts(cell), self._reader(cell)) for cell in done])

    def _done(self, cell: Cell) -> bool:
        return all(self.store.find(step) is not None for step in cell.experiment.ends())

    def _track(self, cell: Cell) -> None:
        self.tracker.finish_cell(cell_facts(cell), self._reader(cell))

    def _reader(self, cell: Cell) -> _Reader:
        return _Reader(
            cell=cell,
            store=self.store,
            split=self.split,
            targets=self.targets,
        )


def watch(
    study: StudyConfig, store: Store, board: Board, tracking_uri: str | None = None
) -> SweepWatcher:
    """The terminal, the logs and MLflow, ready to be told.

    Args:
        study: what is run.
        store: where its cells are, or will be.
        board: the terminal.
        tracking_uri: another server than the study's own.
    """
    view = study_view(study)
    pairs = [pair for one in (study.grid, *study.extra) for pair in one.pair]
    source = source_language(study, view.task)
    scored = evaluated_languages(study, view.task)
    targets = [code for pair in pairs for code in target_languages(pair, source, scored)]
    tags = {"weam_ray.title": study.title}
    uri = tracking_uri or study.tracking_uri
    return SweepWatcher(
        board=board,
        tracker=Tracker(uri, study.home, study.name, tags),
        store=store,
        logs=study.folder / "logs",
        split=view.split,
        targets=tuple(dict.fromkeys(targets)),
    )


def study_page(study: StudyConfig, found: Answer, cells: Sequence[Cell]) -> StudyPage:
    """What a person sees first who opens the study in MLflow: the answer, and the cells."""
    warning = [found.first_line] if found.first_line else []
    where = f"Report: `{study.folder.absolute() / 'report.html'}`, and in the newest invocation."
    lines = [" ".join((*warning, *found.sentences)), f"**{study.title}**", where]
    view = study_view(study)
    source = source_language(study, view.task)
    pairs = [pair for one in (study.grid, *study.extra) for pair in one.pair]
    scored = evaluated_languages(study, view.task)
    own = (code for pair in pairs for code in target_languages(pair, source, scored))
    languages = [source, *own]
    return StudyPage(
        note="\n\n".join(lines),
        params=_varied([cell.key.factors() for cell in cells]),
        metrics=[
            f"target_{view.metric}",
            *(f"{view.metric}/{code}" for code in list(dict.fromkeys(languages))[:_LANGUAGES]),
        ],
    )


def _varied(factors: Sequence[Mapping[str, object]]) -> list[str]:
    """The factors of which there are several values, the method at least.

    Cells without bitext have no size or seed of it: that alone makes no factor vary. Of seeds that
    are one number in every cell that has both, the one that most cells have stands for all.
    """
    names = list(factors[0]) if factors else ["method"]
    given = {name: [_value(one, name) for one in factors] for name in names}
    several = [name for name in names if len({*given[name]} - {None}) > 1]
    apart = [
        name
        for place, name in enumerate(several)
        if not any(_says_no_more(given[name], given[other]) for other in several[place + 1 :])
    ]
    return sorted({"method", *apart}, key=lambda name: (name != "method", names.index(name)))


def _value(factors: Mapping[str, object], name: str) -> object:
    value = factors[name]
    absent = value in ("", NO_SEED) or (name == "size" and not factors["pair"])
    return None if absent else value


def _says_no_more(one: Sequence[object], other: Sequence[object]) -> bool:
    return all(mine in (None, its) for mine, its in zip(one, other, strict=True))


def cell_facts(cell: Cell) -> CellFacts:
    """A cell as MLflow is told of it."""
    config = cell.config
    settings = {
        "learning_rate": config.pretraining.learning_rate,
        "masking_rate": config.pretraining.masking_rate,
        "cross_lingual_weight": config.pretraining.cross_lingual_weight,
        "symmetrisation": config.alignment.symmetrisation,
        "finetuning_learning_rate": config.fine_tuning.learning_rate,
    }
    return CellFacts(
        address=cell.experiment.transfer.address,
        name=cell.key.label,
        factors=cell.key.factors(),
        # Where there is no bitext, none of the pre-training's settings was used.
        settings=settings if cell.key.pair else {},
    )


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads what a finished cell has to show."""

    cell: Cell
    store: Store
    split: str
    targets: Sequence[str]

    def __call__(self) -> CellOutcome:
        experiment = self.cell.experiment
        done = self.store.find(experiment.transfer)
        assert done is not None
        made = self.store.find(experiment.encoder)
        own = made if experiment.encoder is not experiment.base else None
        curves = _points(done, "finetuning")
        if own is not None:
            curves += _points(own, "pretraining")
        return CellOutcome(
            curves=curves,
            scores=self._all_scores(),
            files=[done.path / "record.json", done.path / "predictions.parquet"],
            datasets=self._datasets(),
            config=self.cell.config.model_dump_json(indent=1),
            model=None if own is None else own.path,
        )

    def scores(self) -> dict[str, float]:
        """By metric and language, as ``accuracy/qaa``."""
        found = self.store.find(self.cell.experiment.transfer)
        assert found is not None
        # A reader answers the sets of several tasks; those of its own are what it is compared by.
        own = (self.cell.key.task, self.split, self.cell.config.fine_tuning.selection[0])
        return {
            f"{row['metric']}/{row['language']}": float(row["value"])
            for row in pq.ParquetFile(found.path / "scores.parquet").read().to_pylist()
            if (row["task"], row["split"], row["selection"]) == own
        }

    def _all_scores(self) -> dict[str, float]:
        scores = self.scores()
        there = {name.partition("/")[2] for name in scores}
        source = self.cell.config.fine_tuning.train_language
        own = target_languages(self.cell.key.pair, source, there)
        counted = own or self.targets
        means = {}
        for metric in dict.fromkeys(name.partition("/")[0] for name in scores):
            values = [scores[n] for code in counted if (n := f"{metric}/{code}") in scores]
            if values:
                # One column that every cell has, to sort and to compare by: the pair's own
                # language; where there is no pair, the mean over the study's.
                means[f"target_{metric}"] = sum(values) / len(values)
        return {**means, **scores, **self._retrieval()}

    def _retrieval(self) -> dict[str, float]:
        steps = [step for step in self.cell.experiment.ends() if step.stage == "retrieval"]
        found = [done for step in steps if (done := self.store.find(step)) is not None]
        return {
            f"retrieval/{row['language']}": float(row["accuracy"])
            for done in found
            for row in pq.ParquetFile(done.path / "retrieval.parquet").read().to_pylist()
        }

    def _datasets(self) -> list[DatasetFacts]:
        experiment, key = self.cell.experiment, self.cell.key
        steps = [(f"{key.domain} {key.pair}", step, "pre-training") for step in experiment.corpora]
        read = {"evaluation items": experiment.items, **experiment.questions}
        steps += [(name, step, "evaluation") for name, step in read.items() if step is not None]
        found = [(name, role, self.store.find(step)) for name, step, role in steps]
        return [
            DatasetFacts(
                name=name,
                digest=done.address.rpartition("/")[2],
                source=str(done.path),
                rows=done.facts.get("rows_kept", done.facts.get("rows")),
                role=role,
            )
            for name, role, done in found
            if done is not None
        ]


def _points(artifact: Artifact, prefix: str) -> list[CurvePoint]:
    if "curve.parquet" not in artifact.record["files"]:
        return []
    path = artifact.file("curve.parquet")
    return [
        CurvePoint(name=f"{prefix}/{row['metric']}", value=row["value"], step=row["step"])
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
