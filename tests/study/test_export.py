"""Tables and figures for papers say what the page says."""

from __future__ import annotations

import csv
from pathlib import Path

from simulated import World, planted, simulate
from test_report import source

from weam_ray.study.analysis import analyse
from weam_ray.study.export import write_tables
from weam_ray.study.figures import write_figures
from weam_ray.study.report_input import Gate


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_holds_the_raw_values_of_the_comparisons(tmp_path: Path):
    given = source()
    analysis = analyse(given)
    write_tables(given, tmp_path)
    rows = read(tmp_path / "methods.csv")
    assert len(rows) == len(analysis.methods)
    for row, one in zip(rows, analysis.methods, strict=True):
        assert one.effect is not None
        assert float(row["difference"]) == one.effect.value
        assert float(row["low"]) == one.effect.low


def test_latex_escapes_what_latex_would_eat(tmp_path: Path):
    write_tables(source(), tmp_path)
    text = (tmp_path / "languages.tex").read_text(encoding="utf8")
    body = "\n".join(text.splitlines()[1:])
    assert "accuracy, \\%" in body
    assert "%" not in body.replace("\\%", "")
    lines = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert len({line.replace("\\&", "").count("&") for line in lines}) == 1


def test_every_table_is_written_twice(tmp_path: Path):
    written = write_tables(source(), tmp_path)
    names = {path.stem for path in written}
    assert {"methods", "slopes", "cells", "curves", "languages", "aligners", "power"} <= names
    for name in names:
        assert (tmp_path / f"{name}.csv").is_file() and (tmp_path / f"{name}.tex").is_file()


def test_figures_are_the_same_bytes_every_time(tmp_path: Path):
    given = source(simulate(World(items=40, gain=planted(0.05), pairs=("en-qaa",))))
    bytes_of = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        paths = write_figures(given, folder)
        names = ["curves.pdf", "curves.svg", "gains.pdf", "gains.svg"]
        assert sorted(path.name for path in paths) == names
        bytes_of.append([path.read_bytes() for path in paths])
    assert bytes_of[0] == bytes_of[1]


def test_a_study_that_fails_its_gates_gets_no_figure(tmp_path: Path):
    given = source(gates=(Gate(name="The base beats chance", passed=False),))
    assert write_figures(given, tmp_path) == []
