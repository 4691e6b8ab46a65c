"""What holds for any text and any settings that are allowed."""

from __future__ import annotations

import math
import random

import alignment_oracle as oracle
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weam_ray.alignment import AlignmentConfig, align_encoded, align_words, em
from weam_ray.alignment import shard as shard_module
from weam_ray.alignment.encoding import encode_words
from weam_ray.alignment.shard import Shard
from weam_ray.alignment.spilling import Disk

WORDS = st.sampled_from([*"abcdefg", "\0", "é", "一"])
SENTENCE = st.lists(WORDS, max_size=7)
TEXT = st.lists(st.tuples(SENTENCE, SENTENCE), max_size=12)
CONFIG = st.builds(
    AlignmentConfig,
    iterations=st.integers(3, 9),
    null_probability=st.sampled_from([0.0, 0.08, 0.5, 1 - 1e-12]),
    initial_tension=st.floats(0.1, 14),
    optimise_tension=st.booleans(),
    variational_bayes=st.booleans(),
    alpha=st.sampled_from([0.002, 0.01, 1.0, 100.0]),
    symmetrisation=st.sampled_from(["union", "intersection", "grow-diag-final-and"]),
    casefold=st.just(False),
    max_words=st.integers(1, 8),
)


@settings(deadline=None, max_examples=150)
@given(TEXT, CONFIG)
def test_every_number_is_one_and_every_link_is_of_two_words(pairs, config):
    source, target = [a for a, _ in pairs], [b for _, b in pairs]
    made = align_words(source, target, config, scores=True)
    usable = [0 < len(a) <= config.max_words and 0 < len(b) <= config.max_words for a, b in pairs]
    assert len(made.links) == len(made.forward) == len(made.reverse) == len(pairs)
    assert sum(made.unlinked.values()) == usable.count(False)
    for p, (a, b) in enumerate(pairs):
        for links in (made.links[p], made.forward[p], made.reverse[p]):
            assert all(0 <= i < len(a) and 0 <= j < len(b) for i, j in links)
            assert usable[p] or not links
        assert len({j for _, j in made.forward[p]}) == len(made.forward[p])
        assert len({i for i, _ in made.reverse[p]}) == len(made.reverse[p])
        assert np.isfinite(made.scores[p]).all() == usable[p]
        assert not np.isnan(made.scores[p]).any()
    for step in (*made.history["forward"], *made.history["reverse"]):
        assert all(math.isfinite(value) for value in vars(step).values())
        assert 0 <= step.null_share <= 1
        assert 0.1 <= step.tension <= 14


FAR = AlignmentConfig(iterations=4, null_probability=0.0, initial_tension=6.0, alpha=0.002)


@settings(deadline=None, max_examples=80)
@given(TEXT, CONFIG)
# All that b has is a 60th of a count, which is next to nothing beside a's; yet its only word is a.
@example([(["b", "a", "a"], ["a"])], FAR)
@example([(["b", "a", "a"], ["a"])], FAR.model_copy(update={"initial_tension": 14.0}))
def test_likelihood_and_tension_are_those_of_dictionaries(pairs, config):
    usable = [(a, b) for a, b in pairs if 0 < min(len(a), len(b)) <= max(len(a), len(b)) <= 8]
    config = config.model_copy(update={"max_words": 8})
    made = align_words([a for a, _ in pairs], [b for _, b in pairs], config)
    if not usable or not config.null_probability and not config.variational_bayes:
        return
    _, history, _ = oracle.train(usable, config)
    for step, (likelihood, tension) in zip(made.history["forward"], history, strict=True):
        assert step.log_likelihood == pytest.approx(likelihood, rel=1e-7, abs=1e-7)
        assert step.tension == pytest.approx(tension, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(TEXT, CONFIG, st.integers(1, 9), st.integers(1, 3), st.integers(1, 30), st.integers(0, 99))
def test_no_split_of_the_work_and_no_order_changes_a_bit(
    pairs, config, shards, threads, block, seed
):
    sides = [encode_words(side)[0] for side in ([a for a, _ in pairs], [b for _, b in pairs])]
    whole = align_encoded(*sides, config, scores=True)
    chance, each = random.Random(seed), Shard._each

    def in_any_order(shard, blocks, work, told):
        order = chance.sample(range(len(blocks)), len(blocks))
        done, partial = each(shard, [blocks[place] for place in order], work, told)
        return [done[order.index(place)] for place in range(len(blocks))], partial

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_module, "BLOCK_ENTRIES", block)
        patch.setattr(Shard, "_each", in_any_order)
        hire = em.threads_of(shards, threads)
        cut = align_encoded(*sides, config, hire=hire, scores=True)
    assert cut.links == whole.links
    assert cut.history == whole.history
    assert np.array_equal(cut.scores, whole.scores)


@settings(deadline=None, max_examples=40)
@given(TEXT, CONFIG, st.integers(1, 30))
def test_work_files_change_no_bit(tmp_path_factory, pairs, config, block):
    sides = [encode_words(side)[0] for side in ([a for a, _ in pairs], [b for _, b in pairs])]
    whole = align_encoded(*sides, config, scores=True)
    with pytest.MonkeyPatch.context() as patch, Disk.opened(tmp_path_factory.getbasetemp()) as disk:
        patch.setattr(shard_module, "BLOCK_ENTRIES", block)
        patch.setattr(em, "RUN_RECORDS", block)
        cut = align_encoded(*sides, config, hire=em.threads_of(1, 1, disk), scores=True)
    assert cut.links == whole.links
    assert cut.history == whole.history
    assert np.array_equal(cut.scores, whole.scores)
