"""Jobs as Ray Tune trials: each makes a few steps of the store, in one process, in order.

A trial runs in-process in a reused actor: that costs 0.1–0.2 s a trial, where a trainer of its own
for every trial costs twelve and more. All jobs of a sweep go through one Tuner, so that a worker is
started, and loads torch, once. Tune's state is not what a study resumes from; the store is.
"""

from __future__ import annotations

import os
import pickle
import secrets
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from weam_ray.artifacts import Store
from weam_ray.bucket import Bucket
from weam_ray.errors import ResourceError
from weam_ray.on_ray.desk import Desk, Watcher
from weam_ray.on_ray.growth import of_this_cluster
from weam_ray.on_ray.jobs import Job, JobSource
from weam_ray.on_ray.working import run_job
from weam_ray.progress import Progress

_WAITS_ON_THE_HEAD = {"node:__internal_head__": 0.001}
"""For the process of a distributed job: its workers are Ray Train's to place, it only waits, and
Tune takes no request for nothing at all."""
_DIED = "the worker process died (memory? killed?)"
_NO_MEMORY = "killed, as this machine was running out of memory"


@dataclass(kw_only=True)
class _Relay(tune.Callback):  # type: ignore[misc]  # Ray's packages are not typed
    """Turns Tune's trial events into the words of the watcher and the source."""

    desk: Desk
    messages: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles callbacks so that it could restore them; the store is what a study resumes
        # from, and a terminal can't be pickled.
        return (tune.Callback, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self.desk.running[trial.config["job"]]
        if message := self.messages.pop(job.name, None) or self.desk.lost.pop(job.name, None):
            self.desk.watcher.retried(job, message)
        else:
            self.desk.watcher.started(job)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        job = self.desk.running[trial.config["job"]]
        if message := result.get("failed"):
            self.messages[job.name] = message
            if result["bad_input"]:
                self.refused.add(job.name)
        elif result.get("finished"):
            self.complete.add(job.name)
        elif "stage" in result:
            self.desk.watcher.progressed(
                job,
                Progress(
                    stage=result["stage"],
                    done=result["stage_done"],
                    total=result["stage_total"],
                    metrics=result["metrics"],
                ),
            )

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.messages.setdefault(trial.config["job"], _DIED)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial.config["job"]
        job = self.desk.running[name]
        if name in self.messages:
            self.desk.over(job, self.messages.pop(name), bad_input=name in self.refused)
        elif name in self.complete:
            self.desk.over(job, None)
        else:
            self.desk.give_up(job)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial.config["job"]
        self.desk.over(self.desk.running[name], self.messages.pop(name, _DIED))


class _Queue(Searcher):  # type: ignore[misc]
    """To Tune a search algorithm, whose next suggestion is the next job there is room for."""

    def __init__(self, desk: Desk, tickets: Bucket) -> None:
        super().__init__()
        self._desk = desk
        self._tickets = tickets

    def __reduce__(self) -> tuple[Any, ...]:
        return (Searcher, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None while there is none, or that there will be no more."""
        self._desk.look()
        job = self._desk.admit()
        if job is None:
            return str(Searcher.FINISHED) if self._desk.shape_is_over() else None
        # Apart: a job is known when it starts, and Tune writes a trial's settings many times.
        self._tickets.write(f"{trial_id}.job", pickle.dumps(job))
        return {
            "job": job.name,
            "ticket": f"{trial_id}.job",
            "workers": job.workers,
            "cpu": job.threads,
            "gpu": job.gpus,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Told to the desk by the callback, which knows what the trial said."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is what a study resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Newest(FIFOScheduler):  # type: ignore[misc]
    """Offers Tune each new trial once, so that a worker that is free goes to what has none.

    Tune's own offers the oldest trial that has not started, again and again. That is one whose
    worker is still starting: a worker that comes free takes it over, the one that was starting is
    ended, and a new one is asked for. Where jobs are shorter than a worker's start, one worker
    would do them all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._offered: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return (FIFOScheduler, ())

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that has not been offered; trials that are tried again start without."""
        for trial in tune_controller.get_live_trials():
            if trial.status == "PENDING" and trial.trial_id not in self._offered:
                self._offered.add(trial.trial_id)
                return trial
        return None


class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends every trial when the time is up or the source gives up."""

    def __init__(self, desk: Desk, deadline: float | None) -> None:
        self._desk = desk
        self._deadline = deadline

    def __reduce__(self) -> tuple[Any, ...]:
        return (tune.stopper.NoopStopper, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Whether all are to end now."""
        return self._desk.source.halted() or _late(self._deadline)


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def run_jobs(
    source: JobSource,
    store: Store,
    watcher: Watcher,
    *,
    resources: Mapping[str, float],
    logs: Path,
    retries: int = 1,
    deadline: float | None = None,
) -> None:
    """Run a source's jobs, as many at once as the resources allow; returns when each ended.

    Args:
        source: is asked for a job whenever there may be room for one.
        store: a folder or bucket that every machine of the cluster shares.
        watcher: hears of every job.
        resources: what the cluster has, as Ray counts it (``CPU``, ``GPU``); what joins later is
            used too. A job starts only when all its workers fit beside those that run, so that
            none waits half started.
        logs: folder for one log file a job.
        retries: how often a job is started again whose worker died, or that failed by anything
            but bad input (which would fail again).
        deadline: on :func:`time.monotonic`'s clock; what runs then is ended.
    """
    logs.mkdir(parents=True, exist_ok=True)
    growth = of_this_cluster(resources)
    desk = Desk(source=source, watcher=watcher, free=dict(resources), growth=growth)
    # Else Tune waits for one new worker process to be up before it asks for the next.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, int(resources.get("CPU", 1))))
    tickets = store.shared.below(f"tmp/jobs-{secrets.token_hex(8)}")
    trainable = tune.with_resources(
        tune.with_parameters(run_job, store=store, tickets=tickets, logs=logs.absolute()), _placed
    )
    try:
        while not (desk.all_over() or source.halted() or _late(deadline)):
            desk.shape = None
            try:
                _fit(trainable, desk, tickets, retries, deadline)
            except RuntimeError as error:
                # Where Ray kills a worker for want of memory, Tune stops as at a mistake of its
                # own, and takes all that runs with it.
                if not isinstance(error.__cause__, OutOfMemoryError):
                    raise
                desk.crashed(_NO_MEMORY, retries)
    finally:
        tickets.remove_all()
        growth.close()


def _fit(trainable: Any, desk: Desk, tickets: Bucket, retries: int, deadline: float | None) -> None:
    with tempfile.TemporaryDirectory(prefix="weam_ray-tune-") as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=-1,
                search_alg=_Queue(desk, tickets),
                scheduler=_Newest(),
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="jobs",
                storage_path=scratch,
                stop=_Stopper(desk, deadline),
                callbacks=[_Relay(desk=desk)],
                failure_config=tune.FailureConfig(max_failures=retries),
                verbose=0,
            ),
        ).fit()


def _placed(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    if config["workers"] > 1:
        return tune.PlacementGroupFactory([_WAITS_ON_THE_HEAD])
    gpu = {"GPU": config["gpu"]} if config["gpu"] else {}
    return tune.PlacementGroupFactory([{"CPU": config["cpu"], **gpu}])


def refuse_what_cannot_start(job: Job, resources: Mapping[str, float]) -> None:
    """Raise when a job asks for more than the whole cluster has, or for what can't be shared.

    Raises:
        ResourceError: with what is asked and what there is.
    """
    for kind, wanted in job.wanted.items():
        if wanted > resources.get(kind, 0.0):
            raise ResourceError(
                f"job {job.name} asks for {wanted:g} {kind}, the cluster has "
                f"{resources.get(kind, 0.0):g}",
                cure="Lower resources in the study file, or run on a larger cluster.",
            )
    if job.workers > 1 and job.gpus % 1:
        raise ResourceError(
            f"job {job.name} asks for {job.workers} workers with {job.gpus:g} of a GPU each",
            cure="Workers of one job can't share a GPU: set resources.cell_gpus to a whole number.",
        )
