"""How many rows a bitext has at most, without reading it: a size beyond them can't be reached."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.corpus.config import CorpusConfig

_CHUNK = 1 << 20


def rows_at_most(config: CorpusConfig, enough: int) -> int | None:
    """Rows before cleaning, of one side; counted up to ``enough``, so that a plan stays quick.

    Returns:
        Fewer than ``enough`` are all there are. None where the rows can't be counted without
        reading everything (TMX, zipped parquet), and for damaged files: their reader says more.
    """
    try:
        if config.layout == "parquet":
            with pq.ParquetFile(config.source) as file:
                return min(int(file.metadata.num_rows), enough)
        if config.layout in ("moses", "tsv"):
            return _lines(config.source, enough)
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        return None
    return None


def _lines(path: Path, enough: int) -> int:
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream = gzip.GzipFile(fileobj=plain) if zipped else plain
        lines, last = 0, b"\n"
        while lines < enough and (chunk := stream.read(_CHUNK)):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return min(lines + (last != b"\n"), enough)
