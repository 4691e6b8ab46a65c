"""Rows are tidy, and items keep their place whatever order a file has them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import World, simulate

from weam_ray.errors import DataError
from weam_ray.study.results import Correctness, Results, View, target_languages, tidy_rows

ROW = {
    "cell": "transfer/a",
    "domain": "medical",
    "pair": "en-qaa",
    "size": 10,
    "method": "weam",
    "subset_seed": 0,
    "pretraining_seed": 0,
    "finetuning_seed": 0,
    "task": "nli",
    "language": "qaa",
    "split": "test",
    "selection": "source-dev",
    "value": 0.5,
    "n": 4,
}


def predictions(path: Path, items: list[str], right: list[bool], language: str = "qaa") -> Path:
    n = len(items)
    pq.write_table(
        pa.table(
            {
                "task": ["nli"] * n,
                "language": [language] * n,
                "split": ["test"] * n,
                "selection": ["source-dev"] * n,
                "item": items,
                "gold": pa.array([0] * n, pa.int8()),
                "predicted": pa.array([0 if one else 1 for one in right], pa.int8()),
                "log_probabilities": [[0.0, 0.0, 0.0]] * n,
            }
        ),
        path,
    )
    return path


def test_optional_columns_are_filled_in():
    row = tidy_rows([ROW]).iloc[0]
    assert row["setting"] == "zero-shot" and row["system"] == "encoder" and row["regime"] == ""


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="domain"):
        tidy_rows([{key: value for key, value in ROW.items() if key != "domain"}])


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(DataError, match="wrong type"):
        tidy_rows([{**ROW, "size": "many"}])


def test_the_same_measurement_twice_is_refused():
    with pytest.raises(DataError, match="two result rows"):
        tidy_rows([ROW, ROW])


def test_no_rows_are_rows_too():
    assert len(tidy_rows([])) == 0


def test_items_are_paired_by_name_not_by_place(tmp_path: Path):
    correct = Correctness()
    correct.add("a", predictions(tmp_path / "a", ["x", "y", "z"], [True, False, True]))
    correct.add("b", predictions(tmp_path / "b", ["z", "x", "y"], [True, True, False]))
    arrays = [correct.get(cell, "qaa", View()) for cell in "ab"]
    assert arrays[0] is not None and arrays[1] is not None
    assert arrays[0].tolist() == arrays[1].tolist() == [1, 0, 1]


def test_an_item_that_was_never_asked_is_neither_right_nor_wrong(tmp_path: Path):
    correct = Correctness()
    correct.add("a", predictions(tmp_path / "a", ["x"], [True]))
    correct.add("b", predictions(tmp_path / "b", ["y", "x"], [True, True]))
    first = correct.get("a", "qaa", View())
    assert first is not None and first.tolist() == [1, -1]


def test_an_item_predicted_twice_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="twice"):
        Correctness().add("a", predictions(tmp_path / "a", ["x", "x"], [True, True]))


def test_a_missing_or_foreign_file_is_one_clear_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such predictions file"):
        Correctness().add("a", tmp_path / "nothing.parquet")
    (tmp_path / "text").write_text("not parquet, but long enough to look at")
    with pytest.raises(DataError, match="not a predictions file"):
        Correctness().add("a", tmp_path / "text")


def test_files_and_memory_hold_the_same(tmp_path: Path):
    answers = simulate(World(items=50))
    read = Results.read(answers.write(tmp_path), tmp_path)
    held = answers.results()
    for (cell, _, language, *_), array in held.correct.arrays.items():
        found = read.correct.get(cell, language, View())
        assert found is not None
        np.testing.assert_array_equal(found, array)


def test_accuracy_of_the_items_is_the_rows_value(tmp_path: Path):
    answers = simulate(World(items=50))
    read = Results.read(answers.write(tmp_path), tmp_path)
    for row in read.rows.to_dict("records"):
        array = read.correct.get(row["cell"], row["language"], View())
        assert array is not None and array.mean() == pytest.approx(row["value"])


def test_the_languages_of_a_pair_are_those_that_are_not_the_source():
    assert target_languages("en-qaa", "en") == ("qaa",)
    assert target_languages("bg-en", "en") == ("bg",)
    assert target_languages("en-qaa+en-qab", "en") == ("qaa", "qab")
    assert target_languages("", "en") == ()
