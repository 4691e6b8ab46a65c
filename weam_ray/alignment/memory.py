"""How much memory and disk alignment will take, how much there is, and which layout follows."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.encoding import Side
from weam_ray.alignment.text import Text
from weam_ray.errors import ConfigError, ResourceError

_ENTRIES_A_WORD = 2.5
"""Entries that outlive the second iteration, for a word that recurs: 0.8 to 1.5 were seen."""

_SCRATCH_A_TYPE = 40
_INTERPRETER = 300 << 20
_A_PAIR = 60
"""Bytes a pair for lengths, shapes and starts, while they are made."""
_A_ROW = 60
"""Bytes a row of the prior, while shapes are made; a row is a target place of a distinct shape."""
_HEIGHTS = 32
"""Of these, what a worker has of its own: two tensions' heights."""
_BLOCK = 160 << 20
"""A block's records and counts, in and out, where they lie on disk."""
_RUN = 300 << 20
"""What is sorted at a time where records go to disk."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where text, records and counts lie, and what that takes, as an upper estimate."""

    on_disk: bool
    memory: int
    """Bytes in use at the peak, without what the system keeps of files in its cache."""
    disk: int
    """Bytes of work files."""


def layouts(
    source: Side,
    target: Side,
    config: AlignmentConfig,
    *,
    threads: int = 1,
    scores: bool = False,
    models: bool = False,
    held: int = 0,
) -> tuple[Layout, Layout]:
    """What all in memory takes, and what text, records and counts in work files take.

    One direction is worked on at a time. In memory: numbered text of both sides; records, entries
    and scratch space; links of both directions. On disk, what stays resident is one side of the
    text, in which words are looked up, one direction's links twice, and a block for each thread.

    Args:
        held: bytes of a saved model.
    """
    words = len(source.tokens) + len(target.tokens)
    larger = max(len(source.tokens), len(target.tokens))
    pairs = len(source)
    entries = _entries(source, target, config)
    types = max(source.types, target.types)
    scratch = threads * _SCRATCH_A_TYPE * types
    always = _INTERPRETER + held + _A_PAIR * pairs + _A_ROW * _rows(source, target) + scratch
    always += 24 * larger if scores else 0
    kept = 24 * entries if models else 0.0
    inside = 4 * words + 6 * larger + 16 * entries + 4 * larger + 2 * words
    blocks = min(threads * _BLOCK, 2 * inside)
    outside = 4 * larger + 4 * larger + blocks + min(_RUN, 10 * larger)
    return (
        Layout(on_disk=False, memory=int(always + inside + kept), disk=0),
        Layout(
            on_disk=True,
            memory=int(always + min(outside, inside) + kept),
            disk=int(4 * words + 6 * larger + 12 * entries + 2 * words),
        ),
    )


def text_fits(paths: Iterable[Path], limit: int) -> bool:
    """Whether the numbered text of files takes no more than a quarter of ``limit``, at a guess.

    What does not exist takes nothing; reading it will say so.
    """
    # A word of five bytes and a space is a number of four bytes; text packs to a third.
    size = sum(
        path.stat().st_size * (3 if path.suffix == ".gz" else 1) for path in paths if path.exists()
    )
    return size * 4 / 6 <= limit / 4


def of_shard(text: Text, config: AlignmentConfig, shards: int, threads: int) -> int:
    """Bytes that one of so many shards takes in a process of its own, text on the node apart."""
    larger = max(len(text.source.tokens), len(text.target.tokens))
    types = max(text.source.types, text.target.types)
    entries = _entries(text.source, text.target, config)
    own = (8 * larger + 16 * entries) / shards
    rows = _HEIGHTS * _rows(text.source, text.target)
    return int(_INTERPRETER + own + rows + threads * _SCRATCH_A_TYPE * types)


def _rows(source: Side, target: Side) -> int:
    # Few where sentences are short and shapes recur; as many as words where they are documents.
    base = int(target.lengths.max(initial=0)) + 1
    shapes = np.unique(source.lengths * base + target.lengths)
    return max(int((shapes // base).sum()), int((shapes % base).sum()))


def _entries(source: Side, target: Side, config: AlignmentConfig) -> float:
    cells = float(np.dot(source.lengths.astype(float), target.lengths.astype(float)))
    if not config.variational_bayes:
        # Without the prior nothing is dropped.
        return min(cells, float(source.types) * target.types)
    # A word that occurs once tells nothing: it keeps an entry with each word of its line.
    words = (len(source.tokens), len(target.tokens))
    rare = max(source.types * words[1], target.types * words[0]) / max(1, len(source))
    return min(cells, _ENTRIES_A_WORD * max(words) + rare)


def choose(
    options: tuple[Layout, Layout], limit: int, folder: Path, *, by_hand: bool = False
) -> Layout:
    """The layout in memory if it fits, else the one on disk.

    Args:
        limit: bytes that may be used.
        folder: of work files.
        by_hand: the limit is a person's wish, not what the machine has.

    Raises:
        ResourceError: neither fits, in memory or on the disk; with both figures.
    """
    inside, outside = options
    if inside.memory <= limit:
        return inside
    if outside.memory > limit:
        allowed = "are allowed" if by_hand else "are available"
        raise ResourceError(
            f"aligning needs {size(outside.memory, up=True)} even with work files, and "
            f"{size(limit)} "
            f"{allowed}",
            cure="Align fewer pairs at a time, or on a machine with more memory.",
        )
    free = _free(folder)
    if outside.disk > free:
        raise ResourceError(
            f"aligning needs {size(inside.memory)} of memory, of which {size(limit)} are there, or "
            f"{size(outside.disk)} of work files, for which {size(free)} are free",
            place=str(folder),
            cure="Name a folder with more space (--work-folder), or align fewer pairs at a time.",
        )
    return outside


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise ResourceError(
            f"no folder for work files: {error.strerror}",
            place=str(folder),
            cure="Name one that exists (--work-folder).",
        ) from None


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


_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str) -> int:
    """Bytes that ``8GiB``, ``8G``, ``500 MiB`` or ``1048576`` mean; units are powers of 1024.

    Raises:
        ConfigError: it means nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise ConfigError(f"{text!r} is no amount of memory", cure="Write 8GiB or 500MiB.")
    return int(float(match[1]) * (1 << _UNITS[match[2]]))


def size(value: float, *, up: bool = False) -> str:
    """A number of bytes for a person, rounded to the nearest or, if ``up``, never down."""
    unit, digits = ("GiB", 1) if value >= 2**30 else ("MiB", 0)
    number = value / 2 ** (30 if digits else 20)
    shown = math.ceil(number * 10**digits) / 10**digits if up else number
    return f"{shown:.{digits}f} {unit}"


def say(layout: Layout, limit: int, folder: Path) -> str:
    """One line for a person."""
    line = f"memory: about {size(layout.memory)} of {size(limit)} available"
    if layout.on_disk:
        line += f"; about {size(layout.disk)} of work files in {folder}"
    return line
