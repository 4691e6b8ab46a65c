"""What the tests of pre-training share: a small corpus, its vocabulary, a random encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_corpus import TINY, Corpus, make_corpus

from weam_ray.pretraining import VocabularyConfig, train_base, train_vocabulary


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


@pytest.fixture(scope="session")
def base_dir(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder, without dropout."""
    out = tmp_path_factory.mktemp("base")
    train_base(tokenizer_dir, {}, TINY, out)
    return out
