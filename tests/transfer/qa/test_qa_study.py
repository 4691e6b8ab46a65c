"""Question answering in a study: from the study file to result rows, gates and the page."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_questions import READER, question_settings, write_questions
from small_study import small_study

from weam_ray.artifacts import Artifact, Resources, Store, ensure
from weam_ray.errors import ConfigError, DataError
from weam_ray.experiment import MAKERS
from weam_ray.study.bundle import bundle_of
from weam_ray.study.config import StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.fact_tables import fact_tables
from weam_ray.study.gates import study_gates
from weam_ray.study.grid import Cell, expand
from weam_ray.study.guard_text import gate_plan, guard_lines
from weam_ray.study.item_counts import count_common
from weam_ray.study.ledger import Invocation, report_input, result_rows, study_view
from weam_ray.study.methods import planned_methods
from weam_ray.study.plan import Plan, make_plan
from weam_ray.study.planned_power import planned_grid, planned_power
from weam_ray.study.report import write_report
from weam_ray.study.tasks import source_languages
from weam_ray.study.workload import Workbook
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa import exact_match, f1
from weam_ray.transfer.qa.windows import Windows
from weam_ray.transfer.steps import reader_step

GRID = (
    "{domain: home, pair: en-qaa, size: 60, method: [none, tlm], seed: 0, task: [mlqa, xnli],"
    " setting: [zero-shot, translate-train]}"
)
INVOCATION = Invocation(command="x", started="2026-01-01T00:00:00Z", wall_seconds=1.0)


def study_of(folder: Path, **changes: str) -> StudyConfig:
    questions = question_settings(write_questions(folder / "questions"))
    settings = {"questions": questions, "qa": READER, "grid": GRID, "gates": "[]"}
    return small_study(folder, **(settings | changes))


def plan_of(study: StudyConfig) -> Plan:
    store = study.open_store()
    return make_plan(study, find_data(study, store), store)


def cells_of(study: StudyConfig) -> dict[str, Cell]:
    grid = expand(study, find_data(study, study.open_store()))
    return {cell.key.label: cell for cell in grid.cells}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Plan, Store]:
    """The reader's zero-shot cells of a study, made in this process."""
    study = study_of(tmp_path_factory.mktemp("qa"))
    study = study.model_copy(
        update={"grid": study.grid.model_copy(update={"setting": ("zero-shot",)})}
    )
    store = study.open_store()
    plan = plan_of(study)
    for cell in plan.cells:
        if cell.key.task == "mlqa":
            for step in (cell.experiment.sanity, *cell.experiment.ends()):
                ensure(step, store, MAKERS, resources=Resources(threads=1))
    return study, plan_of(study), store


def test_tasks_share_an_encoder_and_differ_in_what_is_made_of_it(tmp_path: Path) -> None:
    cells = cells_of(study_of(tmp_path))
    reader = cells["home.en-qaa.60.tlm.mlqa.s0"].experiment
    pairs = cells["home.en-qaa.60.tlm.s0"].experiment
    assert reader.encoder.address == pairs.encoder.address
    assert reader.transfer.stage == "reader"
    assert pairs.transfer.stage == "transfer"
    assert set(reader.corpora[0].upstream) == {"items", "questions:mlqa"}


def test_translate_train_trains_a_reader_on_the_pairs_other_language(tmp_path: Path) -> None:
    cells = cells_of(study_of(tmp_path))
    config = cells["home.en-qaa.60.tlm.mlqa.translate-train.s0"].experiment.transfer.config
    assert config.source_languages == ("qaa",)


def test_a_language_without_questions_is_a_hole(tmp_path: Path) -> None:
    grid = "{domain: home, pair: en-qab, size: 60, method: tlm, seed: 0, task: mlqa}"
    plan = plan_of(study_of(tmp_path, grid=grid))
    assert [hole.reason for hole in plan.holes] == [
        "no mlqa questions in qab: questions.mlqa.languages does not name it"
    ]


