"""What a worker process does with a job: its steps, a log file, a word to the driver."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from ray import tune

from weam_ray import notice
from weam_ray.artifacts import Maker, Resources, Store, ensure
from weam_ray.bucket import Bucket
from weam_ray.errors import ResourceError, WeamError
from weam_ray.experiment import MAKERS
from weam_ray.notice import Preempted
from weam_ray.on_ray.jobs import Job
from weam_ray.progress import Progress

_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_BETWEEN_TRIMS = 5.0
_SECONDS_BETWEEN_TOUCHES = 15.0
"""Well below what `weam-ray status` takes for silence."""
_ONEDNN_KERNELS = "64"


def run_job(config: dict[str, Any], *, store: Store, tickets: Bucket, logs: Path) -> None:
    """One trial of Tune's.

    Args:
        config: ``ticket`` names the job.
        store: as this machine sees it.
        tickets: where jobs are.
        logs: folder for its log file.
    """
    ticket = tickets.read(config["ticket"])
    if ticket is None:
        raise ResourceError("the job's ticket is gone", place=tickets.named(config["ticket"]))
    job: Job = pickle.loads(ticket)
    path = logs / f"{job.name}.log"
    with _kept(path, store), _log_file(path) as log, kept_fresh(path):
        try:
            _make_steps(job, store, log)
        except Preempted as saved:
            # As if the machine had gone already: the job is started again, on another one.
            log.info("%s; this machine is to be taken away", saved)
            os._exit(notice.EXIT_STATUS)
        except WeamError as error:
            # Bad input fails again, so the job ends; the worker goes on with the next one.
            log.error("%s", traceback.format_exc())
            tune.report({"failed": str(error), "bad_input": not isinstance(error, ResourceError)})
            return
        except Exception as error:
            log.error("%s", traceback.format_exc())
            tune.report({"failed": f"{type(error).__name__}: {error}", "bad_input": False})
            raise  # to Tune, which starts the job again in a new process
        tune.report({"finished": True})


class _ListensForNotices(tune.Trainable):  # type: ignore[misc]  # Ray's packages are not typed
    """Set up in the actor's main thread, the only one that may; jobs run in another."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take SIGTERM as the notice that this machine is to be taken away."""
        notice.listen()
        super().setup(config)


# Tune makes a class of the function; it takes what that inherits from besides from here.
setattr(run_job, "__mixins__", (_ListensForNotices,))  # noqa: B010


def _make_steps(job: Job, store: Store, log: logging.Logger) -> None:
    # Batches come in hundreds of shapes, and oneDNN keeps a compiled kernel with its scratch space
    # for each of the last 1024: gigabytes, in a worker that lives as long as a sweep.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _ONEDNN_KERNELS)
    # Ray exports OMP_NUM_THREADS=1 to its workers, so the number is set where it counts.
    import torch

    torch.set_num_threads(job.threads)
    last = trimmed = 0.0

    def report(progress: Progress) -> None:
        nonlocal last, trimmed
        now = time.monotonic()
        if now - trimmed > _SECONDS_BETWEEN_TRIMS:
            _give_back_memory()
            trimmed = now
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

    makers: Mapping[str, Maker] = MAKERS
    if job.workers > 1:
        from weam_ray.on_ray.train import encoder_maker

        makers = {**MAKERS, "encoder": encoder_maker(job, store)}
    if job.helpers:
        from weam_ray.on_ray.evaluation import evaluation_makers

        makers = {**makers, **evaluation_makers(job.helpers, job.gpus)}
    for step in job.steps:
        log.info("%s", step.address)
        artifact = ensure(
            step,
            store,
            makers,
            report,
            Resources(threads=job.threads, device="cuda" if job.gpus else "cpu"),
        )
        _give_back_memory()
        log.info("%s done, recorded %.1f s", step.address, artifact.record["seconds"])


def _give_back_memory() -> None:
    # The allocator keeps what batches of other shapes left behind; glibc's can be told not to.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def _kept(log: Path, store: Store) -> Iterator[None]:
    """Where machines share no folder, the driver's would not have the logs of the others."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        store.keep([log], f"studies/{log.parent.parent.name}/logs")


@contextmanager
def kept_fresh(log: Path) -> Iterator[None]:
    """Touch a log for the length of the block, so that `weam-ray status` sees that who writes it is
    alive through minutes without a word: tokenising, a download, an evaluation.
    """
    over = threading.Event()

    def touch() -> None:
        while not over.wait(_SECONDS_BETWEEN_TOUCHES):
            with suppress(OSError):  # a full disk is for the work itself to find
                os.utime(log)

    thread = threading.Thread(target=touch, name="log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
