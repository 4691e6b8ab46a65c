"""The main job: run it, run it again, extend it, kill it, feed it rubbish."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from s3_server import SECRET
from small_study import DEMO, overrides

from weam_ray import ExperimentConfig, Store, run_experiment
from weam_ray.__main__ import main
from weam_ray.bucket import Bucket
from weam_ray.bucket_store import CACHE_VARIABLE
from weam_ray.record import RECORD

pytestmark = pytest.mark.ray


def command(storage: Path | str, **changes: str) -> list[str]:
    settings = [word for value in overrides(storage, **changes) for word in ("--set", value)]
    return ["sweep", str(DEMO), *settings]


def run(
    storage: Path | str, cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    """The command as a person starts it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "weam_ray", *command(storage, **changes)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=cwd,
    )


def records(storage: Path) -> dict[str, int]:
    """Every artifact there is and when it was written."""
    found = (storage / "store").rglob(RECORD)
    return {str(path.relative_to(storage)): path.stat().st_mtime_ns for path in found}


def results(storage: Path) -> pd.DataFrame:
    rows = pd.read_parquet(storage / "studies" / "small" / "results.parquet")
    keys = ["cell", "language", "split", "selection"]
    return rows.drop(columns="seconds").sort_values(keys).reset_index(drop=True)


class Swept(NamedTuple):
    """A finished study; tests extend it, so what it was at first is kept beside."""

    storage: Path
    rows: pd.DataFrame


class Again(NamedTuple):
    """The same command once more, and the artifacts before it and after."""

    done: subprocess.CompletedProcess[str]
    before: dict[str, int]
    after: dict[str, int]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    storage = tmp_path_factory.mktemp("swept")
    done = run(storage)
    assert done.returncode == 0, done.stdout + done.stderr
    return Swept(storage, results(storage))


@pytest.fixture(scope="module")
def swept(first: Swept) -> Path:
    return first.storage


@pytest.fixture(scope="module")
def again(swept: Path) -> Again:
    before = records(swept)
    return Again(run(swept), before, records(swept))


def test_it_ends_with_the_report_and_how_to_see_mlflow(swept: Path, again: Again) -> None:
    done = again.done
    lines = done.stdout.splitlines()
    assert f"sqlite:///{swept}/mlflow.db" in done.stdout.replace("\n", "")
    report = Path(next(line for line in lines if "report: " in line).removeprefix("report: "))
    assert "demonstration, not evidence" in report.read_text(encoding="utf8").lower()


def test_the_study_file_is_kept_with_its_comments_beside_the_report(swept: Path) -> None:
    kept = (swept / "studies" / "small" / "study.yaml").read_text(encoding="utf8")
    assert kept == DEMO.read_text(encoding="utf8") and kept.startswith("# ")


def test_the_same_command_again_recomputes_nothing(again: Again) -> None:
    assert again.done.returncode == 0
    assert again.after == again.before


def test_mlflow_has_the_invocation_and_below_it_each_cell_with_all_it_measured(swept: Path) -> None:
    with closing(sqlite3.connect(swept / "mlflow.db")) as database:

        def table(what: str, *values: str) -> list[Any]:
            return database.execute(f"select {what}", values).fetchall()

        label = "home.en-qaa.60.weam.s0"
        ((cell, files),) = table("run_uuid, artifact_uri from runs where name = ?", label)
        tags = dict(table("key, value from tags where run_uuid = ?", cell))
        params = dict(table("key, value from params where run_uuid = ?", cell))
        curve = table("key, step from metrics where run_uuid = ?", cell)
        ((parent,),) = table(
            "artifact_uri from runs where run_uuid = ?", tags["mlflow.parentRunId"]
        )
        kinds = Counter(table("value, name from tags join runs using (run_uuid)"
                              " where key = 'weam_ray.kind' and status = 'FINISHED'"))  # fmt: skip
    assert kinds["cell", label] == kinds["cell", "none.s0"] == 1
    for factor, value in {
        "pair": "en-qaa",
        "size": "60",
        "method": "weam",
        "domain": "home",
    }.items():
        assert tags[factor] == params[factor] == value
    names = {name for name, _ in curve}
    assert {f"accuracy/{code}" for code in ("en", "qaa", "qab", "qac")} <= names
    for trained in ("pretraining/loss", "finetuning/loss"):
        assert max(step for name, step in curve if name == trained) > 0
    place = Path(files.removeprefix("file://"))
    assert {"cell.json", "record.json", "predictions.parquet"} <= set(os.listdir(place))
    assert (Path(parent.removeprefix("file://")) / "report.html").is_file()
    before = records(swept)
    config = ExperimentConfig.model_validate_json((place / "cell.json").read_text())
    assert run_experiment(config, Store(swept / "store")).address.startswith("transfer/")
    assert records(swept) == before, "it is the same work"


@pytest.fixture(scope="module")
def grown(first: Swept) -> Again:
    """The study with a new size, a new pair of languages, sizes beyond its corpus, and a method
    that fails: the base reads 64 tokens, so that a cell which asks for more can't run.
    """
    before = records(first.storage)
    cells = "domain: home, seed: 0, pair"
    done = run(
        first.storage,
        methods="{wild: {pretraining: {objective: tlm, learning_rate: 1.0e+30, clip: null}}}",
        grid=f"{{{cells}: en-qaa, size: [30, 60], method: [none, weam]}}",
        # One of the 120 pairs has a sentence of the evaluation items.
        extra=f"[{{{cells}: en-qaa, size: 60, method: wild}},"
        f" {{{cells}: en-qab, size: [60, 120, 1000000], method: weam}}]",
    )
    return Again(done, before, records(first.storage))


