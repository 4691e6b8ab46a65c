"""Settings of fine-tuning, of any task, and of what is reported from it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from weam_ray.identity import Placement, StageConfig, WhenSet

Setting = Literal["zero-shot", "translate-train", "translate-train-all", "few-shot"]
Selection = Literal["last", "source-dev", "target-dev-oracle"]


class FineTuningConfig(StageConfig):
    """One fine-tuning run: what is trained on, for how long, and which moment is reported."""

    place: ClassVar[str] = "transfer"
    """Where these settings stand in a study file, and what messages call them by."""

    data: ClassVar[str] = "items"
    """Where the data of the task stands in it."""

    setting: Setting = "zero-shot"
    """zero-shot: train on ``train_language`` only. translate-train: on the one target language's
    own (machine-translated) training items. translate-train-all: on those of ``train_language``
    and every target language together. few-shot: zero-shot, then ``few_shot_items`` of each target
    language (Lauscher et al. 2020, "From Zero to Hero", section 4)."""

    train_language: str = "en"
    """Language of the source training items (BCP-47)."""

    target_languages: tuple[str, ...] | None = None
    """Languages that are evaluated; None means every language of the dev and test items. The
    languages trained on are always evaluated too, where they have dev or test items."""

    trained_targets: Annotated[tuple[str, ...] | None, WhenSet()] = None
    """Target languages that translate-train-all and few-shot train on; None takes
    ``target_languages``. A study's cells get all that their task has, where it names none."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-5
    """Peak learning rate of AdamW (the XNLI protocol: 2e-5)."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Training items a step (the XNLI protocol: 32)."""

    epochs: Annotated[float, Field(gt=0)] = 2.0
    """Passes over the training items; not used where ``steps`` is given. XNLI: 2 to 5."""

    steps: Annotated[int | None, Field(ge=1)] = None
    """Optimiser steps in place of ``epochs``."""

    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """Longest input in subwords, special tokens counted; longer pairs are truncated, the longer
    side first (the XNLI protocol: 128)."""

    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps over which the rate rises linearly from 0; then it falls linearly to 0."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled decay of weight matrices; biases and norms are not decayed (BERT: 0.01)."""

    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm (BERT: 1.0)."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Fine-tuning seed: classifier weights, batch order and dropout. No other stage uses it."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the encoder under autocast; weights, loss and optimiser stay fp32. A device without
    bf16 arithmetic computes in fp32."""

    selection: Annotated[tuple[Selection, ...], Field(min_length=1)] = (
        "source-dev",
        "last",
        "target-dev-oracle",
    )
    """Rules that choose the reported moment, the first one being the study's result. source-dev:
    best mean dev accuracy over the languages trained on. target-dev-oracle: best dev accuracy of
    each language by itself, which zero-shot transfer may not look at: an upper bound."""

    evaluations: Annotated[int, Field(ge=1, le=1000)] = 4
    """Moments, evenly spread and the last step among them, at which dev is evaluated."""

    freeze_embeddings: bool = False
    """Leave the embedding layer as the encoder has it."""

    freeze_layers: Annotated[int, Field(ge=0)] = 0
    """Lowest transformer layers left as they are (Wu & Dredze 2019, section 4.3)."""

    few_shot_items: Annotated[int, Field(ge=1)] = 100
    """few-shot only: items of each target language, from its training items or, where it has
    none, from dev; those dev items, and all others of the same premise or context, are then left
    out of dev in every language."""

    few_shot_epochs: Annotated[float, Field(gt=0)] = 5.0
    """few-shot only: passes over the target items after the source training."""

    evaluation_tokens: Annotated[int | None, Placement(), Field(ge=256)] = None
    """Padded subwords in an evaluation batch, which decide no result. None: 2,048 on a CPU, where
    larger batches leave its cache, and 16,384 on a GPU."""

    @model_validator(mode="after")
    def _setting_fits(self) -> Self:
        if len(set(self.selection)) != len(self.selection):
            raise ValueError(f"selection names a rule twice: {', '.join(self.selection)}")
        if self.setting == "translate-train" and len(self.target_languages or ()) != 1:
            raise ValueError(
                "translate-train trains on one target language: name exactly one in"
                " target_languages (translate-train-all takes several)"
            )
        if self.setting in ("translate-train-all", "few-shot") and not self.taught:
            raise ValueError(f"{self.setting} trains on target languages: name them")
        return self

    @property
    def source_languages(self) -> tuple[str, ...]:
        """The languages whose dev items the source-dev rule may look at: those trained on."""
        if self.setting == "translate-train":
            assert self.target_languages
            return self.target_languages
        if self.setting == "translate-train-all":
            return tuple(dict.fromkeys((self.train_language, *self.taught)))
        return (self.train_language,)

    @property
    def taught(self) -> tuple[str, ...]:
        """The target languages that are trained on beside the source language."""
        return self.trained_targets or self.target_languages or ()

    @property
    def evaluated_languages(self) -> frozenset[str] | None:
        """The languages whose dev and test items are evaluated; None means all there are."""
        if self.target_languages is None:
            return None
        return frozenset((*self.target_languages, *self.source_languages))


class TransferConfig(FineTuningConfig):
    """Fine-tuning a classifier of sentence pairs (the XNLI protocol, Conneau et al. 2018)."""

    task: Literal["xnli"] = "xnli"
    """Name of the task in predictions and scores."""
