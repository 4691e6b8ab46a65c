"""Points of a grid that there is no data for are holes, each with its reason, and no crash."""

from __future__ import annotations

from pathlib import Path

from planned_study import PAIRS, grid_of, labels, plan_of, pretend, read_small, store_of

from weam_ray.study.grid import Rows, without_oversized


def test_a_domain_that_has_no_text_for_a_pair_is_a_hole_with_the_file_it_misses(
    tmp_path: Path,
) -> None:
    grid = grid_of(
        read_small(
            tmp_path,
            grid={
                "domain": ["law", "talks"],
                "pair": ["en-de", "en-fr"],
                "size": 2,
                "method": "weam",
            },
        )
    )
    assert len(grid.cells) == 3
    (hole,) = grid.holes
    assert hole.key.label == "talks.en-fr.2.weam.s0"
    assert "no talks text for en-fr" in hole.reason and "talks.en-fr.en is not there" in hole.reason


def test_a_size_the_counted_corpus_does_not_reach_is_a_hole(tmp_path: Path) -> None:
    grid = grid_of(read_small(tmp_path, grid={"size": [2, 4, 8], "method": ["none", "weam"]}))
    corpus = grid.cells[-1].experiment.corpora[0].address
    found = without_oversized(grid, {corpus: Rows(count=4, cleaned=True)})
    assert labels(found) == ["none.s0", "law.en-de.2.weam.s0", "law.en-de.4.weam.s0"]
    (hole,) = found.holes
    assert hole.key.size == 8
    assert hole.reason == "the law en-de corpus holds 4 pairs after cleaning, not 8"


def test_a_smaller_corpus_is_taken_whole_beside_one_that_has_the_size(tmp_path: Path) -> None:
    crossed = {"size": 8, "method": "weam", "pair": ["en-de+en-fr", "en-fr"]}
    for smaller, kept in (("whole", ["law.en-de+en-fr.8.weam.s0"]), ("hole", [])):
        study = read_small(tmp_path, grid=crossed, bitext={"smaller": smaller})
        grid = grid_of(study)
        first, second = (step.address for step in grid.cells[0].experiment.corpora)
        rows = {first: Rows(count=8, cleaned=True), second: Rows(count=4, cleaned=True)}
        assert labels(without_oversized(grid, rows)) == kept
        neither = {**rows, first: Rows(count=7, cleaned=True)}
        assert not without_oversized(grid, neither).cells
    # Where every corpus has the size nothing is another's address.
    plain = read_small(tmp_path, grid={**crossed, "pair": "en-fr"}, bitext={"smaller": "whole"})
    usual = read_small(tmp_path, grid={**crossed, "pair": "en-fr"})
    one, other = (grid_of(study).cells[0].experiment for study in (plain, usual))
    assert one.encoder.address == other.encoder.address


def test_the_columns_that_a_study_names_are_those_its_corpora_read(tmp_path: Path) -> None:
    table = "{data_dir}/law.en-de.en"
    columns = {"format": "tsv", "source_column": "x", "target_column": "y"}
    study = read_small(
        tmp_path,
        bitext={"source": table, "target": None, **columns},
        grid={"size": 2, "method": "weam"},
    )
    (corpus,) = grid_of(study).cells[0].config.corpora
    assert {name: getattr(corpus, name) for name in columns} == columns


def test_a_size_of_a_corpus_whose_rows_nobody_knows_yet_is_a_cell(tmp_path: Path) -> None:
    grid = grid_of(read_small(tmp_path, grid={"size": [2, 10**9], "method": "weam"}))
    assert without_oversized(grid, {}) == grid


def test_the_first_plan_shows_the_sizes_that_the_files_cannot_reach(tmp_path: Path) -> None:
    sizes = [2, PAIRS, PAIRS + 1, 10**9]
    plan = plan_of(read_small(tmp_path, grid={"size": sizes, "method": "weam"}))
    assert [cell.key.size for cell in plan.cells] == [2, PAIRS]
    assert [hole.key.size for hole in plan.holes] == [PAIRS + 1, 10**9]
    reason = f"the law en-de corpus holds {PAIRS} pairs before cleaning, not {PAIRS + 1}"
    assert plan.holes[0].reason == reason
    assert f"hole: law.en-de.{PAIRS + 1}.weam.s0: {reason}" in plan.summary()


def test_a_plan_after_the_corpus_was_built_shows_the_hole(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"size": [2, 8], "method": "weam"})
    plan = plan_of(study)
    assert not plan.holes
    corpus = plan.missing_of("corpus")[0]
    for step in corpus.chain().values():
        pretend(step, store_of(study))
    assert [hole.key.size for hole in plan_of(study).holes] == [8]
    assert plan_of(study).summary().startswith("1 cell: 0 done, 1 to run; 1 hole; ")


def test_a_pair_whose_language_the_items_lack_is_a_hole(tmp_path: Path) -> None:
    grid = grid_of(read_small(tmp_path, items={"languages": ["en", "de"]}, grid={"pair": "en-fr"}))
    holes = [hole.reason for hole in grid.holes]
    assert holes and all("no items in fr: items.languages" in one for one in holes)
