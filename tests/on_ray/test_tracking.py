"""MLflow as its reader finds it: nested, honest about states, outlived by the sweep."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weam_ray.on_ray.mlflow_runs import (
    CellFacts,
    CellOutcome,
    CurvePoint,
    DatasetFacts,
    StudyPage,
    StudyRuns,
    cells_address,
)
from weam_ray.on_ray.tracking import Tracker

CELL = CellFacts(
    address="transfer/abc",
    name="home.en-qaa.250.weam.s0",
    factors={"pair": "en-qaa", "size": 250, "method": "weam"},
    settings={"masking_rate": 0.3},
)
NOTHING = CellOutcome(curves=(), scores={}, files=())


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for the module: making a new one takes seconds."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture
def runs(storage: Path, request: pytest.FixtureRequest) -> Iterator[StudyRuns]:
    opened = begun(storage, request.node.name)
    yield opened
    opened.end("FINISHED")


def begun(storage: Path, study: str) -> StudyRuns:
    uri = f"sqlite:///{storage}/mlflow.db"
    opened = StudyRuns.open(uri, study, {"weam_ray.title": "A test"}, storage / "mlflow")
    opened.begin()
    return opened


def found(runs: StudyRuns, kind: str) -> list[Any]:
    return [run for run in runs._runs() if run.data.tags["weam_ray.kind"] == kind]


def states(runs: StudyRuns, kind: str) -> list[str]:
    return [run.info.status for run in found(runs, kind)]


def test_a_cell_is_a_child_of_its_invocation_and_filterable_by_its_factors(runs: StudyRuns) -> None:
    runs.start_cell(CELL)
    outcome = CellOutcome(
        curves=[CurvePoint("pretraining/loss", 2.5, 20)], scores={"accuracy/qaa": 0.5}, files=()
    )
    runs.finish_cell(CELL, outcome)
    (parent,), (cell,) = found(runs, "invocation"), found(runs, "cell")
    assert cell.data.tags["mlflow.parentRunId"] == parent.info.run_id
    factors = {"pair": "en-qaa", "size": "250", "method": "weam"}
    assert cell.data.params == {**factors, "masking_rate": "0.3"}
    assert {name: cell.data.tags[name] for name in factors} == factors
    assert cell.data.metrics == {"pretraining/loss": 2.5, "accuracy/qaa": 0.5}
    assert cell.info.status == "FINISHED"
    history = runs.client.get_metric_history(cell.info.run_id, "pretraining/loss")
    assert [(point.step, point.value) for point in history] == [(20, 2.5)]


def test_the_flat_list_can_be_filtered_by_tag_and_sorted_by_a_metric(runs: StudyRuns) -> None:
    runs.finish_cell(CELL, CellOutcome(curves=(), scores={"target_accuracy": 0.5}, files=()))
    flat = runs.client.search_runs(
        [runs.experiment],
        "tags.method = 'weam' and params.size = '250'",
        order_by=["metrics.target_accuracy DESC"],
    )
    assert [run.info.run_name for run in flat] == [CELL.name]


def test_a_value_that_is_no_number_is_left_out_and_the_rest_is_written(runs: StudyRuns) -> None:
    curves = [CurvePoint("a", float("nan"), 1), CurvePoint("b", 1.0, 1)]
    runs.finish_cell(CELL, CellOutcome(curves=curves, scores={}, files=()))
    (cell,) = found(runs, "cell")
    assert cell.data.metrics == {"b": 1.0}


def test_a_second_attempt_is_a_new_run_that_names_the_first(runs: StudyRuns) -> None:
    runs.start_cell(CELL)
    runs.end_cell(CELL.address, "FAILED")
    runs.finish_cell(CELL, NOTHING)
    first, second = found(runs, "cell")
    assert [first.data.tags["weam_ray.attempt"], second.data.tags["weam_ray.attempt"]] == ["1", "2"]
    assert second.data.tags["weam_ray.previous_attempt"] == first.info.run_id
    assert first.data.tags["weam_ray.cell"] == second.data.tags["weam_ray.cell"]
    assert [first.info.status, second.info.status] == ["FAILED", "FINISHED"]


def test_an_attempt_of_a_later_invocation_goes_on_counting(storage: Path) -> None:
    first = begun(storage, "attempts")
    first.start_cell(CELL)
    first.end("KILLED")
    second = begun(storage, "attempts")
    assert not second.is_finished(CELL.address)
    second.finish_cell(CELL, NOTHING)
    second.end("FINISHED")
    assert begun(storage, "attempts").is_finished(CELL.address)
    assert [run.data.tags["weam_ray.attempt"] for run in found(second, "cell")] == ["1", "2"]


def test_what_a_cell_read_and_made_is_there_as_datasets_and_model(
    runs: StudyRuns, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf8")
    corpus = DatasetFacts(
        name="home en-qaa",
        digest="12ab",
        source="/store/corpus/12ab",
        rows=250,
        role="pre-training",
    )
    runs.finish_cell(
        CELL, CellOutcome(curves=(), scores={}, files=(), datasets=[corpus], model=tmp_path)
    )
    (cell,) = found(runs, "cell")
    (logged,) = cell.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("home en-qaa", "12ab")
    (output,) = cell.outputs.model_outputs
    model = runs.client.get_logged_model(output.model_id)
    assert model.tags["weam_ray.folder"] == str(tmp_path)
    assert model.params["size"] == "250"


def test_cells_still_open_when_the_sweep_is_stopped_end_as_killed(storage: Path) -> None:
    stopped = begun(storage, "stopped")
    stopped.start_cell(CELL)
    stopped.end("KILLED")
    assert states(stopped, "cell") == states(stopped, "invocation") == ["KILLED"]


def test_runs_left_running_by_a_killed_process_are_ended_at_the_next_start(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process number beyond the kernel's largest belongs to nobody.
    monkeypatch.setattr("weam_ray.on_ray.mlflow_runs.os.getpid", lambda: 2**22 + 1)
    killed = begun(storage, "reconciled")
    killed.start_cell(CELL)
    monkeypatch.undo()
    begun(storage, "reconciled").end("FINISHED")
    assert sorted(states(killed, "invocation")) == ["FINISHED", "KILLED"]
    assert states(killed, "cell") == ["KILLED"]


def test_another_process_with_the_number_of_a_killed_one_does_not_keep_its_runs_running(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weam_ray.on_ray.mlflow_runs._STARTED", 1.0)
    killed = begun(storage, "renumbered")
    monkeypatch.undo()
    begun(storage, "renumbered").end("FINISHED")
    assert sorted(states(killed, "invocation")) == ["FINISHED", "KILLED"]


def test_a_run_of_a_live_process_is_left_alone(storage: Path) -> None:
    first = begun(storage, "beside")
    begun(storage, "beside").end("FINISHED")
    assert sorted(states(first, "invocation")) == ["FINISHED", "RUNNING"]
    first.end("FINISHED")


def test_the_report_is_attached_and_its_answer_opens_the_page(
    runs: StudyRuns, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>here</p>", encoding="utf8")
    page = StudyPage(note="**A test**", params=["method", "size"], metrics=["target_accuracy"])
    runs.report([report], page)
    (parent,) = found(runs, "invocation")
    assert parent.info.artifact_uri.startswith("file://")
    listed = runs.client.list_artifacts(parent.info.run_id)
    assert [item.path for item in listed] == ["report.html"]
    experiment = runs.client.get_experiment(runs.experiment)
    assert experiment.tags["mlflow.note.content"] == "**A test**"
    view = json.loads(experiment.tags["mlflow.sharedViewState.cells"])
    assert view["selectedColumns"] == [
        "params.`method`",
        "params.`size`",
        "metrics.`target_accuracy`",
    ]
    assert view["compareRunCharts"][0]["selectedParams"] == ["method", "size"]
    assert "viewStateShareKey=cells" in cells_address(runs.experiment)


def test_a_database_half_made_by_a_killed_process_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "mlflow-killed").mkdir()
    (tmp_path / "mlflow-killed" / "mlflow.db").write_bytes(b"SQLite format 3\0cut off")
    tracker = Tracker(None, tmp_path, "after", {})
    tracker.end("FINISHED")
    assert tracker.problem is None
    assert (tmp_path / "mlflow.db").is_file()


def test_a_server_that_refuses_stops_tracking_and_nothing_else(tmp_path: Path) -> None:
    tracker = Tracker("http://127.0.0.1:9", tmp_path, "down", {})
    tracker.start_cell(CELL)
    tracker.finish_cell(CELL, lambda: NOTHING)
    tracker.end("FINISHED")
    assert tracker.problem is not None and "refused" in tracker.problem


def test_a_server_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weam_ray.on_ray.tracking._SECONDS_TO_ANSWER", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        started = time.monotonic()
        tracker = Tracker(f"http://127.0.0.1:{deaf.getsockname()[1]}", tmp_path, "deaf", {})
        tracker.start_cell(CELL)
        assert time.monotonic() - started < 1.5, "the sweep goes on at once"
        tracker.end("FINISHED")
    assert time.monotonic() - started < 30
    assert tracker.problem is not None and "timed out" in tracker.problem


def test_what_a_server_missed_is_pushed_later_and_once(storage: Path) -> None:
    uri = f"sqlite:///{storage}/mlflow.db"
    cells = [(CELL, lambda: CellOutcome(curves=(), scores={"target_accuracy": 0.5}, files=()))]
    pushed = []
    for _ in range(2):
        tracker = Tracker(uri, storage, "later", {})
        tracker.catch_up(cells)
        tracker.end("FINISHED")
        assert tracker.problem is None
        pushed.append(tracker.pushed)
    assert pushed == [1, 0]
    runs = begun(storage, "later")
    assert states(runs, "cell") == ["FINISHED"]
    runs.end("FINISHED")


def test_a_server_is_waited_for_as_long_as_it_takes_something(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(storage, "patient").end("FINISHED")

    def ended(*seconds: float) -> str | None:
        """What is said after writes that take so long each."""
        monkeypatch.undo()
        tracker = Tracker(f"sqlite:///{storage}/mlflow.db", storage, "patient", {})
        opened = threading.Event()
        tracker._queue.put(lambda runs: opened.set())
        assert opened.wait(120)
        monkeypatch.setattr("weam_ray.on_ray.tracking._SECONDS_TO_DRAIN", 1.5)
        for one in seconds:
            tracker._queue.put(lambda runs, one=one: time.sleep(one))  # type: ignore[misc]
        tracker.end("FINISHED")
        problem = tracker.problem
        tracker._thread.join()
        return problem

    assert ended(*[0.5] * 6) is None
    assert "nothing was written for" in (ended(6.0) or "")


def test_writes_keep_their_order_whoever_waits(storage: Path) -> None:
    tracker = Tracker(f"sqlite:///{storage}/mlflow.db", storage, "order", {})
    seen: list[int] = []
    for number in range(5):
        tracker._queue.put(lambda runs, number=number: seen.append(number))  # type: ignore[misc]
    tracker.end("FINISHED")
    assert seen == list(range(5))
    assert "mlflow" not in {thread.name for thread in threading.enumerate()}
