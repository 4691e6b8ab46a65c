"""One encoder trained by several workers: Ray Train around the shared loop of pretraining.

The job's own process reads and tokenises the text once. Ray Data draws the same global sequence of
batches for every worker and hands each its share (`shards.py`), so the loss is that of one worker.
A worker that dies is started again with the others, from the last checkpoint; what a worker refuses
is raised here as it was raised there, and ends the job as it would on one worker.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

from weam_ray.artifacts import Maker, Resources, Store, Work, storage_errors
from weam_ray.errors import ConfigError, WeamError
from weam_ray.experiment import EncoderStep, prepare_encoder, train_encoder
from weam_ray.on_ray.jobs import Job
from weam_ray.on_ray.shards import data_config, shards, steps_of_shard
from weam_ray.pretraining import Checkpoints, DistributedContext
from weam_ray.progress import Progress, Report

_STEPS_BETWEEN_CHECKPOINTS = 500
_RESTARTS = 2
"""Of workers that died."""
_SECONDS_BETWEEN_LOOKS = 1.0
_PROGRESS = "progress.json"
_FACTS = "facts.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What every worker is given. Folders lie on storage that all nodes share."""

    config: EncoderStep
    upstream: dict[str, Path]
    out: Path
    scratch: Path
    root: Path
    """Of the store, for what is said of a full disk."""
    threads: int
    device: str

    @property
    def checkpoints(self) -> Checkpoints:
        """Where the workers' common state is."""
        return Checkpoints(
            folder=self.scratch / "checkpoints",
            every=self.config.pretraining.checkpoint_every or _STEPS_BETWEEN_CHECKPOINTS,
        )


def encoder_maker(job: Job, store: Store) -> Maker:
    """A maker of encoder steps that trains on ``job.workers`` workers."""

    def make(work: Work) -> None:
        assert isinstance(work.step.config, EncoderStep)
        scratch = store.root / "tmp" / f"train-{work.step.address.replace('/', '-')}"
        scratch.mkdir(parents=True, exist_ok=True)
        task = _Task(
            config=work.step.config,
            upstream={name: artifact.path for name, artifact in work.upstream.items()},
            out=work.out,
            scratch=scratch,
            root=store.root,
            threads=job.threads,
            device=work.resources.device,
        )
        with _forwarded(scratch / _PROGRESS, work.report):
            _fit(task, job)
        facts = json.loads((scratch / _FACTS).read_text(encoding="utf8"))
        work.facts.update(facts)
        shutil.rmtree(scratch)

    return make


def _fit(task: _Task, job: Job) -> None:
    # Without this a run waits seconds for the controller to notice that its workers have ended.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    common, steps = _read(task, job.workers)
    for restarts_left in reversed(range(_RESTARTS + 1)):
        try:
            _trainer(task, job, common, steps).fit()
            return
        except WorkerGroupError as error:
            if (refused := _refusal(error)) is not None:
                raise refused from error
            if not restarts_left:
                raise
            _log.warning("%s\nThe workers are started again.", error)


def _trainer(task: _Task, job: Job, common: ray.ObjectRef, steps: int) -> TorchTrainer:
    gpu = job.gpus > 0
    return TorchTrainer(
        _worker,
        train_loop_config={"task": task, "prepared": common},
        datasets=shards(
            common,
            task.config.pretraining,
            steps=steps,
            world=job.workers,
            checkpoints=task.checkpoints,
        ),
        dataset_config=data_config(),
        scaling_config=ScalingConfig(
            num_workers=job.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": job.threads, **({"GPU": job.gpus} if gpu else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name="train",
            storage_path=str(task.scratch),
            # Ray would start workers again whatever ended them, bad input too.
            failure_config=FailureConfig(max_failures=0),
        ),
    )


def _refusal(error: WorkerGroupError) -> WeamError | None:
    """What a worker refused; the others may have failed because it was gone."""
    failures = (error.worker_failures[rank] for rank in sorted(error.worker_failures))
    return next((one for one in failures if isinstance(one, WeamError)), None)


def _read(task: _Task, workers: int) -> tuple[ray.ObjectRef, int]:
    """The rows, in memory once a machine however many workers read them, and the run's steps.

    Raises:
        ConfigError, DataError: what every worker would refuse.
    """
    config = task.config.pretraining
    _refuse_more_workers(workers, config.batch_size, "pretraining.batch_size")
    prepared = prepare_encoder(task.config, task.upstream)
    if prepared.held_out is not None:
        _refuse_more_workers(workers, int(prepared.facts["held_out_pairs"]), "held-out pairs")
    return ray.put(prepared), prepared.planned_steps(config)


def _refuse_more_workers(workers: int, pairs: int, what: str) -> None:
    if pairs < workers:
        raise ConfigError(
            f"{what} {pairs} can't be split over {workers} workers",
            place="resources.cell_workers",
            cure=f"Set it to at most {pairs}, or give more pairs.",
        )


def _worker(config: dict[str, Any]) -> None:
    import torch

    task: _Task = config["task"]
    # Ray exports OMP_NUM_THREADS=1 to its workers, so the number is set where it counts.
    torch.set_num_threads(task.threads)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = "cpu" if task.device == "cpu" else str(ray.train.torch.get_device())
    with storage_errors(task.root):
        facts = train_encoder(
            task.config,
            task.upstream,
            task.out,
            _writer(task.scratch / _PROGRESS),
            Resources(threads=task.threads, device=device),
            distributed=DistributedContext(rank=rank, world=world),
            checkpoints=task.checkpoints,
            prepared=ray.get(config["prepared"]),
            source=steps_of_shard,
        )
        if rank == 0:
            _replace(task.scratch / _FACTS, json.dumps(facts))


def _writer(path: Path) -> Report:
    # A report through Train waits for every worker; a file holds nobody up.
    def report(progress: Progress) -> None:
        fields = {"stage": progress.stage, "done": progress.done, "total": progress.total}
        _replace(path, json.dumps({**fields, "metrics": dict(progress.metrics)}))

    return report


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf8")
    os.replace(draft, path)


@contextmanager
def _forwarded(path: Path, report: Report) -> Iterator[None]:
    """Pass on what the leading worker writes to ``path``."""
    ended = threading.Event()

    def look() -> None:
        last = ""
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            text = path.read_text(encoding="utf8") if path.exists() else ""
            if text != last:
                last = text
                report(Progress(**json.loads(text)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
