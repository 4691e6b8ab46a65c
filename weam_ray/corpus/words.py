"""Where words begin and end.

Words are spans of character offsets into the text; the text itself is never changed. Every
character that is not whitespace lies in exactly one word, so punctuation marks are words too.

- Scripts that write spaces: whitespace, then punctuation apart from the word it touches. Kept
  whole: URLs, e-mail addresses, numbers with separators (``1,000.50``, ``10:30``), hyphenated words
  and abbreviations with points (``U.S.``), as in Moses' tokenizer. Combining marks stay with their
  letter, so Indic and Arabic words stay whole. Clitics are cut off where Moses and the Penn
  Treebank cut them: ``do|n't``, ``John|'s`` in English, ``l'|homme`` in French, Italian, Catalan,
  Occitan.
- Chinese: jieba. Thai: PyThaiNLP's newmm.
- Japanese, without a segmenter here: every Han or Hiragana character is a word, a run of Katakana
  is one. Lao, Khmer, Burmese, Tibetan, Dzongkha: every letter with its marks is a word.
- Private-use languages (``qaa`` to ``qtz``) and the segmenter ``whitespace``: whitespace only.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal

from weam_ray.corpus.languages import is_private, primary_language

Segmenter = Literal["auto", "whitespace"]
_Spans = Callable[[str], list[int]]
_Cut = Callable[[str], Iterable[str]]

_ELIDING = frozenset({"fr", "it", "ca", "oc", "wa", "co", "fur", "lij", "lmo", "scn", "vec"})
_CHARACTERS = frozenset({"lo", "km", "my", "bo", "dz"})
_APOSTROPHES = "'’"
_ENGLISH_CLITIC = re.compile(rf"(?:n[{_APOSTROPHES}]t|[{_APOSTROPHES}](?:s|re|ve|ll|d|m))$", re.I)
_ELISION = re.compile(rf"(?<=[^\W\d_][{_APOSTROPHES}])(?=[^\W\d_])")
_NOT_SPACE = re.compile(r"\S+")


def word_spans(text: str, language: str, segmenter: Segmenter = "auto") -> list[tuple[int, int]]:
    """Words of ``text`` as (start, end) character offsets, in order."""
    flat = flat_spans(text, language, segmenter)
    return list(zip(flat[::2], flat[1::2], strict=True))


def flat_spans(text: str, language: str, segmenter: Segmenter = "auto") -> list[int]:
    """:func:`word_spans` as the files hold them: start0, end0, start1, end1, …"""
    return splitter(language, segmenter)(text)


def spans_to_words(text: str, spans: Sequence[int]) -> list[str]:
    """The words that flattened spans cut out of ``text``."""
    return [text[start:end] for start, end in zip(spans[::2], spans[1::2], strict=True)]


def counts_characters(language: str) -> bool:
    """Whether this language's words are single characters here, for want of a segmenter."""
    return primary_language(language) in _CHARACTERS | {"ja"}


@cache
def splitter(language: str, segmenter: Segmenter = "auto") -> _Spans:
    """The function from a text to its flattened spans. Segmenters load at its first call."""
    if segmenter == "whitespace" or is_private(language):
        return _whitespace_spans
    primary = primary_language(language)
    if primary in ("zh", "yue", "cmn", "wuu", "lzh", "hak", "nan"):
        return _recutting(re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), _jieba)
    if primary == "th":
        return _recutting(re.compile(r"[\u0e00-\u0e7f]"), _newmm)
    if primary == "ja":
        return _recutting(re.compile(r"[\u3040-\u30ff\u3400-\u9fff]"), _japanese)
    if primary in _CHARACTERS:
        return _recutting(re.compile(r"[\u0e80-\u0fff\u1000-\u109f\u1780-\u17ff]"), _characters)
    if primary == "en":
        return _cutting_apostrophes(_english_cut)
    if primary in _ELIDING:
        return _cutting_apostrophes(_elision_cut)
    return _alphabetic_spans


def _whitespace_spans(text: str) -> list[int]:
    return [offset for match in _NOT_SPACE.finditer(text) for offset in match.span()]


def _alphabetic_spans(text: str) -> list[int]:
    # The parts of the pattern that can't match are left out: most lines run twice as fast.
    web = "://" in text or "www." in text or "@" in text
    pattern = _token_pattern(marks=not text.isascii(), web=web)
    return [offset for match in pattern.finditer(text) for offset in match.span()]


