"""Overlap of a corpus with the evaluation items: the same sentence, or 13 words in a row.

Words are compared without case, punctuation and compatibility forms (NFKC). A text becomes the
sequence of its words' 64-bit hashes; its own hash and those of its windows are sums of the words'
hashes times one fixed odd multiplier per position, so whole blocks are hashed with a few array
operations and an index is two sorted arrays a language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weam_ray.corpus.config import ContaminationConfig
from weam_ray.corpus.hashing import Hashes, splitmix64, text_hashes
from weam_ray.corpus.languages import primary_language
from weam_ray.corpus.text import normalise
from weam_ray.corpus.words import counts_characters, spans_to_words, splitter

_Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Known:
    """One language's evaluation sentences: sorted hashes."""

    exact: Hashes
    ngrams: Hashes


@dataclass(frozen=True, kw_only=True)
class ContaminationIndex:
    """The evaluation sentences as hashes, by primary language. Small, picklable."""

    config: ContaminationConfig
    languages: Mapping[str, _Known]

    @classmethod
    def from_texts(
        cls,
        texts_by_language: Mapping[str, Iterable[str]],
        config: ContaminationConfig | None = None,
    ) -> ContaminationIndex:
        """An index of premises and hypotheses (each a text of its own), by language code."""
        config = config or ContaminationConfig()
        gathered: dict[str, list[str]] = {}
        for code, texts in texts_by_language.items():
            gathered.setdefault(primary_language(code), []).extend(map(normalise, texts))
        known = {}
        for language, texts in sorted(gathered.items()):
            keys = _keys([spans_to_words(text, splitter(language)(text)) for text in texts])
            width = _width(config, language)
            known[language] = _Known(
                exact=np.unique(_whole(*keys)[np.diff(keys[1]) > 0]),
                ngrams=np.unique(_windows(*keys, width)[0]) if width else _NONE,
            )
        return cls(config=config, languages=known)

    def covers(self, language: str) -> bool:
        """Whether there are evaluation sentences in this language to compare with."""
        return primary_language(language) in self.languages

    def overlaps(
        self, words: Sequence[Sequence[str]], language: str
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """For each text, given as its words: is it an evaluation sentence; does it share a run.

        False throughout for a language without evaluation sentences.
        """
        exact = np.zeros(len(words), bool)
        shared = np.zeros(len(words), bool)
        known = self.languages.get(primary_language(language))
        if known is None:
            return exact, shared
        keys = _keys(words)
        if self.config.exact:
            exact = _among(_whole(*keys), known.exact) & (np.diff(keys[1]) > 0)
        if width := _width(self.config, language):
            hashes, rows = _windows(*keys, width)
            shared[rows[_among(hashes, known.ngrams)]] = True
        return exact, shared


_NONE: Hashes = np.empty(0, np.uint64)


def _width(config: ContaminationConfig, language: str) -> int:
    if config.ngram is None:
        return 0
    return config.ngram * (2 if counts_characters(language) else 1)


def comparable(word: str) -> str:
    """A word without case, punctuation and compatibility forms; empty for punctuation."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    if folded.isalnum():
        return folded
    return "".join(c for c in folded if c.isalnum() or unicodedata.category(c)[0] == "M")


def _keys(texts: Sequence[Sequence[str]]) -> tuple[Hashes, _Offsets]:
    """Hashes of all texts' words one after the other, and where each text begins (and ends)."""
    distinct: dict[str, int] = {}
    flat = [distinct.setdefault(word, len(distinct)) for text in texts for word in text]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    folded = [comparable(word) for word in distinct]
    hashes = text_hashes(folded)
    speaking = np.array([bool(word) for word in folded], dtype=bool)
    numbers = np.array(flat, dtype=np.int64)
    kept = speaking[numbers] if len(numbers) else np.zeros(0, bool)
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    return hashes[numbers[kept]], before[ends]


def _multipliers(count: int) -> Hashes:
    return splitmix64(np.arange(count, dtype=np.uint64)) | np.uint64(1)


def _whole(hashes: Hashes, offsets: _Offsets) -> Hashes:
    """One hash a text, of all its words in order."""
    lengths = np.diff(offsets)
    position = np.arange(len(hashes)) - np.repeat(offsets[:-1], lengths)
    terms = hashes * _multipliers(int(lengths.max(initial=0)))[position]
    sums = np.concatenate([[np.uint64(0)], np.cumsum(terms, dtype=np.uint64)])
    return splitmix64(sums[offsets[1:]] - sums[offsets[:-1]] + lengths.astype(np.uint64))


def _windows(hashes: Hashes, offsets: _Offsets, width: int) -> tuple[Hashes, _Offsets]:
    """A hash for every run of ``width`` words within a text, and the text's number."""
    count = max(len(hashes) - width + 1, 0)
    sums = np.zeros(count, np.uint64)
    for k, multiplier in enumerate(_multipliers(width)):
        sums += hashes[k : k + count] * multiplier
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[:count]
    inside = np.arange(count) + width <= offsets[1:][rows]
    return splitmix64(sums[inside]), rows[inside]


def _among(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(hashes), bool)
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return np.asarray(known[place] == hashes)
