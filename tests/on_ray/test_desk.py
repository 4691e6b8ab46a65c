"""The desk hands out what fits: shapes apart, room kept for what runs beside."""

from __future__ import annotations

from pathlib import Path

from played import Heard

from weam_ray.artifacts import Step, Store
from weam_ray.identity import StageConfig
from weam_ray.on_ray.desk import Desk
from weam_ray.on_ray.jobs import Job, PlannedJobs


class Named(StageConfig):
    """Told apart by name."""

    name: str


def step(name: str) -> Step:
    return Step(stage="thing", version=1, config=Named(name=name))


def job(name: str, *needs: str, threads: int = 1, gpus: float = 0.0, workers: int = 1) -> Job:
    return Job(
        name=name,
        steps=(step(name),),
        threads=threads,
        gpus=gpus,
        workers=workers,
        needs=frozenset(step(need).address for need in needs),
    )


def desk(folder: Path, *jobs: Job, beside: float | None = None, **free: float) -> Desk:
    source = PlannedJobs(jobs, Store(folder), beside=beside)
    return Desk(source=source, watcher=Heard(), free=free)


def admitted(one: Desk) -> list[str]:
    names = []
    while (found := one.admit()) is not None:
        names.append(found.name)
    return names


def test_as_many_as_there_is_room_for_and_the_next_when_one_comes_back(tmp_path: Path) -> None:
    one = desk(tmp_path, job("a"), job("b"), job("c"), CPU=2.0)
    assert admitted(one) == ["a", "b"]
    one.over(one.running["a"], None)
    assert admitted(one) == ["c"]
    assert one.all_over()


def test_cpus_that_are_kept_back_are_left_alone(tmp_path: Path) -> None:
    one = desk(tmp_path, job("a"), job("b"), beside=1.0, CPU=2.0)
    assert admitted(one) == ["a"]
    assert isinstance(one.source, PlannedJobs)
    one.source.close()
    assert admitted(one) == ["b"]


def test_ten_tenths_of_a_gpu_are_a_whole_one_again(tmp_path: Path) -> None:
    jobs = [job(str(n), gpus=0.1) for n in range(30)]
    one = desk(tmp_path, *jobs, CPU=64.0, GPU=1.0)
    for _ in range(3):
        assert len(admitted(one)) == 10
        for running in list(one.running.values()):
            one.over(running, None)
    assert one.free == {"CPU": 64.0, "GPU": 1.0}


def test_a_job_of_several_workers_holds_all_that_they_want(tmp_path: Path) -> None:
    one = desk(tmp_path, job("wide", workers=2, threads=2), job("b", workers=2, threads=2), CPU=6.0)
    assert admitted(one) == ["wide"]


def test_another_shape_waits_until_this_ones_jobs_are_back(tmp_path: Path) -> None:
    """A worker that is kept for reuse holds its CPUs: shapes don't mix in one Tuner."""
    one = desk(tmp_path, job("slim"), job("wide", threads=2), job("slim too"), CPU=4.0)
    assert admitted(one) == ["slim", "slim too"]
    assert not one.shape_is_over()
    for running in list(one.running.values()):
        one.over(running, None)
    assert admitted(one) == [] and one.shape_is_over() and not one.all_over()
    one.shape = None
    assert admitted(one) == ["wide"]


def test_jobs_that_wait_for_one_that_has_not_started_are_not_given_up(tmp_path: Path) -> None:
    one = desk(tmp_path, job("base"), job("cell", "base"), CPU=2.0)
    assert admitted(one) == ["base"]
    one.over(one.running["base"], None)
    assert admitted(one) == ["cell"]


def test_what_builds_on_a_failure_is_reported_with_it(tmp_path: Path) -> None:
    one = desk(tmp_path, job("base"), job("cell", "base"), CPU=2.0)
    admitted(one)
    one.over(one.running["base"], "boom")
    assert admitted(one) == []
    assert isinstance(one.watcher, Heard)
    assert one.watcher.said[0] == ("base", "boom")
    assert one.watcher.said[1][0] == "cell" and "base failed" in one.watcher.said[1][1]
    assert one.all_over()


def test_what_nobody_makes_is_reported_and_the_run_ends(tmp_path: Path) -> None:
    one = desk(tmp_path, job("cell", "cleared away"), CPU=2.0)
    assert admitted(one) == []
    assert isinstance(one.watcher, Heard)
    assert [name for name, _ in one.watcher.said] == ["cell"]
    assert one.all_over()
