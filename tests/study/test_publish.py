"""A study's folder: everything is there, and what no longer holds is gone."""

from __future__ import annotations

from pathlib import Path

from planned_study import plan_of, read_small, store_of
from test_ledger import finished
from test_report import source

from weam_ray.__main__ import main
from weam_ray.study.ledger import Invocation
from weam_ray.study.publish import publish, recall, remember, report_again
from weam_ray.study.report_input import Gate


def test_page_rows_tables_and_figures_are_written_together(tmp_path: Path):
    written = publish(source(), tmp_path)
    assert written.page == tmp_path / "report.html"
    assert {path.suffix for path in written.rows} == {".csv", ".parquet"}
    assert {path.suffix for path in written.tables} == {".csv", ".tex"}
    assert {path.suffix for path in written.figures} == {".svg", ".pdf"}
    every = (written.page, *written.rows, *written.tables, *written.figures)
    assert all(path.is_file() for path in every)


def test_figures_of_a_run_whose_gates_held_do_not_outlive_it(tmp_path: Path):
    held = publish(source(), tmp_path)
    assert held.figures
    failed = publish(source(gates=(Gate(name="The base beats chance", passed=False),)), tmp_path)
    assert not failed.figures and not any(path.exists() for path in held.figures)


def test_what_only_the_sweep_knew_is_remembered(tmp_path: Path):
    told = Invocation(command="weam-ray sweep x.yaml", started="2027-01-01", wall_seconds=3.5)
    remember(told, tmp_path)
    assert recall(tmp_path) == told
    assert recall(tmp_path / "none").command == ""


def test_a_report_can_be_written_again_from_the_store(tmp_path: Path):
    study = read_small(tmp_path, grid={"method": ["none", "weam"], "seed": [0, 1]})
    plan = finished(study)
    told = Invocation(command="weam-ray sweep", started="2027-01-01", wall_seconds=3.5)
    remember(told, study.folder)
    log = study.folder / "logs" / "law.en-de.9.weam.s0.log"
    log.parent.mkdir(parents=True)
    log.write_text("2027-01-01 00:00:00 ERROR weam_ray: loss is not finite\n")
    page = report_again(study, plan, store_of(study), "weam-ray report").page.read_text()
    assert "weam-ray sweep · weam-ray report" in page and "2027-01-01" in page
    assert plan_of(study).cells_to_run == ()


def test_the_command_says_where_everything_is(tmp_path: Path, capsys):
    assert main(["report", "sweeps/demo.yaml", "--set", f"storage={tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == f"report: {tmp_path / 'studies/demo/report.html'}"
    assert "nothing can be said yet" in (tmp_path / "studies/demo/report.html").read_text()
