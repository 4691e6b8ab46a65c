"""The queue of jobs: nothing that runs waits for something that could not start."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from played import Heard
from ray.exceptions import OutOfMemoryError
from small_study import small_study

from weam_ray.artifacts import Step, Store
from weam_ray.identity import StageConfig
from weam_ray.on_ray import tune as tuning
from weam_ray.on_ray import working
from weam_ray.on_ray.desk import Desk
from weam_ray.on_ray.jobs import CellJob, Job, PlannedJobs, cell_jobs, shared_jobs
from weam_ray.study.config import ResourcesConfig, StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.plan import Plan, make_plan


class Named(StageConfig):
    """Told apart by name."""

    name: str


def step(name: str, **upstream: Step) -> Step:
    return Step(stage="thing", version=1, config=Named(name=name), upstream=upstream)


def job(name: str, *needs: Step, threads: int = 1, steps: tuple[Step, ...] = ()) -> Job:
    addresses = frozenset(one.address for one in needs)
    return Job(name=name, steps=steps or (step(name),), threads=threads, needs=addresses)


def put(store: Store, one: Step) -> None:
    store.make(one, lambda work: (work.out / "x").touch(), {})


def names(source: PlannedJobs) -> list[str]:
    taken = []
    while (found := source.take(None)) is not None:
        taken.append(found.name)
    return taken


def test_jobs_come_in_their_order_as_far_as_their_needs_allow(tmp_path: Path) -> None:
    base = step("base")
    source = PlannedJobs([job("a", base), job("b"), job("base")], Store(tmp_path))
    assert names(source) == ["b", "base"]
    source.ended(job("base"), None)
    assert names(source) == ["a"]
    assert source.exhausted()


def test_what_others_put_into_the_store_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weam_ray.on_ray.jobs._SECONDS_BETWEEN_LOOKS", 0.0)
    links = step("links")
    source = PlannedJobs([job("a", links)], Store(tmp_path), beside=1.0)
    assert names(source) == []
    put(Store(tmp_path), links)
    assert names(source) == ["a"]


def test_what_needs_something_that_failed_is_hopeless_and_said_once(tmp_path: Path) -> None:
    vocabulary = step("vocabulary")
    base = step("base", vocabulary=vocabulary)
    maker = job("base", steps=(base,))
    source = PlannedJobs([maker, job("a", base), job("tokens", vocabulary)], Store(tmp_path))
    assert source.take(None) == maker
    source.ended(maker, "boom")
    lost = dict((one.name, why) for one, why in source.hopeless(False))
    assert set(lost) == {"a", "tokens"}
    assert "base failed" in lost["a"] and "boom" in lost["a"]
    assert list(source.hopeless(False)) == []
    assert source.exhausted()


def test_what_a_failed_job_had_finished_is_not_lost(tmp_path: Path) -> None:
    vocabulary = step("vocabulary")
    base = step("base", vocabulary=vocabulary)
    maker = job("base", steps=(base,))
    source = PlannedJobs([maker, job("tokens", vocabulary)], Store(tmp_path))
    source.take(None)
    put(Store(tmp_path), vocabulary)
    source.ended(maker, "boom")
    assert list(source.hopeless(False)) == []


def test_what_nobody_will_make_is_not_waited_for(tmp_path: Path) -> None:
    source = PlannedJobs([job("a", step("cleared away"))], Store(tmp_path), beside=1.0)
    assert list(source.hopeless(True)) == [], "it may still be made beside the jobs"
    source.close()
    assert list(source.hopeless(False)) == [], "a job that runs may make it"
    ((lost, why),) = source.hopeless(True)
    assert lost.name == "a" and "was not made" in why
    assert source.exhausted()


def test_a_source_with_an_open_end_waits_for_more_until_it_is_closed(tmp_path: Path) -> None:
    source = PlannedJobs([], Store(tmp_path), beside=1.0)
    assert not source.exhausted() and source.kept_back() == 1.0
    thread = threading.Thread(target=source.add, args=([CellJob(job=job("late"), cells=())],))
    thread.start()
    thread.join()
    source.close()
    assert not source.exhausted() and source.kept_back() == 0.0
    assert names(source) == ["late"]
    assert source.exhausted()


def test_given_up_nothing_more_is_handed_out(tmp_path: Path) -> None:
    source = PlannedJobs([job("a")], Store(tmp_path), beside=1.0)
    source.halt()
    assert names(source) == [] and source.exhausted() and source.halted()


def test_jobs_of_one_shape_are_asked_for_alone(tmp_path: Path) -> None:
    source = PlannedJobs([job("wide", threads=2), job("slim")], Store(tmp_path))
    slim = source.take((1, 1, 0.0))
    assert slim is not None and slim.name == "slim"
    assert source.take((1, 1, 0.0)) is None and not source.exhausted()


# --- from a plan


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Plan]:
    storage = tmp_path_factory.mktemp("planned")
    grid = "{domain: home, pair: en-qaa, size: 60, method: [none, weam, random], seed: [0, 1]}"
    study = small_study(storage, grid=grid)
    store = Store(storage / "store")
    return study, make_plan(study, find_data(study, store), store)


def test_the_longest_base_comes_first_and_the_random_one_waits_for_its_vocabulary(
    planned: tuple[StudyConfig, Plan],
) -> None:
    _, plan = planned
    trained, untrained, *rest = shared_jobs(plan, ResourcesConfig(base_gpus=1))
    assert trained.steps[0].config.model_dump()["base"]["steps"] == 4
    assert not trained.needs and trained.gpus == 1
    (vocabulary,) = untrained.needs
    assert vocabulary == trained.steps[0].upstream["vocabulary"].address
    assert sorted(one.steps[0].stage for one in rest) == ["divergence", "sanity", "tokens"]


def test_a_cell_waits_for_what_it_builds_on_and_for_nothing_else(
    planned: tuple[StudyConfig, Plan],
) -> None:
    _, plan = planned
    for item in cell_jobs(plan, ResourcesConfig()):
        stages = {address.partition("/")[0] for address in item.job.needs}
        bitext = {"corpus", "links"} if item.cells[0].key.pair else set()
        assert stages == {"base", "tokens", "items"} | bitext


def test_an_encoder_that_several_workers_train_is_a_job_of_its_own(
    planned: tuple[StudyConfig, Plan],
) -> None:
    _, plan = planned
    items = cell_jobs(plan, ResourcesConfig(cell_workers=2, cell_threads=3))
    encoders = [item for item in items if not item.cells]
    assert [item.job.workers for item in encoders] == [2, 2]
    assert encoders[0].job.wanted == {"CPU": 6.0, "GPU": 0.0}
    cells = [item for item in items if item.cells]
    assert {item.job.workers for item in cells} == {1}
    made = {item.job.steps[0].address for item in encoders}
    weam = [item for item in cells if item.cells[0].key.pair]
    assert {need for item in weam for need in item.job.needs} >= made


@pytest.mark.parametrize("gpus", [1.5, 2.25])
def test_a_part_of_a_gpu_beside_a_whole_one_is_refused(gpus: float) -> None:
    with pytest.raises(ValueError, match="only whole ones"):
        ResourcesConfig(cell_gpus=gpus)


@pytest.mark.parametrize(("kills", "end"), [(1, "finished"), (2, tuning._NO_MEMORY)])
def test_a_job_killed_for_want_of_memory_is_tried_again_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, end: str
) -> None:
    # Such a kill ends Tune's own loop, as an error of its own: so it does here.
    killed: list[str] = []

    def fit(trainable: object, desk: Desk, *rest: object) -> None:
        while (one := desk.admit()) is not None:
            if why := desk.lost.pop(one.name, None):
                desk.watcher.retried(one, why)
            else:
                desk.watcher.started(one)
            if one.name == "big" and len(killed) < kills:
                killed.append(one.name)
                raise RuntimeError("Caught unexpected exception") from OutOfMemoryError("killed")
            desk.over(one, None)

    monkeypatch.setattr(tuning, "_fit", fit)
    heard = Heard()
    source = PlannedJobs([job("big"), job("small")], Store(tmp_path))
    tuning.run_jobs(
        source, Store(tmp_path), heard, resources={"CPU": 2.0}, logs=tmp_path / "logs", retries=1
    )
    assert [one for one in heard.said if one[0] == "big"][-1] == ("big", end)
    assert ("big", "retried") in heard.said
    assert ("small", "finished") in heard.said


def test_the_log_of_a_job_that_says_nothing_for_long_stays_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "_SECONDS_BETWEEN_TOUCHES", 0.02)
    log = tmp_path / "a.log"
    log.touch()
    os.utime(log, (0, 0))
    with working.kept_fresh(log):
        end = time.monotonic() + 20
        while log.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert log.stat().st_mtime > 0
    os.utime(log, (0, 0))
    time.sleep(0.1)
    assert log.stat().st_mtime == 0, "over, it is touched no more"
