"""What AdamW is given under each objective."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from weam_ray.pretraining import BaseConfig, PretrainingConfig
from weam_ray.pretraining.config import TrainingConfig
from weam_ray.pretraining.optimiser import adamw


def groups(config: TrainingConfig) -> list[dict[str, Any]]:
    matrix, bias = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))
    return adamw([matrix, bias], config).param_groups


@pytest.mark.parametrize(
    ("config", "betas", "decay"),
    [
        (BaseConfig(), (0.9, 0.999), 0.01),
        (PretrainingConfig(objective="weam"), (0.9, 0.999), 0.01),
        (PretrainingConfig(objective="word-aligned"), (0.9, 0.98), 0.0),
        (PretrainingConfig(objective="word-aligned", weight_decay=0.1), (0.9, 0.98), 0.1),
        (PretrainingConfig(objective="tlm", weight_decay=0, adam_betas=(0.8, 0.9)), (0.8, 0.9), 0),
    ],
)
def test_word_aligned_takes_adam_as_its_authors_did_and_the_others_adamw(
    config: TrainingConfig, betas: tuple[float, float], decay: float
) -> None:
    matrices, biases = groups(config)
    assert matrices["betas"] == biases["betas"] == betas
    assert (matrices["weight_decay"], biases["weight_decay"]) == (decay, 0.0)
