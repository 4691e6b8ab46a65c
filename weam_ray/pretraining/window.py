"""What a run has measured since the last point of its curve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from weam_ray.pretraining.distributed import DistributedContext
from weam_ray.pretraining.feed import Step


@dataclass(slots=True)
class Window:
    """Sums of the objective's three values, of own steps and of replay, stay on the device.

    Attributes:
        waited: seconds spent waiting for batches.
        began: when the training it measures began, moved on by whatever else took time since.
    """

    device: torch.device
    sums: Tensor = field(init=False)
    replay: Tensor = field(init=False)
    steps: int = 0
    replays: int = 0
    tokens: int = 0
    masked: int = 0
    aligned: int = 0
    waited: float = 0.0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(3, device=self.device)
        self.replay = torch.zeros(3, device=self.device)
        self.began = time.perf_counter()

    def count(self, data: Step) -> None:
        """Adds a step's numbers, which are those of the whole batch on every worker."""
        self.tokens += data.parts[0].all_tokens
        if data.replay:
            self.replays += 1
            return
        self.steps += 1
        self.masked += data.parts[0].all_masked
        self.aligned += data.parts[0].all_aligned

    def state(self, distributed: DistributedContext | None) -> dict[str, Any]:
        """What is lost in a checkpoint between two points of the curve, if it isn't kept."""
        return {
            "sums": self._summed(distributed).cpu(),
            "counts": (self.steps, self.replays, self.tokens, self.masked, self.aligned),
            "seconds": (time.perf_counter() - self.began, self.waited),
        }

    def restore(self, state: dict[str, Any], *, leads: bool) -> None:
        """Goes on from :meth:`state`; the leading worker alone takes the sums of all."""
        if leads:
            self.sums, self.replay = state["sums"].to(self.device).clone().unbind()
        self.steps, self.replays, self.tokens, self.masked, self.aligned = state["counts"]
        trained, self.waited = state.get("seconds", (0.0, 0.0))
        self.began = time.perf_counter() - trained

    def _summed(self, distributed: DistributedContext | None) -> Tensor:
        sums = torch.stack([self.sums, self.replay])
        if distributed is not None:
            torch.distributed.all_reduce(sums)
        return sums

    def values(
        self, names: Sequence[str], links: bool, distributed: DistributedContext | None
    ) -> dict[str, float]:
        """Means since the last point by metric, the same on every worker but for the times."""
        own, replay = self._summed(distributed).tolist()
        seconds = time.perf_counter() - self.began
        values = {
            "tokens_per_second": self.tokens / seconds,
            "wait_share": self.waited / seconds,
        }
        if self.steps:
            values |= {name: value / self.steps for name, value in zip(names, own, strict=False)}
        if self.replays:
            values["loss_replay"] = replay[0] / self.replays
        if links and self.masked:
            values["aligned_share"] = self.aligned / self.masked
        return values
