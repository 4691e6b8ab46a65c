"""NLI files, one record after the other, with the place of each: jsonl, TSV, parquet, plain or .gz.

Column names differ between distributions of the same data; :data:`COLUMNS` lists those accepted.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.errors import ConfigError, DataError

LABELS = ("entailment", "neutral", "contradiction")
"""XNLI's order, which is the Hub's: the code of a label is its place here."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "premise": ("premise", "sentence1"),
    "hypothesis": ("hypothesis", "hypo", "sentence2"),
    "label": ("label", "gold_label"),
    "item": ("item", "pairID"),
    "language": ("language",),
}
"""The names under which a column is found: the Hub's, then those of the XNLI and MNLI archives."""

# "contradictory" is the spelling of the machine-translated training sets (XNLI-MT 1.0).
_NAMES = {name: code for code, name in enumerate(LABELS)} | {"contradictory": 2}
_HIDDEN = {"", "-", "-1", "hidden"}

Record = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class NliRow:
    """One item of one file; ``item`` is None where the file names no items."""

    premise: str
    hypothesis: str
    label: int
    item: str | None


def read_nli(path: Path, language: str) -> list[NliRow]:
    """The items of one file in ``language``; without a language column, all of them.

    Raises:
        ConfigError: the suffix is none of .jsonl, .tsv, .parquet (plain or .gz).
        DataError: no such file, bad UTF-8 or JSON, a missing column, a label outside the three or
            hidden; each with file and line (for parquet, row).
    """
    rows: list[NliRow] = []
    names: dict[str, str] = {}
    class_names: Sequence[str] = LABELS
    if _format(path) == ".parquet":
        class_names = _class_names(path)
    for place, record in _records(path):
        if not names:
            names = _column_names(record, path)
        if "language" in names:
            if names["language"] not in record:
                raise DataError("this line has no language, and others have", place=place)
            if record[names["language"]] != language:
                continue
        rows.append(_row(record, names, place, class_names))
    if not rows:
        raise DataError(f"no items in language {language!r}", place=str(path))
    return rows


def label_code(value: Any, place: str, class_names: Sequence[str] = LABELS) -> int:
    """0, 1 or 2 for a label given by name, or by number in the order of ``class_names``.

    Raises:
        DataError: the value is none of the three, or says that the label is hidden (-1, ``-``).
    """
    text = str(value).strip() if value is not None else ""
    if text in _HIDDEN:
        raise DataError(
            f"the label is hidden ({value!r})",
            place=place,
            cure="Use a file with gold labels: accuracy on hidden ones would come out near 1/3.",
        )
    if text.isdecimal() and int(text) < len(class_names):
        text = class_names[int(text)]
    code = _NAMES.get(text)
    if code is None:
        raise DataError(
            f"label {value!r} is none of {', '.join(LABELS)} (or 0, 1, 2 in that order)",
            place=place,
        )
    return code


def _row(
    record: Mapping[str, Any], names: Mapping[str, str], place: str, class_names: Sequence[str]
) -> NliRow:
    texts = []
    for side in ("premise", "hypothesis"):
        value = record.get(names[side])
        if not isinstance(value, str):
            raise DataError(f"the {side} is {value!r}, not text", place=place)
        texts.append(value)
    item = record.get(names["item"]) if "item" in names else None
    return NliRow(
        premise=texts[0],
        hypothesis=texts[1],
        label=label_code(record.get(names["label"]), place, class_names),
        item=None if item is None else str(item),
    )


def _column_names(record: Mapping[str, Any], path: Path) -> dict[str, str]:
    names = {}
    for column, accepted in COLUMNS.items():
        found = next((name for name in accepted if name in record), None)
        if found is not None:
            names[column] = found
        elif column in ("premise", "hypothesis", "label"):
            raise DataError(
                f"no column {' or '.join(accepted)} (there are: {', '.join(record)})",
                place=str(path),
            )
    return names


def _format(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in (".jsonl", ".tsv", ".parquet"):
        raise ConfigError(
            f"can't tell the format of a {suffix or 'suffixless'} file",
            place=str(path),
            cure="Use .jsonl, .tsv (with a header) or .parquet; the first two may end in .gz.",
        )
    return suffix


def _records(path: Path) -> Iterator[Record]:
    match _format(path):
        case ".jsonl":
            return _jsonl(path)
        case ".tsv":
            return _tsv(path)
        case _:
            return _parquet(path)


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    r"""``file:line`` and text of each line, ended by ``\n`` alone, strictly UTF-8.

    Raises:
        DataError: no such file, a damaged .gz, or bytes that are not UTF-8.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                place = f"{path}:{number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"not UTF-8 ({error.reason})", place=place) from None
                yield place, line.rstrip("\r\n")
    except FileNotFoundError:
        raise DataError("no such file", place=str(path), cure="Check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"damaged gzip file ({error})", place=str(path)) from None


def _jsonl(path: Path) -> Iterator[Record]:
    for place, line in text_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", place=place) from None
        if not isinstance(record, dict):
            raise DataError("each line is one JSON object", place=place)
        yield place, record


def _tsv(path: Path) -> Iterator[Record]:
    lines = text_lines(path)
    header = next(lines, (str(path), ""))[1].split("\t")
    for place, line in lines:
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise DataError(f"{len(cells)} columns where the header has {len(header)}", place=place)
        yield place, dict(zip(header, cells, strict=True))


def open_parquet(path: Path) -> pq.ParquetFile:
    """A parquet file.

    Raises:
        DataError: no such file, or not parquet.
    """
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError("no such file", place=str(path), cure="Check the path.") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"not a parquet file ({error})", place=str(path)) from None


def parquet_rows(
    file: pq.ParquetFile, path: Path, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of an open parquet file.

    Raises:
        DataError: damaged pages.
    """
    try:
        for batch in file.iter_batches(columns=list(columns)):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"damaged parquet file ({error})", place=str(path)) from None


def _parquet(path: Path) -> Iterator[Record]:
    with open_parquet(path) as file:
        wanted = [name for names in COLUMNS.values() for name in names]
        present = [name for name in file.schema_arrow.names if name in wanted]
        for row, record in enumerate(parquet_rows(file, path, present), 1):
            yield f"{path}:row {row}", record


def _class_names(path: Path) -> Sequence[str]:
    """The label names a Hub parquet file declares for its numbers; XNLI's order if it is silent.

    Raises:
        DataError: the declared names are not the three of NLI.
    """
    with open_parquet(path) as file:
        metadata = file.schema_arrow.metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    for name in COLUMNS["label"]:
        declared = features.get(name, {}).get("names")
        if declared:
            if sorted(declared) != sorted(LABELS):
                raise DataError(f"the labels of this file are {declared}", place=str(path))
            return [str(name) for name in declared]
    return LABELS
