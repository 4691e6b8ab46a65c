"""Bitexts of any size for the aligner's benchmark, made from real pairs."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

Pairs = list[tuple[str, str]]
GROWTH = 0.75


def read_pairs(sources: Sequence[Path], targets: Sequence[Path]) -> Pairs:
    """Pairs of lines with words on both sides; fast_align can't do others."""
    made = []
    for source, target in zip(sources, targets, strict=True):
        for lines in zip(_lines(source), _lines(target), strict=True):
            given, explained = (_words(line) for line in lines)
            if given and explained and "|||" not in given + explained:
                made.append((given, explained))
    return made


def _lines(path: Path) -> Iterator[bytes]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as stream:
        yield from stream


def _words(line: bytes) -> str:
    # The same words for all aligners: split where bytes.split does, nowhere else.
    return b" ".join(line.split()).decode()


def resized(pairs: Pairs, size: int) -> Iterator[tuple[str, str]]:
    """The first ``size`` pairs; where there are not as many, more made of their halves.

    Round after round, each pair's first half is followed by another pair's second half, both sides
    cut in the middle, so lengths stay what they are. Real text would also bring new words: from
    round to round r, words that occur once in the real text are taken for other words each time
    that int(r ** 0.75) grows, so that types grow like the 0.6th power of words (Heaps' law).
    """
    yield from pairs[:size]
    missing = size - len(pairs)
    if missing <= 0:
        return
    halves = [_halved(pair) for pair in pairs]
    rare = [_rare(side) for side in zip(*pairs, strict=True)]
    step, round_ = 7, 1
    while missing > 0:
        version = f"~{int(round_**GROWTH)}"
        for at in range(min(len(pairs), missing)):
            heads, tails = halves[at], halves[(at * step + 13 * round_) % len(pairs)]
            given, explained = (
                " ".join(word + version if word in unique else word for word in head + tail)
                for head, tail, unique in zip(heads[0], tails[1], rare, strict=True)
            )
            yield given, explained
        missing -= len(pairs)
        step, round_ = step + 6, round_ + 1


def _halved(
    pair: tuple[str, str],
) -> tuple[tuple[list[str], list[str]], tuple[list[str], list[str]]]:
    given, explained = (side.split(" ") for side in pair)
    half, other = (len(given) + 1) // 2, (len(explained) + 1) // 2
    return (given[:half], explained[:other]), (given[half:], explained[other:])


def _rare(side: Iterable[str]) -> frozenset[str]:
    counts = Counter(word for sentence in side for word in sentence.split(" "))
    return frozenset(word for word, count in counts.items() if count == 1)


def lay_out(pairs: Iterable[tuple[str, str]], folder: Path, *, both: bool = True) -> None:
    """Write the text as each aligner wants it: two files, and fast_align's one of both sides."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("source", "target", "both") if both else ("source", "target")
    streams = [open(folder / name, "w", encoding="utf8", newline="\n") for name in names]
    for given, explained in pairs:
        streams[0].write(f"{given}\n")
        streams[1].write(f"{explained}\n")
        if both:
            streams[2].write(f"{given} ||| {explained}\n")
    for stream in streams:
        stream.close()
