"""Settings of question answering: which sets are read, and how a reader is fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from weam_ray.errors import ConfigError
from weam_ray.identity import Placement, StageConfig
from weam_ray.transfer.config import FineTuningConfig

Pattern = Annotated[str | None, Placement()]
Split = Literal["train", "dev", "test"]
Mismatches = Literal["refuse", "drop"]


class QaSet(StageConfig):
    """One SQuAD-style file."""

    task: Annotated[str, Field(min_length=1)]
    """Name in predictions and scores: ``mlqa``, ``xquad``, ``tydiqa``."""

    split: Split
    """Train sets are learnt from, dev and test sets are evaluated."""

    path: Annotated[str, Placement()]
    """SQuAD's json, plain or .gz, or the Hub's rows of it in parquet."""

    context_language: str
    """Language of the contexts (BCP-47), and so of the answers."""

    question_language: str | None = None
    """Language of the questions; None means the contexts'. MLQA has every pair."""

    limit: Annotated[int | None, Field(ge=1)] = None
    """Use only so many questions of a task, split and language, the first in the order of a hash:
    of id and text in training, whose ids may repeat; of the id where they are evaluated, and before
    all others those that most sets of the task and split have, so that languages share as many as
    they can."""

    mismatches: Mismatches = "refuse"
    """What to do with an answer whose offset does not match its text: stop at the first, or leave
    the question out and count it."""

    @property
    def languages(self) -> str:
        """``de`` or, where they differ, context and question as ``de-en``."""
        question = self.question_language or self.context_language
        if question == self.context_language:
            return question
        return f"{self.context_language}-{question}"


class EvaluatedQuestions(StageConfig):
    """Questions that a reader answers: their files and languages.

    A pattern is a path with ``{context}`` and ``{question}`` for the two languages, as in
    ``dev-context-{context}-question-{question}.json``, or a split of the Hub, as in
    ``hub:google/xquad/xquad.{context}/validation``.
    """

    dev: Pattern = None
    """Development files; the selection rules look at those of the task itself."""

    test: Pattern = None
    """Test files."""

    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    """Languages of the contexts (BCP-47), and so of the answers."""

    pairs: Literal["same", "every"] = "same"
    """same: questions in the context's language. every: each context language with each question
    language, all of ``languages`` (MLQA's generalised transfer task, Lewis et al. 2020, 4.2)."""

    def language_pairs(self) -> tuple[tuple[str, str], ...]:
        """(context language, question language) of every set asked for."""
        if self.pairs == "same":
            return tuple((language, language) for language in self.languages)
        return tuple((context, one) for context in self.languages for one in self.languages)


class QuestionsConfig(EvaluatedQuestions):
    """Where the questions of a task are and how many of them are used."""

    train: Pattern = None
    """Training files, ``{language}`` standing for the language: SQuAD, or TyDiQA's gold passages;
    a language's machine-translated ones for translate-train."""

    train_languages: tuple[str, ...] = ("en",)
    """Languages whose training questions are read."""

    also: dict[str, EvaluatedQuestions] = Field(default_factory=dict)
    """Other sets that the same reader answers, by the name of their task: XQuAD beside MLQA."""

    train_limit: Annotated[int | None, Field(ge=1)] = None
    """Use only so many training questions a language, the first in the order of a hash."""

    dev_limit: Annotated[int | None, Field(ge=1)] = None
    """The same for dev, a pair of languages; first the questions that most of them have."""

    test_limit: Annotated[int | None, Field(ge=1)] = None
    """The same for test."""

    mismatches: Mismatches = "refuse"
    """What to do with a training answer whose offset does not match its text: refuse the file, or
    drop the question and count it. Evaluated files with such an answer are always refused."""

    offline: Annotated[bool, Placement()] = False
    """Never fetch anything from the Hub: use what was fetched before."""

    hub_cache: Annotated[Path, Placement()] = Path("~/.cache/weam-ray/hub")
    """Where splits of the Hub are kept, as parquet files."""

    hub_mirror: Annotated[Path | None, Placement()] = None
    """A folder with ``owner/name`` folders laid out as on the Hub, read in its place."""

    def evaluated(self, task: str) -> Mapping[str, EvaluatedQuestions]:
        """The sets answered, by the name of their task, ``task`` being this one's.

        Raises:
            ConfigError: another set has this one's name.
        """
        if task in self.also:
            raise ConfigError(
                f"also has a set that is named {task!r}, too",
                place=f"questions.{task}.also",
                cure="Give it another name.",
            )
        return {task: self, **self.also}


class QaConfig(FineTuningConfig):
    """Fine-tuning an extractive reader (the MLQA protocol, Lewis et al. 2020, section 5)."""

    place: ClassVar[str] = "qa"
    data: ClassVar[str] = "questions"

    task: Annotated[str, Field(min_length=1)] = "mlqa"
    """The task whose dev questions the selection rules look at; a set's own name is the task of its
    predictions and scores."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-5
    """Peak learning rate of AdamW."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Windows a step."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training windows; not used where ``steps`` is given."""

    max_length: Annotated[int, Field(ge=32, le=8192)] = 384
    """Subwords of a window: question, part of the context and special tokens."""

    stride: Annotated[int, Field(ge=0)] = 128
    """Subwords that neighbouring windows of one context share."""

    max_question: Annotated[int, Field(ge=1)] = 64
    """Subwords of a question; the rest is cut off (BERT's SQuAD script: 64)."""

    max_answer: Annotated[int, Field(ge=1, le=512)] = 30
    """Longest predicted answer in subwords (BERT's SQuAD script: 30)."""

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.max_question + self.stride + 8 > self.max_length:
            raise ValueError(
                f"max_length {self.max_length} leaves no room for a question of"
                f" {self.max_question} subwords and a stride of {self.stride}"
            )
        return self
