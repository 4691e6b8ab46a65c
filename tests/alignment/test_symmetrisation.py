"""Joining directions: against sets, and the bounds that hold for any links."""

from __future__ import annotations

from typing import get_args

import alignment_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weam_ray.alignment import Links, Symmetrisation, symmetrise
from weam_ray.errors import AlignerError

METHODS = get_args(Symmetrisation)
points = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14)
directions = st.lists(st.tuples(points, points), max_size=5)


@settings(deadline=None)
@given(directions, st.sampled_from(METHODS))
def test_each_method_is_what_it_is_on_sets(pairs, method):
    forward = Links.from_pairs(f for f, _ in pairs)
    reverse = Links.from_pairs(r for _, r in pairs)
    joined = symmetrise(forward, reverse, method)
    assert joined == Links.from_pairs(oracle.join(f, r, method) for f, r in pairs)


@settings(deadline=None)
@given(directions)
def test_each_heuristic_takes_more_than_the_one_before(pairs):
    forward = Links.from_pairs(f for f, _ in pairs)
    reverse = Links.from_pairs(r for _, r in pairs)
    rising = ("intersection", "grow-diag", "grow-diag-final-and", "union")
    joined = [[set(pair) for pair in symmetrise(forward, reverse, method)] for method in rising]
    for narrow, wide in zip(joined, joined[1:], strict=False):
        assert all(few <= many for few, many in zip(narrow, wide, strict=True))


@settings(deadline=None)
@given(directions)
def test_exchanging_sides_transposes_what_does_not_depend_on_order(pairs):
    def turned(pair):
        return {(j, i) for i, j in pair}

    for method in ("intersection", "union"):
        there = (
            symmetrise(*map(Links.from_pairs, zip(*pairs, strict=True)), method) if pairs else []
        )
        back = [
            symmetrise(Links.from_pairs([turned(r)]), Links.from_pairs([turned(f)]), method)[0]
            for f, r in pairs
        ]
        assert [turned(pair) for pair in there] == [set(pair) for pair in back]


def test_directions_of_different_texts_are_refused():
    with pytest.raises(AlignerError, match="1 pairs forward, 2 in reverse"):
        symmetrise(Links.from_pairs([[]]), Links.from_pairs([[], []]), "union")
