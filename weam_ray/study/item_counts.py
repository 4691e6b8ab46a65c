"""How many evaluation and training items there are, before and after they have been read."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.artifacts import Artifact
from weam_ray.errors import WeamError
from weam_ray.transfer.items import ItemsConfig, item_files

Counts = Mapping[tuple[str, str], int]
"""Items by split and language."""


def count_made(items: Artifact) -> Counts:
    """The items of an ``items`` or ``questions`` artifact, exactly."""
    name = "items" if (items.path / "items.parquet").is_file() else "questions"
    table = pq.read_table(items.path / f"{name}.parquet", columns=["split", "language"])
    groups = table.group_by(["split", "language"]).aggregate([([], "count_all")])
    return {(row["split"], row["language"]): row["count_all"] for row in groups.to_pylist()}


def count_files(config: ItemsConfig) -> Counts | None:
    """About as many as the files hold: rows of parquet, lines of the rest, up to the limits.

    A file of several languages is taken to hold as much of each. None when a file is missing or
    can't be read; whoever reads it for its items will say what is wrong.
    """
    try:
        files = item_files(config)
        users = Counter(path for paths in files.values() for path in paths)
        rows = {path: _rows(path) for path in users}
    except (WeamError, OSError, EOFError, zlib.error, pa.ArrowException):
        return None
    counts: dict[tuple[str, str], int] = {}
    for name, paths in files.items():
        split, _, language = name.partition("/")
        found = sum(rows[path] // users[path] for path in paths)
        limit: int | None = getattr(config, f"{split}_limit")
        counts[split, language] = found if limit is None else min(found, limit)
    return counts


def _rows(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    opened = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
    with opened as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))


def total(counts: Counts, split: str, languages: Collection[str]) -> int:
    """Items of a split in these languages."""
    return sum(
        count
        for (name, language), count in counts.items()
        if name == split and language in languages
    )


def count_common(made: Artifact, task: str, split: str, languages: Collection[str]) -> int:
    """Items of an ``items`` or ``questions`` artifact that all of these languages have: what can be
    compared over them. MLQA asks other questions in each.
    """
    path = made.path / "items.parquet"
    filters = [("split", "=", split), ("language", "in", list(languages))]
    if not path.is_file():
        path, filters = made.path / "questions.parquet", [*filters, ("task", "=", task)]
    table = pq.read_table(path, columns=["item", "language"], filters=filters)
    asked: dict[str, set[str]] = {language: set() for language in languages}
    for item, language in zip(
        table["item"].to_pylist(), table["language"].to_pylist(), strict=True
    ):
        asked[language].add(item)
    return len(set.intersection(*asked.values())) if asked else 0
