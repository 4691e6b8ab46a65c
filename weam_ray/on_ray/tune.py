"""Jobs as Ray Tune trials: each makes a few steps of the store, in one process, in order.

A trial runs in-process in a reused actor: that costs 0.1–0.2 s a trial, where a trainer of its own
for every trial costs twelve and more. Tune's state is not what a study resumes from; the store is.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from ray import tune

from weam_ray.artifacts import Resources, Store, ensure
from weam_ray.errors import ResourceError, WeamError
from weam_ray.experiment import MAKERS
from weam_ray.on_ray.jobs import Job
from weam_ray.progress import Progress

_SECONDS_BETWEEN_REPORTS = 0.5
_WAITS_ON_THE_HEAD = {"node:__internal_head__": 0.001}
"""For the process of a distributed job: its workers are Ray Train's to place, it only waits, and
Tune takes no request for nothing at all."""


class Watcher(Protocol):
    """Who is told, in the driver's process, what the jobs do."""

    def started(self, job: Job) -> None:
        """The job has a worker."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """The job's running stage reported."""

    def finished(self, job: Job) -> None:
        """All steps of the job are in the store."""

    def failed(self, job: Job, message: str) -> None:
        """The job ended without its steps; other jobs go on."""


@dataclass(kw_only=True)
class _Relay(tune.Callback):  # type: ignore[misc]  # Ray's packages are not typed
    """Turns Tune's trial events into the watcher's words."""

    jobs: Mapping[str, Job]
    watcher: Watcher
    messages: dict[str, str] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles callbacks so that it could restore them; the store is what a study resumes
        # from, and a terminal can't be pickled.
        return (tune.Callback, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def _job(self, trial: Any) -> Job:
        return self.jobs[trial.config["job"]]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watcher.started(self._job(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        job = self._job(trial)
        if message := result.get("failed"):
            self.messages[job.name] = message
        elif "stage" in result:
            self.watcher.progressed(
                job,
                Progress(
                    stage=result["stage"],
                    done=result["stage_done"],
                    total=result["stage_total"],
                    metrics=result["metrics"],
                ),
            )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._job(trial)
        if job.name in self.messages:
            self.watcher.failed(job, self.messages[job.name])
        else:
            self.watcher.finished(job)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # The steps' own errors come as results; this is a worker that died under its job.
        self.watcher.failed(self._job(trial), "the worker process died (memory? killed?)")


def run_jobs(
    jobs: Sequence[Job],
    store: Store,
    watcher: Watcher,
    *,
    resources: Mapping[str, float],
    logs: Path,
    retries: int = 1,
    device: str = "cpu",
    max_hours: float | None = None,
) -> None:
    """Run the jobs, as many at once as the resources allow; returns when each ended.

    Args:
        resources: what the cluster has, as Ray counts it (``CPU``, ``GPU``).
        logs: folder for one log file a job.
        retries: how often a job whose worker died is started again. An error that a step raised
            is not tried again: the same input would raise it again.
        max_hours: wall time after which no job goes on.

    Raises:
        ResourceError: a job asks for more than the whole cluster has, so it could never start.
    """
    if not jobs:
        return
    for job in jobs:
        _refuse_what_cannot_start(job, resources)
    by_name = {job.name: job for job in jobs}
    logs.mkdir(parents=True, exist_ok=True)
    for shape in sorted({job.shape for job in jobs}, reverse=True):
        workers, threads, gpus = shape
        names = [job.name for job in jobs if job.shape == shape]
        trainable = tune.with_resources(
            tune.with_parameters(
                _run_job, jobs=by_name, root=store.root, logs=logs.absolute(), device=device
            ),
            {"cpu": threads, "gpu": gpus} if workers == 1 else _WAITS_ON_THE_HEAD,
        )
        with tempfile.TemporaryDirectory(prefix="weam_ray-tune-") as scratch:
            tuner = tune.Tuner(
                trainable,
                param_space={"job": tune.grid_search(names)},
                tune_config=tune.TuneConfig(
                    reuse_actors=True,
                    max_concurrent_trials=_at_once(workers, threads, gpus, resources),
                    time_budget_s=None if max_hours is None else max_hours * 3600,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    name="jobs",
                    storage_path=scratch,
                    callbacks=[_Relay(jobs=by_name, watcher=watcher)],
                    failure_config=tune.FailureConfig(max_failures=retries),
                    verbose=0,
                ),
            )
            tuner.fit()


def _wanted(job: Job) -> dict[str, float]:
    return {"CPU": float(job.threads * job.workers), "GPU": job.gpus * job.workers}


def _refuse_what_cannot_start(job: Job, resources: Mapping[str, float]) -> None:
    for kind, wanted in _wanted(job).items():
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


def _at_once(workers: int, threads: int, gpus: float, resources: Mapping[str, float]) -> int | None:
    """How many distributed jobs may run at once without waiting for each other's workers."""
    if workers == 1:
        return None  # the trials' own resources say it
    fits = int(resources["CPU"] // (workers * threads))
    return min(fits, int(resources["GPU"] // (workers * gpus))) if gpus else fits


def _run_job(
    config: dict[str, str], *, jobs: Mapping[str, Job], root: Path, logs: Path, device: str
) -> None:
    job = jobs[config["job"]]
    # A step's own error ends the job but not the worker, which goes on with the next one.
    with _log_file(logs / f"{job.name}.log") as log:
        try:
            _make_steps(job, Store(root), device, log)
        except Exception as error:
            log.error("%s", traceback.format_exc())
            named = isinstance(error, WeamError)
            tune.report({"failed": str(error) if named else f"{type(error).__name__}: {error}"})
            return
        tune.report({"finished": True})


def _make_steps(job: Job, store: Store, device: str, log: logging.Logger) -> None:
    # Ray exports OMP_NUM_THREADS=1 to its workers, so the number is set where it counts.
    import torch

    torch.set_num_threads(job.threads)
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.done < progress.total and now - last < _SECONDS_BETWEEN_REPORTS:
            return
        last = now
        metrics = dict(progress.metrics)
        log.info("%s %d/%d %s", progress.stage, progress.done, progress.total, metrics)
        tune.report(
            {
                "stage": progress.stage,
                # Plain "done" is Tune's own word: a true value would end the trial here.
                "stage_done": progress.done,
                "stage_total": progress.total,
                "metrics": metrics,
            }
        )

    makers = MAKERS
    if job.workers > 1:
        from weam_ray.on_ray.train import encoder_maker

        makers = {**MAKERS, "encoder": encoder_maker(job, store)}
    for step in job.steps:
        log.info("%s", step.address)
        artifact = ensure(
            step,
            store,
            makers,
            report,
            Resources(threads=job.threads, device=device),
        )
        log.info("%s done, recorded %.1f s", step.address, artifact.record["seconds"])


@contextmanager
def _log_file(path: Path) -> Iterator[logging.Logger]:
    """All a job says goes to its file: log records, prints, warnings, the traceback."""
    handler = logging.FileHandler(path, encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with redirect_stdout(handler.stream), redirect_stderr(handler.stream):
            yield logging.getLogger("weam_ray.job")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
        sys.stdout.flush()
