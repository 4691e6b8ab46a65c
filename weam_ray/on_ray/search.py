"""A hyper-parameter search as a source of jobs: Optuna proposes, the store remembers.

Tune's own OptunaSearch keeps its trials in a pickle that a killed driver leaves behind, and neither
takes more trials later nor knows that a trial's cells are done. Here trials are asked for and told
one by one (Optuna's ask and tell), their state lies in a journal below the study's folder, and
their work in the store.

The same command gives the same search, however often it was killed and however many cells ran side
by side: trials are proposed in batches, each from the trials of earlier batches and a seed of its
own number; within a batch every live trial runs its next cell before any is judged.
"""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from weam_ray.artifacts import Store
from weam_ray.errors import ConfigError, ResourceError
from weam_ray.identity import digest
from weam_ray.on_ray.jobs import CellJob, Job, Shape
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell, expand
from weam_ray.study.search import (
    Range,
    SearchConfig,
    TrialResult,
    Value,
    best,
    chosen_study,
    objective,
    own_parameters,
    trial_study,
)

_KEPT = "cells after which it was not pruned"


@dataclass(kw_only=True)
class _Trial:
    """A trial of the running batch."""

    handle: Any
    """Optuna's."""
    cells: Sequence[Cell]
    values: list[float] = field(default_factory=list)
    due: bool = False
    """Its next cell is to run in this round."""
    handed_out: bool = False
    """That cell runs."""
    error: str | None = None


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a search's folder for the length of the block.

    Raises:
        ResourceError: another process is searching there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "search.lock", "w", encoding="utf8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResourceError(
                "another process runs this search",
                place=str(folder),
                cure="Wait for it, or give the second study another name.",
            ) from None
        yield


