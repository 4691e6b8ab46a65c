"""Settings of question answering: which sets are read, and how a reader is fine-tuned."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from weam_ray.identity import Placement, StageConfig


class QaSet(StageConfig):
    """One SQuAD-style file."""

    task: Annotated[str, Field(min_length=1)]
    """Name in predictions and scores: ``mlqa``, ``xquad``, ``tydiqa``."""

    split: Literal["train", "dev", "test"]
    """Train sets are learnt from, dev and test sets are evaluated."""

    path: Annotated[str, Placement()]
    """The json file, plain or .gz."""

    context_language: str
    """Language of the contexts (BCP-47), and so of the answers."""

    question_language: str | None = None
    """Language of the questions; None means the contexts'. MLQA has every pair."""

    limit: Annotated[int | None, Field(ge=1)] = None
    """Use only so many questions, the first in the order of a hash of their id and text."""

    mismatches: Literal["refuse", "drop"] = "refuse"
    """What to do with an answer whose offset does not match its text: stop at the first, or leave
    the question out and count it."""

    @property
    def languages(self) -> str:
        """``de`` or, where they differ, context and question as ``de-en``."""
        question = self.question_language or self.context_language
        if question == self.context_language:
            return question
        return f"{self.context_language}-{question}"


class QaConfig(StageConfig):
    """Fine-tuning an extractive reader (the MLQA protocol, Lewis et al. 2020, section 5)."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-5
    """Peak learning rate of AdamW."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Windows a step."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training windows; not used where ``steps`` is given."""

    steps: Annotated[int | None, Field(ge=1)] = None
    """Optimiser steps in place of ``epochs``."""

    max_length: Annotated[int, Field(ge=32, le=8192)] = 384
    """Subwords of a window: question, part of the context and special tokens."""

    stride: Annotated[int, Field(ge=0)] = 128
    """Subwords that neighbouring windows of one context share."""

    max_question: Annotated[int, Field(ge=1)] = 64
    """Subwords of a question; the rest is cut off (BERT's SQuAD script: 64)."""

    max_answer: Annotated[int, Field(ge=1, le=512)] = 30
    """Longest predicted answer in subwords (BERT's SQuAD script: 30)."""

    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps over which the rate rises linearly from 0; then it falls to 0."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled decay of weight matrices."""

    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Fine-tuning seed: head, batch order and dropout."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the encoder under autocast."""

    evaluation_tokens: Annotated[int, Placement(), Field(ge=512)] = 16384
    """Padded subwords in an evaluation batch."""

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.max_question + self.stride + 8 > self.max_length:
            raise ValueError(
                f"max_length {self.max_length} leaves no room for a question of"
                f" {self.max_question} subwords and a stride of {self.stride}"
            )
        return self
