"""Two studies side by side, and results that travel."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated import Answers, World, simulate

from weam_ray.__main__ import main
from weam_ray.errors import DataError
from weam_ray.identity import digest
from weam_ray.study.bundle import Bundle, merge, named, read_bundle, write_bundle
from weam_ray.study.compare import compare_studies
from weam_ray.study.compare_text import compare_text, write_comparison
from weam_ray.study.results import View, tidy_rows

WORLD = World(items=800, seeds=4, seed_sd=0.005, methods=("tlm", "weam"), sizes=(1000, 4000))


def bundle(answers: Answers, root: Path, name: str, *, keep: int | None = None) -> Bundle:
    """A study as exported; item k's content is k's, whatever the study calls it."""
    world = answers.world
    rows = answers.write(root)
    items = {f"i{k}": digest(["text", k]) for k in range(world.items)}
    if keep is not None:
        items = {item: items[item] for item in list(items)[:keep]}
    return Bundle(
        name=name,
        title=name,
        rows=named(tidy_rows(rows), name),
        root=root,
        contents={("nli", "test", language): items for language in world.languages},
        view=View(),
        source_language="en",
        settings={"pretraining.steps": "800" if name == "old" else "1600"},
    )


def renamed(answers: Answers, suffix: str) -> Answers:
    """The same answers by other cells."""
    rows = [{**row, "cell": f"{row['cell']}{suffix}"} for row in answers.rows]
    predicted = {(f"{c}{suffix}", lang): one for (c, lang), one in answers.predicted.items()}
    return dataclasses.replace(answers, rows=rows, predicted=predicted)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Bundle, Bundle]:
    """The second's methods are 8 points better, its baseline alike."""
    first = simulate(WORLD, 1)
    better = dataclasses.replace(WORLD, gain=lambda method, size, pair: 0.08)
    second = renamed(simulate(better, 1), ".new")
    return bundle(first, tmp_path / "a", "old"), bundle(second, tmp_path / "b", "new")


def test_what_is_better_in_the_second_study_is_found(two):
    found = compare_studies(*two)
    by_name = {one.question.name: one for one in found.methods}
    assert set(by_name) == {"no pre-training", "TLM", "WEAM"}
    for name in ("TLM", "WEAM"):
        effect = by_name[name].effect
        assert by_name[name].found and effect is not None and effect.low < 0.08 < effect.high
    assert not by_name["no pre-training"].found
    gain = next(one for one in found.gains if one.question.name == "gain of WEAM")
    assert gain.found and gain.effect is not None and gain.effect.low < 0.08 < gain.effect.high
    assert found.settings == (("pretraining.steps", "800", "1600"),)
    assert not found.same and not found.apart


def test_the_difference_is_the_plain_mean_over_matched_items(two, tmp_path: Path):
    first, second = two
    found = compare_studies(first, second)
    weam = next(one for one in found.methods if one.question.name == "WEAM")
    means = []
    for side in (first, second):
        rows = side.rows[(side.rows["method"] == "weam") & (side.rows["split"] == "test")]
        own = [row for _, row in rows.iterrows() if row["language"] == row["pair"].split("-")[1]]
        means.append(np.mean([row["value"] for row in own]))
    assert weam.effect is not None
    assert weam.effect.value == pytest.approx(means[1] - means[0])


def test_the_same_work_is_not_compared_with_itself(two, tmp_path: Path):
    first, _ = two
    found = compare_studies(first, dataclasses.replace(first, name="again"))
    assert found.same == 9 and not found.cells
    assert "the same work in both: 9 configurations" in compare_text(found)


def test_only_shared_items_are_compared_and_the_rest_is_said(two):
    first, second = two
    fewer = {key: dict(list(items.items())[:300]) for key, items in second.contents.items()}
    found = compare_studies(first, dataclasses.replace(second, contents=fewer))
    assert all(one.spread is not None and one.spread.items == 300 for one in found.methods)
    assert any("300 items are shared; 500 and 0 left out" in reason for reason in found.apart)


