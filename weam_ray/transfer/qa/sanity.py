"""Answers that need no encoder, so that a reader's score can be read against something."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weam_ray.transfer.bags import words
from weam_ray.transfer.guards import QUESTION_SYSTEMS as SYSTEMS
from weam_ray.transfer.qa.config import QaConfig
from weam_ray.transfer.qa.scoring import qa_scores
from weam_ray.transfer.qa.sentences import sentences
from weam_ray.transfer.scores import NO_SELECTION

_BEGINNINGS = (2, 1)
"""Words of a question that say what kind it is: "when was", then "when"."""


def qa_sanity_rows(questions: pa.Table, config: QaConfig | None = None) -> pa.Table:
    """Exact match and F1 of four answers to every evaluated question.

    - majority: the most frequent answer of the training questions, the same to all.
    - question-only: the most frequent answer among training questions that begin with the same two
      words, else one word ("when was"): what is known without the context. Learnt from the
      question language's own training questions or, where it has none, from
      ``config.train_language``'s, whose beginnings another language seldom shares.
    - first-sentence: the context's first sentence, whatever the question.
    - word-overlap-only: the sentence that shares most words with the question, the first of equals.

    Returns:
        A table in scores.parquet's schema; ``selection`` is ``none``. Without training questions
        there are no rows of the first two.
    """
    config = config or QaConfig()
    asked = _evaluated(questions, config)
    known = _Answers(questions.filter(pc.equal(questions["split"], "train")), config.train_language)
    contexts = asked["context"].to_pylist()
    wanted = asked["question"].to_pylist()
    languages = asked["question_language"].to_pylist()
    places = {context: sentences(context) for context in dict.fromkeys(contexts)}
    systems: Mapping[str, Callable[[int], str]] = {
        "majority": lambda row: known.to("", languages[row]),
        "question-only": lambda row: known.to(wanted[row], languages[row]),
        "first-sentence": lambda row: places[contexts[row]][0],
        "word-overlap-only": lambda row: _closest(places[contexts[row]], set(words(wanted[row]))),
    }
    tables = []
    for system in SYSTEMS if known else SYSTEMS[2:]:
        texts = [systems[system](row) for row in range(len(asked))]
        predictions = pa.table(
            {
                "task": asked["task"],
                "split": asked["split"],
                "language": asked["language"],
                "selection": pa.array([NO_SELECTION] * len(asked), pa.string()),
                "gold_texts": asked["answers"],
                "predicted_text": texts,
            }
        )
        tables.append(qa_scores(predictions, system))
    return pa.concat_tables(tables).combine_chunks()


def _evaluated(questions: pa.Table, config: QaConfig) -> pa.Table:
    kept = pc.not_equal(questions["split"], "train")
    if config.evaluated_languages is not None:
        names = pa.array(sorted(config.evaluated_languages))
        for side in ("context_language", "question_language"):
            kept = pc.and_(kept, pc.is_in(questions[side], names))
    return questions.filter(kept)


class _Answers:
    """The most frequent training answers, by language and beginning of the question."""

    def __init__(self, train: pa.Table, source: str) -> None:
        counts: dict[tuple[str, tuple[str, ...]], Counter[str]] = defaultdict(Counter)
        rows = zip(*(train[name].to_pylist() for name in ("language", "question", "answers")),
                   strict=True)  # fmt: skip
        for language, question, answers in rows:
            for beginning in _kinds(question):
                counts[language, beginning][answers[0]] += 1
        # Of equally frequent answers the one that comes first in the file.
        self._best = {key: count.most_common(1)[0][0] for key, count in counts.items()}
        self._languages = {language for language, _ in self._best}
        self._source = source

    def __bool__(self) -> bool:
        return self._source in self._languages

    def to(self, question: str, language: str) -> str:
        """The answer to a question of that beginning; to "" the most frequent of all."""
        own = language if language in self._languages else self._source
        kinds = _kinds(question)
        return next(self._best[own, kind] for kind in kinds if (own, kind) in self._best)


def _kinds(question: str) -> Sequence[tuple[str, ...]]:
    found = tuple(words(question))
    kinds = [found[:count] for count in _BEGINNINGS if len(found) >= count]
    return [*kinds, ()]


def _closest(found: list[str], wanted: set[str]) -> str:
    shared = [len(wanted & set(words(sentence))) for sentence in found]
    return found[int(np.argmax(shared))]
