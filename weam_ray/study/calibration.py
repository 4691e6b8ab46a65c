"""This machine as a plan sees it, and how fast it trains: a few seconds of real steps."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil

from weam_ray.artifacts import Resources, Store
from weam_ray.study.config import StudyConfig
from weam_ray.study.estimate import Machine, largest_shape, training_steps
from weam_ray.study.plan import Plan
from weam_ray.study.workload import Shape

if TYPE_CHECKING:
    import torch

_MAX_LAYERS = 2
"""Layers are alike, so that two of them stand for all."""


def this_machine(
    study: StudyConfig, plan: Plan, store: Store, *, calibrate: bool = True, seconds: float = 2.0
) -> Machine:
    """CPUs, GPUs, memory and free disk; with ``calibrate``, its speed on the plan's encoder.

    Torch is loaded only if GPUs are asked for or there is something to train.
    """
    wanted, gpus = study.resources, 0
    if wanted.cell_gpus or wanted.base_gpus:
        import torch

        gpus = torch.cuda.device_count()
    shape = largest_shape(plan, store) if calibrate else None
    flops = base_flops = None
    if shape is not None:
        cell = _Worker(
            wanted.cell_threads, bool(gpus and wanted.cell_gpus), study.pretraining.precision
        )
        base = _Worker(wanted.base_threads, bool(gpus and wanted.base_gpus), study.base.precision)
        flops = base_flops = cell.measured(shape, seconds)
        if base != cell and any(step.stage == "base" for step in training_steps(plan)):
            base_flops = base.measured(shape, seconds)
    place = study.home.absolute()
    while not place.exists():
        place = place.parent
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        gpus=gpus,
        memory=psutil.virtual_memory().total,
        disk_free=shutil.disk_usage(place).free,
        flops=flops,
        base_flops=base_flops,
    )


@dataclass(frozen=True)
class _Worker:
    """How a kind of job trains."""

    threads: int
    on_gpu: bool
    precision: Literal["fp32", "bf16"]

    def measured(self, shape: Shape, seconds: float) -> float:
        resources = Resources(threads=self.threads, device="cuda" if self.on_gpu else "cpu")
        return measure(shape, resources, seconds=seconds, precision=self.precision)


def measure(
    shape: Shape,
    resources: Resources,
    *,
    batch_size: int = 32,
    length: int = 64,
    seconds: float = 2.0,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> float:
    """Training arithmetic a second, by forward and backward passes of a few of its layers.

    Embeddings, head, optimiser and data loading are left out, so that a real run is somewhat
    slower: recorded seconds of like stages, where there are any, are a better basis.

    Args:
        batch_size: rows a step.
        length: tokens a row.
        seconds: measured time, after one step to warm up.
        precision: bf16 is autocast, as in training.
    """
    import torch

    layers = min(shape.layers, _MAX_LAYERS)
    threads = torch.get_num_threads()
    torch.set_num_threads(resources.threads)
    try:
        encoder = _layers(shape, layers).to(resources.device)
        rows = torch.randn(batch_size, length, shape.hidden, device=resources.device)
        _step(encoder, rows, precision)
        started, steps = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            _step(encoder, rows, precision)
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


def _step(encoder: torch.nn.Module, rows: torch.Tensor, precision: Literal["fp32", "bf16"]) -> None:
    import torch

    from weam_ray.pretraining.precision import autocast

    encoder.zero_grad(set_to_none=True)
    with autocast(precision, rows.device):
        loss = encoder(rows).float().square().mean()
    loss.backward()
    if rows.is_cuda:
        torch.cuda.synchronize()
