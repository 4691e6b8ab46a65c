"""NLI items whose labels follow from meaning, and whose single sides tell nothing.

Nouns are definite and speak of the same things on both sides, and the two poles of a group leave
nothing between them, so:

- what is said in other words (synonyms, hypernyms, details left out) entails; with every verb,
  adjective and adverb of the opposite pole it contradicts; something else is neutral;
- one verb or adjective replaced by its synonym entails, by its antonym contradicts, and by a word
  of another group is neutral;
- negation on one side only contradicts;
- a noun replaced by its hypernym entails, the other way round is neutral, and a noun of another
  kind contradicts;
- an adjective dropped entails, an adjective added is neutral.

Each phenomenon has every label equally often, and makes premises, and hypotheses, that are by
themselves distributed alike under every label: groups, poles and kinds are equally common, words
within them are drawn anew, and general and specific nouns come in the same shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weam_ray.demo.lexicon import ABSENT, Ints
from weam_ray.demo.meaning import (
    ADVERB,
    NEGATION,
    OBJECT,
    OBJECT_ADJECTIVE,
    PLACE,
    SUBJECT,
    SUBJECT_ADJECTIVE,
    VERB,
    Speaker,
)
from weam_ray.errors import ConfigError

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
LABELS = ("entailment", "neutral", "contradiction")

# Columns: premise and hypothesis are specific (0) or general (1). Entailment can't go from general
# to specific, yet each side must be general equally often under every label: the premise in 1/3 of
# the items, the hypothesis in 2/3.
_LEVELS = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
_LEVEL_SHARES = np.array([[2, 2, 2, 0], [3, 1, 1, 1], [3, 1, 1, 1]]) / 6


@dataclass(frozen=True)
class Items:
    """N items: meanings of both sides (N, SLOTS), labels (N,), phenomena (N,) by number."""

    premises: Ints
    hypotheses: Ints
    labels: Ints
    phenomena: Ints

    def __len__(self) -> int:
        return len(self.labels)


def make_items(speaker: Speaker, domain: int, size: int, shares: Mapping[str, float]) -> Items:
    """About ``size`` shuffled items of a domain, each phenomenon balanced over the labels.

    Args:
        shares: how much of the whole each phenomenon makes; they need not sum to one.

    Raises:
        ConfigError: they are too few for one of each label.
    """
    parts: list[list[Ints]] = []
    for number, (phenomenon, share) in enumerate(shares.items()):
        count = 3 * round(size * share / sum(shares.values()) / 3)
        if count:
            author = _Author(speaker, domain, np.arange(count) % 3)
            sides = author.write(phenomenon)
            parts.append([*sides, author.labels, np.full(count, number)])
    if not parts:
        raise ConfigError(
            f"{size} NLI items are too few for every label in a domain",
            place="world.nli_domains",
            cure="Ask for more items, or set the share of that domain to 0.",
        )
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = speaker.draw.permutation(len(joined[0]))
    return Items(*(column[order] for column in joined))


class _Author:
    """Writes the items of one phenomenon in one domain."""

    def __init__(self, speaker: Speaker, domain: int, labels: Ints) -> None:
        self.speaker, self.domain, self.labels = speaker, domain, labels
        self.inventory = speaker.inventory
        self.rows = np.arange(len(labels))

    def write(self, phenomenon: str) -> tuple[Ints, Ints]:
        if phenomenon == "statement":
            return self._statement()
        premises = self._premises()
        hypotheses = premises.copy()
        verb_labels = {
            "verb": self._verb,
            "adjective": self._adjective,
            "negation": self._negation,
            "noun": self._noun,
            "modifier": self._modifier,
        }[phenomenon](premises, hypotheses)
        hypotheses[:, VERB] = self._replaced(self.inventory.verbs, premises[:, VERB], verb_labels)
        for extra in (PLACE, ADVERB):
            # To leave it out entails, so it changes no label.
            hypotheses[self.speaker.happens(0.5, len(self.rows)), extra] = ABSENT
        return premises, hypotheses

    def _statement(self) -> tuple[Ints, Ints]:
        """All of it said otherwise, said of the opposite, or something else said."""
        speaker, size = self.speaker, len(self.rows)
        premises = speaker.sentences(self.domain, size)
        others = speaker.sentences(self.domain, size)
        said = np.where((self.labels == NEUTRAL)[:, None], others, premises)
        opposed = np.where(self.labels == CONTRADICTION, 1, 0)
        return premises, speaker.restated(said, self.domain, opposed)

    def _premises(self) -> Ints:
        """Meanings without moods or tastes: a changed word must not jar with the rest."""
        speaker, size = self.speaker, len(self.rows)
        premises = speaker.sentences(self.domain, size)
        coin = speaker.draw.integers(2, size=(3, size))
        premises[:, VERB] = speaker.any_words(self.inventory.verbs, self.domain, coin[0])
        kinds = speaker.draw.integers(self.inventory.shape.kinds, size=(2, size))
        premises[:, SUBJECT] = speaker.nouns(self.domain, kinds[0])
        premises[:, OBJECT] = speaker.nouns(self.domain, kinds[1])
        for slot, mood in ((SUBJECT_ADJECTIVE, coin[1]), (OBJECT_ADJECTIVE, coin[2])):
            words = speaker.any_words(self.inventory.adjectives, self.domain, mood)
            premises[:, slot] = np.where(premises[:, slot] == ABSENT, ABSENT, words)
        return premises

    # Each phenomenon edits both sides in place, and returns by which relation the verb is to be
    # replaced: synonym (ENTAILMENT), another group (NEUTRAL) or antonym (CONTRADICTION).

    def _verb(self, premises: Ints, hypotheses: Ints) -> Ints:
        return self.labels

    def _adjective(self, premises: Ints, hypotheses: Ints) -> Ints:
        slot = self._either(SUBJECT_ADJECTIVE, OBJECT_ADJECTIVE)
        words = self._adjectives()
        premises[self.rows, slot] = words
        hypotheses[self.rows, slot] = self._replaced(self.inventory.adjectives, words, self.labels)
        return np.full_like(self.labels, ENTAILMENT)

    def _negation(self, premises: Ints, hypotheses: Ints) -> Ints:
        coin = self.speaker.draw.integers(2, size=(2, len(self.rows)))
        hypothesis = np.choose(self.labels, [coin[0], coin[1], 1 - coin[0]])
        premises[:, NEGATION] = coin[0] - 1
        hypotheses[:, NEGATION] = hypothesis - 1
        return np.where(self.labels == NEUTRAL, NEUTRAL, ENTAILMENT)

    def _noun(self, premises: Ints, hypotheses: Ints) -> Ints:
        slot = self._either(SUBJECT, OBJECT)
        levels, backwards = self._levels()
        own = premises[self.rows, slot]
        other = own.copy()
        clash = self.labels == CONTRADICTION
        kind_of = self.inventory.kind_of
        kinds = self._others(kind_of[own[clash]], self.inventory.shape.kinds)
        other[clash] = self.speaker.nouns(self.domain, kinds)
        premises[self.rows, slot] = np.where(levels[:, 0], kind_of[own], own)
        hypotheses[self.rows, slot] = np.where(levels[:, 1], kind_of[other], other)
        return np.where((self.labels == NEUTRAL) & ~backwards, NEUTRAL, ENTAILMENT)

    def _modifier(self, premises: Ints, hypotheses: Ints) -> Ints:
        slot = self._either(SUBJECT_ADJECTIVE, OBJECT_ADJECTIVE)
        levels, backwards = self._levels()
        words = self._adjectives()
        premises[self.rows, slot] = np.where(levels[:, 0], ABSENT, words)
        hypotheses[self.rows, slot] = np.where(levels[:, 1], ABSENT, words)
        return np.where(backwards & (self.labels == NEUTRAL), ENTAILMENT, self.labels)

    def _either(self, one: int, other: int) -> Ints:
        slots: Ints = np.where(self.speaker.happens(0.5, len(self.rows)), one, other)
        return slots

    def _adjectives(self) -> Ints:
        coin = self.speaker.draw.integers(2, size=len(self.rows))
        return self.speaker.any_words(self.inventory.adjectives, self.domain, coin)

    def _levels(self) -> tuple[Ints, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """General or specific for both sides (N, 2), and where general leads to specific."""
        cumulated = np.cumsum(_LEVEL_SHARES, axis=1)[self.labels]
        draws = self.speaker.draw.random((len(self.rows), 1))
        choice = (draws >= cumulated[:, :-1]).sum(axis=1)
        levels: Ints = _LEVELS[choice]
        return levels, choice == 3

    def _replaced(self, table: Ints, words: Ints, relations: Ints) -> Ints:
        """Synonyms, words of another group, or antonyms."""
        speaker = self.speaker
        groups = self._others(self.inventory.group_of[words], table.shape[1])
        poles = speaker.draw.integers(2, size=len(words))
        choices = [
            speaker.synonyms(table, self.domain, words, np.zeros_like(words)),
            speaker.words(table, self.domain, groups, poles),
            speaker.synonyms(table, self.domain, words, np.ones_like(words)),
        ]
        return np.choose(relations, choices)

    def _others(self, classes: Ints, count: int) -> Ints:
        """For each class any of the others: as evenly spread as the classes themselves."""
        others: Ints = (classes + self.speaker.draw.integers(1, count, size=len(classes))) % count
        return others
