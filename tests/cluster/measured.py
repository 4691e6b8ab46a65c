"""Figures of the cluster tests: printed, and kept where ``benchmarks/cluster.py`` finds them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACE = "WEAM_RAY_MEASURED"
"""Environment variable: a file that gets a JSON line a figure."""


def note(name: str, **figures: object) -> None:
    """Keep figures under a name."""
    print(f"\n{name}: {json.dumps(figures)}")
    if place := os.environ.get(PLACE):
        with open(place, "a", encoding="utf8") as stream:
            print(json.dumps({"name": name, **figures}), file=stream)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Keep the seconds that the block took."""
    started = time.monotonic()
    yield
    note(name, seconds=round(time.monotonic() - started, 1))


def read(path: Path) -> dict[str, dict[str, object]]:
    """What was kept, by name; the last of a name counts."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    return {line.pop("name"): line for line in lines}
