"""Text files as lines, plain or .gz, in blocks; what is wrong with one is told by file and line.

Lines end at LF only (a CR before it is whitespace that cleaning removes), as in ``wc -l``: other
line separators of Unicode stay inside their line, where Python's ``splitlines`` would shift one
side of a bitext against the other.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from weam_ray.errors import DataError

BLOCK_ROWS = 10_000
_BLOCK_BYTES = 32 << 20
"""A block ends early at this size, so that very long lines can't fill the memory."""
_BOM = b"\xef\xbb\xbf"


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
        stream = io.BufferedReader(gzip.GzipFile(fileobj=plain), 1 << 20) if zipped else plain
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


class LineReader:
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
        """The next ``count`` of the lines at hand."""
        taken, self._lines = self._lines[:count], self._lines[count:]
        return taken

    def count_rest(self) -> int:
        """How many lines were not taken; reads to the end of the file."""
        return len(self._lines) + sum(len(block) for block in self._blocks)
