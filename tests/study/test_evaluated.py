"""What came of the evaluation data, as a report is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from test_report import page, source

from weam_ray.artifacts import Artifact, Step
from weam_ray.identity import StageConfig
from weam_ray.study.evaluated import read_evaluated
from weam_ray.study.fact_tables import fact_tables
from weam_ray.study.grid import Cell
from weam_ray.transfer.qa.questions import OTHER_LANGUAGE

FACTS: dict[str, dict[str, Any]] = {
    "items": {
        "by_split": {
            f"{split}/{language}": {"items": count, "label_shares": [1, 0, 0]}
            for split, count in (("train", 90), ("test", 30))
            for language in (("en",) if split == "train" else ("en", "de"))
        }
    },
    "tokens": {"items": 150, "truncated": 7},
    "questions": {
        "by_set": {
            "mlqa/train/en": {"questions": 80, "dropped": {"answer offset": 2, OTHER_LANGUAGE: 90}},
            "mlqa/test/en": {"questions": 20, "dropped": {"answer offset": 0}},
            "mlqa/test/de-en": {"questions": 19, "dropped": {"answer offset": 0}},
            "xquad/test/en": {"questions": 10, "dropped": {"answer offset": 0}},
        }
    },
    "windows": {"questions": 129, "windows": 300, "truncated": 0},
}


class Shelf:
    def find(self, step: Step) -> Artifact | None:
        return cast(Artifact, SimpleNamespace(facts=FACTS[step.stage]))


def step(stage: str) -> Step:
    return Step(stage=stage, version=1, config=StageConfig())


def cells() -> list[Cell]:
    items, questions = step("items"), {"mlqa": step("questions")}
    read = {"xnli": step("tokens"), "mlqa": step("windows")}
    return [
        cast(
            Cell,
            SimpleNamespace(
                key=SimpleNamespace(task=task),
                experiment=SimpleNamespace(items=items, questions=questions, tokens=read[task]),
            ),
        )
        for task in ("xnli", "mlqa", "xnli")
    ]


def test_items_kept_left_out_and_shortened_are_counted_once_by_task_and_split() -> None:
    rows = [
        (one.task, one.split, one.languages, one.kept, dict(one.reasons))
        for one in read_evaluated(cells(), Shelf())
    ]
    assert rows == [
        ("xnli", "train", 1, 90, {}),
        ("xnli", "test", 2, 60, {}),
        ("xnli", "all", None, 150, {"inputs shortened": 7}),
        ("mlqa", "train", 1, 80, {"answer offset": 2}),
        ("mlqa", "test", 2, 39, {}),
        ("xquad", "test", 1, 10, {}),
    ]


def test_every_table_of_facts_is_on_the_page(tmp_path: Path):
    given = source()
    tables = list(fact_tables(given))
    shown = page(tmp_path, given).text
    assert {"corpora", "dropped", "evaluated", "gates"} <= {table.name for table in tables}
    rows = [
        str(row["reasons"]) for table in tables if table.name == "evaluated" for row in table.rows
    ]
    assert rows == ["2 answer offset"] and "2 answer offset" in shown
    missing = [one.name for one in tables if " ".join(one.caption.split()) not in shown]
    assert missing == []