class SearchJobs:
    """The cells of a search's trials, batch by batch and round by round.

    Args:
        study: with a ``search``.
        data_dir: what ``{data_dir}`` stands for.
        store: where trials' cells are, or will be.
    """

    expect: Callable[[Sequence[CellJob]], None]
    """Told of a job before it is handed out; set by who runs them."""

    def __init__(self, study: StudyConfig, data_dir: Path | None, store: Store) -> None:
        assert study.search is not None
        self._study_file = study
        self._search = study.search
        self._data_dir = data_dir
        self._store = store
        self.expect = lambda jobs: None
        self._optuna = _open(study.search, study.folder)
        self._batch: list[_Trial] = []
        self._by_job: dict[str, _Trial] = {}

    def take(self, shape: Shape | None) -> Job | None:
        """The next cell of a live trial; all jobs of a search have one shape."""
        while True:
            for trial in self._batch:
                if trial.due:
                    return self._hand_out(trial)
            if any(trial.handed_out for trial in self._batch):
                return None
            if self._batch:
                self._judge_all()
            elif not self._next_batch():
                return None
            self._begin_round()

    def waiting(self) -> Sequence[Job]:
        """None that is known: what a trial is follows from those before it."""
        return ()

    def kept_back(self) -> float:
        """Nothing runs beside a search."""
        return 0.0

    def exhausted(self) -> bool:
        """Whether every trial has been judged."""
        return not self._batch and self.left() <= 0

    def halted(self) -> bool:
        """Never: a trial that fails is one trial."""
        return False

    def hopeless(self, idle: bool) -> Iterable[tuple[Job, str]]:
        """None: what trials share was made before."""
        return ()

    def ended(self, job: Job, error: str | None) -> None:
        """A cell is done, or its trial has failed with it."""
        trial = self._by_job.pop(job.name)
        trial.handed_out = False
        if error is not None:
            trial.error = error
        else:
            self._score(trial)

    def results(self) -> list[TrialResult]:
        """All trials so far, in their order."""
        states = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        return [
            TrialResult(
                number=trial.number,
                state=states.get(trial.state, "running"),  # type: ignore[arg-type]
                parameters=trial.params,
                values=_single_values(trial.intermediate_values),
            )
            for trial in self._optuna.get_trials(deepcopy=False)
        ]

    def chosen_cells(self) -> Sequence[Cell]:
        """The cells of the best trial, named after it; none before one is complete."""
        chosen = best(self.results())
        if chosen is None:
            return ()
        return expand(chosen_study(self._study_file, chosen.parameters), self._data_dir).cells

    def summary(self) -> str:
        """Trials, and what the best of them has on dev."""
        results = self.results()
        states = Counter(trial.state for trial in results)
        said = f"search: {len(results)} of {self._search.trials} trials"
        said += "".join(f", {n} {state}" for state, n in sorted(states.items()))
        chosen = best(results)
        if chosen is None:
            return said
        values = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in chosen.parameters.items()
        )
        return f"{said}; best on dev, {chosen.value:.4f}, trial {chosen.number}: {values}"

    def _hand_out(self, trial: _Trial) -> Job:
        cell = trial.cells[len(trial.values)]
        resources = self._study_file.resources
        job = Job(
            name=cell.key.label,
            steps=cell.experiment.ends(),
            threads=resources.cell_threads,
            gpus=resources.cell_gpus,
        )
        trial.due, trial.handed_out = False, True
        self._by_job[job.name] = trial
        self.expect([CellJob(job=job, cells=(cell,))])
        return job

    def _score(self, trial: _Trial) -> None:
        cell = trial.cells[len(trial.values)]
        done = self._store.find(cell.experiment.transfer)
        assert done is not None
        trial.values.append(objective(self._search, cell, done))

    def _begin_round(self) -> None:
        """Every trial is to run one more cell; one that is done is taken from the store."""
        for trial in self._batch:
            cell = trial.cells[len(trial.values)]
            if all(self._store.find(step) for step in cell.experiment.ends()):
                self._score(trial)
            else:
                trial.due = True

    def _judge_all(self) -> None:
        """After a round: what is at its end or falls behind leaves the batch, in order."""
        for trial in list(self._batch):
            if trial.error is not None:
                self._optuna.tell(trial.handle, state=TrialState.FAIL)
                self._batch.remove(trial)
                continue
            count = len(trial.values)
            mean = sum(trial.values) / count
            if trial.handle.user_attrs.get(_KEPT, 0) >= count:
                continue  # judged by an earlier process, when fewer trials were known
            trial.handle.report(mean, step=count - 1)
            if count == len(trial.cells):
                self._optuna.tell(trial.handle, mean)
            elif trial.handle.should_prune():
                self._optuna.tell(trial.handle, state=TrialState.PRUNED)
            else:
                trial.handle.set_user_attr(_KEPT, count)
                continue
            self._batch.remove(trial)

    def left(self) -> int:
        """Trials that have not been judged."""
        running = len(self._running())
        return self._search.trials - len(self._optuna.get_trials(deepcopy=False)) + running

    def _running(self) -> list[Any]:
        return list(self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _next_batch(self) -> bool:
        """Ask for trials, those first that were running when an earlier process ended."""
        batch = [_resumed(self._optuna, trial) for trial in self._running()]
        first = not self._optuna.get_trials(deepcopy=False)
        asked = len(self._optuna.get_trials(deepcopy=False))
        # A batch begins at a multiple of its size, wherever the last process ended within one.
        until = min(self._search.trials, (asked // self._search.at_once + 1) * self._search.at_once)
        if asked % self._search.at_once == 0 and batch:
            until = asked
        if first:
            self._optuna.enqueue_trial(own_parameters(self._study_file))
        for number in range(asked, until):
            self._optuna.sampler = _sampler(self._search, number)
            trial = self._optuna.ask()
            _propose(trial, self._search)
            batch.append(trial)
        self._batch = [self._begin(trial) for trial in batch]
        return bool(self._batch)

    def _begin(self, handle: Any) -> _Trial:
        _propose(handle, self._search)
        study = trial_study(self._study_file, handle.number, handle.params)
        grid = expand(study, self._data_dir)
        if not grid.cells:
            raise ConfigError(
                f"a trial of the search has no cell: {grid.holes[0].reason}", place="search"
            )
        return _Trial(handle=handle, cells=grid.cells)


@contextmanager
def search_of(
    study: StudyConfig, data_dir: Path | None, store: Store
) -> Iterator[SearchJobs | None]:
    """The study's search, held by this process for the length of the block; None if it has none.

    Raises:
        ResourceError: another process runs it.
    """
    if study.search is None:
        yield None
        return
    with only_one(study.folder):
        yield SearchJobs(study, data_dir, store)


def _open(search: SearchConfig, folder: Path) -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search.journal"
    _tidy(path)
    backend = JournalFileBackend(str(path))
    median = optuna.pruners.MedianPruner(n_startup_trials=search.startup)
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name=search.name,
        direction="maximize",
        load_if_exists=True,
        pruner=median if search.pruner == "median" else optuna.pruners.NopPruner(),
    )


def _tidy(path: Path) -> None:
    """Take away what a killed process left; this one is alone here (:func:`only_one`)."""
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink()
    # A full disk or lost power cuts the last entry off; what is written next would be glued to it.
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def _sampler(search: SearchConfig, number: int) -> Any:
    seed = int(digest({"seed": search.seed, "trial": number}), 16) % 2**32
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=search.startup, constant_liar=search.at_once > 1
    )


def _resumed(study: Any, trial: Any) -> Any:
    return optuna.trial.Trial(study, trial._trial_id)


def _propose(trial: Any, search: SearchConfig) -> dict[str, Value]:
    return {name: _suggest(trial, name, allowed) for name, allowed in search.space.items()}


def _suggest(trial: Any, name: str, allowed: Range) -> Value:
    if allowed.choices is not None:
        chosen: Value = trial.suggest_categorical(name, allowed.choices)
        return chosen
    assert allowed.low is not None and allowed.high is not None
    if allowed.whole:
        low, high, step = int(allowed.low), int(allowed.high), int(allowed.step or 1)
        return int(trial.suggest_int(name, low, high, step=step))
    return float(
        trial.suggest_float(name, allowed.low, allowed.high, log=allowed.log, step=allowed.step)
    )


def _single_values(running_means: dict[int, float]) -> list[float]:
    """Each cell's own objective from the means of the first 1, 2, 3, …"""
    means = [running_means[step] for step in sorted(running_means)]
    return [
        mean * (place + 1) - (means[place - 1] * place if place else 0.0)
        for place, mean in enumerate(means)
    ]