@cache
def _marks() -> str:
    """Combining marks, as ranges for a character class: ``re``'s ``\\w`` leaves them out."""
    # Beyond these planes only variation selectors (U+E0100 to U+E01EF) are marks.
    codes = [c for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M"]
    codes += range(0xE0100, 0xE01F0)
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    # The zero-width joiners (U+200C, U+200D) shape letters inside a word, as marks do.
    return "\u200c\u200d" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_WEB = r"""
    (?:https?://|ftp://|www\.)
    [^\s<>"'`。，、；：！？（）]* [^\s<>"'`.,;:!?()\[\]{}。，、；：！？（）]
    | \w[\w.+-]*@[\w-]+(?:\.[\w-]+)+ |
"""


@cache
def _token_pattern(*, marks: bool = True, web: bool = True) -> re.Pattern[str]:
    extending = _marks() if marks else ""
    letters = rf"[\w{extending}]+"
    if web:  # scripts without spaces write a URL right after a word
        letters = rf"(?:(?!https?://|ftp://)[\w{extending}])+"
    return re.compile(
        rf"""
        {_WEB if web else ""}
        (?<!\w)(?:[^\W\d_]\.){{2,}}
        | {letters}(?:(?:[-‐‑·{_APOSTROPHES}]|(?<=\d)[.,:/٫٬](?=\d)){letters})*
        | (\S)\1*{f"[{extending}]*" if marks else ""}
        """,
        re.VERBOSE,
    )


def _cutting_apostrophes(cuts_of: Callable[[str], list[int]]) -> _Spans:
    def spans(text: str) -> list[int]:
        flat = _alphabetic_spans(text)
        if "'" not in text and "’" not in text:
            return flat
        result: list[int] = []
        for start, end in zip(flat[::2], flat[1::2], strict=True):
            word = text[start:end]
            if "'" in word or "’" in word:
                for cut in cuts_of(word):
                    result += (start, end - len(word) + cut)
                    start = end - len(word) + cut
            result += (start, end)
        return result

    return spans


def _english_cut(word: str) -> list[int]:
    match = _ENGLISH_CLITIC.search(word)
    return [match.start()] if match and match.start() > 0 else []


def _elision_cut(word: str) -> list[int]:
    if "://" in word or word.lower().replace("’", "'") in ("aujourd'hui", "d'aujourd'hui"):
        return []
    return [match.start() for match in _ELISION.finditer(word)]


def _recutting(script: re.Pattern[str], load: Callable[[], _Cut]) -> _Spans:
    """Alphabetic words first; those that hold the script are cut again by its segmenter."""

    def spans(text: str) -> list[int]:
        result: list[int] = []
        flat = _alphabetic_spans(text)
        for start, end in zip(flat[::2], flat[1::2], strict=True):
            word = text[start:end]
            if not script.search(word) or "://" in word:
                result += (start, end)
                continue
            for piece in load()(word):
                result += (start, start + len(piece))
                start += len(piece)
        return result

    return spans


@cache
def _jieba() -> _Cut:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has escapes that newer Pythons warn about
        import jieba
    jieba.setLogLevel("WARNING")
    tokenizer = jieba.Tokenizer()
    # Filled by hand: initialize() would read, or leave, a cache file in the shared /tmp.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True

    def cut(word: str) -> Iterable[str]:
        pieces: Iterable[str] = tokenizer.cut(word)
        return pieces

    return cut


@cache
def _newmm() -> _Cut:
    # Without these it makes a folder in the home directory when it is imported.
    os.environ.setdefault("PYTHAINLP_READ_ONLY", "1")
    os.environ.setdefault("PYTHAINLP_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pythainlp.tokenize.newmm import segment

    def cut(word: str) -> Iterable[str]:
        # Past this length the search over the whole run would take quadratic time.
        pieces: list[str] = segment(word, safe_mode=len(word) > 1_000)
        return pieces

    return cut


@cache
def _japanese() -> _Cut:
    pattern = re.compile(
        rf"[\u30a0-\u30ff]+|[\u3040-\u309f\u3400-\u9fff][{_marks()}]*"
        rf"|[^\u3040-\u30ff\u3400-\u9fff]+"
    )
    return pattern.findall


@cache
def _characters() -> _Cut:
    return re.compile(rf"\d+|[a-zA-Z]+|.[{_marks()}]*", re.DOTALL).findall
