"""Files that hold both sides: TSV, parquet, TMX.

Each reader yields blocks as (number of the first row, [source texts, target texts]).
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.corpus.config import CorpusConfig
from weam_ray.corpus.languages import normalise_language, primary_language
from weam_ray.corpus.lines import read_lines
from weam_ray.errors import ConfigError, DataError

Rows = tuple[int, list[list[str]]]


def read_tsv(config: CorpusConfig, block_rows: int) -> Iterator[Rows]:
    """Two columns of a tab-separated file without quoting, plain or .gz.

    Raises:
        DataError: a line has too few columns.
        ConfigError: the header lacks a column.
    """
    names = (config.source_column or "1", config.target_column or "2")
    header = not all(name.isdecimal() for name in names)
    wanted = [int(name) - 1 for name in names] if not header else []
    line = 1
    for block in read_lines(config.source, block_rows):
        if header and line == 1:
            wanted = [_named_column(name, block[0], config.source) for name in names]
            block, line = block[1:], 2
        need = max(wanted) + 1
        # An empty line is a pair of blank sides: dropped by cleaning, and counted there.
        rows = [text.rstrip("\r").split("\t") if text.strip() else [""] * need for text in block]
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


def read_parquet(config: CorpusConfig, block_rows: int) -> Iterator[Rows]:
    """Two string columns, or two fields of a Hub data set's ``translation`` column; plain or .gz.

    Raises:
        DataError: not a parquet file, a damaged one, or a row with a NUL character or without
            UTF-8.
        ConfigError: it lacks a column or language.
    """
    with _unzipped(config.source) as source:
        try:
            file = pq.ParquetFile(source)
        except (pa.ArrowException, OSError) as error:
            raise _no_parquet("not a parquet file", error, config.source) from None
        with file:
            paths = [
                _parquet_column(file.schema_arrow, config, name, side)
                for name, side in (
                    (config.source_column, "source"),
                    (config.target_column, "target"),
                )
            ]
            line = 1
            for batch in _batches(file, config.source, block_rows, paths):
                columns = [_texts(batch, path, config.source, line) for path in paths]
                _refuse_nul(config.source, line, columns)
                yield line, columns
                line += len(batch)


@contextmanager
def _unzipped(path: Path) -> Iterator[Path | IO[bytes]]:
    """The file itself; of one that was zipped a copy, for parquet is read from its end."""
    with open(path, "rb") as plain:
        if plain.read(2) != b"\x1f\x8b":
            yield path
            return
        plain.seek(0)
        with tempfile.TemporaryFile() as whole:
            try:
                shutil.copyfileobj(gzip.GzipFile(fileobj=plain), whole)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataError(
                    f"damaged gzip file ({error}).", place=str(path), cure="Fetch it again."
                ) from None
            whole.seek(0)
            yield whole


def _no_parquet(what: str, error: Exception, path: Path) -> DataError:
    reason = str(error).partition("\n")[0].rstrip(".")
    return DataError(f"{what} ({reason}).", place=str(path), cure="Fetch or write it again.")


def _batches(
    file: pq.ParquetFile, path: Path, block_rows: int, columns: list[list[str]]
) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(block_rows, columns=[".".join(column) for column in columns])
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _no_parquet("damaged parquet file", error, path) from None
        if batch is None:
            return
        yield batch


def _texts(batch: pa.RecordBatch, names: list[str], path: Path, line: int) -> list[str]:
    column = batch.column(names[0])
    if len(names) > 1:
        column = column.field(names[1])
    try:
        # A null is a blank side: dropped by cleaning, and counted there.
        return [value or "" for value in column.cast(pa.string()).to_pylist()]
    except (pa.ArrowInvalid, UnicodeDecodeError):
        for number, value in enumerate(column.cast(pa.binary()).to_pylist(), line):
            try:
                (value or b"").decode("utf8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"invalid UTF-8 in column {'.'.join(names)}: byte 0x{value[error.start]:02x}.",
                    place=f"{path}: row {number}",
                    cure="Write the column as UTF-8 text.",
                ) from None
        raise


def _parquet_column(
    schema: pa.Schema, config: CorpusConfig, name: str | None, side: str
) -> list[str]:
    language = config.source_language if side == "source" else config.target_language
    codes = [language, language.replace("-", "_"), primary_language(language)]
    if name is None and _is_struct(schema, "translation"):
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
        if candidate in schema.names and not pa.types.is_nested(schema.field(candidate).type):
            return [candidate]
    raise ConfigError(
        f"no text column {name or side!r} among {schema.names}.",
        place=str(config.source),
        cure=f"Set {side}_column.",
    )


def _is_struct(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_struct(schema.field(name).type)


def _refuse_nul(path: Path, line: int, columns: list[list[str]]) -> None:
    for column in columns:
        for number, text in enumerate(column, line):
            if "\0" in text:
                raise DataError(
                    "a NUL character.", place=f"{path}: row {number}", cure="Remove the row."
                )


def read_tmx(config: CorpusConfig, block_rows: int) -> Iterator[Rows]:
    """The translation units of a TMX file, plain or .gz, streamed.

    Raises:
        DataError: it is not well-formed.
    """
    rows: list[tuple[str, str]] = []
    line = 1
    for row in _translation_units(config):
        rows.append(row)
        if len(rows) == block_rows:
            yield line, [list(side) for side in zip(*rows, strict=True)]
            line += len(rows)
            rows = []
    if rows:
        yield line, [list(side) for side in zip(*rows, strict=True)]


def _translation_units(config: CorpusConfig) -> Iterator[tuple[str, str]]:
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
                yield cast(
                    tuple[str, str], tuple(_segment(sides.get(language)) for language in languages)
                )
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
