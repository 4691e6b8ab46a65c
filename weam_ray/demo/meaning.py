"""What sentences say, before any language says it: arrays of meanings, drawn by domain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from weam_ray.demo.lexicon import ABSENT, GROUP_WORDS, Ints, Inventory

SUBJECT, SUBJECT_ADJECTIVE, VERB, NEGATION, OBJECT, OBJECT_ADJECTIVE, PLACE, ADVERB = range(8)
SLOTS = 8
"""A meaning is a row of eight concept numbers; NEGATION holds 0 or ABSENT."""


@dataclass(frozen=True)
class Rates:
    """How often optional slots are filled, and how far frequencies fall with rank."""

    zipf: float
    negation: float
    adjective: float
    place: float
    adverb: float
    name: float
    kind: float
    """Share of nouns said by their hypernym."""
    coherence: float
    """How often a word takes its sentence's mood, and nouns the kinds their verb prefers."""


@dataclass
class Speaker:
    """Draws meanings; the same seed draws the same ones."""

    inventory: Inventory
    rates: Rates
    draw: np.random.Generator
    tastes: Ints = field(init=False)
    """(concepts, 2, 3) kinds that a verb prefers as subject and as object."""

    def __post_init__(self) -> None:
        verbs, shape = self.inventory.verbs, self.inventory.shape
        groups = np.unique(verbs.reshape(-1, GROUP_WORDS), axis=0)
        taste = np.random.default_rng(7).integers(shape.kinds, size=(len(groups), 2, 3))
        self.tastes = np.zeros((self.inventory.concepts, 2, 3), dtype=np.int64)
        for column in range(GROUP_WORDS):
            self.tastes[groups[:, column]] = taste

    def ranks(self, size: int, ranks: int) -> Ints:
        """Zipf-Mandelbrot ranks: p(r) ∝ 1 / (r + 2.7)^zipf (Mandelbrot 1953)."""
        weights = 1.0 / (np.arange(ranks) + 2.7) ** self.rates.zipf
        edges = np.cumsum(weights / weights.sum())
        edges[-1] = 1.0
        return np.searchsorted(edges, self.draw.random(size), side="right").astype(np.int64)

    def happens(self, rate: float, size: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Independent yes or no."""
        return self.draw.random(size) < rate

    def group_words(self, table: Ints, domain: int, mood: Ints) -> Ints:
        """Words of verb or adjective groups, on the mood's side of the opposition."""
        groups = table[domain][self.ranks(len(mood), table.shape[1])]
        column = 2 * mood + self.draw.integers(2, size=len(mood))
        words: Ints = groups[np.arange(len(mood)), column]
        return words

    def nouns(self, domain: int, kinds: Ints) -> Ints:
        """Leaf nouns of the kinds given."""
        table = self.inventory.nouns
        words: Ints = table[domain, kinds, self.ranks(len(kinds), table.shape[2])]
        return words

    def moods(self, mood: Ints) -> Ints:
        """The mood that each word takes: mostly its sentence's."""
        stray = self.happens((1 - self.rates.coherence), len(mood))
        return np.where(stray, self.draw.integers(2, size=len(mood)), mood)

    def kinds(self, verbs: Ints, role: int) -> Ints:
        """Kinds of nouns in a role: mostly those that the verb prefers."""
        size = len(verbs)
        liked = self.tastes[verbs, role, self.draw.integers(3, size=size)]
        stray = self.happens(1 - self.rates.coherence, size)
        return np.where(stray, self.draw.integers(self.inventory.shape.kinds, size=size), liked)

    def sentences(self, domain: int, size: int) -> Ints:
        """(size, SLOTS) meanings of running text."""
        rates, inventory = self.rates, self.inventory
        rows = np.full((size, SLOTS), ABSENT)
        mood = self.draw.integers(2, size=size)
        rows[:, VERB] = self.group_words(inventory.verbs, domain, self.moods(mood))
        for noun, adjective in ((SUBJECT, SUBJECT_ADJECTIVE), (OBJECT, OBJECT_ADJECTIVE)):
            kinds = self.kinds(rows[:, VERB], int(noun == OBJECT))
            leaves = self.nouns(domain, kinds)
            general = self.happens(rates.kind, size)
            rows[:, noun] = np.where(general, inventory.kinds[kinds], leaves)
            words = self.group_words(inventory.adjectives, domain, self.moods(mood))
            rows[:, adjective] = np.where(self.happens(rates.adjective, size), words, ABSENT)
        named = self.happens(rates.name, size)
        names = inventory.names[self.ranks(size, len(inventory.names))]
        rows[:, SUBJECT] = np.where(named, names, rows[:, SUBJECT])
        rows[named, SUBJECT_ADJECTIVE] = ABSENT
        rows[self.happens(rates.negation, size), NEGATION] = 0
        places = inventory.places[domain][self.ranks(size, inventory.places.shape[1])]
        rows[:, PLACE] = np.where(self.happens(rates.place, size), places, ABSENT)
        adverbs = inventory.adverbs[self.moods(mood), self.ranks(size, inventory.adverbs.shape[1])]
        rows[:, ADVERB] = np.where(self.happens(rates.adverb, size), adverbs, ABSENT)
        return rows