def test_what_is_new_runs_and_nothing_else(grown: Again) -> None:
    before, after = grown.before, grown.after
    assert {name: after[name] for name in before} == before
    new = Counter(Path(name).parts[1] for name in set(after) - set(before))
    size = dict.fromkeys(("encoder", "probe", "retrieval", "transfer"), 1)
    pair = {**size, "corpus": 1, "divergence": 1, "links": 1}
    assert new == Counter(size) + Counter(pair)


def test_killed_at_any_moment_the_same_command_ends_where_an_undisturbed_run_does(
    first: Swept, tmp_path: Path
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
    pd.testing.assert_frame_equal(results(tmp_path), first.rows)


def test_a_cell_that_fails_is_named_with_its_log_and_the_others_go_on(
    grown: Again, swept: Path
) -> None:
    done = grown.done
    assert done.returncode == 1
    assert "failed: home.en-qaa.60.wild.s0" in done.stdout
    log = swept / "studies" / "small" / "logs" / "home.en-qaa.60.wild.s0.log"
    assert str(log) in done.stdout.replace("\n", "")
    assert "Lower learning_rate" in log.read_text(encoding="utf8")
    assert "4 of 5 cells done" in done.stdout


def test_another_pair_runs_and_a_size_larger_than_its_corpus_is_a_hole_and_no_crash(
    grown: Again, swept: Path
) -> None:
    said = " ".join(grown.done.stdout.split())
    assert (
        "hole: home.en-qab.1000000.weam.s0: the home en-qab corpus holds 120 pairs before"
        " cleaning, not 1,000,000" in said
    )
    assert (
        "hole: home.en-qab.120.weam.s0: the home en-qab corpus holds 119 pairs after"
        " cleaning, not 120" in said
    )
    rows = results(swept)
    rows = rows[rows["pair"] == "en-qab"]
    assert set(rows["size"]) == {60} and {"en", "qaa", "qab", "qac"} == set(rows["language"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("grid.sizes=[60]", ["unknown key grid.sizes", "size"]),
        ("grid.method=weem", ["weem", "Did you mean weam?"]),
        ("base.architecture=berd", ["berd", "bert"]),
        ("grid.pair=en-xxx", ["xxx"]),
        ("data_dir=/nowhere", ["/nowhere"]),
        (f"storage={Path(__file__)}", [f"{Path(__file__)} is a file", "--set storage=FOLDER"]),
        ("world.verb_items=0", ["world.statement_items", "above 0"]),
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


def test_a_disk_that_is_full_outside_the_store_too_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("weam_ray.sweep.watch", full)
    assert main(command(tmp_path)) == 2
    assert f"weam-ray: {tmp_path}: the disk is full" in capsys.readouterr().err


def spoilt(swept: Path, tmp_path: Path) -> Path:
    """The small world's files, to be written over."""
    (world,) = (swept / "store" / "world").iterdir()
    return Path(shutil.copytree(world, tmp_path / "data"))


def run_on(data: Path, storage: Path) -> subprocess.CompletedProcess[str]:
    return run(
        storage,
        world="null",
        data_dir=str(data),
        grid="{domain: home, pair: en-qaa, size: 60, method: weam, seed: 0}",
    )


@pytest.mark.parametrize(
    ("name", "added", "words"),
    [
        ("parallel/home.en-qaa.en", b"one more\n", ["121", "120"]),
        # Read by a worker, which stands in a folder of its own: the path given is relative.
        ("mono/mono.qaa.txt", b"broken \xff here\n", ["mono.qaa.txt:201", "invalid UTF-8"]),
    ],
)
def test_a_damaged_file_stops_the_study_with_its_name_and_line(
    swept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    added: bytes,
    words: list[str],
) -> None:
    data = spoilt(swept, tmp_path)
    monkeypatch.chdir(tmp_path)
    with (data / name).open("ab") as file:
        file.write(added)
    done = run_on(Path(data.name), tmp_path / "storage")
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list((tmp_path / "storage" / "studies").glob("*/report.html"))
    assert not list((tmp_path / "storage" / "store" / "tmp").iterdir())


def test_a_study_in_a_bucket_is_the_same_study_and_a_new_machine_recomputes_nothing(
    first: Swept, tmp_path: Path, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    begun = run(bucket_url, cwd=tmp_path)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    pd.testing.assert_frame_equal(results(tmp_path / "storage"), first.rows)
    bucket, page = Bucket(bucket_url), tmp_path / "storage" / "studies" / "small" / "report.html"
    assert bucket.read("studies/small/report.html") == page.read_bytes()
    made = bucket.names("store")
    assert len([name for name in made if name.endswith(RECORD)]) >= 8

    shutil.rmtree(tmp_path / "cache")
    again = run(bucket_url, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 2 cells done" in again.stdout
    assert bucket.names("store") == made

    said = [one.stdout + one.stderr for one in (begun, again)]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET in text for text in said)
    assert not any(SECRET.encode() in text for text in kept)
