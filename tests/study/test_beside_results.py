"""Results of every setting and task are answered by, and stand beside, what belongs to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from planned_study import LANGUAGES, plan_of, read_small, store_of
from test_ledger import facts_of, finished

from weam_ray.study.analysis import analyse
from weam_ray.study.answer import answer
from weam_ray.study.diagnostics import gaps, read_diagnostics
from weam_ray.study.fact_tables import fact_tables
from weam_ray.study.gates import study_gates
from weam_ray.study.guard_text import gate_plan
from weam_ray.study.ledger import Shelf, study_view
from weam_ray.study.methods import planned_methods
from weam_ray.study.planned_power import planned_grid
from weam_ray.study.report import write_report
from weam_ray.study.report_input import ReportInput
from weam_ray.study.results import target_languages
from weam_ray.study.tables import languages
from weam_ray.study.tasks import source_languages

TRAINED = {"train_languages": list(LANGUAGES)}
GRID: dict[str, Any] = {
    "pair": ["en-de", "en-fr"],
    "size": 4,
    "method": ["none", "random", "weam"],
    "setting": "translate-train",
    "seed": [0, 1],
}


def run(folder: Path, **changes: Any) -> ReportInput:
    """What a study's report is given after every cell was run."""
    study = read_small(folder, **changes)
    return facts_of(study, finished(study), store_of(study))


