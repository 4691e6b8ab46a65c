"""How far a study is, from another terminal: the store says what is done, the logs what runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from planned_study import plan_of, pretend, read_small, store_of

from weam_ray.study.config import StudyConfig
from weam_ray.study.status import Status, status_text, study_status

NOW = 1_800_000_000.0
STAMP = "2027-01-15 08:00:00,000"


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return read_small(tmp_path, grid={"method": ["none", "weam"], "seed": [0, 1]})


def write_log(study: StudyConfig, name: str, *lines: str, ago: float = 1.0) -> Path:
    path = study.folder / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (NOW - ago, NOW - ago))
    return path


def said(message: str, level: str = "INFO", logger: str = "weam_ray.job") -> str:
    return f"{STAMP} {level} {logger} {message}"


def status_of(study: StudyConfig) -> Status:
    return study_status(study, plan_of(study), now=NOW)


def test_before_anything_ran(study: StudyConfig) -> None:
    found = status_of(study)
    assert (found.cells, found.done, found.running, found.failed) == (6, 0, (), ())
    assert status_text(found) == "small: 0 of 6 cells done, nothing is running"


def test_a_job_whose_log_was_just_written_is_running_and_says_how_far(study: StudyConfig) -> None:
    write_log(
        study,
        "law.en-de.2.weam.s0",
        said("encoder/1234"),
        said("encoder 40/700 {'loss': 3.21987, 'aligned_share': 0.5}"),
        said("something of a library", logger="transformers"),
        ago=5,
    )
    write_log(study, "shared.base.12345678", said("base/12345678"))
    found = status_of(study)
    assert [(job.name, job.doing) for job in found.running] == [
        ("law.en-de.2.weam.s0", "encoder 40/700, loss 3.220"),
        ("shared.base.12345678", "base/12345678"),
    ]
    assert found.running[0].seconds_ago == pytest.approx(5)
    assert "running law.en-de.2.weam.s0   encoder 40/700, loss 3.220 (5 s ago)" in status_text(
        found
    )


def test_corpora_and_links_are_seen_while_they_are_made(study: StudyConfig) -> None:
    write_log(study, "shared.bitext", said("corpora and links"), said("corpus 1/3 {}"), ago=20)
    assert status_of(study).running[0].doing == "corpus 1/3"


def test_a_log_that_fell_silent_is_not_running(study: StudyConfig) -> None:
    write_log(study, "law.en-de.2.weam.s0", said("encoder 40/700 {}"), ago=61)
    assert status_of(study).running == ()


@pytest.mark.parametrize("last", ["base/1234 done, recorded 3.0 s", "corpora and links done"])
def test_what_cells_share_is_not_running_any_more_once_it_is_done(
    study: StudyConfig, last: str
) -> None:
    write_log(study, "shared.base.1234", said("base 4/4 {}"), said(last), ago=5)
    assert status_of(study).running == ()


def test_a_finished_cell_is_done_though_its_log_is_new(study: StudyConfig) -> None:
    plan = plan_of(study)
    cell = next(cell for cell in plan.cells if cell.key.label == "none.s1")
    for end in cell.experiment.ends():
        for step in end.chain().values():
            pretend(step, store_of(study))
    write_log(study, "none.s1", said("transfer/1 done, recorded 3.0 s"))
    found = status_of(study)
    assert found.done == 1 and found.running == ()


def test_a_log_that_ends_in_an_error_is_a_failed_cell_with_its_cause(study: StudyConfig) -> None:
    log = write_log(
        study,
        "law.en-de.4.weam.s1",
        said("encoder 40/700 {}"),
        said("Traceback (most recent call last):", level="ERROR"),
        '  File "x.py", line 3, in fit',
        "weam_ray.errors.DataError: a.en:3: not UTF-8",
        "",
        ago=5000,
    )
    found = status_of(study)
    (failed,) = found.failed
    assert failed.error == "weam_ray.errors.DataError: a.en:3: not UTF-8"
    assert f"(log: {log})" in status_text(found) and "1 failed" in status_text(found)


def test_a_cell_that_failed_and_is_tried_again_is_running(study: StudyConfig) -> None:
    write_log(
        study,
        "law.en-de.4.weam.s1",
        said("Traceback (most recent call last):", level="ERROR"),
        "RuntimeError: no",
        said("encoder/1234"),
    )
    found = status_of(study)
    assert not found.failed and len(found.running) == 1


def test_only_the_end_of_a_long_log_is_read(study: StudyConfig) -> None:
    noise = ["x" * 200] * 5_000
    write_log(study, "none.s0", *noise, said("transfer 1/3 {'loss': 1.0}"))
    assert status_of(study).running[0].doing == "transfer 1/3, loss 1.000"


def test_an_empty_or_foreign_log_breaks_nothing(study: StudyConfig) -> None:
    write_log(study, "none.s0", "")
    write_log(study, "of.another.study", said("encoder 1/2 {}"))
    found = status_of(study)
    assert [(job.name, job.doing) for job in found.running] == [("none.s0", "starting")]


def test_the_report_is_named_and_said_to_be_old_while_cells_are_missing(
    study: StudyConfig,
) -> None:
    study.folder.mkdir(parents=True)
    (study.folder / "report.html").write_text("x")
    assert status_text(status_of(study)).endswith("report.html (of an earlier state)")


def test_the_clock_is_asked_when_no_moment_is_given(study: StudyConfig) -> None:
    log = write_log(study, "none.s0", said("transfer 1/3 {}"))
    os.utime(log, (time.time(), time.time()))
    assert len(study_status(study, plan_of(study)).running) == 1
