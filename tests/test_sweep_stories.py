"""The main job under way: stopped by hand, out of time, without its tracking server, choosing."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from small_study import DEMO, overrides

from weam_ray.__main__ import main

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

GRID = "{domain: home, pair: en-qaa, size: [30, 60], method: [none, weam], seed: [0, 1]}"
LONG = {"base__steps": "100000", "pretraining__steps": "100000"}


def words(storage: Path, *options: str, verb: str = "sweep", **changes: str) -> list[str]:
    values = overrides(storage, **{"grid": GRID, **changes})
    settings = [word for value in values for word in ("--set", value)]
    return [sys.executable, "-m", "weam_ray", verb, str(DEMO), *settings, *options]


def run(storage: Path, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(storage, *options, **changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@contextmanager
def started(storage: Path, out: Path, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, as a shell would start it."""
    with open(out, "wb") as stream:
        process = subprocess.Popen(
            words(storage, **changes),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)


def states(storage: Path) -> list[str]:
    with closing(sqlite3.connect(storage / "mlflow.db")) as database:
        return sorted(row[0] for row in database.execute("select status from runs"))


def training(storage: Path) -> bool:
    logs = (storage / "studies" / "small" / "logs").glob("shared.base.*.log")
    return any(" base 2" in log.read_text(encoding="utf8") for log in logs)


