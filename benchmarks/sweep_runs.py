"""The small sweeps that sweep.py measures, and the measuring."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "sweeps" / "demo.yaml"
# The demo's world, so small that a cell takes about two seconds of one core.
TINY = {
    "world.mono_sentences": "1000",
    "world.pairs": "2000",
    "world.train_items": "1500",
    "world.dev_items": "90",
    "world.test_items": "150",
    "base.steps": "60",
    "pretraining.steps": "60",
    "transfer.steps": "60",
    "extra": "[]",
}


def settings(storage: Path, **changes: str) -> list[str]:
    """``--set`` words; in names ``__`` stands for a dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    values = {"name": "bench", **TINY, "storage": str(storage), **named}
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def sweep_words(storage: Path, **changes: str) -> list[str]:
    """The command that runs it."""
    words = settings(storage, **changes)
    return [sys.executable, "-m", "weam_ray", "sweep", str(DEMO), *words]


def grid(method: str, seeds: int, sizes: str = "1000") -> str:
    """A grid of one pair."""
    numbers = ", ".join(map(str, range(seeds)))
    return f"{{domain: home, pair: en-qaa, size: [{sizes}], method: {method}, seed: [{numbers}]}}"


_SECONDS_BETWEEN_LOOKS = 0.5
"""A look goes through all processes of the machine; ten a second would show in the figures."""


@dataclass
class Meter:
    """Wall and CPU seconds of a command with all that it starts."""

    wall: float = 0.0
    _cpu: dict[tuple[int, float], float] = field(default_factory=dict)

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes that were seen."""
        return sum(self._cpu.values())

    def look(self, process: psutil.Process) -> None:
        """Note the CPU time of a process and of what it started."""
        # Nobody waits for Ray's processes, so their time is looked at while they run.
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                self._cpu[one.pid, one.create_time()] = times.user + times.system
            except psutil.Error:
                continue


def measured(words: Sequence[str]) -> Meter:
    """Run a command to its end."""
    meter, started = Meter(), time.monotonic()
    with tempfile.TemporaryFile() as out:
        running = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        process = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                meter.look(process)
            except psutil.Error:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(_SECONDS_BETWEEN_LOOKS)
        if running.wait() != 0:
            out.seek(0)
            raise SystemExit(out.read().decode()[-3000:])
    meter.wall = time.monotonic() - started
    return meter
