"""A cell that fails is started again so many times, then reported, while the others go on."""

from __future__ import annotations

import os
import sys
from collections import Counter
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

RETRIES = 2
FAILS = {"never": RETRIES + 1, "late": RETRIES, "sound": 0}
"""How often each job fails before it is made; every failure costs a new process."""


class Stumbling(Played):
    """Counts each try in a file, and fails as often as it is told to."""

    def play(self, name: str) -> None:
        with open(self.root / "tries", "a", encoding="utf8") as tries:
            tries.write(f"{name}\n")
        tried = tries_of(self.root)[name]
        if tried <= FAILS[name]:
            if name == "late" and tried == 1:
                os._exit(1)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def tries_of(root: Path) -> Counter[str]:
    return Counter((root / "tries").read_text(encoding="utf8").split())


def test_a_cell_that_fails_is_tried_again_so_many_times_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    for module in (played, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    store, heard = Stumbling(tmp_path / "store"), Heard()
    store.root.mkdir()
    jobs = [
        Job(
            name=name,
            steps=(Step(stage="items", version=1, config=StageConfig(), inputs={"name": name}),),
        )
        for name in FAILS
    ]
    with ray_runtime(cpus=2) as resources:
        from weam_ray.on_ray.tune import run_jobs

        run_jobs(
            PlannedJobs(jobs, store),
            store,
            heard,
            resources=resources,
            logs=tmp_path / "logs",
            retries=RETRIES,
        )
    assert tries_of(store.root) == {"never": 3, "late": 3, "sound": 1}
    assert not heard.refused
    assert heard.retries == {"never": 2, "late": 2}
    assert (heard.ended["late"], heard.ended["sound"]) == ("finished", "finished")
    assert "illegal memory access" in heard.ended["never"]
    log = (tmp_path / "logs" / "never.log").read_text(encoding="utf8")
    assert log.count("Traceback") == 3, "every try is in the log that is shown"
