"""Masks are a pure function of seed, epoch, row and position, at the rates they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weam_ray.pretraining.masking import TokenTable, corrupt, mix, seed_word, token_keys, uniform

VOCABULARY = 50
MASK_ID = 4
TABLE = TokenTable(
    maskable=np.arange(VOCABULARY) >= 5, ordinary=np.arange(5, VOCABULARY), mask_id=MASK_ID
)


def slow_mix(value: int) -> int:
    """SplitMix64's finaliser on Python integers."""
    word = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & word
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & word
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & word
    return value ^ (value >> 31)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_the_vectorised_hash_is_the_scalar_one(values: list[int]) -> None:
    assert mix(np.array(values, np.uint64)).tolist() == [slow_mix(value) for value in values]


def rows(count: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row = np.repeat(np.arange(count), length)
    return row, np.tile(np.arange(length), count), 5 + (row * 7 + np.arange(len(row))) % 45


def masks(seed: int, epoch: int, rate: float = 0.3, corruption: str = "80-10-10") -> tuple:
    row, position, ids = rows(2000, 20)
    keys = token_keys(seed, np.full_like(row, epoch), mix(row.astype(np.uint64)), position)
    return ids, *corrupt(ids, keys, TABLE, rate, corruption)


def test_a_row_has_the_same_masks_alone_and_among_others() -> None:
    row, position, ids = rows(100, 20)
    keys = mix(row.astype(np.uint64))
    together = token_keys(5, np.full_like(row, 2), keys, position)
    seen, masked = corrupt(ids, together, TABLE, 0.3, "80-10-10")
    one = row == 42
    alone = token_keys(5, np.full(20, 2), keys[one], position[one])
    seen_alone, masked_alone = corrupt(ids[one], alone, TABLE, 0.3, "80-10-10")
    assert seen_alone.tolist() == seen[one].tolist()
    assert masked_alone.tolist() == masked[one].tolist()


def test_another_seed_epoch_or_row_has_other_masks() -> None:
    usual = masks(0, 0)[2]
    for other in (masks(1, 0)[2], masks(0, 1)[2]):
        # Independent masks at 0.3 agree on 0.3² + 0.7² = 0.58 of the tokens.
        assert np.mean(usual == other) == pytest.approx(0.58, abs=0.01)
    by_row = usual.reshape(2000, 20)
    assert np.mean(by_row[1:] == by_row[:-1]) == pytest.approx(0.58, abs=0.01)


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.5])
def test_tokens_are_masked_at_the_rate_and_split_80_10_10(rate: float) -> None:
    ids, seen, masked = masks(0, 0, rate)
    assert masked.mean() == pytest.approx(rate, abs=0.01)
    assert (seen[~masked] == ids[~masked]).all()
    assert np.mean(seen[masked] == MASK_ID) == pytest.approx(0.8, abs=0.01)
    # A random token is the original by chance in 1 of 45 cases.
    assert np.mean(seen[masked] == ids[masked]) == pytest.approx(0.1 + 0.1 / 45, abs=0.01)
    swapped = seen[masked & (seen != ids) & (seen != MASK_ID)]
    counts = np.bincount(swapped, minlength=VOCABULARY)
    assert (counts[:5] == 0).all()
    assert counts[5:].min() > 0


def test_always_masking_shows_the_mask_at_the_same_places() -> None:
    _, seen, masked = masks(0, 0, corruption="mask")
    assert (seen[masked] == MASK_ID).all()
    assert (masked == masks(0, 0)[2]).all()


def test_special_tokens_are_never_masked() -> None:
    ids = np.zeros(5000, np.int64)
    keys = token_keys(0, ids, mix(np.arange(5000, dtype=np.uint64)), ids)
    assert not corrupt(ids, keys, TABLE, 0.9, "80-10-10")[1].any()


def test_seed_words_depend_on_order_and_uniforms_stay_below_one() -> None:
    assert seed_word(1, 2) != seed_word(2, 1)
    assert uniform(np.array([2**64 - 1, 0], np.uint64)).tolist() == [1 - 2**-53, 0.0]
