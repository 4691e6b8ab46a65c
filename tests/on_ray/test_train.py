"""An encoder trained by two Ray Train workers is the encoder that one worker trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_study import small_study

from weam_ray.artifacts import Artifact, Resources, Store, ensure
from weam_ray.errors import ResourceError
from weam_ray.experiment import MAKERS, Experiment
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.on_ray.jobs import Job
from weam_ray.progress import Progress
from weam_ray.study.data import find_data
from weam_ray.study.grid import expand

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass
class Heard:
    """A watcher that remembers."""

    finished_jobs: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    stages: set[str] = field(default_factory=set)

    def started(self, job: Job) -> None:
        """Nothing to remember."""

    def progressed(self, job: Job, progress: Progress) -> None:
        self.stages.add(progress.stage)

    def finished(self, job: Job) -> None:
        self.finished_jobs.append(job.name)

    def failed(self, job: Job, message: str) -> None:
        self.failures[job.name] = message


def experiment(storage: Path) -> Experiment:
    # Dropout is drawn by each worker for itself, so it is off where workers are to agree.
    study = small_study(storage, pretraining__dropout="0.0", pretraining__log_every="1")
    grid = expand(study, find_data(study, Store(storage / "store")))
    return next(cell for cell in grid.cells if cell.key.method == "weam").experiment


def losses(encoder: Artifact) -> pd.Series:
    curve = pq.read_table(encoder.path / "curve.parquet").to_pandas()
    return curve[curve["metric"] == "loss"].set_index("step")["value"]


def test_losses_on_two_workers_are_those_on_one(tmp_path: Path) -> None:
    one = experiment(tmp_path / "one")
    alone = ensure(one.encoder, Store(tmp_path / "one/store"), MAKERS, resources=Resources())
    two = experiment(tmp_path / "two")
    store = Store(tmp_path / "two" / "store")
    ensure(two.base, store, MAKERS)
    ensure(two.links[0], store, MAKERS)
    heard = Heard()
    with ray_runtime(cpus=2) as resources:
        from weam_ray.on_ray.tune import run_jobs

        job = Job(name="two", steps=(two.encoder,), workers=2)
        run_jobs([job], store, heard, resources=resources, logs=tmp_path / "logs")
    assert heard.finished_jobs == ["two"], (tmp_path / "logs" / "two.log").read_text()
    together = store.find(two.encoder)
    assert together is not None
    assert together.facts["workers"] == 2
    assert together.address == alone.address
    # Sums are taken in another order: a float32 sum of some thousand terms.
    pd.testing.assert_series_equal(losses(together), losses(alone), rtol=2e-5)


def test_a_job_that_could_never_start_is_refused_before_anything_starts(tmp_path: Path) -> None:
    from weam_ray.on_ray.tune import run_jobs

    job = Job(name="wide", steps=(), workers=3, threads=2)
    with pytest.raises(ResourceError, match="asks for 6 CPU, the cluster has 2"):
        run_jobs([job], Store(tmp_path), Heard(), resources={"CPU": 2.0}, logs=tmp_path)


def test_workers_of_one_job_never_share_a_gpu(tmp_path: Path) -> None:
    from weam_ray.on_ray.tune import run_jobs

    job = Job(name="packed", steps=(), workers=2, gpus=0.5)
    with pytest.raises(ResourceError, match="can't share a GPU"):
        run_jobs([job], Store(tmp_path), Heard(), resources={"CPU": 2.0, "GPU": 1.0}, logs=tmp_path)
