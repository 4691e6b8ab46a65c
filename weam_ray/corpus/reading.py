"""Bilingual files as blocks of raw rows, streamed: nothing is normalised or dropped here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from weam_ray.corpus.config import CorpusConfig
from weam_ray.corpus.lines import BLOCK_ROWS, LineReader
from weam_ray.corpus.tables import Rows, read_parquet, read_tmx, read_tsv
from weam_ray.errors import DataError

RAW_SCHEMA = pa.schema(
    [("line", pa.int64()), ("source", pa.string()), ("target", pa.string()), ("gold", pa.string())]
)
"""``line`` counts from 1 in the file; ``gold`` is a line of Pharaoh links, or null."""


def read_blocks(config: CorpusConfig, block_rows: int = BLOCK_ROWS) -> Iterator[pa.Table]:
    """The bitext's rows in file order, at most ``block_rows`` a block.

    A plain generator, usable as a read task. Which rows share a block decides nothing later.

    Raises:
        DataError: a file is missing, not UTF-8, holds NUL bytes, lacks a column, or the sides
            (or the gold links) differ in length; found at the end of the shorter file.
        ConfigError: a column that isn't there.
    """
    readers = {"tsv": read_tsv, "parquet": read_parquet, "tmx": read_tmx}
    for path in config.files.values():
        if not path.is_file():
            raise DataError(
                "no such file", place=str(path), cure="Check the path, or data_dir in the study."
            )
    if config.layout == "moses":
        assert config.target is not None
        sides = [config.source, config.target, *([config.gold] if config.gold else [])]
        yield from _together(sides, block_rows)
        return
    rows = readers[config.layout](config, block_rows)
    if config.gold is None:
        for line, columns in rows:
            yield _block(line, columns)
    else:
        yield from _with_gold(rows, config.source, config.gold, block_rows)


def _block(line: int, columns: list[list[str]]) -> pa.Table:
    rows = len(columns[0])
    gold = columns[2] if len(columns) > 2 else [None] * rows
    return pa.table(
        [list(range(line, line + rows)), columns[0], columns[1], gold], schema=RAW_SCHEMA
    )


def _together(paths: list[Path], block_rows: int) -> Iterator[pa.Table]:
    """Line-aligned files side by side.

    Raises:
        DataError: they differ in length; all counts named.
    """
    readers = [LineReader(path, block_rows) for path in paths]
    line = 1
    while True:
        ready = min(reader.fill() for reader in readers)
        if ready == 0:
            break
        yield _block(line, [reader.take(ready) for reader in readers])
        line += ready
    totals = [line - 1 + reader.count_rest() for reader in readers]
    if len(set(totals)) > 1:
        counts = ", ".join(
            f"{path} has {total:,}" for path, total in zip(paths, totals, strict=True)
        )
        raise DataError(
            f"line-aligned files of unequal length: {counts} lines.",
            cure="Each line must be the translation of the same line; fetch both files again.",
        )


def _with_gold(
    blocks: Iterable[Rows], source: Path, gold: Path, block_rows: int
) -> Iterator[pa.Table]:
    links = LineReader(gold, block_rows)
    seen = 0
    for line, columns in blocks:
        wanted: list[str] = []
        while len(wanted) < len(columns[0]) and links.fill():
            wanted += links.take(len(columns[0]) - len(wanted))
        seen += len(columns[0])
        if len(wanted) < len(columns[0]):
            break
        yield _block(line, [*columns, wanted])
    else:
        if not (rest := links.count_rest()):
            return
        raise DataError(
            f"{source} has {seen:,} pairs, but {gold} {seen + rest:,} lines.", place=str(gold)
        )
    missing = len(columns[0]) - len(wanted)
    raise DataError(
        f"{gold} ends after {seen - missing:,} lines, but {source} has more pairs.", place=str(gold)
    )
