"""AdamW and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from weam_ray.pretraining.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of `steps`: linear warm-up, then linear decay or flat."""
    warm = config.warmup_share * steps
    if step < warm:
        return config.learning_rate * (step + 1) / (math.floor(warm) + 1)
    if config.decay == "constant":
        return config.learning_rate
    return config.learning_rate * (steps - step) / max(steps - warm, 1.0)


def adamw(parameters: Sequence[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """Fused AdamW; biases and normalisation weights aren't decayed."""
    decayed = [p for p in parameters if p.dim() > 1]
    spared = [p for p in parameters if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.matrix_decay}]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
