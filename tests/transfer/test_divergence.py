"""Divergence of a bitext from a task, held against the definition and known cases."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from weam_ray.transfer.divergence import jensen_shannon


def slow_bits(one: dict[str, int], other: dict[str, int]) -> float:
    """Entropy of the mean less the mean entropy."""
    p = {k: v / sum(one.values()) for k, v in one.items()}
    q = {k: v / sum(other.values()) for k, v in other.items()}
    middle = {k: (p.get(k, 0) + q.get(k, 0)) / 2 for k in {*p, *q}}

    def entropy(of: dict[str, float]) -> float:
        return -sum(v * math.log2(v) for v in of.values() if v)

    return entropy(middle) - (entropy(p) + entropy(q)) / 2


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_entropy_of_the_mean_less_the_mean_entropy(seed: int):
    draw = random.Random(seed)
    one, other = (
        {kind: draw.randint(1, 50) for kind in draw.sample("abcdef", draw.randint(1, 6))}
        for _ in range(2)
    )
    found = jensen_shannon(one, other)
    assert found == pytest.approx(slow_bits(one, other), abs=1e-12)
    assert found == jensen_shannon(other, one)
    assert found is not None and 0 <= found <= 1


def test_the_same_text_does_not_diverge_and_nothing_shared_is_one_bit():
    assert jensen_shannon(Counter("aab"), Counter("aabaab")) == 0.0
    assert jensen_shannon(Counter("ab"), Counter("cd")) == pytest.approx(1.0)


def test_no_text_has_no_divergence():
    assert jensen_shannon(Counter(), Counter("a")) is None
