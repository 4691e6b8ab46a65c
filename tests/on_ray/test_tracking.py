"""MLflow as its reader finds it: nested, honest about states, outlived by the sweep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weam_ray.on_ray.tracking import CurvePoint, Tracker

FACTORS = {"pair": "en-qaa", "size": 250, "method": "weam"}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for the module: making a new one takes seconds."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture
def tracker(storage: Path, request: pytest.FixtureRequest) -> Iterator[Tracker]:
    opened = Tracker.open(None, storage, request.node.name, {"weam_ray.title": "A test"})
    yield opened
    opened.end("FINISHED")


def runs(tracker: Tracker, kind: str) -> list[Any]:
    found = tracker._client.search_runs(
        [tracker._experiment_id], f"tags.`weam_ray.kind` = '{kind}'"
    )
    return list(found)


def test_a_cell_is_a_child_of_its_invocation_and_filterable_by_its_factors(
    tracker: Tracker,
) -> None:
    tracker.start_cell("transfer/abc", "home.en-qaa.250.weam.s0", FACTORS)
    tracker.curve("transfer/abc", [CurvePoint("pretraining/loss", 2.5, 20)])
    tracker.scores("transfer/abc", {"accuracy/qaa": 0.5})
    tracker.end_cell("transfer/abc", "FINISHED")
    (parent,), (cell,) = runs(tracker, "invocation"), runs(tracker, "cell")
    assert cell.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert cell.data.params == {name: str(value) for name, value in FACTORS.items()}
    assert {name: cell.data.tags[name] for name in FACTORS} == cell.data.params
    assert cell.data.metrics == {"pretraining/loss": 2.5, "accuracy/qaa": 0.5}
    assert cell.info.status == "FINISHED"
    history = tracker._client.get_metric_history(cell.info.run_id, "pretraining/loss")
    assert [(point.step, point.value) for point in history] == [(20, 2.5)]


def test_a_value_that_is_no_number_is_left_out_and_the_rest_is_written(tracker: Tracker) -> None:
    tracker.start_cell("transfer/abc", "cell", FACTORS)
    tracker.curve("transfer/abc", [CurvePoint("a", float("nan"), 1), CurvePoint("b", 1.0, 1)])
    (cell,) = runs(tracker, "cell")
    assert cell.data.metrics == {"b": 1.0}


def test_cells_still_open_when_the_sweep_is_stopped_end_as_killed(storage: Path) -> None:
    tracker = Tracker.open(None, storage, "stopped", {})
    tracker.start_cell("transfer/abc", "cell", FACTORS)
    tracker.end("KILLED")
    assert [run.info.status for run in runs(tracker, "cell")] == ["KILLED"]
    assert [run.info.status for run in runs(tracker, "invocation")] == ["KILLED"]


def test_runs_left_running_by_a_killed_process_are_ended_at_the_next_start(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process number beyond the kernel's largest belongs to nobody.
    monkeypatch.setattr("weam_ray.on_ray.tracking.os.getpid", lambda: 2**22 + 1)
    killed = Tracker.open(None, storage, "reconciled", {})
    killed.start_cell("transfer/abc", "cell", FACTORS)
    monkeypatch.undo()
    Tracker.open(None, storage, "reconciled", {}).end("FINISHED")
    states = sorted(run.info.status for run in runs(killed, "invocation"))
    assert states == ["FINISHED", "KILLED"]
    assert [run.info.status for run in runs(killed, "cell")] == ["KILLED"]


def test_a_run_of_a_live_process_is_left_alone(storage: Path) -> None:
    first = Tracker.open(None, storage, "beside", {})
    Tracker.open(None, storage, "beside", {}).end("FINISHED")
    states = sorted(run.info.status for run in runs(first, "invocation"))
    assert states == ["FINISHED", "RUNNING"]
    first.end("FINISHED")


def test_a_server_that_does_not_answer_stops_tracking_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    tracker = Tracker.open("http://127.0.0.1:9", tmp_path, "down", {})
    assert tracker.problem is not None
    tracker.start_cell("transfer/abc", "cell", FACTORS)
    tracker.scores("transfer/abc", {"accuracy/qaa": 0.5})
    tracker.files(None, [tmp_path / "nothing"])
    tracker.end_cell("transfer/abc", "FINISHED")
    tracker.end("FINISHED")


def test_files_land_under_the_storage_folder(tracker: Tracker, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>here</p>", encoding="utf8")
    tracker.files(None, [report])
    (parent,) = runs(tracker, "invocation")
    assert parent.info.artifact_uri.startswith("file://")
    listed = tracker._client.list_artifacts(parent.info.run_id)
    assert [item.path for item in listed] == ["report.html"]


def test_a_database_half_made_by_a_killed_process_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "mlflow-killed").mkdir()
    (tmp_path / "mlflow-killed" / "mlflow.db").write_bytes(b"SQLite format 3\0cut off")
    tracker = Tracker.open(None, tmp_path, "after", {})
    tracker.end("FINISHED")
    assert tracker.problem is None
    assert (tmp_path / "mlflow.db").is_file()
