"""The ``record.json`` of an artifact: written last, read first, and held against the files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weam_ray.errors import DataError

RECORD = "record.json"


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write a record, on the disk when this returns.

    Raises:
        DataError: a fact is no number.
    """
    try:
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(
            f"{record['stage']} measured something that is no number ({error}): {record['facts']}",
            place=record["address"],
            cure="A loss that is not finite comes of too high a learning rate.",
        ) from None
    with open(folder / RECORD, "w", encoding="utf8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def read_record(text: bytes, place: str) -> dict[str, Any]:
    """A record's content.

    Raises:
        DataError: it is no record.
    """
    try:
        record: dict[str, Any] = json.loads(text)
        dict(record["files"])
        record["facts"], record["seconds"]
    except (ValueError, TypeError, KeyError):
        raise damaged("the record is damaged", place) from None
    return record


def wrong_file(record: Mapping[str, Any], folder: Path) -> str | None:
    """What is not there, or not of the size, that the record says; None when all is."""
    # A plan of thousands of cells looks at each of their files: paths are put together as text.
    place = str(folder)
    for name, size in record["files"].items():
        try:
            found = os.stat(f"{place}/{name}").st_size
        except OSError:
            return f"{name} is missing"
        if found != size:
            return f"{name} holds {found:,} bytes, not {size:,}"
    return None


def damaged(what: str, place: str) -> DataError:
    """An artifact that isn't what was written."""
    return DataError(
        f"{what} (it was whole when it was written)",
        place=place,
        cure=f"Remove the folder {place} and run the same command again.",
    )
