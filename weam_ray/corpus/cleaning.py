"""From raw rows to clean pairs: normalise, drop by rule with a count for each reason, cut words.

Character rules run on Arrow arrays (RE2), whole blocks at a time; only the pairs they pass are cut
into words, which is where the time goes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weam_ray.corpus.config import CleaningConfig, CorpusConfig
from weam_ray.corpus.contamination import ContaminationIndex
from weam_ray.corpus.hashing import pair_ids
from weam_ray.corpus.languages import primary_language
from weam_ray.corpus.pairs import PAIRS_SCHEMA
from weam_ray.corpus.text import normalise
from weam_ray.corpus.words import spans_to_words, splitter
from weam_ray.errors import ConfigError, DataError

REASONS = (
    "blank",
    "control_characters",
    "too_many_characters",
    "untranslated",
    "few_letters",
    "wrong_script",
    "number_mismatch",
    "url_mismatch",
    "too_few_words",
    "too_many_words",
    "long_word",
    "length_ratio",
    "evaluation_sentence",
    "evaluation_ngram",
    "duplicate",
)
"""Why a pair is dropped, in the order the rules are asked: the first broken rule counts."""

_Mask = npt.NDArray[np.bool_]

_BROKEN = r"[\p{Cc}\x{FFFD}\p{Co}]"
_URL = r"(?:https?://|ftp://|www\.)"
_URL_START = re.compile(_URL)

# Languages not written in Latin script, as RE2 names of their scripts. Those with two scripts in
# use (Serbian, Uzbek, Kurdish, …) are left out.
_SCRIPTS = {
    **dict.fromkeys(("ru", "bg", "uk", "be", "mk", "ky", "tg", "ba", "cv", "os"), r"\p{Cyrillic}"),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ug", "ckb", "arz", "ary", "arb"), r"\p{Arabic}"),
    **dict.fromkeys(("hi", "mr", "ne", "sa", "mai", "bho", "npi"), r"\p{Devanagari}"),
    **dict.fromkeys(("zh", "yue", "cmn", "lzh"), r"\p{Han}\p{Bopomofo}"),
    **dict.fromkeys(("he", "yi"), r"\p{Hebrew}"),
    **dict.fromkeys(("bn", "as"), r"\p{Bengali}"),
    **dict.fromkeys(("am", "ti"), r"\p{Ethiopic}"),
    **dict.fromkeys(("bo", "dz"), r"\p{Tibetan}"),
    "el": r"\p{Greek}",
    "th": r"\p{Thai}",
    "lo": r"\p{Lao}",
    "km": r"\p{Khmer}",
    "my": r"\p{Myanmar}",
    "ja": r"\p{Han}\p{Hiragana}\p{Katakana}",
    "ko": r"\p{Hangul}\p{Han}",
    "ta": r"\p{Tamil}",
    "te": r"\p{Telugu}",
    "kn": r"\p{Kannada}",
    "ml": r"\p{Malayalam}",
    "gu": r"\p{Gujarati}",
    "or": r"\p{Oriya}",
    "si": r"\p{Sinhala}",
    "ka": r"\p{Georgian}",
    "hy": r"\p{Armenian}",
}


def clean_block(
    block: pa.Table, config: CorpusConfig, contamination: ContaminationIndex | None = None
) -> tuple[pa.Table, Counter[str]]:
    """The block's clean pairs (:data:`PAIRS_SCHEMA`, in file order) and what was dropped, why.

    Pure: a row's fate depends on the row alone. Duplicates are left to
    :func:`weam_ray.corpus.pairs.finish_corpus`, which sees all blocks.

    Raises:
        DataError: a malformed or out-of-range gold link (file and line named).
    """
    if contamination and contamination.config != config.contamination:
        raise ConfigError(
            "the index of evaluation items was made with other contamination settings.",
            place="contamination",
            cure="Make it with ContaminationIndex.from_texts(texts, config.contamination).",
        )
    sieve = _Sieve(
        lines=block["line"].to_numpy(),
        source=_normalised(block, "source", config),
        target=_normalised(block, "target", config),
        gold=block["gold"].to_pylist(),
    )
    _sift_characters(sieve, config)
    sieve.cut_words(config)
    _sift_words(sieve, config.cleaning)
    if contamination:
        _sift_overlap(sieve, config, contamination)
    return sieve.table(config), sieve.dropped


def _normalised(block: pa.Table, side: str, config: CorpusConfig) -> list[str]:
    texts = block[side].to_pylist()
    normal = [normalise(text) for text in texts]
    if config.gold is not None:
        for line, text, kept in zip(block["line"].to_pylist(), texts, normal, strict=True):
            if not text.isascii() and len(text.split()) != len(kept.split()):
                raise DataError(
                    f"a word of the {side} side consists of invisible characters only, so the "
                    "gold links' indices would shift.",
                    place=f"{getattr(config, side) or config.source}:{line}",
                    cure="Remove it, and its links.",
                )
    return normal


class _Sieve:
    """The rows still in, column by column, and the count of those that are out."""

    def __init__(
        self,
        lines: npt.NDArray[np.int64],
        source: list[str],
        target: list[str],
        gold: list[str | None],
    ) -> None:
        self.lines, self.source, self.target, self.gold = lines, source, target, gold
        self.source_spans: list[list[int]] = []
        self.target_spans: list[list[int]] = []
        self.dropped: Counter[str] = Counter()

    def drop(self, masks: Sequence[tuple[str, _Mask]]) -> None:
        """Take out every row that a mask marks, counted under the first that does."""
        out = np.zeros(len(self.lines), bool)
        for reason, mask in masks:
            if count := int((mask & ~out).sum()):
                self.dropped[reason] += count
            out |= mask
        if not out.any():
            return
        kept = np.flatnonzero(~out)
        self.lines = self.lines[kept]
        self.source = [self.source[i] for i in kept]
        self.target = [self.target[i] for i in kept]
        self.gold = [self.gold[i] for i in kept]
        if self.source_spans:
            self.source_spans = [self.source_spans[i] for i in kept]
            self.target_spans = [self.target_spans[i] for i in kept]

    def cut_words(self, config: CorpusConfig) -> None:
        cut = splitter(config.source_language, config.segmenter)
        self.source_spans = [cut(text) for text in self.source]
        cut = splitter(config.target_language, config.segmenter)
        self.target_spans = [cut(text) for text in self.target]

    def table(self, config: CorpusConfig) -> pa.Table:
        gold = [
            None if links is None else _parsed(links, config, int(line), len(s) // 2, len(t) // 2)
            for links, line, s, t in zip(
                self.gold, self.lines, self.source_spans, self.target_spans, strict=True
            )
        ]
        columns = [
            pa.array(pair_ids(self.source, self.target)),
            self.source,
            self.target,
            self.source_spans,
            self.target_spans,
            gold,
        ]
        return pa.table(columns, schema=PAIRS_SCHEMA)


def _either(sides: Sequence[Any], broken: Callable[[Any], Any]) -> _Mask:
    masks = [np.asarray(broken(side), dtype=bool) for side in sides]
    return np.asarray(masks[0] | masks[1])


def _sift_characters(sieve: _Sieve, config: CorpusConfig) -> None:
    rules = config.cleaning
    sides = (pa.array(sieve.source, pa.string()), pa.array(sieve.target, pa.string()))
    lengths = [pc.utf8_length(side).to_numpy() for side in sides]
    letters = [pc.replace_substring_regex(side, r"[^\p{L}\p{M}]+", "") for side in sides]
    digits = [pc.replace_substring_regex(side, r"\P{Nd}+", "") for side in sides]
    masks = [("blank", _either(lengths, lambda length: length == 0))]
    if rules.drop_control_characters:
        masks.append(
            ("control_characters", _either(sides, lambda s: pc.match_substring_regex(s, _BROKEN)))
        )
    if (most := rules.max_characters) is not None:
        masks.append(("too_many_characters", _either(lengths, lambda length: length > most)))
    if rules.drop_untranslated:
        masks.append(("untranslated", _untranslated(sides, letters)))
    if (share := rules.min_letter_share) is not None:
        masks.append(("few_letters", _few_letters(sides, letters, digits, share)))
    if rules.min_script_share is not None:
        masks.append(("wrong_script", _wrong_script(letters, config, rules.min_script_share)))
    if rules.min_number_similarity is not None:
        masks.append(("number_mismatch", _numbers_differ(digits, rules.min_number_similarity)))
    if rules.same_url_count:
        counts = [pc.count_substring_regex(side, _URL).to_numpy() for side in sides]
        masks.append(("url_mismatch", counts[0] != counts[1]))
    sieve.drop(masks)


def _untranslated(sides: Sequence[pa.Array], letters: Sequence[pa.Array]) -> _Mask:
    same = pc.equal(*(pc.utf8_lower(side) for side in letters))
    lettered = pc.greater(pc.utf8_length(letters[0]), 0)
    return np.asarray(pc.or_(pc.equal(*sides), pc.and_(same, lettered)), dtype=bool)


def _few_letters(
    sides: Sequence[pa.Array], letters: Sequence[pa.Array], digits: Sequence[pa.Array], share: float
) -> _Mask:
    few = np.zeros(len(sides[0]), bool)
    for side, own, numbers in zip(sides, letters, digits, strict=True):
        count = pc.utf8_length(own).to_numpy()
        aside = pc.count_substring(side, " ").to_numpy() + pc.utf8_length(numbers).to_numpy()
        few |= (count == 0) | (count < share * (pc.utf8_length(side).to_numpy() - aside))
    return few


def _wrong_script(letters: Sequence[pa.Array], config: CorpusConfig, share: float) -> _Mask:
    wrong = np.zeros(len(letters[0]), bool)
    codes = (config.source_language, config.target_language)
    for code, side in zip(codes, letters, strict=True):
        # A code that names its script (sr-Latn) may mean another than the language's usual one.
        if (script := _SCRIPTS.get(primary_language(code))) and not re.search("-[A-Z][a-z]", code):
            own = pc.replace_substring_regex(side, rf"[^{script}\p{{M}}]+", "")
            lengths = pc.utf8_length(side).to_numpy()
            wrong |= pc.utf8_length(own).to_numpy() < share * lengths
    return wrong


def _numbers_differ(digits: Sequence[pa.Array], similarity: float) -> _Mask:
    differ = np.zeros(len(digits[0]), bool)
    rows = zip(*(side.to_pylist() for side in digits), strict=True)
    for row, (source, target) in enumerate(rows):
        if source != target:
            differ[row] = digit_similarity(source, target) < similarity
    return differ


def digit_similarity(source: str, target: str) -> float:
    """Dice coefficient of two multisets of digits of any script, zeros left out.

    1 when one side has none and the other at most two: small numbers are often written out.
    """
    left, right = (Counter(int(digit) for digit in side) for side in (source, target))
    del left[0], right[0]
    if not left or not right:
        return float(left.total() + right.total() <= 2)
    return 2 * (left & right).total() / (left.total() + right.total())


def _sift_words(sieve: _Sieve, rules: CleaningConfig) -> None:
    spans = (sieve.source_spans, sieve.target_spans)
    counts = [np.fromiter((len(s) // 2 for s in side), np.int64, len(side)) for side in spans]
    masks = [("too_few_words", _either(counts, lambda count: count < rules.min_words))]
    if (most := rules.max_words) is not None:
        masks.append(("too_many_words", _either(counts, lambda count: count > most)))
    if (longest := rules.max_word_characters) is not None:
        rows = list(zip((sieve.source, sieve.target), spans, strict=True))
        masks.append(
            ("long_word", _either(rows, lambda side: _long_word(side[0], side[1], longest)))
        )
    if (ratio := rules.max_length_ratio) is not None:
        sizes = [
            np.fromiter(map(len, side), np.int64, len(side))
            for side in (sieve.source, sieve.target)
        ]
        uneven = np.maximum(*counts) >= rules.length_ratio_from
        for left, right in (counts, sizes):
            uneven &= np.maximum(left, right) > ratio * np.minimum(left, right)
        masks.append(("length_ratio", uneven))
    sieve.drop(masks)


def _long_word(texts: list[str], spans: list[list[int]], longest: int) -> _Mask:
    # A word holds no whitespace, so only texts with a long run of other characters need a look.
    run = rf"[^ ]{{{longest + 1}}}"
    long = np.array(pc.match_substring_regex(pa.array(texts, pa.string()), run), dtype=bool)
    for row in np.flatnonzero(long):
        text, cut = texts[row], spans[row]
        long[row] = any(
            end - start > longest and not _URL_START.match(text, start)
            for start, end in zip(cut[::2], cut[1::2], strict=True)
        )
    return long


def _sift_overlap(sieve: _Sieve, config: CorpusConfig, index: ContaminationIndex) -> None:
    exact = np.zeros(len(sieve.lines), bool)
    shared = np.zeros(len(sieve.lines), bool)
    for texts, spans, code in (
        (sieve.source, sieve.source_spans, config.source_language),
        (sieve.target, sieve.target_spans, config.target_language),
    ):
        if not index.covers(code):
            continue
        if config.segmenter != "auto":
            # The items were cut by their language's rules, so compare with the same words.
            spans = [splitter(code)(text) for text in texts]
        words = [spans_to_words(text, cut) for text, cut in zip(texts, spans, strict=True)]
        same, run = index.overlaps(words, code)
        exact |= same
        shared |= run
    sieve.drop([("evaluation_sentence", exact), ("evaluation_ngram", shared)])


_LINK = re.compile(r"(\d+)-(\d+)")


def _parsed(
    links: str, config: CorpusConfig, line: int, source_words: int, target_words: int
) -> list[int]:
    """A line of Pharaoh links as i0, j0, i1, j1, … in order, each once."""
    place = f"{config.gold}:{line}"
    pairs = set()
    for link in links.split():
        match = _LINK.fullmatch(link)
        if not match:
            raise DataError(
                f"malformed link {link!r}.", place=place, cure="Write Pharaoh links: 0-0 1-2."
            )
        i, j = int(match[1]), int(match[2])
        if i >= source_words or j >= target_words:
            raise DataError(
                f"link {link} is outside its pair of {source_words} and {target_words} words.",
                place=place,
                cure="Indices count from 0; subtract 1 if these count from 1.",
            )
        pairs.add((i, j))
    return [index for pair in sorted(pairs) for index in pair]
