"""From the store to result rows and to all that a report is written from."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned_study import LANGUAGES, plan_of, pretend, read_small, store_of

from weam_ray.artifacts import Artifact, Step, Store, Work
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell
from weam_ray.study.ledger import (
    STUDY_FILE,
    Invocation,
    keep_study_file,
    report_input,
    result_rows,
    study_view,
    write_rows,
)
from weam_ray.study.plan import Plan
from weam_ray.study.report_input import ReportInput
from weam_ray.study.results import NOT_APPLICABLE, ROW_COLUMNS, tidy_rows

SELECTIONS = ("source-dev", "last", "target-dev-oracle")
FACTS: Mapping[str, dict[str, Any]] = {
    "items": {"by_split": {"train/en": {"items": 90}, "test/en": {"items": 4}}},
    "tokens": {"items": 94, "truncated": 1},
    "corpus": {"rows_read": 7, "rows_kept": 4, "dropped": {"duplicate": 3}},
    "links": {
        "pairs": 4,
        "words": {"source": 30, "target": 10},
        "linked_share": {"source": 0.5, "target": 0.9},
        "aer": {"aer": 0.25, "precision": 1.0},
    },
    "divergence": {
        "pairs": 4,
        "sides": [
            {
                "language": language,
                "words": 0.5,
                "words_within": 0.25,
                "subwords": 0.4,
                "subwords_within": 0.2,
                "unseen": 0.1,
            }
            for language in ("en", "de")
        ],
    },
    "encoder": {"steps": 4, "epochs_by_set": {"en-de/law": 2.5, "replay": 0.5}},
}
FLAGS = [
    {
        "kind": "near-chance",
        "task": "xnli",
        "language": language,
        "split": split,
        "selection": selection,
        "message": f"chance in {language} {split}",
    }
    for language in ("de", "fr")
    for split in ("dev", "test")
    for selection in SELECTIONS
]


def accuracy(cell: Cell, language: str) -> float:
    """Another value for every size, method, setting and language."""
    value = (cell.key.size + len(cell.key.method)) / 100 + LANGUAGES.index(language) / 10
    return value + (0.5 if cell.key.setting != "zero-shot" else 0.0)


def scored(cell: Cell) -> list[str]:
    """The languages that a cell is scored in."""
    own = cell.config.transfer.evaluated_languages or LANGUAGES
    return [language for language in LANGUAGES if language in own]


def scores(cell: Cell, system: str = "encoder") -> pa.Table:
    """Rows of a cell; of another system those beside it, which know no checkpoint rule."""
    own = system == "encoder"
    return pa.Table.from_pylist(
        [
            {
                "task": cell.config.transfer.task,
                "language": language,
                "split": split,
                "selection": selection,
                "system": system,
                "metric": "accuracy",
                "value": accuracy(cell, language) if own else 0.25,
                "n": 4,
                "share_0": 0.5,
                "share_1": 0.25,
                "share_2": 0.25,
            }
            for language in scored(cell)
            for split in ("dev", "test")
            for selection in (SELECTIONS if own else ("none",))
        ]
    )


def predictions(cell: Cell) -> pa.Table:
    rows = [
        {
            "task": cell.config.transfer.task,
            "language": language,
            "split": split,
            "selection": selection,
            "item": f"{split}{item}",
            "gold": item % 3,
            # Every other item is right whatever the size: cells differ in some and agree in others.
            "predicted": (item + item % 2 * cell.key.size) % 3,
            "log_probabilities": [-1.0, -1.0, -1.0],
        }
        for language in scored(cell)
        for split in ("dev", "test")
        for selection in SELECTIONS
        for item in range(4)
    ]
    return pa.Table.from_pylist(rows)


def finish(cell: Cell, store: Store) -> None:
    """Pretend to run a cell: what its rows and its report are read from is there."""
    for end in (*cell.experiment.shared(), *cell.experiment.ends()):
        for step in end.chain().values():
            if step.stage in ("transfer", "retrieval", "sanity", "probe"):
                store.make(step, lambda work, cell=cell: _write(work, cell), _upstream(step, store))
            else:
                pretend(step, store, FACTS.get(step.stage, {}))


def _upstream(step: Step, store: Store) -> dict[str, Artifact]:
    found = {name: store.find(needed) for name, needed in step.upstream.items()}
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def _write(work: Work, cell: Cell) -> None:
    if work.step.stage == "retrieval":
        both: dict[str, Any] = {f"{kind}to_{side}": [0.1, 0.2] for kind in ("", "centred_")
                for side in ("target", "source")}  # fmt: skip
        both["shared_subwords"] = 0.3
        rows = [
            {"language": code, "accuracy": cell.key.size / 10, "n": 4, **both} for code in LANGUAGES
        ]
        pq.write_table(pa.Table.from_pylist(rows), work.out / "retrieval.parquet")
        return
    if work.step.stage == "probe":
        rows = [
            {"language": code, "system": system, "value": value, "n": 7}
            for code in LANGUAGES
            for system, value in (("frozen-probe", 0.4), ("frozen-probe-centred", 0.5))
        ]
        pq.write_table(pa.Table.from_pylist(rows), work.out / "scores.parquet")
        return
    system = "hypothesis-only" if work.step.stage == "sanity" else "encoder"
    pq.write_table(scores(cell, system), work.out / "scores.parquet")
    if work.step.stage == "transfer":
        work.facts["flags"] = FLAGS
        pq.write_table(predictions(cell), work.out / "predictions.parquet")


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return read_small(tmp_path, grid={"method": ["none", "weam"], "seed": [0, 1]})


def finished(study: StudyConfig, *labels: str) -> Plan:
    """The plan after the named cells (all, when none is named) were run."""
    for cell in plan_of(study).cells:
        if not labels or cell.key.label in labels:
            finish(cell, store_of(study))
    return plan_of(study)


def slow_rows(plan: Plan, store: Store) -> pd.DataFrame:
    """The rows by the book: one after the other."""
    rows: list[dict[str, Any]] = []
    for cell in plan.cells:
        transfer = store.find(cell.experiment.transfer)
        if transfer is None:
            continue
        seconds, steps, epochs = float(transfer.record["seconds"]), 0, 0.0
        if cell.key.method != "none":
            encoder = store.find(cell.experiment.encoder)
            assert encoder is not None
            seconds += float(encoder.record["seconds"])
            steps, epochs = encoder.facts["steps"], max(encoder.facts["epochs_by_set"].values())
        for row in pq.read_table(transfer.path / "scores.parquet").to_pylist():
            rows.append(
                {
                    **row,
                    **cell.key.factors(),
                    "seconds": seconds,
                    "steps": steps,
                    "epochs": epochs,
                    "cell": transfer.address,
                    "predictions": f"{transfer.address}/predictions.parquet",
                }
            )
    return pd.DataFrame(rows)


def test_rows_are_those_of_the_slow_way(study: StudyConfig) -> None:
    plan, store = finished(study), store_of(study)
    fast, slow = tidy_rows(result_rows(plan.cells, store)), tidy_rows(slow_rows(plan, store))
    pd.testing.assert_frame_equal(fast, slow)
    assert list(fast.columns) == list(ROW_COLUMNS)
    assert len(fast) == len(plan.cells) * len(LANGUAGES) * 2 * len(SELECTIONS)


def test_only_finished_cells_have_rows(study: StudyConfig) -> None:
    plan = finished(study, "none.s0", "law.en-de.4.weam.s1")
    rows = result_rows(plan.cells, store_of(study))
    assert Counter(zip(rows["method"], rows["finetuning_seed"], strict=True)) == {
        ("none", 0): 18,
        ("weam", 1): 18,
    }


def test_nothing_finished_is_an_empty_table(study: StudyConfig) -> None:
    assert result_rows(plan_of(study).cells, store_of(study)).empty


def test_a_cell_without_bitext_has_no_pair_size_or_seed_of_it(study: StudyConfig) -> None:
    rows = tidy_rows(result_rows(finished(study, "none.s1").cells, store_of(study)))
    row = rows.iloc[0]
    assert (row["domain"], row["pair"], row["size"], row["regime"]) == ("", "", 0, "")
    assert row["subset_seed"] == row["pretraining_seed"] == NOT_APPLICABLE
    assert row["finetuning_seed"] == 1
    assert (row["steps"], row["epochs"]) == (0, 0.0)


def test_what_an_encoder_cost_is_read_from_it_or_not_known_when_it_was_cleared_away(
    study: StudyConfig,
) -> None:
    store = store_of(study)
    plan = finished(study, "law.en-de.4.weam.s0")
    rows = result_rows(plan.cells, store)
    assert set(rows["steps"]) == {4} and set(rows["epochs"]) == {2.5}
    encoder = next(c for c in plan.cells if c.key.label == "law.en-de.4.weam.s0").experiment.encoder
    shutil.rmtree(store.root / encoder.address)
    assert np.isnan(result_rows(plan.cells, store)["epochs"]).all()


def test_predictions_are_named_relative_to_the_store_so_that_it_may_move(
    study: StudyConfig, tmp_path: Path
) -> None:
    plan, store = finished(study, "none.s0"), store_of(study)
    names = set(result_rows(plan.cells, store)["predictions"])
    store.root.rename(tmp_path / "moved")
    (name,) = names
    assert (tmp_path / "moved" / name).is_file()
    assert set(result_rows(plan.cells, Store(tmp_path / "moved"))["predictions"]) == names


def test_each_artifact_is_looked_up_once_for_the_whole_report(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = finished(study), store_of(study)
    looked: Counter[str] = Counter()
    find = Store.find

    def counted(store: Store, step: Step | str) -> Artifact | None:
        looked[step if isinstance(step, str) else step.address] += 1
        return find(store, step)

    monkeypatch.setattr(Store, "find", counted)
    facts_of(study, plan, store)
    assert set(looked.values()) == {1}


def facts_of(study: StudyConfig, plan: Plan, store: Store) -> ReportInput:
    invocation = Invocation(
        command="weam-ray sweep", started="2027-01-01T00:00:00Z", wall_seconds=3
    )
    return report_input(study, plan, store, {}, invocation)


def test_a_report_is_given_what_the_store_knows(study: StudyConfig) -> None:
    plan, store = finished(study), store_of(study)
    facts = facts_of(study, plan, store)
    assert facts.planned_cells == 6 and not facts.holes and not facts.failures
    (corpus,) = facts.corpora
    assert (corpus.read, corpus.kept, corpus.dropped) == (7, 4, {"duplicate": 3})
    assert [(one.split, one.kept) for one in facts.evaluated] == [
        ("train", 90),
        ("test", 4),
        ("all", 94),
    ]
    (aligner,) = facts.aligners
    assert (aligner.size, aligner.regime, aligner.aer) == (4, "pool", 0.25)
    assert aligner.linked_share == pytest.approx((30 * 0.5 + 10 * 0.9) / 40)
    one = next(
        row for row in facts.retrieval if (row.method, row.size, row.language) == ("weam", 4, "de")
    )
    assert (one.accuracy, one.n, one.chance) == (0.4, 4, 0.25)
    assert one.shared == pytest.approx(0.3)
    near = {one.language: one for one in facts.divergences}
    assert set(near) == {"en", "de"} and near["de"].words == 0.5 and near["de"].unseen == 0.1
    assert facts.objectives["weam"] == "weam"
    assert facts.view == study_view(study)
    assert set(facts.provenance.stage_seconds) >= {"corpus", "encoder", "transfer"}
    assert facts.provenance.settings["pretraining.steps"] == "4"
    assert facts.language_names["de"] == "German"


def test_diagnostics_of_a_point_are_averaged_over_its_seeds(study: StudyConfig) -> None:
    plan, store = finished(study), store_of(study)
    found = facts_of(study, plan, store).diagnostics
    weam = next(one for one in found.probes if one.point.method == "weam" and one.language == "de")
    assert (weam.plain, weam.centred, weam.n) == (0.4, 0.5, 7)
    layers = [one for one in found.layers if one.point == weam.point]
    assert [one.shared for one in layers] == pytest.approx([0.3, 0.3])
    assert [(one.layer, one.plain, one.centred) for one in layers] == [
        (0, pytest.approx(0.1), pytest.approx(0.1)),
        (1, pytest.approx(0.2), pytest.approx(0.2)),
    ]


def test_the_gap_is_between_the_source_language_and_the_pairs_other_one(study: StudyConfig) -> None:
    plan, store = finished(study), store_of(study)
    facts = facts_of(study, plan, store)
    (gap,) = (
        one
        for one in facts.diagnostics.gaps
        if one.point.method == "weam" and one.point.size == 4 and one.selection == "last"
    )
    rows = facts.results.view(replace(facts.view, selection="last"))
    own = rows[(rows["method"] == "weam") & (rows["size"] == 4)]
    assert gap.source == pytest.approx(own[own["language"] == "en"]["value"].mean())
    assert gap.target == pytest.approx(own[own["language"] == "de"]["value"].mean())
    assert (gap.languages, gap.seeds) == (1, 2)


def test_a_report_of_nothing_can_be_written_of(study: StudyConfig) -> None:
    facts = facts_of(study, plan_of(study), store_of(study))
    assert facts.results.rows.empty and facts.sanity.empty and not facts.corpora


def test_holes_are_passed_on_with_their_reasons(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"domain": ["law", "talks"], "pair": "en-fr"})
    facts = facts_of(study, plan_of(study), store_of(study))
    assert [hole.factors for hole in facts.holes][0] == "talks.en-fr.2.weam.s0"
    assert all("no talks text for en-fr" in hole.reason for hole in facts.holes)


def test_gates_are_read_from_the_setting_that_claims_are_made_on(tmp_path: Path) -> None:
    study = read_small(
        tmp_path,
        items={"train_languages": list(LANGUAGES)},
        grid={"method": ["none", "random"], "setting": ["zero-shot", "translate-train"]},
    )
    plan = finished(study)
    assert {cell.key.setting for cell in plan.cells} == {"zero-shot", "translate-train"}
    facts = facts_of(study, plan, store_of(study))
    base = next(cell for cell in plan.cells if cell.key.label == "none.s0")
    wanted = f"{100 * accuracy(base, 'en'):.1f}"
    assert any(wanted in gate.detail for gate in facts.gates)


def test_rows_are_written_as_csv_and_parquet_alike(study: StudyConfig, tmp_path: Path) -> None:
    facts = facts_of(study, finished(study, "none.s0"), store_of(study))
    csv, parquet = write_rows(facts.results, tmp_path / "tables")
    assert len(pd.read_csv(csv)) == len(pd.read_parquet(parquet)) == 18


def test_the_study_file_is_kept_as_it_was_written_and_may_itself_be_run_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes("# why: größer\nname: small\n".encode())
    keep_study_file(file, tmp_path / "studies" / "small")
    kept = tmp_path / "studies" / "small" / STUDY_FILE
    assert kept.read_bytes() == file.read_bytes()
    keep_study_file(kept, kept.parent)
    assert kept.read_bytes() == file.read_bytes()
    assert [path.name for path in kept.parent.iterdir()] == [STUDY_FILE]
