"""What makes two pieces of work the same work: settings and content, never place or resources."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from weam_ray.errors import DataError


class Placement:
    """Marks a field (``Annotated[Path, Placement()]``) that says where or on what, not what.

    Such a field is left out of :meth:`StageConfig.identity`: the same work read from another
    folder, or run with other resources, keeps its address.
    """


class WhenSet:
    """Marks an optional field that is part of what work is only where it isn't None.

    So a setting that came later leaves the addresses of earlier work as they are.
    """


class StageConfig(BaseModel):
    """A stage's settings: frozen, unknown keys refused, docstrings under fields are their help."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    def identity(self) -> dict[str, Any]:
        """The settings that decide the stage's output, as JSON values."""
        fields, optional = _identity_fields(type(self))
        return {
            name: _plain(value)
            for name in fields
            if (value := getattr(self, name)) is not None or name not in optional
        }


@cache
def _identity_fields(config: type[StageConfig]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of the fields that count, and which of them count only where they are set."""
    return (
        tuple(name for name in config.model_fields if not _marked(config, name, Placement)),
        frozenset(name for name in config.model_fields if _marked(config, name, WhenSet)),
    )


def _marked(config: type[StageConfig], name: str, kind: type) -> bool:
    return any(isinstance(mark, kind) for mark in config.model_fields[name].metadata)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, StageConfig):
        return value.identity()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def digest(value: Any) -> str:
    """Twenty hexadecimal digits (80 bits) of a JSON value's canonical form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, or of a folder's files with their relative names.

    Raises:
        DataError: there is nothing at ``path``, or it can't be read.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return digest(_files_below(Path(path)))
        place = (status.st_dev, status.st_ino)
        return _file_hash(str(path), place, status.st_size, status.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            "no such file", place=str(path), cure="Check the path, or data_dir in the study file."
        ) from None
    except OSError as error:
        raise DataError(
            f"this can't be read ({error.strerror})", place=str(path), cure="Check who may read it."
        ) from None


def _files_below(folder: Path) -> list[list[str]]:
    files = sorted(item for item in folder.rglob("*") if item.is_file())
    return [[item.relative_to(folder).as_posix(), content_hash(item)] for item in files]


@lru_cache(maxsize=65536)
def _file_hash(path: str, _place: tuple[int, int], _size: int, _mtime_ns: int) -> str:
    # All but the path are in the key only: a changed file is read again, an unchanged one is not,
    # which a plan of thousands of cells over the same files rests on.
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=10)).hexdigest()
