"""A small made-up bilingual corpus: word i of one side translates word i' of the other."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from weam_ray.pretraining import BaseConfig, VocabularyConfig, train_base, train_vocabulary


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


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return make_corpus(200)


@pytest.fixture(scope="session")
def texts(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("texts")
    files = {}
    for language, column in (("aa", "source"), ("bb", "target")):
        files[language] = folder / f"{language}.txt"
        files[language].write_text("\n".join(corpus.pairs[column].to_pylist()) + "\n")
    return files


@pytest.fixture(scope="session")
def tokenizer_dir(texts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vocabulary")
    train_vocabulary(texts, VocabularyConfig(size=90), out)
    return out


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


@pytest.fixture(scope="session")
def base_dir(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder, without dropout."""
    out = tmp_path_factory.mktemp("base")
    train_base(tokenizer_dir, {}, TINY, out)
    return out
