"""The record of links: views, Arrow, selection, and the shuffled control."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weam_ray.alignment import Links, shuffle_links
from weam_ray.errors import AlignerError

pairs = st.lists(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), max_size=6)


@settings(deadline=None)
@given(pairs)
def test_arrow_lists_bring_back_the_same_links(rows):
    links = Links.from_pairs(rows)
    assert Links.from_arrow(links.to_arrow()) == links
    assert Links.from_arrow(pa.chunked_array([links.to_arrow()])) == links
    assert [set(pair) for pair in links] == rows


def test_flattened_lists_alternate_source_and_target():
    assert Links.from_pairs([[(2, 1), (0, 5)], []]).to_arrow().to_pylist() == [[0, 5, 2, 1], []]


@settings(deadline=None)
@given(pairs, st.data())
def test_selected_pairs_come_in_the_order_asked_for(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1))) if rows else []
    picked = Links.from_pairs(rows).select(chosen)
    assert list(picked) == [sorted(rows[pair]) for pair in chosen]


def test_the_last_pair_counts_from_the_end_and_none_lies_beyond():
    links = Links.from_pairs([[], [(1, 2)]])
    assert links[-1] == [(1, 2)]
    with pytest.raises(IndexError):
        links[2]


def test_arrays_that_do_not_fit_are_refused():
    two = np.zeros(2, np.int32)
    with pytest.raises(AlignerError, match="offsets"):
        Links(np.array([0, 3]), two, two)
    with pytest.raises(AlignerError, match="odd length"):
        Links.from_arrow(pa.array([[1, 2, 3]], pa.list_(pa.int32())))


def degrees(row, side):
    found = {}
    for point in row:
        found[point[side]] = found.get(point[side], 0) + 1
    return found


@settings(deadline=None)
@given(pairs, st.integers(0, 2**70))
def test_shuffling_keeps_every_marginal_and_breaks_every_link_it_can(rows, seed):
    links = Links.from_pairs(rows)
    mixed = shuffle_links(links, seed, np.arange(len(rows), dtype=np.uint64) + 7)
    for before, after in zip(links, mixed, strict=True):
        assert len(set(after)) == len(before)
        assert after == sorted(after)
        assert degrees(before, 0) == degrees(after, 0)
        assert degrees(before, 1).keys() == degrees(after, 1).keys()
        one_to_one = len(degrees(before, 0)) == len(degrees(before, 1)) == len(before)
        if one_to_one and len(before) > 1:
            assert not set(before) & set(after)


def test_a_pair_is_shuffled_alike_wherever_it_stands():
    rows = [{(i, i) for i in range(9)}, {(i, 8 - i) for i in range(9)}]
    ids = np.array([5, 2**63 + 1], np.uint64)
    there = list(shuffle_links(Links.from_pairs(rows), 3, ids))
    back = list(shuffle_links(Links.from_pairs(rows[::-1]), 3, ids[::-1]))
    assert there == back[::-1]
    assert there != list(shuffle_links(Links.from_pairs(rows), 4, ids))
