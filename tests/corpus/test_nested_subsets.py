"""Subsets are nested, and depend on content and seed alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weam_ray.corpus import PAIRS_SCHEMA, nested_order, shuffle_pairs, take_subset
from weam_ray.corpus.hashing import splitmix64
from weam_ray.errors import DataError


def corpus(ids: list[int]) -> pa.Table:
    texts = [f"s{i}" for i in ids]
    spans = [[0, len(text)] for text in texts]
    targets = [f"t{'x' * (i % 7)}{i}" for i in ids]
    target_spans = [[0, len(text)] for text in targets]
    gold = [[0, 0] for _ in ids]
    return pa.table([ids, texts, targets, spans, target_spans, gold], schema=PAIRS_SCHEMA)


IDS = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=60, unique=True)
SEEDS = st.integers(-(2**70), 2**70)


@given(ids=IDS, seed=SEEDS, data=st.data())
def test_a_smaller_size_is_part_of_a_larger_one(ids: list[int], seed: int, data: st.DataObject):
    small = data.draw(st.integers(1, len(ids)))
    large = data.draw(st.integers(small, len(ids)))
    table = corpus(ids)
    chosen = [take_subset(table, size, seed)["pair_id"].to_pylist() for size in (small, large)]
    assert chosen[1][:small] == chosen[0]
    assert len(set(chosen[1])) == large


@given(ids=IDS, seed=SEEDS, data=st.data())
def test_the_order_of_rows_decides_nothing(ids: list[int], seed: int, data: st.DataObject):
    other = data.draw(st.permutations(ids))
    size = data.draw(st.integers(1, len(ids)))
    for change in (lambda t: take_subset(t, size, seed), lambda t: shuffle_pairs(t, seed)):
        one, two = (change(corpus(order)).sort_by("pair_id") for order in (ids, other))
        assert one.equals(two)


def test_the_vectorised_hash_is_splitmix64() -> None:
    """Against the plain integer version of the published algorithm."""

    def slow(value: int) -> int:
        mask = 2**64 - 1
        z = (value + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    values = [0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF]
    assert splitmix64(np.array(values, np.uint64)).tolist() == [slow(v) for v in values]
    assert slow(0) == 0xE220A8397B1DCDAF  # first output of the reference generator seeded with 0


def test_seeds_draw_independently_and_evenly() -> None:
    ids = np.arange(20_000, dtype=np.uint64)  # the worst case: ids that are not hashes
    halves = [set(nested_order(ids, seed)[:10_000].tolist()) for seed in range(4)]
    for one, two in ((0, 1), (1, 2), (0, 3)):
        assert abs(len(halves[one] & halves[two]) - 5_000) < 300  # six standard deviations
    assert abs(np.mean(list(halves[0])) - 9_999.5) < 250


def test_more_than_there_is_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"1,500 .* of 3\b"):
        take_subset(corpus([1, 2, 3]), 1500, seed=0)


@given(ids=IDS, seed=SEEDS)
def test_shuffled_pairs_are_the_same_texts_and_no_pair_is_its_own(ids: list[int], seed: int):
    table = corpus(ids)
    shuffled = shuffle_pairs(table, seed)
    for column in ("pair_id", "source", "source_spans"):
        assert shuffled[column].equals(table[column])
    moved = dict(zip(table["target"].to_pylist(), table["target_spans"].to_pylist(), strict=True))
    targets = shuffled["target"].to_pylist()
    assert sorted(targets) == sorted(moved)
    assert all(new != old for new, old in zip(targets, table["target"].to_pylist(), strict=True))
    assert shuffled["target_spans"].to_pylist() == [moved[text] for text in targets]
    assert shuffled["gold"].null_count == len(ids)
