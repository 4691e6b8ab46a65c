"""An adaptive study's jobs: the baseline first, then what tells most, up to the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned_study import plan_of, pretend, read_small, store_of

from weam_ray.artifacts import Store, Work
from weam_ray.on_ray.adaptive import AdaptiveJobs, is_settled, only_chosen
from weam_ray.on_ray.jobs import Job, cell_jobs, shared_jobs
from weam_ray.study.config import StudyConfig

GRID = {"size": [2, 3, 4], "method": ["none", "weam"], "seed": [0, 1]}


def study_of(folder: Path, **adaptive: Any) -> StudyConfig:
    return read_small(folder, grid=GRID, adaptive=adaptive)


def make(job: Job, store: Store) -> None:
    for step in job.steps:
        for needed in list(step.chain().values())[:-1]:
            pretend(needed, store, {"steps": 4} if needed.stage == "encoder" else None)
        if step.stage != "transfer":
            pretend(step, store)
            continue

        def write(work: Work) -> None:
            names = ("task", "language", "split", "selection", "system", "metric", "value", "n")
            row = ("xnli", "de", "test", "source-dev", "encoder", "accuracy", 0.5, 100)
            table = pa.Table.from_pylist([dict(zip(names, row, strict=True))])
            pq.write_table(table, work.out / "scores.parquet")

        store.make(step, write, {})


def run(study: StudyConfig, *, at_once: int = 1) -> tuple[list[str], AdaptiveJobs]:
    """Names of the jobs in the order in which they were handed out."""
    store, plan = store_of(study), plan_of(study)
    source = AdaptiveJobs(study, plan, shared_jobs(plan, study.resources), store, beside=1.0)
    for step in plan.steps.values():
        if step.stage in ("items", "corpus", "links") and step.address in plan.missing:
            pretend(step, store)
    source.add(cell_jobs(plan, study.resources))
    source.close()
    names: list[str] = []
    running: list[Job] = []
    while True:
        while len(running) < at_once and (job := source.take(None)) is not None:
            names.append(job.name)
            running.append(job)
        if not running:
            assert source.exhausted()
            return names, source
        job = running.pop(0)
        make(job, store)
        source.ended(job, None)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weam_ray.on_ray.jobs._SECONDS_BETWEEN_LOOKS", 0.0)


def test_shared_things_and_the_baseline_come_first_then_both_ends_of_the_curve(
    tmp_path: Path,
) -> None:
    names, _ = run(study_of(tmp_path, cells=3))
    kinds = [name.partition(".")[0] for name in names]
    assert kinds == ["shared", "shared", "shared", "shared", "none", "none", "law", "law", "law"]
    assert {name.split(".")[2] for name in names[6:8]} == {"2", "4"}


def test_it_ends_at_its_budget_though_several_run_at_once(tmp_path: Path) -> None:
    names, source = run(study_of(tmp_path, cells=3), at_once=4)
    assert sum(name.startswith("law") for name in names) == 3
    assert source.budget_is_spent()
    assert "3 cells with bitext" in source.summary()


def test_without_the_budget_being_spent_it_takes_all_there_are(tmp_path: Path) -> None:
    names, source = run(study_of(tmp_path, cells=100))
    assert sum(name.startswith("law") for name in names) == 6
    assert source.exhausted() and not source.budget_is_spent()


def test_it_stops_when_the_slopes_are_known_well_enough(tmp_path: Path) -> None:
    names, source = run(study_of(tmp_path, half_width=0.1))
    assert 0 < sum(name.startswith("law") for name in names) < 6
    assert all(one.half_width <= 0.1 for one in source.slopes().values())


def test_what_was_run_before_counts(tmp_path: Path) -> None:
    run(study_of(tmp_path, cells=2))
    names, _ = run(study_of(tmp_path, cells=3))
    assert len(names) == 1


def test_a_spent_budget_settles_the_study_and_its_report_knows_no_other_cells(
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path, cells=3)
    assert not is_settled(study, plan_of(study), store_of(study))
    run(study)
    plan = plan_of(study)
    assert plan.missing and is_settled(study, plan, store_of(study))
    assert len(only_chosen(plan, ()).cells) == 5
    failed = plan.cells_to_run[0].key
    assert len(only_chosen(plan, {failed}).cells) == 6, "one that failed is not passed over"


def test_a_cell_that_failed_is_not_chosen_again(tmp_path: Path) -> None:
    study = study_of(tmp_path, cells=6)
    store, plan = store_of(study), plan_of(study)
    source = AdaptiveJobs(study, plan, (), store)
    for step in plan.steps.values():
        if step.stage not in ("encoder", "transfer", "retrieval", "probe"):
            pretend(step, store)
    source.add(cell_jobs(plan, study.resources))
    taken = []
    while (job := source.take(None)) is not None:
        taken.append(job.name)
        source.ended(job, "boom")
    assert sorted(taken) == sorted(set(taken)) and len(taken) == 8
    assert source.exhausted()


def test_candidates_that_need_a_base_that_failed_are_given_up(tmp_path: Path) -> None:
    study = study_of(tmp_path, cells=6)
    store, plan = store_of(study), plan_of(study)
    for step in plan.missing_of("items"):
        pretend(step, store)
    base, *_ = shared = shared_jobs(plan, study.resources)
    source = AdaptiveJobs(study, plan, shared, store)
    source.add(cell_jobs(plan, study.resources))
    assert source.take(None) == base
    source.ended(base, "boom")
    assert len(list(source.hopeless(False))) == 2 + 6 + 2, "cells, candidates, tokens, divergence"
    assert source.take(None) is not None, "the sanity rows need no base"
    assert source.exhausted()
