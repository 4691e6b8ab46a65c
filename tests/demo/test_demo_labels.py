"""Every label follows from the two meanings, by rules written down a second time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from weam_ray.demo import WorldConfig
from weam_ray.demo.inference import CONTRADICTION, ENTAILMENT, NEUTRAL, make_items
from weam_ray.demo.lexicon import ABSENT, Inventory, take_inventory
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

WORLD = WorldConfig()
INVENTORY = take_inventory(WORLD.shape())
Meaning = list[int]


def word(inventory: Inventory, one: int, other: int) -> int:
    """A verb or adjective after another: synonym, of another group, or antonym."""
    if inventory.group_of[one] != inventory.group_of[other]:
        return NEUTRAL
    same = inventory.pole_of[one] == inventory.pole_of[other]
    return ENTAILMENT if same else CONTRADICTION


def noun(inventory: Inventory, one: int, other: int) -> int:
    """A noun after another: itself or its hypernym, its hyponym, or a noun of another kind."""
    if other in (one, inventory.kind_of[one]):
        return ENTAILMENT
    return NEUTRAL if inventory.kind_of[other] == one else CONTRADICTION


def label(premise: Meaning, hypothesis: Meaning) -> int:
    """What follows for the whole: one contradiction is enough, then one open question."""
    verb = word(INVENTORY, premise[VERB], hypothesis[VERB])
    if premise[NEGATION] != hypothesis[NEGATION] and verb != NEUTRAL:
        verb = CONTRADICTION if verb == ENTAILMENT else ENTAILMENT
    found = [verb, *(noun(INVENTORY, premise[s], hypothesis[s]) for s in (SUBJECT, OBJECT))]
    for slot in (SUBJECT_ADJECTIVE, OBJECT_ADJECTIVE):
        if hypothesis[slot] != ABSENT:
            known = premise[slot] != ABSENT
            found.append(word(INVENTORY, premise[slot], hypothesis[slot]) if known else NEUTRAL)
    return next(one for one in (CONTRADICTION, NEUTRAL, ENTAILMENT) if one in found)


@pytest.mark.parametrize("phenomenon", list(WORLD.phenomena()))
def test_a_label_is_what_the_two_meanings_make_it(phenomenon: str) -> None:
    speaker = Speaker(INVENTORY, WORLD.rates(), np.random.default_rng(3))
    items = make_items(speaker, 0, 1200, {phenomenon: 1.0})
    assert set(Counter(items.labels.tolist()).values()) == {400}
    sides = zip(
        items.premises.tolist(), items.hypotheses.tolist(), items.labels.tolist(), strict=True
    )
    for premise, hypothesis, given in sides:
        if phenomenon == "statement" and given == NEUTRAL:
            continue  # something else is said, of other things
        assert label(premise, hypothesis) == given, (premise, hypothesis)
        for extra in (PLACE, ADVERB):
            if phenomenon != "statement":
                assert hypothesis[extra] in (ABSENT, premise[extra])