def test_a_study_of_questions_alone_runs_without_items(
    ran: tuple[StudyConfig, Plan, Store],
) -> None:
    study, _, _ = ran
    alone = study.model_copy(
        update={
            "items": ItemsConfig(languages=("en",)),
            "grid": study.grid.model_copy(update={"task": ("mlqa",)}),
        }
    )
    plan, store = plan_of(alone), alone.open_store()
    assert {cell.key.task for cell in plan.cells} == {"mlqa"}
    assert not plan.missing_of("items") and not plan.missing_of("sanity")
    (cell,) = (one for one in plan.cells if one.key.method == "none")
    for step in (cell.experiment.sanity, *cell.experiment.ends()):
        ensure(step, store, MAKERS, resources=Resources(threads=1))
    facts = report_input(alone, plan_of(alone), store, {}, INVOCATION)
    assert set(facts.results.rows["task"]) == {"mlqa", "xquad"}
    assert {one.task for one in facts.evaluated} == {"mlqa", "xquad"}


def test_a_reader_has_a_source_language_of_its_own(tmp_path: Path) -> None:
    reader = READER.replace("{", "{train_language: qaa, ", 1)
    grid = GRID.replace("[mlqa, xnli]", "[mlqa]").replace("zero-shot, translate-train", "zero-shot")
    study = study_of(tmp_path, qa=reader, grid=grid)
    plan, store = plan_of(study), study.open_store()
    assert report_input(study, plan, store, {}, INVOCATION).source_language == "qaa"
    assert bundle_of(study, plan, store).source_language == "qaa"
    assert planned_grid(study, plan.cells).source == "qaa"
    assert source_languages(study) == {"xnli": "en", "mlqa": "qaa", "xquad": "qaa"}


def test_an_unknown_task_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown task 'squad'") as error:
        cells_of(study_of(tmp_path, grid=GRID.replace("mlqa", "squad")))
    assert "xnli, mlqa" in str(error.value)


