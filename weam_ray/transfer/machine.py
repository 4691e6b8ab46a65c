"""Threads and random state of a computation, given back to the caller as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from weam_ray.artifacts import Resources


@contextmanager
def machine(resources: Resources, seed: int = 0) -> Iterator[None]:
    """Compute with so many threads, from this seed, and leave no trace of either."""
    before = torch.get_num_threads()
    device = torch.device(resources.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.set_num_threads(resources.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
