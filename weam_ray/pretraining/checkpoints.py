"""Checkpoints of a run: written whole or not at all, the newest kept."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from weam_ray.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """Where a run saves its state and finds it again.

    Attributes:
        folder: of this run alone: its name should hold the run's identity.
        every: steps between checkpoints.
        seconds: time between checkpoints; of runs on one worker, whose steps nobody waits for.
        saved: told the file and step of each; a cluster copies it away here.
    """

    folder: Path
    every: int | None = 1000
    seconds: float = math.inf
    saved: Callable[[Path, int], None] | None = None

    def due(self, step: int, seconds: float) -> bool:
        """Whether a run is to be saved after so many steps, and seconds since it was last."""
        return seconds >= self.seconds or (self.every is not None and step % self.every == 0)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Writes the state of a step beside the last one, then removes the last one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:09d}.pt"
        draft = path.with_suffix(".tmp")
        with open(draft, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
        for older in self.folder.glob("step-*.pt"):
            if older.name < path.name:
                older.unlink(missing_ok=True)
        if self.saved is not None:
            self.saved(path, step)

    @property
    def latest_step(self) -> int:
        """Steps done at the newest state; 0 before the first."""
        files = sorted(self.folder.glob("step-*.pt"))
        return int(files[-1].stem.removeprefix("step-")) if files else 0

    def latest(self) -> dict[str, Any] | None:
        """The newest state, on the CPU, or None before the first.

        Whoever restores it moves what belongs elsewhere: under FSDP the whole state would not fit
        onto one device.

        Raises:
            DataError: the file is damaged.
        """
        files = sorted(self.folder.glob("step-*.pt"))
        if not files:
            return None
        if not zipfile.is_zipfile(files[-1]):
            raise DataError(
                "this checkpoint is damaged (it was whole when it was written)",
                place=str(files[-1]),
                cure="Remove it; the run then starts anew.",
            )
        state: dict[str, Any] = torch.load(files[-1], map_location="cpu", weights_only=True)
        return state
