"""The optimiser and learning-rate schedule of fine-tuning, for every task."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel


def adamw(
    model: PreTrainedModel, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Fused AdamW over what is trained; biases and norms are not decayed (BERT)."""
    trained = [part for part in model.parameters() if part.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in trained if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), fused=True)


def rate_share(done: int, steps: int, warmup: float) -> float:
    """Share of the peak rate for the step after ``done`` of ``steps``: linear up, linear down."""
    rising = warmup * steps
    if done + 1 <= rising:
        return (done + 1) / rising
    return (steps - done) / max(1.0, steps - rising)
