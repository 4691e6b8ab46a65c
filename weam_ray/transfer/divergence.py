"""How far a bitext is from what is evaluated: divergence of their words and of their subwords.

The Jensen-Shannon divergence of two relative frequencies, in bits (Lin 1991): 0 for the same text,
1 where nothing is shared. Two samples of the *same* text diverge too, the smaller they are the
more, so each figure stands beside what two halves of the evaluated sentences give of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weam_ray.corpus.words import Segmenter
from weam_ray.identity import StageConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from weam_ray.artifacts import Work

_BATCH = 2000


class DivergenceStep(StageConfig):
    """A bitext beside the evaluated sentences in its two languages."""

    source_language: str
    target_language: str
    segmenter: Segmenter = "auto"
    """Words of the evaluated sentences are cut as the bitext's were."""
    sample: int = 50_000
    """Pairs looked at: the first in nested order of seed 0. Frequencies of 50,000 sentences are
    known to far less than domains differ by."""


def jensen_shannon(one: Mapping[Any, int], other: Mapping[Any, int]) -> float | None:
    """Divergence in bits, 0-1, of two counts; None where either is empty."""
    kinds = sorted({*one, *other}, key=str)
    p, q = (np.array([counts.get(kind, 0) for kind in kinds], float) for counts in (one, other))
    if not p.sum() or not q.sum():
        return None
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def bits(of: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        there = of > 0
        return float((of[there] * np.log2(of[there] / middle[there])).sum())

    return min(max((bits(p) + bits(q)) / 2, 0.0), 1.0)


def make_divergence(work: Work) -> None:
    """Words and subwords of a bitext beside those of the evaluated sentences, as facts."""
    from weam_ray.corpus import read_corpus, take_subset
    from weam_ray.transfer.held_out import evaluation_texts

    config = work.step.config
    assert isinstance(config, DivergenceStep)
    pairs = read_corpus(work.upstream["corpus"].path)
    if len(pairs) > config.sample:
        pairs = take_subset(pairs, config.sample, 0)
    asked = evaluation_texts([work.upstream["asked"].path])
    languages = {"source": config.source_language, "target": config.target_language}
    work.facts["pairs"] = len(pairs)
    work.facts["sides"] = [
        {"language": language, **_side(pairs, side, language, asked, config, work)}
        for side, language in languages.items()
    ]


def _side(
    pairs: pa.Table,
    side: str,
    language: str,
    asked: Mapping[str, Sequence[str]],
    config: DivergenceStep,
    work: Work,
) -> dict[str, float | int | None]:
    from weam_ray.corpus.languages import primary_language
    from weam_ray.corpus.words import splitter

    sentences = sorted(
        {
            text
            for code, texts in asked.items()
            if primary_language(code) == primary_language(language)
            for text in texts
        }
    )
    cut = splitter(language, config.segmenter)
    words = [_words(text, cut(text)) for text in sentences]
    spans = pairs[f"{side}_spans"].to_pylist()
    texts = pairs[f"{side}"].to_pylist()
    found = Counter(
        word for text, own in zip(texts, spans, strict=True) for word in _words(text, own)
    )
    pieces = list(_pieces(work.upstream["tokenizer"].path, sentences))
    have = Counter(
        piece for one in _pieces(work.upstream["tokenizer"].path, texts) for piece in one
    )
    tokens = sum(map(len, words))
    unseen = sum(word not in found for one in words for word in one)
    return {
        "words": jensen_shannon(found, Counter(word for one in words for word in one)),
        "words_within": _within(words),
        "subwords": jensen_shannon(have, Counter(piece for one in pieces for piece in one)),
        "subwords_within": _within(pieces),
        "unseen": unseen / tokens if tokens else None,
        "corpus_words": found.total(),
        "task_words": tokens,
    }


def _within(sentences: Sequence[Sequence[Any]]) -> float | None:
    """Two halves of the evaluated sentences, every other one (they are in alphabetical order)."""
    halves = [Counter(one for own in sentences[half::2] for one in own) for half in (0, 1)]
    return jensen_shannon(*halves)


def _words(text: str, spans: Sequence[int]) -> list[str]:
    return [text[start:end].casefold() for start, end in zip(spans[::2], spans[1::2], strict=True)]


def _pieces(tokenizer: Path, texts: Sequence[str]) -> Iterator[list[int]]:
    # The library beneath AutoTokenizer, which takes seconds to import.
    from tokenizers import Tokenizer

    opened = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    opened.no_truncation()
    opened.no_padding()
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        yield from (one.ids for one in opened.encode_batch(batch, add_special_tokens=False))