def children(process: subprocess.Popen[bytes]) -> list[str]:
    found = subprocess.run(
        ["ps", "-o", "args=", "-g", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [line for line in found.stdout.splitlines() if "defunct" not in line]


def never() -> None:
    pytest.fail("Ray was started")


def test_ctrl_c_stops_cleanly_and_a_second_one_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with started(tmp_path, out, **LONG) as process:
        wait_for(lambda: training(tmp_path))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130, out.read_text()
        wait_for(lambda: not children(process), 60)
    said = out.read_text(encoding="utf8")
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert states(tmp_path) == ["KILLED"], "the invocation says how it ended"
    shutil.rmtree(tmp_path / "studies")
    with started(tmp_path, out, **LONG) as process:
        wait_for(lambda: training(tmp_path))
        os.killpg(process.pid, signal.SIGINT)
        wait_for(lambda: "stopping" in out.read_text(encoding="utf8"), 30)
        os.killpg(process.pid, signal.SIGINT)
        at = time.monotonic()
        assert process.wait(timeout=20) == 130
        assert time.monotonic() - at < 5
        wait_for(lambda: not children(process), 60)


def test_when_the_time_is_up_it_reports_what_is_done_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    late = run(tmp_path, "--max-hours", "0.004", **LONG)
    assert late.returncode == 1, late.stdout + late.stderr
    assert "0 of 6 cells done" in late.stdout
    assert "the time was up before 6 of them" in late.stdout
    assert (tmp_path / "studies" / "small" / "report.html").exists()
    assert states(tmp_path) == ["KILLED"]


def test_two_sweeps_on_one_store_make_what_they_share_once(tmp_path: Path) -> None:
    cells = "{domain: home, pair: en-qaa, size: 60, method: [none, weam], seed: 0}"
    more = "{domain: home, pair: en-qaa, size: [30, 60], method: [none, weam], seed: 0}"
    seen: dict[Path, int] = {}

    def made_once() -> None:
        for record in (tmp_path / "store").glob("*/*/record.json"):
            when = record.stat().st_mtime_ns
            assert seen.setdefault(record, when) == when, f"{record} was made twice"

    with (
        started(tmp_path, tmp_path / "one.txt", grid=cells) as one,
        started(tmp_path, tmp_path / "two.txt", grid=more, name="other") as two,
    ):
        while one.poll() is None or two.poll() is None:
            made_once()
            time.sleep(0.05)
    made_once()
    said = [(tmp_path / name).read_text(encoding="utf8") for name in ("one.txt", "two.txt")]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert "2 of 2 cells done" in said[0] and "3 of 3 cells done" in said[1]
    assert states(tmp_path) == ["FINISHED"] * 7, "two invocations, and the cells of each"
    rows = [
        pd.read_parquet(tmp_path / "studies" / name / "results.parquet")
        for name in ("small", "other")
    ]
    assert set(rows[0]["cell"]) < set(rows[1]["cell"])
    assert not list((tmp_path / "store" / "tmp").iterdir())


ADAPTIVE = "{cells: 3}"
SEARCH = (
    "{space: {pretraining.masking_rate: {low: 0.1, high: 0.5}}, trials: 2, at_once: 2, startup: 1}"
)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An adaptive study whose tracking server is down."""
    storage = tmp_path_factory.mktemp("chosen")
    done = run(storage, tracking_uri="http://127.0.0.1:9", adaptive=ADAPTIVE)
    assert done.returncode == 0, done.stdout + done.stderr
    return storage, done.stdout


def test_an_adaptive_study_ends_with_its_budget(chosen: tuple[Path, str]) -> None:
    storage, said = chosen
    assert "adaptive: 3 cells with bitext have been run" in said
    rows = pd.read_parquet(storage / "studies" / "small" / "results.parquet")
    weam = rows[rows["method"] == "weam"].drop_duplicates("cell")
    assert len(weam) == 3
    assert set(weam["size"]) == {30, 60}, "both ends of the curve"


def test_its_budget_spent_the_same_command_again_starts_nothing(
    chosen: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, _ = chosen
    monkeypatch.setattr("weam_ray.sweep.ray_runtime", never)
    before = {path: path.stat().st_mtime_ns for path in (storage / "store").rglob("record.json")}
    again = words(storage, tracking_uri="http://127.0.0.1:9", adaptive=ADAPTIVE)
    assert main(again[3:]) == 0
    after = {path: path.stat().st_mtime_ns for path in (storage / "store").rglob("record.json")}
    assert after == before


def test_what_a_server_that_was_down_missed_is_pushed_later_and_once(
    chosen: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, said = chosen
    assert "MLflow was not written to" in said
    assert "weam-ray export" in said
    monkeypatch.chdir(storage)
    uri = f"sqlite:///{storage}/later.db"
    pushed = []
    for _ in range(2):
        export = words(storage, "--mlflow", uri, verb="export", adaptive=ADAPTIVE)
        assert main(export[3:]) == 0
        pushed.append(capsys.readouterr().out.splitlines()[-1])
    assert pushed[0].startswith("5 of 5 finished cells pushed")
    assert pushed[1].startswith("0 of 5 finished cells pushed")
    with closing(sqlite3.connect(storage / "later.db")) as database:
        kinds = database.execute(
            "select value, count(*) from tags where key = 'weam_ray.kind' group by value"
        ).fetchall()
    assert dict(kinds) == {"cell": 5, "invocation": 2}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two CPUs")
def test_jobs_of_several_shapes_never_wait_for_each_other_and_a_search_follows(
    tmp_path: Path,
) -> None:
    """A base on two threads, encoders on two workers, the rest on one: two CPUs in all."""
    done = run(
        tmp_path,
        grid="{domain: home, pair: en-qaa, size: 60, method: [none, weam], seed: 0}",
        search=SEARCH,
        resources__base_threads="2",
        resources__cell_workers="2",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 cells done" in done.stdout
    assert "search: 2 of 2 trials" in done.stdout
    folder = tmp_path / "studies" / "small"
    with open(folder / "trials.csv", encoding="utf8") as stream:
        trials = list(csv.DictReader(stream))
    assert [trial["trial"] for trial in trials] == ["0", "1"]
    assert float(trials[0]["pretraining.masking_rate"]) == 0.3, "the study's own settings first"
    assert (folder / "tuned.yaml").exists()
    assert set(states(tmp_path)) == {"FINISHED"}


def test_a_study_whose_every_cell_is_a_hole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One of 120 pairs has a sentence of the evaluation items.
    large = "{domain: home, pair: en-qab, size: 120, method: weam, seed: 0}"
    done = run(tmp_path, grid=large)
    assert done.returncode == 2
    assert "no cell of this study can be run" in done.stderr
    assert "119 pairs after cleaning, not 120" in done.stderr
    assert states(tmp_path) == ["FAILED"]
    monkeypatch.setattr("weam_ray.sweep.ray_runtime", never)
    assert main(words(tmp_path, grid=large)[3:]) == 2, "now that it is counted, before Ray starts"
    assert "119 pairs after cleaning, not 120" in capsys.readouterr().err
    assert main(words(tmp_path / "new", grid=large.replace("120", "121"))[3:]) == 2
    assert "120 pairs before cleaning, not 121" in capsys.readouterr().err


def test_a_machine_that_is_too_small_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("weam_ray.sweep.ray_runtime", never)
    assert main(words(tmp_path, resources__cell_threads="512")[3:]) == 2
    assert "resources.cell_threads asks for 512 CPUs" in capsys.readouterr().err
    assert not (tmp_path / "studies").exists()
