"""Pharaoh files: one line a pair, links as ``i-j``; in gold also ``ipj`` and ``i?j``, possible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weam_ray.alignment.files import opened
from weam_ray.alignment.links import Links
from weam_ray.errors import DataError

_LINK = re.compile(r"([0-9]{1,9})([-p?])([0-9]{1,9})\Z")


@dataclass(frozen=True, eq=False)
class Gold:
    """Links made by hand, 0-based. Sure links are possible too."""

    sure: Links
    possible: Links
    index_base: int
    """Of the file they came from: 0 or 1."""
    evidence: str
    """What the index base was told from."""

    def __len__(self) -> int:
        return len(self.sure)


def read_links(path: Path) -> Links:
    """Links of a Pharaoh file.

    Raises:
        DataError: a line has something else than ``i-j``; file and line are named.
    """
    rows = []
    for number, line in _lines(path):
        points = []
        for word in line.split():
            kind, point = _point(word, path, number)
            if kind != "-":
                raise DataError(
                    f"{word!r} is a possible link, and these links are not gold",
                    place=f"{path}:{number}",
                )
            points.append(point)
        rows.append(points)
    return Links.from_pairs(rows)


def read_gold(
    path: Path,
    index_base: int | None = None,
    lengths: Sequence[tuple[int, int]] | None = None,
) -> Gold:
    """Gold links with sure and possible ones.

    Args:
        index_base: number of the first word in the file, 0 or 1; None to find out.
        lengths: words on both sides of each pair, where the text is known: bounds to check by.

    Raises:
        DataError: a malformed line, or an index that the text or the index base rules out.
    """
    sure: list[list[tuple[int, int]]] = []
    possible: list[list[tuple[int, int]]] = []
    for number, line in _lines(path):
        points = [_point(word, path, number) for word in line.split()]
        sure.append([point for kind, point in points if kind == "-"])
        possible.append([point for _, point in points])
    base, evidence = _find_base(possible, index_base, lengths, path)
    _check_bounds(possible, base, lengths, path)
    down = [[(i - base, j - base) for i, j in row] for row in sure]
    wide = [[(i - base, j - base) for i, j in row] for row in possible]
    return Gold(Links.from_pairs(down), Links.from_pairs(wide), base, evidence)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with opened(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield number, line.decode("utf8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"invalid UTF-8 at byte {error.start + 1} of the line",
                    place=f"{path}:{number}",
                    cure="Convert the file to UTF-8.",
                ) from None


def _point(word: str, path: Path, number: int) -> tuple[str, tuple[int, int]]:
    match = _LINK.match(word)
    if match is None:
        raise DataError(
            f"{word!r} is not a link",
            place=f"{path}:{number}",
            cure="Links are i-j, and in gold files also ipj or i?j where they are only possible.",
        )
    return match[2], (int(match[1]), int(match[3]))


def _find_base(
    rows: list[list[tuple[int, int]]],
    asked: int | None,
    lengths: Sequence[tuple[int, int]] | None,
    path: Path,
) -> tuple[int, str]:
    zero = next((n for n, row in enumerate(rows, 1) if any(0 in point for point in row)), None)
    if asked is not None:
        if asked not in (0, 1):
            raise DataError(f"index base {asked}", cure="It is 0 or 1.")
        if asked == 1 and zero is not None:
            raise DataError(
                "an index of 0, though counting starts from 1",
                place=f"{path}:{zero}",
                cure="Use index base 0.",
            )
        return asked, "as asked for"
    if zero is not None:
        return 0, f"line {zero} has an index of 0"
    if lengths is not None:
        for number, (row, (m, n)) in enumerate(zip(rows, lengths, strict=False), 1):
            if any(i == m or j == n for i, j in row):
                return 1, f"line {number} has an index that is the number of words"
        return 0, "no index is the number of words of its sentence"
    return 1, "no index is 0 in the whole file"


def check_bounds(links: Links, lengths: Sequence[tuple[int, int]], path: Path) -> None:
    """Refuse 0-based links of a file that are not of this text.

    Args:
        lengths: words on both sides of each pair.

    Raises:
        DataError: the numbers of lines differ, or a link is of no word; its line is named.
    """
    _check_bounds(list(links), 0, lengths, path, "Count words from 0.")


def _check_bounds(
    rows: list[list[tuple[int, int]]],
    base: int,
    lengths: Sequence[tuple[int, int]] | None,
    path: Path,
    cure: str = "Use index base 1.",
) -> None:
    if lengths is None:
        return
    if len(lengths) != len(rows):
        raise DataError(
            f"{len(rows)} lines of links for {len(lengths)} pairs of sentences", place=str(path)
        )
    for number, (row, (m, n)) in enumerate(zip(rows, lengths, strict=True), 1):
        for i, j in row:
            if i - base >= m or j - base >= n:
                raise DataError(
                    f"link {i}-{j} of a pair of {m} and {n} words, counted from {base}",
                    place=f"{path}:{number}",
                    cure=cure if base == 0 and i <= m and j <= n else None,
                )
