"""A test's process as one of several workers, over gloo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from weam_ray.pretraining import DistributedContext


@contextmanager
def one_of(rank: int, world: int, meet: str) -> Iterator[DistributedContext]:
    """This worker's place; ``meet`` is a file that is not there yet."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meet}", rank=rank, world_size=world
    )
    yield DistributedContext(rank=rank, world=world)
    torch.distributed.destroy_process_group()
