"""The main job: run it, run it again, extend it, kill it, feed it rubbish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from small_study import DEMO, overrides

from weam_ray.__main__ import main
from weam_ray.artifacts import RECORD

pytestmark = pytest.mark.ray


def command(storage: Path, **changes: str) -> list[str]:
    settings = [word for value in overrides(storage, **changes) for word in ("--set", value)]
    return ["sweep", str(DEMO), *settings]


def run(storage: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The command as a person starts it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "weam_ray", *command(storage, **changes)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def records(storage: Path) -> dict[str, int]:
    """Every artifact there is and when it was written."""
    found = (storage / "store").rglob(RECORD)
    return {str(path.relative_to(storage)): path.stat().st_mtime_ns for path in found}


def results(storage: Path) -> pd.DataFrame:
    rows = pd.read_parquet(storage / "studies" / "small" / "results.parquet")
    keys = ["cell", "language", "split", "selection"]
    return rows.drop(columns="seconds").sort_values(keys).reset_index(drop=True)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("swept")
    done = run(storage)
    assert done.returncode == 0, done.stdout + done.stderr
    return storage


def test_it_ends_with_the_report_and_how_to_see_mlflow(swept: Path) -> None:
    done = run(swept)
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[-1] == "MLflow: make ui"
    report = Path(lines[-2].removeprefix("report: "))
    assert "demonstration, not evidence" in report.read_text(encoding="utf8").lower()


def test_the_same_command_again_recomputes_nothing(swept: Path) -> None:
    before = records(swept)
    done = run(swept)
    assert done.returncode == 0
    assert records(swept) == before


def test_a_new_size_runs_only_what_is_new(swept: Path) -> None:
    before = records(swept)
    grown = "{domain: home, pair: en-qaa, size: [30, 60], method: [none, weam], seed: 0}"
    done = run(swept, grid=grown)
    assert done.returncode == 0, done.stdout + done.stderr
    after = records(swept)
    assert {name: after[name] for name in before} == before
    new = sorted(Path(name).parts[1] for name in set(after) - set(before))
    assert new == ["encoder", "transfer"] or new == ["encoder", "retrieval", "transfer"]


def test_killed_at_any_moment_the_same_command_ends_where_an_undisturbed_run_does(
    swept: Path, tmp_path: Path
) -> None:
    for seconds in (5, 11):
        process = subprocess.Popen(
            [sys.executable, "-m", "weam_ray", *command(tmp_path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        # The driver alone: Ray's own processes notice and end by themselves.
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    grown = results(swept)
    undisturbed = grown[grown["size"] != 30].reset_index(drop=True)
    pd.testing.assert_frame_equal(results(tmp_path), undisturbed)


def test_a_cell_that_fails_is_named_with_its_log_and_the_others_go_on(swept: Path) -> None:
    # The base reads 64 tokens; a cell that asks for more can't run, its neighbours can.
    changes = {
        "methods": "{long: {pretraining: {objective: tlm, max_length: 512}}}",
        "grid": "{domain: home, pair: en-qaa, size: 60, method: [none, long, weam], seed: 0}",
    }
    done = run(swept, **changes)
    assert done.returncode == 1
    assert "failed: home.en-qaa.60.long.s0" in done.stdout
    log = swept / "studies" / "small" / "logs" / "home.en-qaa.60.long.s0.log"
    assert str(log) in done.stdout.replace("\n", "")
    assert "max_length" in log.read_text(encoding="utf8")
    assert "2 of 3 cells done" in done.stdout


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("grid.sizes=[60]", ["unknown key grid.sizes", "size"]),
        ("grid.method=weem", ["weem", "Did you mean weam?"]),
        ("base.architecture=berd", ["berd", "bert"]),
        ("grid.pair=en-xxx", ["xxx"]),
        ("data_dir=/nowhere", ["/nowhere"]),
    ],
)
def test_bad_input_is_one_message_and_exit_status_two(
    tmp_path: Path, setting: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(tmp_path), "--set", setting]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("studies/*/report.html"))


def test_a_size_larger_than_the_corpus_is_a_hole_and_no_crash(swept: Path) -> None:
    huge = "{domain: home, pair: en-qaa, size: [60, 1000000], method: weam, seed: 0}"
    done = run(swept, grid=huge)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "hole: home.en-qaa.1000000.weam.s0" in said
    assert "pairs after cleaning, not 1,000,000" in said
