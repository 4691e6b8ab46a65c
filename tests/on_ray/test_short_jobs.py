"""Jobs shorter than a worker's start: all the room there is comes to be used nevertheless."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import played
import pytest
from played import Heard, Played
from ray import cloudpickle

from weam_ray.artifacts import Step
from weam_ray.identity import StageConfig
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.on_ray.jobs import Job, PlannedJobs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CELLS = 80
SECONDS = {"base": 0.1, "sanity": 1.0}
"""Both are over before the first cell starts, so that one of their workers is given up."""
A_CELL = 0.4
"""Seconds, until two workers have made one; then there is nothing left to wait for."""


class Working(Played):
    """Takes its time, and writes down who made what."""

    def play(self, name: str) -> None:
        time.sleep(SECONDS.get(name, A_CELL if len(self.makers()) < 2 else 0.0))
        with open(self.root / "made", "a", encoding="utf8") as made:
            made.write(f"{name} {os.getpid()}\n")

    def makers(self) -> set[str]:
        """Processes that have made cells."""
        made = self.root / "made"
        lines = made.read_text(encoding="utf8").splitlines() if made.exists() else []
        return {line.split()[1] for line in lines if line.startswith("cell")}


def test_a_second_worker_comes_to_work_although_each_cell_ends_before_it_is_up(
    tmp_path: Path,
) -> None:
    for module in (played, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    store, heard = Working(tmp_path / "store"), Heard()
    store.root.mkdir()

    def step(name: str) -> Step:
        return Step(stage="items", version=1, config=StageConfig(), inputs={"name": name})

    shared = [step(name) for name in SECONDS]
    needs = frozenset(one.address for one in shared)
    jobs = [Job(name=one.inputs["name"], steps=(one,)) for one in shared]
    jobs += [Job(name=f"cell{n}", steps=(step(f"cell{n}"),), needs=needs) for n in range(CELLS)]
    with ray_runtime(cpus=2) as resources:
        from weam_ray.on_ray.tune import run_jobs

        run_jobs(
            PlannedJobs(jobs, store),
            store,
            heard,
            resources=resources,
            logs=tmp_path / "logs",
        )
    assert set(heard.ended.values()) == {"finished"}
    assert len((store.root / "made").read_text("utf8").splitlines()) == CELLS + len(SECONDS)
    assert len(store.makers()) == 2, "one worker made every cell"
