"""Questions over the small study's artificial languages: SQuAD-style files of a few contexts.

The answer is the word after the one that the question names, so a reader can learn it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LANGUAGES = ("en", "qaa")


def write_questions(folder: Path, train: int = 40, dev: int = 24, test: int = 24) -> Path:
    """``{split}-{context}-{question}.json`` of every pair of languages, training files of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for context in LANGUAGES:
        _write(folder / f"train-{context}.json", train, context, context, seed=0)
        for question in LANGUAGES:
            for split, count, seed in (("dev", dev, 1), ("test", test, 2)):
                path = folder / f"{split}-{context}-{question}.json"
                _write(path, count, context, question, seed)
    return folder


def _write(path: Path, count: int, context: str, question: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        words = [f"{context}{word}" for word in draw.permutation(30)[:12]]
        place = int(draw.integers(1, 12))
        start = len(" ".join([*words[:place], ""]))
        asked = f"{question} after {words[place - 1]} ?"
        answers = [{"text": words[place], "answer_start": start}]
        paragraphs.append(
            {
                "context": " ".join(words),
                "qas": [{"id": f"{path.stem.split('-')[0]}{number}", "question": asked,
                         "answers": answers}],
            }
        )  # fmt: skip
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))


def question_settings(folder: Path, languages: Sequence[str] = LANGUAGES) -> str:
    """``questions`` of a study file, and the settings of a reader for them, as ``--set`` values."""
    names = f"[{', '.join(languages)}]"
    return (
        f"{{mlqa: {{train: '{folder}/train-{{language}}.json', train_languages: {names},"
        f" dev: '{folder}/dev-{{context}}-{{question}}.json',"
        f" test: '{folder}/test-{{context}}-{{question}}.json',"
        f" languages: {names}, pairs: every,"
        f" also: {{xquad: {{test: '{folder}/test-{{context}}-{{question}}.json',"
        f" languages: {names}}}}}}}}}"
    )


READER = "{steps: 4, max_length: 40, stride: 4, max_question: 16, max_answer: 4, evaluations: 2}"
