"""The demo study, made so small that its whole chain runs in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from weam_ray.study.config import StudyConfig
from weam_ray.study.reading import read_study

DEMO = Path(__file__).resolve().parent.parent / "sweeps" / "demo.yaml"

SMALL = {
    "name": "small",
    "world.mono_sentences": "200",
    "world.pairs": "120",
    "world.train_items": "90",
    "world.dev_items": "90",
    "world.test_items": "90",
    "vocabulary.size": "400",
    "base.hidden": "16",
    "base.heads": "2",
    "base.intermediate": "32",
    "base.steps": "4",
    "pretraining.steps": "4",
    "transfer.steps": "4",
    "diagnostics.probe_items": "90",
    "grid": "{domain: home, pair: en-qaa, size: 60, method: [none, weam], seed: 0}",
    "extra": "[]",
}


def overrides(storage: Path | str, **changes: str) -> list[str]:
    """``--set`` values of the small study; in names of changes ``__`` stands for a dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    values: Mapping[str, str] = {**SMALL, "storage": str(storage), **named}
    return [f"{name}={value}" for name, value in values.items()]


def small_study(storage: Path | str, **changes: str) -> StudyConfig:
    """The small study with changes."""
    return read_study(DEMO, overrides(storage, **changes))
