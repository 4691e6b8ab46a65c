"""The array EM does what EM on dictionaries does."""

from __future__ import annotations

import random

import alignment_oracle as oracle
import numpy as np
import pytest
from numba import njit

from weam_ray.alignment import AlignmentConfig, align_words
from weam_ray.alignment.numerics import prefetch


def bitext(pairs: int, words: int, seed: int, longest: int = 9) -> oracle.Pairs:
    """Sentences and their word-by-word translation with swaps, losses and additions."""
    rng = random.Random(seed)
    made = []
    for _ in range(pairs):
        source = [f"s{int(rng.paretovariate(0.7)) % words}" for _ in range(rng.randint(1, longest))]
        target = ["t" + word[1:] for word in source if rng.random() < 0.9]
        if rng.random() < 0.5:
            target.insert(rng.randint(0, len(target)), "the")
        if len(target) > 2:
            at = rng.randrange(len(target) - 1)
            target[at], target[at + 1] = target[at + 1], target[at]
        made.append((source, target or ["the"]))
    return made


def exchanged(pairs: oracle.Pairs) -> oracle.Pairs:
    return [(target, source) for source, target in pairs]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"variational_bayes": False},
        {"optimise_tension": False, "initial_tension": 2.5},
        {"iterations": 3},
        {"iterations": 9, "alpha": 0.3},
        {"null_probability": 0.3},
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_links_tension_and_likelihood_agree(settings, seed):
    pairs = bitext(120, 40, seed)
    config = AlignmentConfig(casefold=False, **settings)
    made = align_words(*zip(*pairs, strict=True), config)
    for name, text in {"forward": pairs, "reverse": exchanged(pairs)}.items():
        links, history, _ = oracle.train(text, config)
        for step, (likelihood, tension) in zip(made.history[name], history, strict=True):
            assert step.log_likelihood == pytest.approx(likelihood, rel=1e-9)
            assert step.tension == pytest.approx(tension, rel=1e-9)
        mine = [set(pair) for pair in getattr(made, name)]
        if name == "reverse":
            mine = [{(i, j) for j, i in pair} for pair in mine]
        assert mine == links


def test_words_that_are_never_fetched_in_time_are_found_all_the_same():
    # Longer than the lines that are fetched ahead, and fewer records than they are fetched ahead.
    pairs = [([f"s{n}" for n in range(90)], [f"t{n}" for n in range(70)]), (["s1"], ["t1"])]
    config = AlignmentConfig(casefold=False)
    made = align_words(*zip(*pairs, strict=True), config)
    links, _, _ = oracle.train(pairs, config)
    assert [set(pair) for pair in made.forward] == links


def test_fetching_beyond_an_array_harms_nothing():
    @njit
    def fetch(array, place):
        prefetch(array, place)
        return array.sum()

    array = np.arange(4.0)
    assert [fetch(array, np.uint64(place)) for place in (0, 3, 4, 1 << 40)] == [6.0] * 4