def test_items_pair_by_their_content_and_not_by_their_name(two):
    first, second = two
    shifted = {
        key: {f"i{(k + 1) % 800}": digest(["text", k]) for k in range(800)}
        for key in second.contents
    }
    text = compare_text(compare_studies(first, dataclasses.replace(second, contents=shifted)))
    assert "identical" not in text
    other = {key: {f"i{k}": digest(["other", k]) for k in range(800)} for key in second.contents}
    apart = compare_studies(first, dataclasses.replace(second, contents=other))
    assert all("items in common" in one.reason for one in apart.cells)
    assert any("0 of 800 and 800 items are the same" in reason for reason in apart.apart)


def test_studies_without_a_common_seed_pair_in_order(two):
    first, second = two
    moved = second.rows.copy()
    for column in ("subset_seed", "pretraining_seed", "finetuning_seed"):
        moved[column] = moved[column].where(moved[column] < 0, moved[column] + 100)
    found = compare_studies(first, dataclasses.replace(second, rows=moved))
    weam = next(one for one in found.methods if one.question.name == "WEAM")
    gain = next(one for one in found.gains if one.question.name == "gain of WEAM")
    assert weam.found and gain.spread is not None and gain.spread.seeds == 4


def test_what_only_one_has_is_said(two):
    first, second = two
    rows = second.rows[second.rows["size"] != 4000]
    found = compare_studies(first, dataclasses.replace(second, rows=rows))
    assert any(reason.startswith("only old has ") for reason in found.apart)
    other = dataclasses.replace(second, view=View(selection="last"))
    assert any("selection" in reason for reason in compare_studies(first, other).apart)


def test_results_without_predictions_can_not_be_paired(two, tmp_path: Path):
    first, second = two
    write_bundle(second, tmp_path / "out", predictions=False)
    found = compare_studies(first, read_bundle(tmp_path / "out"))
    assert all("no predictions file" in one.reason for one in found.cells)


def test_an_exported_study_compares_as_the_study_does(two, tmp_path: Path):
    first, second = two
    for one in two:
        write_bundle(one, tmp_path / one.name, predictions=True)
    here = compare_studies(first, second)
    there = compare_studies(*(read_bundle(tmp_path / one.name) for one in two))
    assert [one.effect for one in here.cells] == [one.effect for one in there.cells]
    written = write_comparison(there, tmp_path / "tables")
    assert {path.suffix for path in written} == {".csv", ".tex", ".txt"}


def test_the_commands_work_on_exported_folders(two, tmp_path: Path, capsys):
    for one in two:
        write_bundle(one, tmp_path / one.name, predictions=True)
    old, new = (str(tmp_path / one.name) for one in two)
    assert main(["compare", old, new, "--every-cell", "--out", str(tmp_path / "t")]) == 0
    told = capsys.readouterr().out
    assert "gain of WEAM" in told and "medical en-qaa" in told and "pretraining.steps" in told
    assert main(["export", new, "--out", str(tmp_path / "m"), "--merge", old]) == 0
    assert "0 were in several" in capsys.readouterr().out
    rows = pd.read_parquet(tmp_path / "m" / "merged.parquet")
    assert set(rows["study"]) == {"old", "new"}


def test_equal_hashes_are_counted_once_and_contradictions_refused(two):
    first, _ = two
    again = first.rows.assign(study="again", seconds=1.0)
    merged = merge([first.rows, again])
    assert len(merged.rows) == len(first.rows) and merged.same == len(first.rows)
    with pytest.raises(DataError, match="for the same work"):
        merge([first.rows, again.assign(value=again["value"] + 0.01)])


def test_a_folder_that_was_not_exported_is_refused(tmp_path: Path):
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    with pytest.raises(DataError, match="no exported study"):
        read_bundle(tmp_path)


def test_the_same_answers_by_other_cells_are_called_identical(tmp_path: Path):
    first = bundle(simulate(WORLD, 3), tmp_path / "a", "old")
    second = bundle(renamed(simulate(WORLD, 3), ".new"), tmp_path / "b", "new")
    found = compare_studies(first, second)
    assert all(one.identical for one in found.cells)
