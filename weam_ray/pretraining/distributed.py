"""One worker among several."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedContext:
    """One worker of several; `torch.distributed` is initialised by whoever made it."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this worker writes and reports."""
        return self.rank == 0
