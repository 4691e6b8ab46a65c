"""Question answering: fine-tune on SQuAD-style English, answer XQuAD, MLQA, TyDiQA.

What needs torch is in :mod:`weam_ray.transfer.qa.reader` and ``sanity``, imported where used.
"""

from __future__ import annotations

from weam_ray.transfer.qa.config import EvaluatedQuestions, QaConfig, QaSet, QuestionsConfig
from weam_ray.transfer.qa.questions import (
    QUESTIONS_SCHEMA,
    load_questions,
    question_files,
    question_sets,
    read_questions,
)
from weam_ray.transfer.qa.scoring import answer_words, exact_match, f1, qa_scores

__all__ = [
    "QUESTIONS_SCHEMA",
    "EvaluatedQuestions",
    "QaConfig",
    "QaSet",
    "QuestionsConfig",
    "answer_words",
    "exact_match",
    "f1",
    "load_questions",
    "qa_scores",
    "question_files",
    "question_sets",
    "read_questions",
]
