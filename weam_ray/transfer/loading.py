"""Encoder folders as models: no weight of the encoder missing, heads drawn from the seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining.encoder import freeze_positions
from weam_ray.transfer.batches import derived_seed

_HEAD = {"classifier", "pooler", "score", "pre_classifier", "pooling", "qa_outputs"}
"""Name parts of weights that a masked LM lacks and a classifier, or a reader, needs."""

_POSITIONS_AFTER_PAD = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "data2vec-text"}


def load_model(
    auto: Any, encoder_dir: Path, device: torch.device, seed: int = 0, **settings: Any
) -> PreTrainedModel:
    """A model of an ``Auto`` class on the weights of an encoder folder.

    What the folder has no weights for, the head, is drawn from ``seed`` and the weight's name, so
    encoders that differ only in their pre-training start from the same head.

    Args:
        auto: ``AutoModel``, ``AutoModelForSequenceClassification`` and the like.
        settings: further arguments of ``from_pretrained``.

    Raises:
        DataError: not an encoder folder, or one that lacks weights of the encoder itself.
    """
    with _quiet_loading():
        try:
            model, info = auto.from_pretrained(
                encoder_dir,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
                **settings,
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"no encoder here that {auto.__name__} opens ({error})", place=str(encoder_dir)
            ) from error
    missing = sorted(info["missing_keys"])
    lost = [name for name in missing if not _HEAD & set(name.split("."))]
    if lost or info["mismatched_keys"]:
        names = ", ".join(lost or sorted(str(key) for key in info["mismatched_keys"]))
        raise DataError(
            f"weights of the encoder are missing or of another shape: {names}",
            place=str(encoder_dir),
            cure="They would start from random values: save the whole encoder.",
        )
    _draw_head(model, missing, seed)
    freeze_positions(model)
    found: PreTrainedModel = model.to(device)
    return found


def most_subwords(config: AutoConfig) -> int | None:
    """Longest input of an encoder with learned positions; None where nothing bounds it."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    if getattr(config, "model_type", "") in _POSITIONS_AFTER_PAD:
        return positions - int(config.pad_token_id) - 1
    return positions


def check_length(
    model: PreTrainedModel, longest: int, *, place: str = "transfer.max_length"
) -> None:
    """Refuse inputs longer than the encoder's positions.

    Args:
        place: the setting that bounds them.

    Raises:
        ConfigError: ``longest`` subwords are too many.
    """
    most = most_subwords(model.config)
    if most is not None and longest > most:
        raise ConfigError(
            f"an item has {longest} subwords, the encoder takes {most}",
            place=place,
            cure=f"Set it to {most} or less.",
        )


@contextmanager
def _quiet_loading() -> Iterator[None]:
    # What transformers would report, new head weights, is checked above.
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