def test_a_pair_of_languages_without_its_file_is_refused(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    (tmp_path / "questions" / "dev-qaa-en.json").unlink()
    with pytest.raises(DataError, match="no dev file of mlqa for qaa-en"):
        plan_of(study)


def test_result_rows_hold_both_metrics_of_every_set_and_pair_of_languages(
    ran: tuple[StudyConfig, Plan, Store],
) -> None:
    _, plan, store = ran
    rows = result_rows(plan.cells, store)
    rows = rows[(rows["method"] == "tlm") & (rows["selection"] == "source-dev")]
    found = {
        (row["task"], row["split"], row["language"], row["metric"]): row["n"]
        for row in rows.to_dict("records")
    }
    languages = {"en", "qaa", "en-qaa", "qaa-en"}
    expected = {("mlqa", split, one) for split in ("dev", "test") for one in languages}
    expected |= {("xquad", "test", one) for one in ("en", "qaa")}
    assert found == {(*one, metric): 24 for one in expected for metric in ("exact_match", "f1")}


def test_an_export_knows_the_questions_and_a_plan_counts_them(
    ran: tuple[StudyConfig, Plan, Store],
) -> None:
    study, plan, store = ran
    contents = bundle_of(study, plan, store).contents
    assert {("mlqa", "test", "qaa"), ("mlqa", "dev", "en"), ("xquad", "test", "en")} <= set(
        contents
    )
    assert len(contents["mlqa", "test", "qaa"]) == 24
    power = planned_power(study, plan, store)
    assert power is not None and power.items == 24


def test_a_plan_counts_the_questions_that_can_be_compared(
    ran: tuple[StudyConfig, Plan, Store], tmp_path: Path
) -> None:
    rows = [("mlqa", one, name) for one, names in (("de", "abc"), ("es", "bcd")) for name in names]
    rows += [("xquad", "de", name) for name in "uvwxyz"]
    columns = zip(*rows, strict=True)
    table = dict(zip(("task", "language", "item"), map(list, columns), strict=True))
    pq.write_table(
        pa.table(table | {"split": ["test"] * len(rows)}), tmp_path / "questions.parquet"
    )
    made = cast(Artifact, SimpleNamespace(path=tmp_path))
    assert count_common(made, "mlqa", "test", {"de", "es"}) == 2
    assert count_common(made, "mlqa", "test", {"de"}) == 3
    assert count_common(made, "xquad", "test", {"de"}) == 6


def test_a_reader_is_planned_by_the_windows_of_the_languages_it_reads(
    ran: tuple[StudyConfig, Plan, Store],
) -> None:
    study, plan, store = ran
    (cell,) = (one for one in plan.cells if (one.key.task, one.key.method) == ("mlqa", "none"))
    config = cell.config.qa
    windows = Windows.read(store.find(cell.experiment.tokens).path)
    english = (windows.column("split") == "train") & (windows.column("language") == "en")
    assert 0 < english.sum() < (windows.column("split") == "train").sum()
    step = reader_step(
        config.model_copy(update={"steps": None, "epochs": 2.0}),
        cell.experiment.questions["mlqa"],
        cell.experiment.tokens,
        cell.experiment.encoder,
    )
    found = Workbook({**plan.steps, step.address: step}, store).workload(step.address)
    assert found.optimiser_steps == 2 * math.ceil(english.sum() / config.batch_size)


def test_scores_recomputed_by_hand_from_the_predictions_are_those_reported(
    ran: tuple[StudyConfig, Plan, Store],
) -> None:
    _, plan, store = ran
    for cell in plan.cells:
        done = store.find(cell.experiment.transfer)
        if done is None:
            continue
        rows = pd.read_parquet(done.path / "predictions.parquet")
        assert list(rows["exact_match"]) == [
            exact_match(text, golds, language)
            for text, golds, language in zip(
                rows["predicted_text"], rows["gold_texts"], rows["language"], strict=True
            )
        ]
        by_hand = rows.groupby(["task", "split", "selection", "language"])["f1"].mean()
        for row in pq.read_table(done.path / "scores.parquet").to_pylist():
            key = tuple(row[name] for name in ("task", "split", "selection", "language"))
            if row["metric"] == "f1":
                assert row["value"] == pytest.approx(by_hand[key], abs=1e-6)
                assert f1("x", ["x"], row["language"]) == 1.0


def test_the_page_is_written_for_answers_with_their_sanity_rows_and_gates(
    ran: tuple[StudyConfig, Plan, Store],
) -> None:
    study, plan, store = ran
    assert (study_view(study).task, study_view(study).metric) == ("mlqa", "exact_match")
    facts = report_input(study, plan, store, {}, INVOCATION)
    page = write_report(facts, study.folder / "report.html").read_text(encoding="utf8")
    systems = {"majority", "question-only", "first-sentence", "word-overlap-only"}
    assert set(facts.sanity["system"]) == systems
    assert "fine-tuned accuracy in the source language is above word-overlap-only" in page
    assert "mlqa, zero-shot, test items" in page
    assert facts.language_names["qaa-en"].endswith("asked in English")
    # Four steps teach nothing, and the page and the terminal must say so.
    chance = [flag for flag in facts.diagnostics.flags if flag.kind == "near-chance"]
    assert {flag.task for flag in chance} == {"mlqa", "xquad"}
    assert {(flag.cells, flag.of) for flag in facts.diagnostics.flags} == {(1, 1)}
    xquad = next(flag for flag in chance if flag.task == "xquad")
    assert xquad.language in ("en", "qaa") and xquad.message.startswith("F1 ")
    assert 'id="flags"' in page and "Beside accuracy" in page
    said_in_terminal = list(guard_lines(facts))
    assert any(line.startswith("GATE FAILS") for line in said_in_terminal)
    assert any(line.startswith("FLAG near-chance: ") for line in said_in_terminal)
    asked = list(gate_plan(study_gates(study, facts.view), planned_methods(study)))
    assert any("base above word-overlap-only in en" in line for line in asked)
    metrics = {(gap.task, gap.metric) for gap in facts.diagnostics.gaps}
    assert metrics == {(task, one) for task in ("mlqa", "xquad") for one in ("exact_match", "f1")}
    assert all(gap.blind_target is not None for gap in facts.diagnostics.gaps)
    rows = next(one for one in fact_tables(facts) if one.name == "sanity").rows
    assert {(row["task"], row["language"]) for row in rows} >= {("xquad", "en"), ("xquad", "qaa")}
