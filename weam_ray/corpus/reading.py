"""Bilingual files as blocks of raw rows, streamed: nothing is normalised or dropped here.

A block is a table of :data:`RAW_SCHEMA`. Lines end at LF only (a CR before it is whitespace that
cleaning removes), as in ``wc -l``: other line separators of Unicode stay inside their line, where
Python's ``splitlines`` would shift one side against the other.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.corpus.config import CorpusConfig
from weam_ray.corpus.languages import normalise_language, primary_language
from weam_ray.errors import ConfigError, DataError

RAW_SCHEMA = pa.schema(
    [("line", pa.int64()), ("source", pa.string()), ("target", pa.string()), ("gold", pa.string())]
)
"""``line`` counts from 1 in the file; ``gold`` is a line of Pharaoh links, or null."""

BLOCK_ROWS = 10_000
_BLOCK_BYTES = 32 << 20
"""A block ends early at this size, so that very long lines can't fill the memory."""
_BOM = b"\xef\xbb\xbf"

_Row = tuple[str, str]


def read_blocks(config: CorpusConfig, block_rows: int = BLOCK_ROWS) -> Iterator[pa.Table]:
    """The bitext's rows in file order, at most ``block_rows`` a block.

    A plain generator, usable as a read task. Which rows share a block decides nothing later.

    Raises:
        DataError: a file is missing, not UTF-8, holds NUL bytes, lacks a column, or the sides
            (or the gold links) differ in length; found at the end of the shorter file.
        ConfigError: a column that isn't there.
    """
    readers = {"tsv": _read_tsv, "parquet": _read_parquet, "tmx": _read_tmx}
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


def read_lines(path: Path, block_rows: int = BLOCK_ROWS) -> Iterator[list[str]]:
    """A text file's lines without their LF, plain or .gz, in blocks.

    Raises:
        DataError: not UTF-8, a NUL byte (file and line named), or a damaged gzip file.
    """
    first = 1
    for lines in _byte_blocks(path, block_rows):
        if first == 1 and lines[0].startswith(_BOM):
            lines[0] = lines[0][len(_BOM) :]
        joined = b"".join(lines)
        if b"\0" in joined:
            number = first + next(i for i, line in enumerate(lines) if b"\0" in line)
            raise DataError(
                "a NUL byte: this is not a text file, or it is UTF-16.",
                place=f"{path}:{number}",
                cure="Convert the file to UTF-8, or remove the line on both sides.",
            )
        try:
            text = joined.decode("utf8")
        except UnicodeDecodeError:
            raise _not_utf8(path, first, lines) from None
        yield (text[:-1] if text.endswith("\n") else text).split("\n")
        first += len(lines)


def _byte_blocks(path: Path, block_rows: int) -> Iterator[list[bytes]]:
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if zipped else plain
        lines: list[bytes] = []
        size = 0
        try:
            for line in stream:
                lines.append(line)
                size += len(line)
                if len(lines) == block_rows or size > _BLOCK_BYTES:
                    yield lines
                    lines, size = [], 0
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"damaged gzip file ({error}).", place=str(path), cure="Fetch or write it again."
            ) from None
        if lines:
            yield lines


def _not_utf8(path: Path, first: int, lines: list[bytes]) -> DataError:
    for number, line in enumerate(lines, first):
        try:
            line.decode("utf8")
        except UnicodeDecodeError as error:
            return DataError(
                f"invalid UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}.",
                place=f"{path}:{number}",
                cure="Convert the file to UTF-8 (iconv -f latin1 -t utf8), or mend the line.",
            )
    raise AssertionError("lines that decode one by one also decode together")


def _together(paths: list[Path], block_rows: int) -> Iterator[pa.Table]:
    """Line-aligned files side by side.

    Raises:
        DataError: they differ in length; all counts named.
    """
    readers = [_Lines(path, block_rows) for path in paths]
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


class _Lines:
    """A file's lines, taken in whatever portions its partner can match."""

    def __init__(self, path: Path, block_rows: int) -> None:
        self._blocks = read_lines(path, block_rows)
        self._lines: list[str] = []

    def fill(self) -> int:
        """Lines at hand; none only at the end of the file."""
        if not self._lines:
            self._lines = next(self._blocks, [])
        return len(self._lines)

    def take(self, count: int) -> list[str]:
        taken, self._lines = self._lines[:count], self._lines[count:]
        return taken

    def count_rest(self) -> int:
        return len(self._lines) + sum(len(block) for block in self._blocks)


def _with_gold(
    blocks: Iterable[tuple[int, list[list[str]]]], source: Path, gold: Path, block_rows: int
) -> Iterator[pa.Table]:
    links = _Lines(gold, block_rows)
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


