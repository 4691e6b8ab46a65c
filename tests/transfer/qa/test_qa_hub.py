"""Questions as the Hub lays them out: rows of SQuAD in parquet, a configuration each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.qa import QuestionsConfig, question_sets, read_questions

datasets = pytest.importorskip("datasets")


def squad_rows(language: str, count: int) -> dict[str, list[Any]]:
    contexts = [f"{language} context {number} holds word{number} here" for number in range(count)]
    words = [f"word{number}" for number in range(count)]
    return {
        "id": [f"q{number}" for number in range(count)],
        "title": ["t"] * count,
        "context": contexts,
        "question": [f"which word {number}?" for number in range(count)],
        "answers": [
            {"text": [word], "answer_start": [context.index(word)]}
            for word, context in zip(words, contexts, strict=True)
        ],
    }


def save(rows: dict[str, list[Any]], folder: Path, configuration: str, split: str) -> None:
    features = datasets.Features(
        {name: datasets.Value("string") for name in ("id", "title", "context", "question")}
        | {"answers": {"text": datasets.List(datasets.Value("string")),
                       "answer_start": datasets.List(datasets.Value("int32"))}}
    )  # fmt: skip
    path = folder / configuration / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    card = folder / "README.md"
    head = card.read_text().removesuffix("---\n") if card.exists() else "---\nconfigs:\n"
    entry = f"- config_name: {configuration}\n  data_files:\n"
    entry += f"  - split: {split}\n    path: {configuration}/{split}-*\n"
    card.write_text(f"{head}{entry}---\n")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    for folder in ("rajpurkar/squad", "facebook/mlqa"):
        (root / folder).mkdir(parents=True)
    save(squad_rows("en", 5), root / "rajpurkar/squad", "plain_text", "train")
    for name in ("mlqa.de.de", "mlqa.de.en", "mlqa.en.de", "mlqa.en.en"):
        save(squad_rows(name[5:7], 3), root / "facebook/mlqa", name, "validation")
    return root


def test_squad_and_a_mirror_of_mlqa_load(mirror: Path, tmp_path: Path) -> None:
    config = QuestionsConfig(
        train="hub:rajpurkar/squad/plain_text/train",
        dev="hub:facebook/mlqa/mlqa.{context}.{question}/validation",
        languages=("en", "de"),
        pairs="every",
        hub_cache=tmp_path / "cache",
        hub_mirror=mirror,
        offline=True,
    )
    questions, facts = read_questions("mlqa", config)
    counts = {name: fact["questions"] for name, fact in facts.items()}
    assert counts == {
        "mlqa/train/en": 5,
        "mlqa/dev/en": 3,
        "mlqa/dev/en-de": 3,
        "mlqa/dev/de-en": 3,
        "mlqa/dev/de": 3,
    }
    row = questions.to_pylist()[-1]
    start = row["starts"][0]
    assert row["context"][start : start + len(row["answers"][0])] == row["answers"][0]
    assert (row["language"], row["question_language"]) == ("de", "de")


def test_rows_without_squads_columns_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "a.parquet")
    config = QuestionsConfig(dev=str(tmp_path / "a.parquet"), languages=("en",))
    with pytest.raises(DataError, match="no context, question, answers"):
        read_questions("x", config)


def test_patterns_name_both_languages_and_other_sets_follow(tmp_path: Path) -> None:
    config = QuestionsConfig(
        train="train.{language}",
        train_languages=("en", "de"),
        dev="dev.{context}.{question}",
        languages=("en", "de"),
        also={"xquad": {"test": "xquad.{context}", "languages": ("en",)}},
        dev_limit=7,
    )  # type: ignore[arg-type]
    sets = [(one.task, one.split, one.path, one.limit) for one in question_sets("mlqa", config)]
    assert sets == [
        ("mlqa", "train", "train.en", None),
        ("mlqa", "train", "train.de", None),
        ("mlqa", "dev", "dev.en.en", 7),
        ("mlqa", "dev", "dev.de.de", 7),
        ("xquad", "test", "xquad.en", None),
    ]
    with pytest.raises(ConfigError, match="name no files"):
        read_questions("mlqa", QuestionsConfig(languages=("en",)))
    twice = {"mlqa": {"test": "xquad.{context}", "languages": ("en",)}}
    with pytest.raises(ConfigError, match="also has a set that is named 'mlqa'"):
        question_sets("mlqa", config.model_copy(update={"also": twice}))
