"""Questions, windows and the reader: offsets hold, spans come back, a pointer task is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.qa import (
    QUESTIONS_SCHEMA,
    QaConfig,
    QaSet,
    load_questions,
    qa_scores,
)
from weam_ray.transfer.qa.reader import fine_tune_reader
from weam_ray.transfer.qa.sanity import qa_sanity_rows
from weam_ray.transfer.qa.scoring import QA_PREDICTIONS_SCHEMA
from weam_ray.transfer.qa.sentences import sentences
from weam_ray.transfer.qa.windows import best_spans, make_windows

CONFIG = QaConfig(max_length=48, stride=8, max_question=8, max_answer=6, batch_size=16,
                  learning_rate=3e-3, steps=150, task="pointers",
                  selection=("last",), evaluations=1)  # fmt: skip


def pointer_file(path: Path, count: int, seed: int, words: int = 30) -> Path:
    """The answer is the one word of the context that is not ``w`` and a number."""
    draw = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        context = [f"w{word}" for word in draw.integers(0, 40, words)]
        place = int(draw.integers(0, words))
        context[place] = str(draw.choice(["thus", "also", "donc"]))
        start = len(" ".join([*context[:place], ""]))
        answer = {"text": context[place], "answer_start": start}
        question = {"id": f"q{number}", "question": "never w1", "answers": [answer]}
        paragraphs.append({"context": " ".join(context), "qas": [question]})
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def sets(tmp_path: Path, train: int = 200, dev: int = 40, words: int = 30) -> list[QaSet]:
    return [
        QaSet(task="pointers", split=split, context_language="en", path=str(
            pointer_file(tmp_path / f"{split}.json", count, seed, words)))
        for split, count, seed in (("train", train, 0), ("dev", dev, 1))
    ]  # fmt: skip


def test_learns_to_point_over_several_windows(encoder: Path, tmp_path: Path) -> None:
    questions, _ = load_questions(sets(tmp_path, words=60))
    facts = fine_tune_reader(encoder, questions, CONFIG, tmp_path)
    scores = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert {row["metric"]: row["n"] for row in scores} == {"exact_match": 40, "f1": 40}
    assert scores[0]["value"] > 0.6
    assert facts["windows"] > 240
    assert facts["training_windows_without_answer"] > 0
    predictions = pq.read_table(tmp_path / "predictions.parquet")
    assert predictions.schema.equals(QA_PREDICTIONS_SCHEMA)
    assert qa_scores(predictions).equals(pq.read_table(tmp_path / "scores.parquet"))
    asked = {row["item"]: row["context"] for row in questions.to_pylist() if row["split"] == "dev"}
    for row in predictions.to_pylist():
        assert row["predicted_text"] in asked[row["item"]]
        assert row["log_probabilities"][0] <= 0


def test_two_runs_are_identical(encoder: Path, tmp_path: Path) -> None:
    questions, _ = load_questions(sets(tmp_path, 40, 10))
    config = CONFIG.model_copy(update={"steps": 6})
    tables = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fine_tune_reader(encoder, questions, config, tmp_path / name)
        tables.append(pq.read_table(tmp_path / name / "predictions.parquet"))
    assert tables[0].equals(tables[1])


def test_windows_cover_the_context_and_answers_come_back_as_text(
    encoder: Path, tmp_path: Path
) -> None:
    questions, _ = load_questions(sets(tmp_path, 20, 5, words=90))
    windows = make_windows(questions, encoder, CONFIG)
    assert windows.lengths.max() == 48
    lengths = [len(question.split()) for question in questions["question"].to_pylist()]
    assert windows.truncated == sum(length > CONFIG.max_question for length in lengths)
    one = questions.slice(0, 1).set_column(6, "question", [["w1 w2 w3 w4 w5 w6 w7 w8 w9"]])
    assert make_windows(one, encoder, CONFIG).truncated == 1
    rows = questions.to_pylist()
    found = set()
    for place, question in enumerate(windows.question):
        row = rows[question]
        here = slice(windows.offsets[place], windows.offsets[place + 1])
        first, last = windows.answers[place]
        if first:
            begin, end = windows.characters[here][first, 0], windows.characters[here][last, 1]
            assert row["context"][begin:end] == row["answers"][0]
            found.add(question)
    assert found == set(range(25))
    for question, row in enumerate(rows):
        covered = np.zeros(len(row["context"]), dtype=bool)
        for place in np.flatnonzero(windows.question == question):
            spans = windows.characters[windows.offsets[place] : windows.offsets[place + 1]]
            for begin, end in spans[spans[:, 0] >= 0]:
                covered[begin:end] = True
        assert covered.sum() == sum(letter != " " for letter in row["context"])


def test_the_best_span_equals_that_of_a_loop() -> None:
    torch.manual_seed(0)
    starts, ends = torch.randn(20, 17), torch.randn(20, 17)
    context = torch.rand(20, 17) < 0.7
    context[:, 5] = True
    first, last, best, log_probability = best_spans(starts, ends, context, 4)
    for row in range(20):
        allowed = context[row].nonzero().flatten().tolist()
        spans = [(i, j) for i in allowed for j in allowed if i <= j < i + 4]
        i, j = max(
            spans, key=lambda span, row=row: float(starts[row, span[0]] + ends[row, span[1]])
        )
        assert (int(first[row]), int(last[row])) == (i, j)
        assert float(best[row]) == pytest.approx(float(starts[row, i] + ends[row, j]), abs=1e-5)
        expected = (
            starts[row, i] - starts[row, context[row]].logsumexp(0)
            + ends[row, j] - ends[row, context[row]].logsumexp(0)
        )  # fmt: skip
        assert float(log_probability[row]) == pytest.approx(float(expected), abs=1e-4)


def test_files_that_are_no_squad_are_refused(tmp_path: Path, encoder: Path) -> None:
    path = tmp_path / "a.json"
    one = QaSet(task="x", split="dev", path=str(path), context_language="en")
    for text, what in (("{", "not JSON"), ('{"rows": []}', "'data' is missing"),
                       ('{"data": []}', "no questions")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(DataError, match=what):
            load_questions([one])
    questions, _ = load_questions(sets(tmp_path, 3, 3))
    with pytest.raises(DataError, match="no questions to train on"):
        fine_tune_reader(encoder, questions.slice(3), CONFIG, tmp_path)
    with pytest.raises(ConfigError, match="max_length 384 is above the encoder's 128"):
        make_windows(questions, encoder, QaConfig())
    with pytest.raises(ValidationError, match="leaves no room"):
        QaConfig(max_length=64, stride=32, max_question=64)


def question(split: str, language: str, text: str, context: str, answer: str) -> dict[str, Any]:
    return {
        "task": "x", "split": split, "language": language, "context_language": language,
        "question_language": language, "item": text, "question": text, "context": context,
        "answers": [answer], "starts": [context.index(answer)],
    }  # fmt: skip


def test_sanity_answers_know_the_question_or_the_context_and_never_both() -> None:
    context = "Rome is old. Paris has the Louvre! Bonn was a capital."
    rows = [
        question("train", "en", "When was it?", "1990 and 1991", "1990"),
        question("train", "en", "When was that?", "1990 and 1991", "1990"),
        *(question("train", "en", f"Who is {n}?", "Ada and Bob", "Ada") for n in range(3)),
        question("dev", "en", "Where was the capital Bonn?", context, "Bonn was a capital"),
        question("dev", "en", "When was Rome built?", "It was 1990, they say.", "1990"),
        question("dev", "de", "Wer ist das?", "Ada und Bob", "Bob"),
    ]
    found = qa_sanity_rows(pa.Table.from_pylist(rows, schema=QUESTIONS_SCHEMA))
    exact = {
        (row["system"], row["language"]): row["value"]
        for row in found.to_pylist()
        if row["metric"] == "exact_match"
    }
    assert exact["word-overlap-only", "en"] == 0.5
    assert exact["question-only", "en"] == 0.5  # 1990, learnt from other questions of when
    assert exact["majority", "en"] == 0.0  # Ada, to everything
    assert exact["majority", "de"] == exact["question-only", "de"] == 0.0
    assert exact["first-sentence", "en"] == 0.0
    assert sentences("北京。上海。") == ["北京。", "上海。"]
    blind = qa_sanity_rows(pa.Table.from_pylist(rows[5:], schema=QUESTIONS_SCHEMA))
    assert set(blind["system"].to_pylist()) == {"first-sentence", "word-overlap-only"}


@pytest.mark.data
def test_the_real_sets_are_whole(shared_data: Path) -> None:
    folder = shared_data / "qa"
    pairs = [("en", "en"), ("de", "de"), ("es", "es"), ("de", "en")]
    found, facts = load_questions(
        [
            QaSet(task="tydiqa", split="train", context_language="en",
                  path=str(folder / "tydiqa.goldp.en.train.json")),
            *(QaSet(task="xquad", split="test", context_language=language,
                    path=str(folder / f"xquad.{language}.json"))
              for language in ("en", "de", "es", "zh")),
            *(QaSet(task="mlqa", split="dev", context_language=context, question_language=question,
                    path=str(folder / f"mlqa.dev-context-{context}-question-{question}.json"))
              for context, question in pairs),
        ]
    )  # fmt: skip
    assert facts["mlqa/dev/de-en"]["questions"] == 512
    assert len(found) == 3696 + 4 * 1190 + 1148 + 512 + 500 + 512
    rows = qa_sanity_rows(found).to_pylist()
    overlap = {row["language"]: row["value"] for row in rows
               if (row["task"], row["system"], row["metric"]) ==
               ("xquad", "word-overlap-only", "f1")}  # fmt: skip
    assert min(overlap.values()) > 0.1
