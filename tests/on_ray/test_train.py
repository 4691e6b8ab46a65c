"""An encoder trained by several Ray Train workers is the encoder that one worker trains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from played import Heard
from small_study import small_study

from weam_ray.artifacts import Artifact, Resources, Store, ensure
from weam_ray.errors import ResourceError
from weam_ray.experiment import MAKERS, Experiment
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.on_ray.jobs import Job, PlannedJobs
from weam_ray.progress import Progress
from weam_ray.study.data import find_data
from weam_ray.study.grid import expand

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Killer(Heard):
    """A watcher that kills one of the workers of its own machine once."""

    killed_at: int | None = None
    done: list[int] = field(default_factory=list)

    def progressed(self, job: Job, progress: Progress) -> None:
        super().progressed(job, progress)
        self.done.append(progress.done)
        if self.killed_at is None and progress.done > 25:
            here = psutil.Process().children(recursive=True)
            workers = [one for one in here if "RayTrainWorker" in title(one)]
            if workers:
                self.killed_at = progress.done
                workers[-1].kill()


def title(process: psutil.Process) -> str:
    """Empty for one that has just ended."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def experiment(storage: Path, **changes: str) -> Experiment:
    # Dropout is drawn by each worker for itself, so it is off where workers are to agree.
    study = small_study(storage, pretraining__dropout="0.0", pretraining__log_every="1", **changes)
    grid = expand(study, find_data(study, Store(storage / "store")))
    return next(cell for cell in grid.cells if cell.key.method == "weam").experiment


def losses(encoder: Artifact) -> pd.Series:
    curve = pq.read_table(encoder.path / "curve.parquet").to_pandas()
    return curve[curve["metric"] == "loss"].set_index("step")["value"]


@pytest.fixture(scope="module")
def ray_here() -> Iterator[dict[str, float]]:
    """One Ray for all."""
    with ray_runtime(cpus=4) as resources:
        yield resources


def test_losses_on_four_workers_are_those_on_one(
    ray_here: dict[str, float], tmp_path: Path
) -> None:
    from weam_ray.on_ray.tune import run_jobs

    one = experiment(tmp_path / "one")
    alone = ensure(one.encoder, Store(tmp_path / "one/store"), MAKERS, resources=Resources())
    four = experiment(tmp_path / "four")
    store = Store(tmp_path / "four" / "store")
    ensure(four.base, store, MAKERS)
    ensure(four.links[0], store, MAKERS)
    heard = Heard()
    job = Job(name="four", steps=(four.encoder,), workers=4)
    logs = tmp_path / "logs"
    run_jobs(PlannedJobs([job], store), store, heard, resources=ray_here, logs=logs)
    assert heard.ended == {"four": "finished"}, (logs / "four.log").read_text()
    together = store.find(four.encoder)
    assert together is not None
    assert together.facts["workers"] == 4
    assert 0 <= together.facts["wait_share"] <= 1
    assert together.address == alone.address
    # Sums are taken in another order: a float32 sum of some thousand terms.
    pd.testing.assert_series_equal(losses(together), losses(alone), rtol=2e-5)


def test_a_killed_worker_resumes_and_ends_where_an_undisturbed_run_does(
    ray_here: dict[str, float], tmp_path: Path
) -> None:
    from weam_ray.on_ray.tune import run_jobs

    changes = dict(pretraining__steps="300", pretraining__checkpoint_every="10")
    one = experiment(tmp_path / "one", **changes)
    alone = ensure(one.encoder, Store(tmp_path / "one/store"), MAKERS, resources=Resources())
    two = experiment(tmp_path / "two", **changes)
    store = Store(tmp_path / "two" / "store")
    ensure(two.base, store, MAKERS)
    ensure(two.links[0], store, MAKERS)
    killer = Killer()
    job = Job(name="two", steps=(two.encoder,), workers=2)
    run_jobs(PlannedJobs([job], store), store, killer, resources=ray_here, logs=tmp_path / "logs")
    assert killer.killed_at is not None, killer.done
    assert killer.ended == {"two": "finished"}, (tmp_path / "logs" / "two.log").read_text()
    together = store.find(two.encoder)
    assert together is not None
    # The same sums in another order, through 300 steps of Adam.
    pd.testing.assert_series_equal(losses(together), losses(alone), rtol=2e-3)


def test_a_job_that_could_never_start_is_refused_before_anything_starts() -> None:
    from weam_ray.on_ray.tune import refuse_what_cannot_start

    job = Job(name="wide", steps=(), workers=3, threads=2)
    with pytest.raises(ResourceError, match="asks for 6 CPU, the cluster has 2"):
        refuse_what_cannot_start(job, {"CPU": 2.0})


def test_workers_of_one_job_never_share_a_gpu() -> None:
    from weam_ray.on_ray.tune import refuse_what_cannot_start

    job = Job(name="packed", steps=(), workers=2, gpus=0.5)
    with pytest.raises(ResourceError, match="can't share a GPU"):
        refuse_what_cannot_start(job, {"CPU": 2.0, "GPU": 1.0})


REFUSED = {
    "loss": (
        # Adam's first step moves weights by the rate, and a square of such is no float32.
        {"learning_rate": "1e30", "clip": "null", "replay_share": "0.0"},
        r"encoder: the loss is nan at step \d+\. Lower learning_rate, or train in fp32\.",
    ),
    "batch": (
        {"batch_size": "1"},
        r"resources\.cell_workers: pretraining\.batch_size 1 can't be split over 2 workers\."
        r" Set it to at most 1, or give more pairs\.",
    ),
    "held_out": (
        {"held_out": "{at_most: 1, share: 0.2}"},
        r"resources\.cell_workers: held-out pairs 1 can't be split over 2 workers\."
        r" Set it to at most 1, or give more pairs\.",
    ),
}
"""What two workers refuse: settings, and the one message there is to be."""


def test_what_workers_refuse_is_one_message_and_is_not_tried_again(
    ray_here: dict[str, float], tmp_path: Path
) -> None:
    from weam_ray.on_ray.tune import run_jobs

    jobs, store = [], Store(tmp_path / "store")
    for name, (settings, _) in REFUSED.items():
        changes = {f"pretraining__{key}": value for key, value in settings.items()}
        encoder = experiment(tmp_path, **changes).encoder
        for needed in encoder.upstream.values():
            ensure(needed, store, MAKERS)
        jobs.append(Job(name=name, steps=(encoder,), workers=2))
    heard, logs = Heard(), tmp_path / "logs"
    run_jobs(PlannedJobs(jobs, store), store, heard, resources=ray_here, logs=logs)
    for name, (_, message) in REFUSED.items():
        assert re.fullmatch(message, heard.ended[name]), heard.ended[name]
    assert heard.refused == {*REFUSED}
    assert not heard.retries
    assert "workers are started again" not in (logs / "loss.log").read_text()
    assert not list((tmp_path / "store").glob("encoder/*"))
