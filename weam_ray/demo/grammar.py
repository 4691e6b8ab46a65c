"""How each language says a meaning: word order, articles, case, compounds, and the true links.

A word of a sentence is (form, units): the units are what it stands for. Two words of a
translation are linked when they share a unit, so links are known and not guessed.

| language | order | nouns | adjective | negation | place |
|---|---|---|---|---|---|
| en  | SVO, place, adverb | bare | before | word before the verb | word before |
| qaa | adverb, place, SOV | object suffix | before | suffix of the verb | particle after |
| qab | VSO, place, adverb | word before the object | after | word before the verb | word before |
| qac | OVS, adverb, place | subject suffix | joined to its noun | verb suffix | word after |

Articles are left unsaid, as in a telegram.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weam_ray.demo.lexicon import ABSENT
from weam_ray.demo.meaning import (
    ADVERB,
    NEGATION,
    OBJECT,
    OBJECT_ADJECTIVE,
    PLACE,
    SUBJECT,
    SUBJECT_ADJECTIVE,
    VERB,
)

Word = tuple[str, tuple[int, ...]]
Sentence = list[Word]
Grammar = Callable[[Sequence[int], Sequence[str]], Sentence]

IN = 8
"""The unit of a place's preposition or case; the others are the slots of a meaning."""
UNITS = 9

FUNCTION_WORDS = {
    "en": ("not", "in"),
    "qaa": ("o", "nai", "de"),
    "qab": ("yn", "na", "ig"),
    "qac": ("ek", "ze", "ban"),
}
"""Articles, markers and suffixes; no stem may be one of them."""


def english(meaning: Sequence[int], stems: Sequence[str]) -> Sentence:
    """``big dogs not see cats in houses gladly``"""
    words = _english_noun(meaning, stems, SUBJECT, SUBJECT_ADJECTIVE)
    if meaning[NEGATION] != ABSENT:
        words.append(("not", (NEGATION,)))
    words.append((stems[meaning[VERB]], (VERB,)))
    words += _english_noun(meaning, stems, OBJECT, OBJECT_ADJECTIVE)
    if meaning[PLACE] != ABSENT:
        words += [("in", (IN,)), (stems[meaning[PLACE]], (PLACE,))]
    if meaning[ADVERB] != ABSENT:
        words.append((stems[meaning[ADVERB]], (ADVERB,)))
    return words


def _english_noun(
    meaning: Sequence[int], stems: Sequence[str], noun: int, adjective: int
) -> Sentence:
    last = (stems[meaning[noun]], (noun,))
    if meaning[adjective] == ABSENT:
        return [last]
    return [(stems[meaning[adjective]], (adjective,)), last]


def qaa(meaning: Sequence[int], stems: Sequence[str]) -> Sentence:
    """Verb last; suffixes for object and negation, a particle for place."""
    words: Sentence = []
    if meaning[ADVERB] != ABSENT:
        words.append((stems[meaning[ADVERB]], (ADVERB,)))
    if meaning[PLACE] != ABSENT:
        words += [(stems[meaning[PLACE]], (PLACE,)), ("de", (IN,))]
    for noun, adjective, particle in (
        (SUBJECT, SUBJECT_ADJECTIVE, ""),
        (OBJECT, OBJECT_ADJECTIVE, "o"),
    ):
        if meaning[adjective] != ABSENT:
            words.append((stems[meaning[adjective]], (adjective,)))
        words.append((stems[meaning[noun]] + particle, (noun,)))
    words.append(_verb(meaning, stems, "nai"))
    return words


def qab(meaning: Sequence[int], stems: Sequence[str]) -> Sentence:
    """Verb first; adjectives follow their nouns, ``yn`` goes before the object."""
    words: Sentence = []
    if meaning[NEGATION] != ABSENT:
        words.append(("na", (NEGATION,)))
    words.append((stems[meaning[VERB]], (VERB,)))
    for noun, adjective, article in (
        (SUBJECT, SUBJECT_ADJECTIVE, ""),
        (OBJECT, OBJECT_ADJECTIVE, "yn"),
    ):
        if article:
            words.append((article, ()))
        words.append((stems[meaning[noun]], (noun,)))
        if meaning[adjective] != ABSENT:
            words.append((stems[meaning[adjective]], (adjective,)))
    if meaning[PLACE] != ABSENT:
        words += [("ig", (IN,)), (stems[meaning[PLACE]], (PLACE,))]
    if meaning[ADVERB] != ABSENT:
        words.append((stems[meaning[ADVERB]], (ADVERB,)))
    return words


def qac(meaning: Sequence[int], stems: Sequence[str]) -> Sentence:
    """Object first; an adjective fuses with its noun; the subject carries ``ek``."""
    words: Sentence = [_compound(meaning, stems, OBJECT, OBJECT_ADJECTIVE, "")]
    words.append(_verb(meaning, stems, "ze"))
    words.append(_compound(meaning, stems, SUBJECT, SUBJECT_ADJECTIVE, "ek"))
    if meaning[ADVERB] != ABSENT:
        words.append((stems[meaning[ADVERB]], (ADVERB,)))
    if meaning[PLACE] != ABSENT:
        words += [(stems[meaning[PLACE]], (PLACE,)), ("ban", (IN,))]
    return words


def _verb(meaning: Sequence[int], stems: Sequence[str], negative: str) -> Word:
    if meaning[NEGATION] == ABSENT:
        return stems[meaning[VERB]], (VERB,)
    return stems[meaning[VERB]] + negative, (VERB, NEGATION)


def _compound(
    meaning: Sequence[int], stems: Sequence[str], noun: int, adjective: int, case: str
) -> Word:
    if meaning[adjective] == ABSENT:
        return stems[meaning[noun]] + case, (noun,)
    return f"{stems[meaning[adjective]]}-{stems[meaning[noun]]}{case}", (adjective, noun)


GRAMMARS: dict[str, Grammar] = {"en": english, "qaa": qaa, "qab": qab, "qac": qac}


def text(sentence: Sentence) -> str:
    """The sentence as a line: words parted by one space."""
    return " ".join(form for form, _ in sentence)


def links(source: Sentence, target: Sentence) -> list[tuple[int, int]]:
    """(i, j), 0-based, of words that share a unit, in order of i, then j."""
    where: dict[int, list[int]] = {}
    for j, (_, units) in enumerate(target):
        for unit in units:
            where.setdefault(unit, []).append(j)
    return sorted(
        {(i, j) for i, (_, units) in enumerate(source) for u in units for j in where.get(u, ())}
    )
