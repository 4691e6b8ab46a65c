"""Files that appear whole or not at all, and what is refused before there is work to lose."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from weam_ray.errors import DataError


@contextmanager
def created(path: Path) -> Iterator[io.BufferedIOBase]:
    """A file to write bytes to, packed if its name ends in ``.gz``; whole or not there at all.

    A symbolic link stays one. What is no file (standard output, a pipe, a device) is written to as
    it is.

    Raises:
        DataError: it can't be written.
    """
    try:
        if is_stream(path):
            with _stream(path) as raw, _packed(path, raw) as stream:
                yield stream
            return
        place = _place(path)
        draft = _draft(place)
        try:
            with open(draft, "wb") as raw, _packed(path, raw) as stream:
                yield stream
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None


@contextmanager
def _packed(path: Path, raw: io.BufferedIOBase) -> Iterator[io.BufferedIOBase]:
    if path.suffix == ".gz":
        # No name and time in the header: equal links make equal files.
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream:
            yield stream
    else:
        yield raw


def is_stream(path: Path) -> bool:
    """Whether a path is standard output, a pipe or a device rather than a file or nothing yet."""
    try:
        there = path.stat()
    except OSError:
        return False
    # Standard output may be a file, to which a shell has it append: no other may take its place.
    return not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)) or _is_output(there)


def _is_output(there: os.stat_result) -> bool:
    try:
        return os.path.samestat(there, os.fstat(1))
    except OSError:  # it is closed
        return False


def _stream(path: Path) -> io.BufferedIOBase:
    return os.fdopen(os.dup(1), "wb") if _is_output(path.stat()) else open(path, "wb")


def _place(path: Path) -> Path:
    # Path.resolve() fails on a loop of symbolic links with something else than an OSError.
    return Path(os.path.realpath(path))


def _draft(place: Path) -> Path:
    return place.with_name(f".{uuid.uuid4().hex}.{place.name}")


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"can't write: {error.strerror}", place=str(path))


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse, before there is work to lose, files that can't be written or are named twice.

    Raises:
        DataError: a folder or its permission is missing, or an output is also an input.
    """
    taken = {_place(path) for path in inputs}
    for path in outputs:
        if is_stream(path):
            continue
        if _place(path) in taken:
            raise DataError(
                "would be overwritten: it is named twice",
                place=str(path),
                cure="Give every output a name of its own.",
            )
        taken.add(_place(path))
        _try_out(path)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is none and can't be made, or in which no file can be.

    Raises:
        DataError: with what is in the way.
    """
    nearest = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not nearest.is_dir():
        raise _unwritable(nearest, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    _try_out(nearest / "draft")


def _try_out(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        draft = _draft(_place(path))
        with open(draft, "xb"):
            draft.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None
