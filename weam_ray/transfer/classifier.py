"""A sentence-pair classifier on top of an encoder folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from weam_ray.errors import ConfigError
from weam_ray.transfer.loading import load_model
from weam_ray.transfer.reading import LABELS


def load_classifier(encoder_dir: Path, seed: int, device: torch.device) -> PreTrainedModel:
    """The encoder with a new three-way head: the pooling and head of its model class.

    Raises:
        DataError: as :func:`load_model`.
    """
    return load_model(
        AutoModelForSequenceClassification,
        encoder_dir,
        device,
        seed,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={name: code for code, name in enumerate(LABELS)},
    )


def freeze(model: PreTrainedModel, embeddings: bool, layers: int, place: str = "transfer") -> None:
    """Take the embeddings, or the lowest layers, out of training.

    Args:
        place: where the settings of both stand.

    Raises:
        ConfigError: the encoder has no such parts.
    """
    base = model.base_model
    if embeddings:
        part = getattr(base, "embeddings", None)
        if not isinstance(part, nn.Module):
            raise ConfigError(
                "this encoder has no embedding layer to freeze", place=f"{place}.freeze_embeddings"
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
                place=f"{place}.freeze_layers",
            )
        for layer in list(stacks[0])[:layers]:
            layer.requires_grad_(False)
