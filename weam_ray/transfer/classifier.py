"""A sentence-pair classifier on top of an encoder folder; the seed alone decides its head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.batches import derived_seed
from weam_ray.transfer.reading import LABELS

_HEAD = ("classifier", "pooler", "score", "pre_classifier", "pooling")
"""Name parts of weights that a masked LM lacks and a classifier needs."""

_POSITIONS_AFTER_PAD = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "data2vec-text"}


def load_classifier(encoder_dir: Path, seed: int, device: torch.device) -> PreTrainedModel:
    """The encoder with a new three-way head (the pooling and head of its model class).

    The head is drawn from ``seed`` and the weight's name, so encoders that differ only in their
    pre-training start from the same head.

    Raises:
        DataError: not an encoder folder, or one that lacks weights of the encoder itself.
    """
    with quiet_loading():
        try:
            model, info = AutoModelForSequenceClassification.from_pretrained(
                encoder_dir,
                num_labels=len(LABELS),
                id2label=dict(enumerate(LABELS)),
                label2id={name: code for code, name in enumerate(LABELS)},
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"no encoder that classifies sentences here ({error})", place=str(encoder_dir)
            ) from error
    missing = sorted(info["missing_keys"])
    lost = [name for name in missing if not any(part in _HEAD for part in name.split("."))]
    if lost or info["mismatched_keys"]:
        names = ", ".join(lost or sorted(str(key) for key in info["mismatched_keys"]))
        raise DataError(
            f"weights of the encoder are missing or of another shape: {names}",
            place=str(encoder_dir),
            cure="Fine-tuning would start from random weights there: save the whole encoder.",
        )
    _draw_head(model, missing, seed)
    return model.to(device)


def most_subwords(config: AutoConfig) -> int | None:
    """Longest input of an encoder with learned positions; None where nothing bounds it."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    if getattr(config, "model_type", "") in _POSITIONS_AFTER_PAD:
        return positions - int(config.pad_token_id) - 1
    return positions


def check_length(model: PreTrainedModel, longest: int) -> None:
    """Refuse inputs longer than the encoder's positions.

    Raises:
        ConfigError: ``longest`` subwords are too many.
    """
    most = most_subwords(model.config)
    if most is not None and longest > most:
        raise ConfigError(
            f"an item has {longest} subwords, the encoder takes {most}",
            place="transfer.max_length",
            cure=f"Set it to {most} or less.",
        )


def freeze(model: PreTrainedModel, embeddings: bool, layers: int) -> None:
    """Take the embeddings, or the lowest layers, out of training.

    Raises:
        ConfigError: the encoder has no such parts.
    """
    base = model.base_model
    if embeddings:
        part = getattr(base, "embeddings", None)
        if not isinstance(part, nn.Module):
            raise ConfigError(
                "this encoder has no embedding layer to freeze", place="transfer.freeze_embeddings"
            )
        part.requires_grad_(False)
    if layers:
        stacks = [
            part
            for name, part in base.named_modules()
            if isinstance(part, nn.ModuleList) and name.endswith(("layer", "layers"))
        ]
        if not stacks or layers > len(stacks[0]):
            raise ConfigError(
                f"can't freeze {layers} layers: there are {len(stacks[0]) if stacks else 'none'}",
                place="transfer.freeze_layers",
            )
        for layer in list(stacks[0])[:layers]:
            layer.requires_grad_(False)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from reporting new head weights, which :func:`load_classifier` checks."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@torch.no_grad()
def _draw_head(model: PreTrainedModel, names: list[str], seed: int) -> None:
    parameters = dict(model.named_parameters())
    spread = float(getattr(model.config, "initializer_range", 0.02))
    for name in names:
        weight = parameters.get(name)
        if weight is None:
            continue
        if weight.ndim < 2:
            # Biases start at 0; the scale of a norm in the head starts at 1.
            weight.fill_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
            continue
        generator = torch.Generator().manual_seed(derived_seed("head", seed, name))
        weight.copy_(torch.empty(weight.shape).normal_(0.0, spread, generator=generator))