def test_a_language_is_flagged_on_the_items_it_has(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": "none"})
    plan, store = finished(study), store_of(study)
    facts = facts_of(study, plan, store)
    flags = facts.diagnostics.flags
    assert {(one.language, one.split) for one in flags} == {("de", "test"), ("fr", "test")}
    rows = facts.results.rows
    rows = rows[(rows["language"] != "fr") | (rows["split"] == "dev")]
    fewer = replace(facts.results, rows=rows)
    sources = source_languages(study)
    found = read_diagnostics(
        plan.cells, Shelf(store), fewer, facts.view, sources, (), pd.DataFrame()
    )
    said = {(one.language, one.split): one.message for one in found.flags}
    assert said["fr", "dev"] == "chance in fr dev" and said["de", "test"] == "chance in de test"
    assert ("de", "dev") not in said


def test_seeds_and_cells_are_counted_where_they_were_scored(tmp_path: Path) -> None:
    facts = run(tmp_path, items=TRAINED, grid=GRID)
    there = [one for one in facts.diagnostics.gaps if one.point.method == "none"]
    assert {(one.seeds, one.languages, one.split) for one in there} == {(2, 2, "test")}
    flags = [one for one in facts.diagnostics.flags if one.point.method == "none"]
    assert flags and {one.of for one in flags} == {2}  # of its four cells two are in each language


def test_a_task_without_the_split_of_the_claims_is_shown_by_what_it_has(tmp_path: Path) -> None:
    facts = run(tmp_path, grid={"method": "none"})
    rows = facts.results.rows[facts.results.rows["split"] == "dev"]
    found = gaps(replace(facts.results, rows=rows), facts.view, {"xnli": "en"}, facts.sanity)
    assert {one.split for one in found} == {"dev"}


# --- languages


@pytest.mark.parametrize(
    ("pair", "scored", "own"),
    [
        ("en-zh_cn", ("en", "zh"), ("zh",)),
        ("en-zh_cn", ("en", "zh_cn", "zh"), ("zh_cn",)),
        ("en-de+en-fr", ("en", "de"), ("de", "fr")),
        ("zh_cn-en", (), ("zh_cn",)),
    ],
)
def test_a_pair_names_its_language_as_the_items_do(
    pair: str, scored: tuple[str, ...], own: tuple[str, ...]
) -> None:
    assert target_languages(pair, "en", scored) == own


# --- translate-train alone


def test_a_study_of_translate_train_alone_is_answered_by_it(tmp_path: Path) -> None:
    facts = run(tmp_path, items=TRAINED, grid=GRID)
    assert facts.view.setting == "translate-train"
    found = analyse(facts)
    assert len(found.grid.cells) == 12
    (gain,) = found.methods
    # Each pair's cells against those that were fine-tuned in its language without any bitext.
    assert gain.languages == ("de", "fr")
    assert gain.effect is not None and gain.effect.value == pytest.approx(-0.5)
    assert {language for language, _ in found.levels.languages} == {"de", "fr"}
    assert answer(replace(facts, gates=()), found).claims


def test_default_gates_of_translate_train_ask_what_its_cells_score(tmp_path: Path) -> None:
    facts = run(tmp_path, items=TRAINED, grid=GRID)
    every, blind = facts.gates
    assert "random encoder" in every.name and "hypothesis-only" in blind.name
    for gate in facts.gates:
        assert gate.detail.startswith("de: base ") and "; fr: base " in gate.detail
    assert "hypothesis-only 25.0%" in blind.detail


def test_a_study_whose_own_setting_is_translate_train_is_answered_by_it(tmp_path: Path) -> None:
    own = {"setting": "translate-train", "target_languages": ["de"]}
    grid = {"size": 4, "method": ["none", "random", "weam"], "seed": [0, 1]}
    facts = run(tmp_path, items=TRAINED, transfer=own, grid=grid)
    assert facts.view.setting == "translate-train"
    assert all(gate.detail.startswith("de: base ") for gate in facts.gates)
    assert answer(replace(facts, gates=()), analyse(facts)).claims


def test_languages_that_nothing_can_be_trained_on_are_asked_of_by_no_gate(tmp_path: Path) -> None:
    study = read_small(tmp_path, items={"train_languages": ["en", "fr"]}, grid=GRID)
    view = facts_of(study, plan_of(study), store_of(study)).view
    assert {gate.languages for gate in study_gates(study, view)} == {("fr",)}


def test_a_plan_of_translate_train_knows_what_each_cell_will_score(tmp_path: Path) -> None:
    study = read_small(tmp_path, items=TRAINED, grid=GRID)
    grid = planned_grid(study, plan_of(study).cells)
    assert {tuple(sorted(found)) for found in grid.languages.values()} == {("de",), ("fr",)}


# --- gates that can't be measured


def test_gates_of_a_task_without_dev_are_held_on_what_claims_are_made_on(tmp_path: Path) -> None:
    study = read_small(tmp_path, items={"dev": None}, transfer={"selection": ["last"]})
    gates = study_gates(study, study_view(study))
    assert gates and {(one.split, one.selection) for one in gates} == {("test", "last")}


def test_a_plan_says_which_gates_its_grid_can_never_measure(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": ["none", "weam"]})
    gates = study_gates(study, study_view(study))
    lines = list(gate_plan(gates, planned_methods(study)))
    wanted = [line for line in lines if "CAN'T HOLD" in line]
    assert len(wanted) == 2
    assert all("no cells of the method random; add it to grid.method" in one for one in wanted)
    assert not any("CAN'T HOLD" in line for line in gate_plan(gates, ["none", "random"]))


# --- sanity rows


def test_sanity_rows_of_every_setting_reach_the_tables_and_the_page(tmp_path: Path) -> None:
    facts = run(tmp_path, items=TRAINED, grid={**GRID, "setting": ["zero-shot", "translate-train"]})
    (table,) = (one for one in fact_tables(facts) if one.name == "sanity")
    found = {(row["setting"], row["language"]): row["hypothesis-only"] for row in table.rows}
    expected = [("zero-shot", code) for code in LANGUAGES]
    expected += [("translate-train", "de"), ("translate-train", "fr")]
    assert found == dict.fromkeys(expected, 0.25)
    beside = {(one.setting, one.blind_source, one.blind_target) for one in facts.diagnostics.gaps}
    assert beside == {("zero-shot", 0.25, 0.25), ("translate-train", None, 0.25)}
    page = write_report(facts, tmp_path / "report.html").read_text(encoding="utf8")
    assert "What needs no encoder" in page and "hypothesis only, %" in page


def test_claims_stand_beside_the_sanity_rows_of_their_own_setting(tmp_path: Path) -> None:
    facts = run(tmp_path, items=TRAINED, grid={**GRID, "setting": ["zero-shot", "translate-train"]})
    rows = languages(facts, analyse(facts)).rows
    blind = [row["language"] for row in rows if row["kind"] == "sanity"]
    assert sorted(map(str, blind)) == sorted(LANGUAGES)


# --- retrieval


def test_retrieval_stands_beside_what_shared_subwords_find(tmp_path: Path) -> None:
    facts = run(tmp_path, grid={"method": "weam", "size": 4})
    tables = {one.name: one for one in fact_tables(facts)}
    for name in ("retrieval", "retrieval_layers"):
        found = [row["shared"] for row in tables[name].rows]
        assert found == pytest.approx([0.3] * len(found))
    page = write_report(facts, tmp_path / "report.html").read_text(encoding="utf8")
    assert page.count(">by shared subwords, %</th>") == 2


# --- the oracle


def test_an_oracle_is_called_one_wherever_it_is_shown(tmp_path: Path) -> None:
    facts = run(tmp_path, grid={"method": ["none", "weam"], "size": 4})
    (table,) = (one for one in fact_tables(facts) if one.name == "gaps")
    named = {(row["selection"], row["rule"]) for row in table.rows}
    marked = "target-dev-oracle (an oracle: an upper bound, no result)"
    assert named == {
        ("source-dev", "source-dev"),
        ("last", "last"),
        ("target-dev-oracle", marked),
    }
    page = write_report(facts, tmp_path / "report.html").read_text(encoding="utf8")
    oracles = [row for row in table.rows if row["rule"] == marked]
    assert oracles and page.count(f"<td>{marked}</td>") == len(oracles)
