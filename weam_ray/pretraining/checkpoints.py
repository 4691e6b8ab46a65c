"""Checkpoints of a run: written whole or not at all, the newest kept."""

from __future__ import annotations

import os
import pickle
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
        saved: told the file and step of each; a cluster copies it away here.
    """

    folder: Path
    every: int = 1000
    saved: Callable[[Path, int], None] | None = None

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

    def latest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state, or None before the first.

        Raises:
            DataError: the file can't be read.
        """
        files = sorted(self.folder.glob("step-*.pt"))
        if not files:
            return None
        try:
            state: dict[str, Any] = torch.load(files[-1], map_location=device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                f"this checkpoint can't be read: {str(error).partition(chr(10))[0]}",
                place=str(files[-1]),
                cure="Remove it; the run then starts from an older one, or anew.",
            ) from error
        return state
