"""What makes two pieces of work the same work: settings and content, never place or resources."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from weam_ray.errors import DataError


class Placement:
    """Marks a field (``Annotated[Path, Placement()]``) that says where or on what, not what.

    Such a field is left out of :meth:`StageConfig.identity`: the same work read from another
    folder, or run with other resources, keeps its address.
    """


class StageConfig(BaseModel):
    """A stage's settings: frozen, unknown keys refused, docstrings under fields are their help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the stage's output, as JSON values."""
        return {
            name: _plain(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not any(isinstance(mark, Placement) for mark in field.metadata)
        }


def _plain(value: Any) -> Any:
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
    path = Path(path)
    try:
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if item.is_file())
            return digest(
                [[item.relative_to(path).as_posix(), content_hash(item)] for item in files]
            )
        status = path.stat()
        return _file_hash(str(path.resolve()), status.st_size, status.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            "no such file", place=str(path), cure="Check the path, or data_dir in the study file."
        ) from None
    except OSError as error:
        raise DataError(
            f"this can't be read ({error.strerror})", place=str(path), cure="Check who may read it."
        ) from None


@lru_cache(maxsize=4096)
def _file_hash(path: str, _size: int, _mtime_ns: int) -> str:
    # Size and time are in the key only: a changed file is read again, an unchanged one is not.
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=10)).hexdigest()