def _read_tsv(config: CorpusConfig, block_rows: int) -> Iterator[tuple[int, list[list[str]]]]:
    names = (config.source_column or "1", config.target_column or "2")
    header = not all(name.isdecimal() for name in names)
    wanted = [int(name) - 1 for name in names] if not header else []
    line = 1
    for block in read_lines(config.source, block_rows):
        if header and line == 1:
            wanted = [_named_column(name, block[0], config.source) for name in names]
            block, line = block[1:], 2
        rows = [text.rstrip("\r").split("\t") for text in block]
        need = max(wanted) + 1
        for number, row in enumerate(rows, line):
            if len(row) < need:
                raise DataError(
                    f"{len(row)} columns where column {need} is asked for.",
                    place=f"{config.source}:{number}",
                    cure="Columns are parted by one tab; set source_column and target_column.",
                )
        if rows:
            yield line, [[row[column] for row in rows] for column in wanted]
        line += len(rows)


def _named_column(name: str, header: str, path: Path) -> int:
    names = header.rstrip("\r").split("\t")
    if name in names:
        return names.index(name)
    if name.isdecimal():
        return int(name) - 1
    raise ConfigError(
        f"no column {name!r} in the header {names}.",
        place=str(path),
        cure="Set source_column and target_column.",
    )


def _read_parquet(config: CorpusConfig, block_rows: int) -> Iterator[tuple[int, list[list[str]]]]:
    try:
        file = pq.ParquetFile(config.source)
    except pa.ArrowInvalid as error:
        raise DataError(f"not a parquet file ({error}).", place=str(config.source)) from None
    with file:
        paths = [
            _parquet_column(file.schema_arrow, config, name, side)
            for name, side in ((config.source_column, "source"), (config.target_column, "target"))
        ]
        line = 1
        for batch in file.iter_batches(block_rows, columns=[".".join(path) for path in paths]):
            columns = []
            for path in paths:
                column = batch.column(path[0])
                if len(path) > 1:
                    column = column.field(path[1])
                # A null is a blank side: dropped by cleaning, and counted there.
                columns.append([value or "" for value in column.cast(pa.string()).to_pylist()])
            _refuse_nul(config.source, line, columns)
            yield line, columns
            line += len(batch)


def _parquet_column(
    schema: pa.Schema, config: CorpusConfig, name: str | None, side: str
) -> list[str]:
    language = config.source_language if side == "source" else config.target_language
    codes = [language, language.replace("-", "_"), primary_language(language)]
    if name is None and "translation" in schema.names:
        fields = [field.name for field in schema.field("translation").type]
        for code in [*codes, *(code.lower() for code in codes)]:
            if code in fields:
                return ["translation", code]
        raise ConfigError(
            f"column 'translation' has the languages {fields}, not {language!r}.",
            place=str(config.source),
            cure=f"Mend {side}_language.",
        )
    for candidate in [name] if name is not None else [side, *codes]:
        if candidate in schema.names:
            return [candidate]
    raise ConfigError(
        f"no column {name or side!r} among {schema.names}.",
        place=str(config.source),
        cure=f"Set {side}_column.",
    )


def _refuse_nul(path: Path, line: int, columns: list[list[str]]) -> None:
    for column in columns:
        for number, text in enumerate(column, line):
            if "\0" in text:
                raise DataError(
                    "a NUL character.", place=f"{path}: row {number}", cure="Remove the row."
                )


def _read_tmx(config: CorpusConfig, block_rows: int) -> Iterator[tuple[int, list[list[str]]]]:
    rows: list[_Row] = []
    line = 1
    for row in _translation_units(config):
        rows.append(row)
        if len(rows) == block_rows:
            yield line, [list(side) for side in zip(*rows, strict=True)]
            line += len(rows)
            rows = []
    if rows:
        yield line, [list(side) for side in zip(*rows, strict=True)]


def _translation_units(config: CorpusConfig) -> Iterator[_Row]:
    """Both sides of every ``<tu>``, the line being its number; a missing language is a blank."""
    languages = (primary_language(config.source_language), primary_language(config.target_language))
    with open(config.source, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream = gzip.GzipFile(fileobj=plain) if zipped else plain
        try:
            for _, unit in ElementTree.iterparse(stream):
                if unit.tag != "tu":
                    continue
                sides = {_unit_language(variant): variant for variant in unit.iter("tuv")}
                yield cast(_Row, tuple(_segment(sides.get(language)) for language in languages))
                unit.clear()
        except (ElementTree.ParseError, UnicodeDecodeError, EOFError, zlib.error) as error:
            raise DataError(
                f"not a well-formed TMX file ({error}).",
                place=str(config.source),
                cure="Fetch it again.",
            ) from None


def _unit_language(variant: ElementTree.Element) -> str:
    code = variant.get("{http://www.w3.org/XML/1998/namespace}lang") or variant.get("lang") or ""
    try:
        return normalise_language(code).split("-")[0]
    except ConfigError:
        return code  # a language of no corpus here


def _segment(variant: ElementTree.Element | None) -> str:
    segment = variant.find("seg") if variant is not None else None
    return "".join(segment.itertext()) if segment is not None else ""
