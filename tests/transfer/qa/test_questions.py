"""Questions as they are read: what is refused, dropped and limited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_reader import pointer_file

from weam_ray.errors import DataError
from weam_ray.transfer.qa import QaSet, QuestionsConfig, load_questions, read_questions


def asked(ids: list[str], language: str) -> list[dict[str, Any]]:
    """Questions whose text differs from language to language, as translations do."""
    context = f"{language} words hold the answer"
    return [
        {
            "context": context,
            "qas": [
                {
                    "id": name,
                    "question": f"{language} {name}?",
                    "answers": [{"text": "words", "answer_start": context.index("words")}],
                }
            ],
        }
        for name in ids
    ]


def save(path: Path, paragraphs: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))


def read(folder: Path, **settings: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    table, facts = read_questions("x", QuestionsConfig(**settings))
    items: dict[str, list[str]] = {}
    for row in table.to_pylist():
        items.setdefault(f"{row['split']}/{row['language']}", []).append(row["item"])
    return items, facts


def test_a_limit_keeps_the_same_questions_in_all_languages(tmp_path: Path) -> None:
    ids = [f"q{number}" for number in range(40)]
    for context in ("en", "de"):
        for question in ("en", "de"):
            save(tmp_path / f"{context}.{question}.json", asked(ids, f"{context} {question}"))
    pattern = str(tmp_path / "{context}.{question}.json")
    items, _ = read(tmp_path, dev=pattern, languages=("en", "de"), pairs="every", dev_limit=9)
    assert len(items) == 4
    assert len({tuple(names) for names in items.values()}) == 1
    assert len(items["dev/en-de"]) == 9


def test_a_limit_keeps_what_languages_share_before_all_else(tmp_path: Path) -> None:
    # As in MLQA: a language has its own questions, and some that others have too.
    for number, language in enumerate(("en", "de", "es")):
        own = [f"{language}{place}" for place in range(30 * (number + 1))]
        common = [f"all{place}" for place in range(6)]
        save(tmp_path / f"{language}.json", asked([*own, *common], language))
    pattern = str(tmp_path / "{context}.json")
    items, _ = read(tmp_path, dev=pattern, languages=("en", "de", "es"), dev_limit=10)
    for chosen in items.values():
        assert len(chosen) == 10 and {f"all{place}" for place in range(6)} < set(chosen)


def test_a_limit_counts_all_files_of_a_language_together(tmp_path: Path) -> None:
    for part in range(3):
        save(tmp_path / f"en-{part}.json", asked([f"q{part}{n}" for n in range(8)], "en"))
    items, facts = read(
        tmp_path,
        train=str(tmp_path / "{language}-*.json"),
        dev=str(tmp_path / "{context}-*.json"),
        languages=("en",),
        train_limit=10,
        dev_limit=5,
    )
    assert {name: len(of) for name, of in items.items()} == {"train/en": 10, "dev/en": 5}
    assert facts["x/train/en"]["questions"] == 10


def test_an_id_in_two_files_of_a_language_is_refused(tmp_path: Path) -> None:
    for part in range(2):
        save(tmp_path / f"en-{part}.json", asked(["q1"], "en"))
    with pytest.raises(DataError, match="question 'q1' is there twice") as error:
        read(tmp_path, dev=str(tmp_path / "{context}-*.json"), languages=("en",))
    assert error.value.place == str(tmp_path / "en-1.json")


def test_tydiqas_languages_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    save(tmp_path / "all.json", asked(["english-1-0", "finnish-2-0", "english-3-1"], "any"))
    path = str(tmp_path / "all.json")
    items, facts = read(tmp_path, train=path, languages=("fi",), dev=path)
    assert items == {"train/en": ["english-1-0", "english-3-1"], "dev/fi": ["finnish-2-0"]}
    assert facts["x/train/en"]["dropped"]["of another language, by TyDiQA's ids"] == 1
    with pytest.raises(DataError, match="no questions in de; by their ids they are in en, fi"):
        read(tmp_path, dev=path, languages=("de",))


def test_a_bad_question_of_another_language_is_none_of_this_ones(tmp_path: Path) -> None:
    paragraphs = asked(["english-1-0", "korean-2-0", "korean-3-0"], "any")
    paragraphs[1]["qas"][0]["answers"][0]["answer_start"] += 1
    save(tmp_path / "all.json", paragraphs)
    path = str(tmp_path / "all.json")
    items, facts = read(tmp_path, dev=path, languages=("en",))
    assert items == {"dev/en": ["english-1-0"]}
    assert facts["x/dev/en"]["dropped"]["answer offset does not match its text"] == 0
    with pytest.raises(DataError, match="where the context has"):
        read(tmp_path, dev=path, languages=("ko",))


def test_only_training_questions_are_ever_dropped(tmp_path: Path) -> None:
    paragraphs = asked(["q1", "q2"], "en")
    paragraphs[1]["qas"][0]["answers"][0]["answer_start"] += 1
    save(tmp_path / "moved.json", paragraphs)
    save(tmp_path / "fine.json", asked(["q1"], "en"))
    moved, fine = str(tmp_path / "moved.json"), str(tmp_path / "fine.json")
    items, facts = read(tmp_path, train=moved, dev=fine, languages=("en",), mismatches="drop")
    assert items["train/en"] == ["q1"]
    assert sum(facts["x/train/en"]["dropped"].values()) == 1
    with pytest.raises(DataError, match="where the context has"):
        read(tmp_path, train=fine, dev=moved, languages=("en",), mismatches="drop")


def test_an_offset_that_does_not_match_its_text_is_named_and_counted(tmp_path: Path) -> None:
    path = pointer_file(tmp_path / "dev.json", 5, 0)
    data = json.loads(path.read_text())
    for place in (1, 3):
        data["data"][0]["paragraphs"][place]["qas"][0]["answers"][0]["answer_start"] += 1
    path.write_text(json.dumps(data))
    one = QaSet(task="x", split="dev", path=str(path), context_language="en")
    with pytest.raises(DataError, match=r"where the context has .*\(2 questions") as error:
        load_questions([one])
    assert error.value.place == f"{path}: q1"
    questions, facts = load_questions([one.model_copy(update={"mismatches": "drop"})])
    assert questions["item"].to_pylist() == ["q0", "q2", "q4"]
    dropped = facts["x/dev/en"]["dropped"]
    assert dropped == {"answer offset does not match its text": 2}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"answers": []}, "no answer"),
        ({"id": "q0"}, "question 'q0' is there twice"),
        ({"answers": [{"text": "w1"}]}, "answer 'w1' at None"),
    ],
)
def test_malformed_questions_are_refused(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    path = pointer_file(tmp_path / "dev.json", 3, 0)
    data = json.loads(path.read_text())
    data["data"][0]["paragraphs"][1]["qas"][0].update(change)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=what):
        load_questions([QaSet(task="x", split="dev", path=str(path), context_language="en")])


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda one: one.update(context=None), "the context is None, not text"),
        (lambda one: one["qas"][0].pop("question"), "the question is None, not text"),
        (lambda one: one["qas"][0].update(question=3), "the question is 3, not text"),
        (lambda one: one["qas"][0].update(answers={"text": ["a"]}), "not a list of text"),
        (lambda one: one["qas"][0].update(answers=["a"]), "not a list of text"),
        (lambda one: one["qas"][0].pop("id"), "'id' is missing"),
    ],
)
def test_fields_that_are_not_squads_are_named(tmp_path: Path, change: Change, what: str) -> None:
    paragraphs = asked(["q1", "q2"], "en")
    change(paragraphs[1])
    save(tmp_path / "a.json", paragraphs)
    with pytest.raises(DataError, match=what):
        read(tmp_path, dev=str(tmp_path / "a.json"), languages=("en",))


@pytest.mark.parametrize(
    ("context", "answers", "what"),
    [
        (None, {"text": ["b"], "answer_start": [0]}, "the context is None"),
        ("b", {"text": ["b", "b"], "answer_start": [0]}, "2 answers and 1 offsets"),
        ("b", {"text": None, "answer_start": None}, "no answer"),
        ("b", None, "no answer"),
    ],
)
def test_rows_that_are_not_squads_are_named(
    tmp_path: Path, context: str | None, answers: dict[str, Any] | None, what: str
) -> None:
    kind = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
    columns = {
        "id": pa.array(["q1"]),
        "context": pa.array([context], pa.string()),
        "question": pa.array(["a?"]),
        "answers": pa.array([answers], kind),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=what):
        read(tmp_path, dev=str(tmp_path / "a.parquet"), languages=("en",))
