"""A small made-up bilingual corpus: word i of one side translates word i' of the other."""

from __future__ import annotations

import random
from typing import NamedTuple

import pyarrow as pa

from weam_ray.pretraining import BaseConfig, PairSet


class Corpus(NamedTuple):
    pairs: pa.Table
    links: pa.Table


def spans(words: list[str]) -> list[int]:
    bounds, at = [], 0
    for word in words:
        bounds += [at, at + len(word)]
        at += len(word) + 1
    return bounds


def make_corpus(pairs: int, seed: int = 0, prefix: int = 0) -> Corpus:
    """Targets are the source's words translated and reversed; some words become two."""
    rng = random.Random(seed)
    stems = ["".join(rng.choices("bdfgklmnprst", k=2)) + rng.choice("aeiou") for _ in range(60)]
    words = [stem + tail for stem in stems for tail in ("", "nu")]
    rows: list[tuple[int, str, str, list[int], list[int], list[int]]] = []
    for number in range(pairs):
        source = rng.choices(words, k=rng.randint(3, 9))
        target: list[str] = []
        links: list[int] = []
        for i in reversed(range(len(source))):
            for word in [source[i].upper(), "X"] if len(source[i]) == 3 else [source[i].upper()]:
                links += [i, len(target)]
                target.append(word)
        key = (prefix << 32) + number * 7919 % 1_000_003
        rows.append((key, " ".join(source), " ".join(target), spans(source), spans(target), links))
    rows.sort()
    ids, sources, targets, source_spans, target_spans, links_of = zip(*rows, strict=True)
    int32s = pa.list_(pa.int32())
    return Corpus(
        pa.table(
            {
                "pair_id": pa.array(ids, pa.uint64()),
                "source": list(sources),
                "target": list(targets),
                "source_spans": pa.array(source_spans, int32s),
                "target_spans": pa.array(target_spans, int32s),
            }
        ),
        pa.table({"pair_id": pa.array(ids, pa.uint64()), "links": pa.array(links_of, int32s)}),
    )


TINY = BaseConfig(
    layers=2,
    hidden=32,
    heads=2,
    intermediate=64,
    max_positions=64,
    max_length=48,
    dropout=0.0,
    steps=0,
)


def pair_set(corpus: Corpus, name: str = "aa-bb") -> PairSet:
    return PairSet(name=name, source="aa", target="bb", pairs=corpus.pairs, links=corpus.links)
