"""How fast this machine trains an encoder of a given shape: a few seconds of real steps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from weam_ray.artifacts import Resources
from weam_ray.study.workload import Shape

if TYPE_CHECKING:
    import torch

_MAX_LAYERS = 2
"""Layers are alike, so that two of them stand for all."""


def measure(
    shape: Shape,
    resources: Resources,
    *,
    batch_size: int = 32,
    length: int = 64,
    seconds: float = 2.0,
) -> float:
    """Training arithmetic a second, by forward and backward passes of a few of its layers.

    Embeddings, head, optimiser and data loading are left out, so that a real run is somewhat
    slower: recorded seconds of like stages, where there are any, are a better basis.

    Args:
        batch_size: rows a step.
        length: tokens a row.
        seconds: measured time, after one step to warm up.
    """
    import torch

    layers = min(shape.layers, _MAX_LAYERS)
    threads = torch.get_num_threads()
    torch.set_num_threads(resources.threads)
    try:
        encoder = _layers(shape, layers).to(resources.device)
        rows = torch.randn(batch_size, length, shape.hidden, device=resources.device)
        _step(encoder, rows)
        started, steps = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            _step(encoder, rows)
            steps += 1
        taken = time.monotonic() - started
    finally:
        torch.set_num_threads(threads)
    tokens = steps * batch_size * length
    return shape.training_flops(tokens) * layers / shape.layers / taken


def _layers(shape: Shape, count: int) -> torch.nn.TransformerEncoder:
    import torch

    heads = max(1, shape.hidden // 64)
    layer = torch.nn.TransformerEncoderLayer(
        shape.hidden,
        nhead=heads if shape.hidden % heads == 0 else 1,
        dim_feedforward=shape.intermediate,
        dropout=0.0,
        batch_first=True,
    )
    return torch.nn.TransformerEncoder(layer, count, enable_nested_tensor=False)


def _step(encoder: torch.nn.Module, rows: torch.Tensor) -> None:
    import torch

    encoder.zero_grad(set_to_none=True)
    encoder(rows).square().mean().backward()
    if rows.is_cuda:
        torch.cuda.synchronize()
