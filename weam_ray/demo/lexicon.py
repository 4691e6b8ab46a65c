"""Concepts and their surface forms: what can be said, and how each language spells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ABSENT = -1
"""In any slot of a meaning: nothing is said there."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many concepts there are. *Core* ones live in every domain, *own* ones in one."""

    domains: int
    kinds: int
    """Hypernyms; each has its own leaf nouns."""
    core_nouns: int
    """Leaf nouns of a kind that every domain uses."""
    own_nouns: int
    verb_groups: int
    """Each with two opposite poles; words of one pole mean the same."""
    core_verbs: int
    """Words of each pole that every domain uses."""
    own_verbs: int
    adjective_groups: int
    core_adjectives: int
    own_adjectives: int
    core_places: int
    own_places: int
    adverbs: int
    names: int


@dataclass(frozen=True)
class Inventory:
    """Concept numbers, arranged by how they are drawn; rank 0 is the commonest.

    Legend: D domains, K kinds, R ranks within a domain.
    """

    shape: Shape
    kinds: Ints
    """(K,) hypernyms."""
    nouns: Ints
    """(D, K, R) leaf nouns of each kind that a domain uses, core ones first."""
    kind_of: Ints
    """(concepts,) the hypernym of a leaf noun, else ABSENT."""
    verbs: Ints
    """(D, G, 2, R) by group and pole; poles are antonyms of each other."""
    adjectives: Ints
    """(D, G, 2, R)"""
    places: Ints
    """(D, R)"""
    adverbs: Ints
    """(2, R) by mood."""
    names: Ints
    """(R,) spelled alike in every language."""
    group_of: Ints
    """(concepts,) the group of a verb or adjective within its table, else ABSENT."""
    pole_of: Ints
    """(concepts,) and its pole."""
    concepts: int


def take_inventory(shape: Shape) -> Inventory:
    """Number the concepts: core ones once, own ones once a domain."""
    counter = 0

    def new(*size: int) -> Ints:
        nonlocal counter
        count = int(np.prod(size))
        counter += count
        return np.arange(counter - count, counter).reshape(size)

    def shared(core: int, own: int, *rest: int) -> Ints:
        common = new(core, *rest)
        return np.stack([np.concatenate([common, new(own, *rest)]) for _ in range(shape.domains)])

    kinds = new(shape.kinds)
    nouns = shared(shape.core_nouns, shape.own_nouns, shape.kinds).transpose(0, 2, 1)
    verbs = _by_pole(shared(shape.core_verbs, shape.own_verbs, shape.verb_groups, 2))
    adjectives = _by_pole(
        shared(shape.core_adjectives, shape.own_adjectives, shape.adjective_groups, 2)
    )
    places = shared(shape.core_places, shape.own_places)
    adverbs = new(2, shape.adverbs)
    names = new(shape.names)
    kind_of = np.full(counter, ABSENT)
    for kind, leaves in zip(kinds, nouns.transpose(1, 0, 2), strict=True):
        kind_of[leaves.ravel()] = kind
    group_of, pole_of = np.full(counter, ABSENT), np.full(counter, ABSENT)
    for table in (verbs, adjectives):
        _, groups, poles, _ = np.indices(table.shape)
        group_of[table], pole_of[table] = groups, poles
    return Inventory(
        shape=shape,
        kinds=kinds,
        nouns=nouns,
        kind_of=kind_of,
        verbs=verbs,
        adjectives=adjectives,
        places=places,
        adverbs=adverbs,
        names=names,
        group_of=group_of,
        pole_of=pole_of,
        concepts=counter,
    )


def _by_pole(table_DRG2: Ints) -> Ints:
    return table_DRG2.transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class Phonotactics:
    """Which syllables a language builds its stems from."""

    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    codas: tuple[str, ...]

    def stem(self, draw: np.random.Generator) -> str:
        """Two syllables, now and then three."""
        syllables = 2 + int(draw.random() < 0.25)
        return "".join(
            self.onsets[draw.integers(len(self.onsets))]
            + self.vowels[draw.integers(len(self.vowels))]
            + (self.codas[draw.integers(len(self.codas))] if last else "")
            for last in (position == syllables - 1 for position in range(syllables))
        )


SOUNDS: dict[str, Phonotactics] = {
    "en": Phonotactics(
        tuple("b br c ch cl d dr f fl g gr h j l m n p pl r s sh st t th tr w".split()),
        ("a", "e", "ea", "i", "o", "oo", "u"),
        tuple("ck d ft ll lt m n nd ng p r rd rk sh st t tch x".split()),
    ),
    "qaa": Phonotactics(
        tuple("k t s n h m y r g z d b".split()), tuple("aiueo"), ("", "", "n", "k", "s", "r")
    ),
    "qab": Phonotactics(
        tuple("gw ll rh dd m n c p t b f l s w ff".split()),
        tuple("aeiowy"),
        tuple("n l r d s g f".split()),
    ),
    "qac": Phonotactics(
        tuple("zh v k p l n t j x ch r d s".split()),
        tuple("aáeéiíoú"),
        ("", "", "l", "t", "m", "v"),
    ),
}

INTERNATIONAL = Phonotactics(
    ("t", "m", "l", "f", "k", "n", "p", "r"), tuple("aeio"), ("", "n", "l")
)
"""What loanwords sound like."""


def spell(
    inventory: Inventory, languages: Sequence[str], seed: int, loanwords: float, taken: set[str]
) -> dict[str, list[str]]:
    """One stem a concept and language, by the concept's number.

    Args:
        loanwords: share of concepts that all languages spell alike, as they do all names.
        taken: strings that may not be a stem.
    """
    taken = set(taken)
    count = inventory.concepts - len(inventory.names)
    international = _stems("", INTERNATIONAL, count, seed, taken)
    shared = np.random.default_rng([seed, 2]).random(count) < loanwords
    names = _names(len(inventory.names), seed)
    spelling = {}
    for language in languages:
        own = _stems(language, SOUNDS[language], count, seed, taken)
        words = [a if s else b for a, b, s in zip(international, own, shared, strict=True)]
        spelling[language] = words + names
    return spelling


def _stems(
    language: str, sounds: Phonotactics, count: int, seed: int, taken: set[str]
) -> list[str]:
    draw = np.random.default_rng([seed, *language.encode()])
    stems: list[str] = []
    while len(stems) < count:
        stem = sounds.stem(draw)
        if stem not in taken:
            taken.add(stem)
            stems.append(stem)
    return stems


def _names(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng([seed, 1])
    syllables = [a + b for a in "lmnrdkst" for b in "aeio"]
    names: list[str] = []
    while len(names) < count:
        name = "".join(syllables[draw.integers(len(syllables))] for _ in range(2)).capitalize()
        if name not in names:
            names.append(name)
    return names
