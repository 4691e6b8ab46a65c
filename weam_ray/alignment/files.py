"""Text files in, a line a sentence, and Pharaoh files out, without a Python object for a word."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment.encoding import Side
from weam_ray.alignment.growing import format_links
from weam_ray.alignment.interning import Vocabulary, split_words
from weam_ray.alignment.links import Links
from weam_ray.alignment.outputs import created
from weam_ray.alignment.spilling import Gathering, Memory, Shelf
from weam_ray.errors import DataError

CHUNK = 1 << 23
"""Bytes of text looked at in one go."""

ROWS = 1 << 16
"""Lines of links made in one go."""


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
            if not raw.peek(1):
                raise EOFError("it is empty")
            with gzip.GzipFile("", "rb", fileobj=raw) as stream:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"damaged gzip file: {error}", place=str(path)) from None


@dataclass(frozen=True, eq=False)
class Numbered:
    """A file's words as numbers, as long as they may still get others."""

    tokens: Gathering
    starts: NDArray[np.int64]
    """int64[lines + 1]: where each line's words begin."""
    counts: NDArray[np.int64]
    """int64[types + 1]: occurrences of each type."""


def number_words(path: Path, vocabulary: Vocabulary, shelf: Shelf) -> Numbered:
    """The words of a UTF-8 file, plain or gzipped, split at ASCII white space, chunk by chunk.

    Every line feed ends a line; a last line without one counts. New words join ``vocabulary``,
    whose numbering the words have.

    Raises:
        DataError: the file can't be read or is not UTF-8; file and line are named.
        ResourceError: a shelf on disk is full.
    """
    tokens = shelf.gather()
    lengths: list[NDArray[np.int32]] = []
    counts = np.zeros(1, np.int64)
    line = 0
    for chunk in _whole_lines(path):
        _check_utf8(chunk, path, line)
        buffer = np.frombuffer(chunk, np.uint8)
        begins = np.empty(len(chunk) // 2 + 1, np.int64)
        ends = np.empty_like(begins)
        starts = np.zeros(chunk.count(b"\n") + 2, np.int64)
        words, lines = split_words(buffer, len(chunk), begins, ends, starts)
        numbers = vocabulary.number(buffer, begins[:words], ends[:words])
        tokens.add(numbers)
        more = np.bincount(numbers, minlength=vocabulary.types + 1)
        more[: len(counts)] += counts
        counts = more
        lengths.append(np.diff(starts[: lines + 1]).astype(np.int32))
        line += lines
    offsets = np.zeros(line + 1, np.int64)
    np.cumsum(np.concatenate([*lengths, np.empty(0, np.int32)]), out=offsets[1:])
    return Numbered(tokens, offsets, counts)


def read_side(path: Path, vocabulary: Vocabulary) -> Side:
    """As :func:`number_words`, with the numbers that the vocabulary gives.

    Raises:
        DataError: the file can't be read or is not UTF-8; file and line are named.
    """
    numbered = number_words(path, vocabulary, Memory())
    return Side(numbered.tokens.finish(), numbered.starts, vocabulary.types)


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
        packed = line == 1 and chunk.startswith(b"\x1f\x8b")
        cure = "Let its name end in .gz." if packed else "Convert the file to UTF-8."
        raise DataError(
            f"invalid UTF-8 (byte {chunk[error.start]:#04x})",
            place=f"{path}:{line}",
            cure=cure,
        ) from None


def write_links(links: Links, path: Path) -> None:
    """Write links, one line a pair, whole or not at all; gzipped if the name ends in ``.gz``."""
    write_parts([links], path)


def write_parts(parts: Iterable[Links], path: Path) -> None:
    """As :func:`write_links`, for links that come some pairs at a time."""
    with created(path) as stream:
        for links in parts:
            for first in range(0, len(links), ROWS):
                last = min(first + ROWS, len(links))
                size = int(links.offsets[last] - links.offsets[first])
                out = np.empty(22 * size + last - first, np.uint8)
                offsets = links.offsets[first : last + 1]
                used = format_links(offsets, links.source, links.target, out)
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
