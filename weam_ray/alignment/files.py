"""Text files in, a line a sentence, and Pharaoh files out, without a Python object for a word."""

from __future__ import annotations

import gzip
import io
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment.encoding import Side
from weam_ray.alignment.growing import format_links
from weam_ray.alignment.interning import Vocabulary, split_words
from weam_ray.alignment.links import Links
from weam_ray.errors import DataError

CHUNK = 1 << 23
"""Bytes of text looked at in one go."""

_LINES = 1 << 16


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """A file to read bytes from, unpacked if its name ends in ``.gz``.

    Raises:
        DataError: it can't be opened, or is damaged or no gzip file though its name says so.
    """
    try:
        raw = open(path, "rb")
    except OSError as error:
        raise DataError(
            f"can't open: {error.strerror}", place=str(path), cure="Check the path."
        ) from None
    with raw:
        if path.suffix != ".gz":
            yield raw
            return
        try:
            with gzip.GzipFile("", "rb", fileobj=raw) as stream:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"damaged gzip file: {error}", place=str(path)) from None


@contextmanager
def created(path: Path) -> Iterator[io.BufferedIOBase]:
    """A file to write bytes to, packed if its name ends in ``.gz``; whole or not there at all.

    Raises:
        DataError: it can't be written.
    """
    draft = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        with open(draft, "wb") as raw:
            if path.suffix == ".gz":
                # No name and time in the header: equal links make equal files.
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream:
                    yield stream
            else:
                yield raw
        os.replace(draft, path)
    except OSError as error:
        raise DataError(f"can't write: {error.strerror}", place=str(path)) from None
    finally:
        draft.unlink(missing_ok=True)


def read_side(path: Path, vocabulary: Vocabulary) -> Side:
    """The words of a UTF-8 file, plain or gzipped, split at ASCII white space.

    Every line feed ends a line; a last line without one counts. New words join ``vocabulary``,
    whose numbering the side has.

    Raises:
        DataError: the file can't be read or is not UTF-8; file and line are named.
    """
    tokens: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    line = 0
    for chunk in _whole_lines(path):
        _check_utf8(chunk, path, line)
        buffer = np.frombuffer(chunk, np.uint8)
        begins = np.empty(len(chunk) // 2 + 1, np.int64)
        ends = np.empty_like(begins)
        starts = np.zeros(chunk.count(b"\n") + 2, np.int64)
        words, lines = split_words(buffer, len(chunk), begins, ends, starts)
        tokens.append(vocabulary.number(buffer, begins[:words], ends[:words]))
        lengths.append(np.diff(starts[: lines + 1]))
        line += lines
    offsets = np.zeros(line + 1, np.int64)
    np.cumsum(np.concatenate([*lengths, np.empty(0, np.int64)]), out=offsets[1:])
    return Side(np.concatenate([*tokens, np.empty(0, np.int32)]), offsets, vocabulary.types)


def _whole_lines(path: Path) -> Iterator[bytes]:
    with opened(path) as stream:
        rest = b""
        while block := stream.read(CHUNK):
            cut = block.rfind(b"\n") + 1
            if cut:
                yield rest + block[:cut]
                rest = block[cut:]
            else:
                rest += block
        if rest:
            yield rest


def _check_utf8(chunk: bytes, path: Path, lines_before: int) -> None:
    try:
        chunk.decode("utf8")
    except UnicodeDecodeError as error:
        line = lines_before + chunk.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"invalid UTF-8 (byte {chunk[error.start]:#04x})",
            place=f"{path}:{line}",
            cure="Convert the file to UTF-8.",
        ) from None


def write_links(links: Links, path: Path) -> None:
    """Write links, one line a pair, whole or not at all; gzipped if the name ends in ``.gz``."""
    with created(path) as stream:
        for first in range(0, len(links), _LINES):
            last = min(first + _LINES, len(links))
            size = int(links.offsets[last] - links.offsets[first])
            out = np.empty(22 * size + last - first, np.uint8)
            used = format_links(links.offsets[first : last + 1], links.source, links.target, out)
            stream.write(out[:used].data)


def write_scores(scores: NDArray[np.float64], path: Path) -> None:
    """Write a line a pair: both directions' log-probabilities, or two empty fields."""
    with created(path) as stream:
        for forward, reverse in scores.tolist():
            known = forward > -float("inf")
            stream.write(f"{forward:.6f}\t{reverse:.6f}\n".encode() if known else b"\t\n")


def same_length(source: Side, target: Side, names: tuple[Path, Path]) -> None:
    """Refuse sides of unequal numbers of lines.

    Raises:
        DataError: with both counts.
    """
    if len(source) != len(target):
        raise DataError(
            f"{len(source)} lines in {names[0]}, {len(target)} in {names[1]}",
            cure="Line n of one must be the translation of line n of the other.",
        )
