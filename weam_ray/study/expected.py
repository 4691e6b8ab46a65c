"""What a study is for, and the noise it reckons with, as stated in its file."""

from __future__ import annotations

from pydantic import Field

from weam_ray.identity import StageConfig


class PowerConfig(StageConfig):
    """Power: what `weam-ray plan` reckons with. Decides nothing of what a cell is."""

    effect: float = Field(default=0.02, gt=0, lt=1)
    """The gain, a share of the items (0.02 = 2 points), that the study is for: seeds are reckoned
    for it, and the report says how many pairs it takes."""
    discordance: float | None = Field(default=None, gt=0, le=1)
    """Share of items on which exactly one of two systems is right, 0-1. None: measured on finished
    cells, or 0.10 where there are none."""
    seed_sd: float | None = Field(default=None, ge=0, lt=1)
    """Standard deviation of one system's accuracy between seeds, a share. None: measured on
    finished cells of several seeds, or 0.006 where there are none (mBERT's 12-language mean on
    XNLI over five seeds: 0.0063)."""
