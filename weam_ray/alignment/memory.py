"""How much memory alignment will take, and how much there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.encoding import Side
from weam_ray.errors import ResourceError

_ENTRIES_A_WORD = 2.5
"""Entries that outlive the second iteration, for a word of text: 0.8 to 1.5 were seen."""

_SCRATCH_A_TYPE = 40
_INTERPRETER = 300 << 20


def needed(source: Side, target: Side, config: AlignmentConfig, threads: int = 1) -> int:
    """Bytes that aligning will have in use at its peak, an upper estimate from measurements.

    Numbered text of both sides; then, one direction at a time, records, entries and scratch space;
    links of both directions, and of both together.
    """
    words = len(source.tokens) + len(target.tokens)
    larger = max(len(source.tokens), len(target.tokens))
    pairs = len(source)
    entries = _ENTRIES_A_WORD * larger
    if not config.variational_bayes:
        # Without the prior nothing is dropped.
        cells = float(np.dot(source.lengths.astype(float), target.lengths.astype(float)))
        entries = min(cells, float(source.types) * target.types)
    text = 8 * words + 60 * pairs
    training = 6 * larger + 16 * entries
    scratch = threads * _SCRATCH_A_TYPE * max(source.types, target.types)
    links = 4 * words + 8 * words
    return int(_INTERPRETER + text + training + scratch + links)


def available() -> int:
    """Bytes that this process can still take: of the machine's memory and its control group's."""
    limits = [_machine()]
    group = Path("/sys/fs/cgroup")
    for limit, used in (
        (group / "memory.max", group / "memory.current"),
        (group / "memory/memory.limit_in_bytes", group / "memory/memory.usage_in_bytes"),
    ):
        try:
            limits.append(int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):
            # There is no such group, or it has no limit ("max").
            continue
    return max(0, min(limits))


def _machine() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise ResourceError("the machine does not say how much memory is available")


def check(needed_bytes: int, available_bytes: int) -> None:
    """Refuse work that won't fit.

    Raises:
        ResourceError: with both figures.
    """
    if needed_bytes > available_bytes:
        raise ResourceError(
            f"aligning needs {_size(needed_bytes)}, and {_size(available_bytes)} are available",
            cure="Align fewer pairs at a time, or on a machine with more memory.",
        )


def _size(value: int) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def say(needed_bytes: int, available_bytes: int) -> str:
    """One line for a person."""
    return f"memory: about {_size(needed_bytes)} of {_size(available_bytes)} available"
