"""Small bitexts for the corpus tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from weam_ray.corpus import RAW_SCHEMA, CorpusConfig

ENGLISH = "the cat sees a small dog near old house while rain falls on green hills".split()
GERMAN = "die Katze sieht einen kleinen Hund bei altem Haus während Regen auf Hügel fällt".split()


def sentences(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Pairs of random words, all of them clean."""
    rng = random.Random(seed)
    sides: tuple[list[str], list[str]] = ([], [])
    for _ in range(count):
        length = rng.randint(4, 12)
        for side, words in zip(sides, (ENGLISH, GERMAN), strict=True):
            side.append(" ".join(rng.choice(words) for _ in range(length)) + " .")
    return sides


def moses(folder: Path, source: list[str], target: list[str], /, **settings: Any) -> CorpusConfig:
    """A configuration of two files written now, unless the settings name others."""
    for name, lines in (("a.en", source), ("a.de", target)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    chosen = {
        "domain": "test",
        "source_language": "en",
        "target_language": "de",
        "source": folder / "a.en",
        "target": folder / "a.de",
    } | settings
    return CorpusConfig(**chosen)


def raw_block(source: list[str], target: list[str], gold: list[str] | None = None) -> pa.Table:
    """What a reader would give for these lines."""
    rows = len(source)
    columns = [list(range(1, rows + 1)), source, target, gold or [None] * rows]
    return pa.table(columns, schema=RAW_SCHEMA)
