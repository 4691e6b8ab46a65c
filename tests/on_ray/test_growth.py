"""A cluster that grows and shrinks: it is told what waits, and what comes and goes is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_desk import admitted, desk, job

from weam_ray.on_ray import growth
from weam_ray.on_ray.growth import Growth, of_this_cluster


class Cluster:
    """What there is, and what was asked for, one list a request."""

    def __init__(self, **there: float) -> None:
        self.there = there
        self.asked: list[list[dict[str, float]]] = []

    def growth(self) -> Growth:
        return Growth(dict(self.there), now=lambda: dict(self.there), ask=self.asked.append)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_SECONDS", 0.0)


def test_a_machine_that_joins_late_is_given_jobs(tmp_path: Path) -> None:
    cluster = Cluster(CPU=1.0)
    one = desk(tmp_path, job("a"), job("b"), job("c"), CPU=1.0)
    one.growth = cluster.growth()
    assert admitted(one) == ["a"]
    cluster.there["CPU"] = 2.0
    one.look()
    assert admitted(one) == ["b"]


def test_a_machine_that_is_lost_is_given_none_until_there_is_room_again(tmp_path: Path) -> None:
    cluster = Cluster(CPU=2.0)
    one = desk(tmp_path, job("a"), job("b"), job("c"), CPU=2.0)
    one.growth = cluster.growth()
    assert admitted(one) == ["a", "b"]
    cluster.there["CPU"] = 1.0
    one.look()
    one.over(one.running["a"], None)
    assert admitted(one) == [], "b runs on what is left"
    one.over(one.running["b"], None)
    assert admitted(one) == ["c"]


def test_the_autoscaler_is_told_what_runs_and_what_could_and_at_the_end_of_nothing(
    tmp_path: Path,
) -> None:
    cluster = Cluster(CPU=8.0, GPU=1.0)
    cells = [job(name, gpus=1.0) for name in "abc"]
    one = desk(tmp_path, *cells, job("later", "base", gpus=1.0), CPU=8.0, GPU=1.0)
    one.growth = cluster.growth()
    assert admitted(one) == ["a"]
    one.look()
    one.look()
    assert cluster.asked == [[{"CPU": 1.0, "GPU": 1.0}] * 3], "one request, while nothing changes"
    one.growth.close()
    assert cluster.asked[-1] == []


def test_each_worker_of_a_distributed_job_is_a_bundle(tmp_path: Path) -> None:
    cluster = Cluster(CPU=4.0)
    one = desk(tmp_path, job("wide", workers=2, threads=2), CPU=4.0)
    one.growth = cluster.growth()
    assert admitted(one) == ["wide"]
    one.look()
    assert cluster.asked == [[{"CPU": 2.0}] * 2]


def test_a_ray_of_this_process_alone_is_asked_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    alone = of_this_cluster({"CPU": 2.0})
    assert alone.look([job("a")], [job("b")]) == {}
