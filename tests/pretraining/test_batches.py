"""The global sequence of batches is the same whoever asks, and every row gets its turn."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_losses import partners_of
from small_corpus import Corpus, make_corpus, pair_set

from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining import (
    Objective,
    PairSet,
    PretrainingConfig,
    build_examples,
    load_tokenizer,
)
from weam_ray.pretraining.batches import Batch, Batches, Order
from weam_ray.pretraining.examples import Examples, concatenate
from weam_ray.pretraining.feed import Feed
from weam_ray.pretraining.prepared import prepare
from weam_ray.pretraining.sides import token_table


@pytest.fixture(scope="module")
def examples(corpus: Corpus, base_dir: Path) -> Examples:
    return build(corpus, base_dir)


def build(corpus: Corpus, base_dir: Path) -> Examples:
    config = PretrainingConfig(objective="weam", max_length=40)
    return build_examples(corpus.pairs, corpus.links, load_tokenizer(base_dir), config)


def batches(examples: Examples, base_dir: Path, rank: int = 0, world: int = 1, **changes: Any):
    tokenizer = load_tokenizer(base_dir)
    config = PretrainingConfig(**{"batch_size": 8, "seed": 4, **changes})
    return Batches(examples, config, token_table(tokenizer), 0, rank=rank, world=world)


def rows_of(parts: list[Batch]) -> list[tuple[list[Any], ...]]:
    """What each row of these parts shows and asks, without padding, in order."""
    rows = []
    for part in parts:
        width = part.ids_BL.shape[1]
        partners = partners_of(part)
        for row in range(len(part.ids_BL)):
            here = torch.nonzero(part.places_M // width == row).flatten().tolist()
            rows.append(
                (
                    part.ids_BL[row][part.real_BL[row]].tolist(),
                    part.segments_BL[row][part.real_BL[row]].tolist(),
                    (part.places_M[here] % width).tolist(),
                    part.targets_M[here].tolist(),
                    [
                        tuple((place % width, weight) for place, weight in partners.get(token, []))
                        for token in here
                    ],
                )
            )
    return rows


@pytest.mark.parametrize(("world", "micro"), [(2, None), (4, None), (1, 3), (2, 1), (3, 2)])
def test_a_batch_is_the_same_in_any_number_of_shares(
    world: int, micro: int | None, examples: Examples, base_dir: Path
) -> None:
    whole = batches(examples, base_dir)
    workers = [batches(examples, base_dir, r, world, micro_batch=micro) for r in range(world)]
    for number in (0, 1, 30, 7):
        [batch] = whole.batch(number)
        shares = [part for worker in workers for part in worker.batch(number)]
        assert rows_of(shares) == rows_of([batch])
        totals = {(part.all_masked, part.all_aligned, part.all_tokens) for part in shares}
        assert totals == {(len(batch.places_M), len(batch.aligned_A), batch.tokens)}
        assert sum(part.tokens for part in shares) == batch.tokens


@pytest.mark.parametrize("pooling", ["mean", "first", "same-index"])
def test_the_head_reads_no_vector_twice(pooling: str, examples: Examples, base_dir: Path) -> None:
    tokenizer = load_tokenizer(base_dir)
    config = PretrainingConfig(batch_size=32, masking_rate=0.5)
    table = token_table(tokenizer)
    [batch] = Batches(examples, config, table, 0, pooling=pooling).batch(0)
    partners = {token: tuple(found) for token, found in partners_of(batch).items()}
    own = {((place, 1.0),) for place in batch.places_M.tolist()}
    rows = len(batch.row_start) - 1
    predictions = len(batch.places_M) + len(batch.aligned_A)
    # Two words with the same partners of several tokens are still read apart.
    assert len(own | set(partners.values())) <= rows < predictions
    reused = [token for token, found in partners.items() if found in own]
    # Here a word has several tokens, and its mean is no token's own vector.
    assert bool(reused) == (pooling != "mean")
    row_of = dict(zip(batch.aligned_A.tolist(), batch.row_A.tolist(), strict=True))
    assert all(row_of[token] < len(batch.places_M) for token in reused)
    assert batch.row_start[-1] == predictions
    assert sorted(batch.order_N.tolist()) == list(range(predictions))


def test_asking_out_of_order_changes_nothing(examples: Examples, base_dir: Path) -> None:
    forwards, backwards = batches(examples, base_dir), batches(examples, base_dir)
    numbers = list(range(60))
    one = {number: rows_of(forwards.batch(number)) for number in numbers}
    other = {number: rows_of(backwards.batch(number)) for number in reversed(numbers)}
    assert one == other


def test_every_row_comes_once_an_epoch(examples: Examples) -> None:
    order = Order(examples, batch_size=8, temperature=1.0, seed=0)
    assert order.batches_a_pool == 200 // 8
    drawn, epochs = order.pool(0)
    assert Counter(drawn.tolist()) == Counter(range(200))
    assert set(epochs.tolist()) == {0}
    assert order.pool(1)[0].tolist() != drawn.tolist()
    assert set(order.pool(1)[1].tolist()) == {1}


def pairs_by_step(objective: Objective, sets: list[PairSet], base_dir: Path, **changes: Any):
    """The ids of the pairs of each of 150 steps, in order."""
    config = PretrainingConfig(objective=objective, **changes)
    examples = prepare(load_tokenizer(base_dir), sets, config).examples
    assert examples is not None
    order, group = Order(examples, config.batch_size, config.temperature, 3), examples.group
    ids = np.concatenate([one.pairs["pair_id"].to_numpy() for one in sets])
    rows = np.concatenate([order.pool(number)[0][::group] for number in range(4)])
    return ids[rows // group].reshape(-1, config.batch_size)[:150].tolist()


@pytest.mark.parametrize("max_length", [16, 48])
@pytest.mark.parametrize("objective", ["mlm", "word-aligned", "weam"])
def test_a_step_reads_the_same_pairs_under_every_objective(
    objective: Objective, max_length: int, corpus: Corpus, base_dir: Path
) -> None:
    """Below one epoch too (a pool is 128 of the 250 pairs), and where rows are truncated."""
    sets = [pair_set(corpus, "large"), pair_set(make_corpus(50, 1, prefix=1), "small")]
    changes = {"batch_size": 2, "temperature": 0.5, "max_length": max_length}
    steps = pairs_by_step(objective, sets, base_dir, **changes)
    assert len(steps) == 150
    assert steps == pairs_by_step("tlm", sets, base_dir, **changes)


@pytest.mark.parametrize(("anchor", "side"), [("aa", "source"), ("bb", "target"), ("zz", "source")])
def test_the_side_in_the_anchor_language_is_held_near_the_original(
    anchor: str, side: str, corpus: Corpus, base_dir: Path
) -> None:
    """The source where neither side is in it."""
    config = PretrainingConfig(objective="word-aligned", anchor_language=anchor)
    tokenizer = load_tokenizer(base_dir)
    examples = prepare(tokenizer, [pair_set(corpus)], config).examples
    assert examples is not None and examples.rows == 2 * corpus.pairs.num_rows
    held = np.flatnonzero(examples.anchored)
    assert (held % 2 == (side == "target")).all() and len(held) == corpus.pairs.num_rows
    row = int(held[0])
    ids = examples.ids[examples.start[row] : examples.start[row + 1]].tolist()
    assert ids == tokenizer(corpus.pairs[side][0].as_py()).input_ids


def test_rows_of_a_batch_are_of_like_length(examples: Examples) -> None:
    order = Order(examples, batch_size=8, temperature=1.0, seed=0)
    lengths = examples.lengths[order.pool(0)[0]].reshape(-1, 8)
    padded = (lengths.max(1) * 8).sum() / lengths.sum()
    assert padded < 1.05
    assert (np.diff(lengths[:, 0]) < 0).any(), "batches must not come sorted by length"


def test_the_order_of_the_file_does_not_matter(corpus: Corpus, base_dir: Path) -> None:
    turned = corpus.pairs.take(np.arange(corpus.pairs.num_rows)[::-1])
    one = batches(build(corpus, base_dir), base_dir)
    other = batches(build(Corpus(turned, corpus.links), base_dir), base_dir)
    for number in range(5):
        # Neighbours of equal length may swap places within a batch's length class.
        assert sorted(map(len, (row[0] for row in rows_of(one.batch(number))))) == sorted(
            map(len, (row[0] for row in rows_of(other.batch(number))))
        )


def test_sets_are_mixed_by_size_and_temperature(corpus: Corpus, base_dir: Path) -> None:
    both = concatenate(
        [build(corpus, base_dir), build(make_corpus(50, seed=1, prefix=1), base_dir)],
        ["large", "small"],
    )
    for temperature, share in ((1.0, 0.2), (0.5, 1 / 3), (0.0, 0.5)):
        order = Order(both, batch_size=8, temperature=temperature, seed=0)
        drawn = np.concatenate([order.pool(number)[0] for number in range(40)])
        assert np.mean(both.sets[drawn] == 1) == pytest.approx(share, abs=0.005)
        epochs = order.taken(40 * order.batches_a_pool)
        assert epochs == pytest.approx(
            [np.sum(both.sets[drawn] == k) / size for k, size in enumerate((200, 50))]
        )


def test_epochs_are_those_of_the_rows_that_were_read(corpus: Corpus, base_dir: Path) -> None:
    # The longer half of a corpus and the shorter one: a batch is mostly of one of them.
    lengths = np.array([len(text) for text in corpus.pairs["source"].to_pylist()])
    by_length = np.argsort(lengths, kind="stable")
    halves = [Corpus(corpus.pairs.take(np.sort(half)), corpus.links)
              for half in (by_length[:100], by_length[100:])]  # fmt: skip
    both = concatenate([build(half, base_dir) for half in halves], ["short", "long"])
    order = Order(both, batch_size=8, temperature=1.0, seed=0)
    uneven = 0.0
    for batches in (1, 5, order.batches_a_pool - 1, order.batches_a_pool + 3):
        pools = -(-batches // order.batches_a_pool)
        rows = np.concatenate([order.pool(number)[0] for number in range(pools)])[: 8 * batches]
        read = np.bincount(both.sets[rows], minlength=2)
        assert order.taken(batches) == pytest.approx(read / 100)
        uneven = max(uneven, abs(read[0] - read[1]) / read.sum())
    assert uneven > 0.2


def test_a_set_smaller_than_a_batch_goes_round(base_dir: Path) -> None:
    few = build(make_corpus(3), base_dir)
    [batch] = batches(few, base_dir).batch(0)
    assert len(batch.ids_BL) == 8
    # The same pair comes again with its next epoch's masks.
    assert len({tuple(map(tuple, row)) for row in rows_of([batch])}) > 3


def test_replay_is_spread_evenly(examples: Examples, base_dir: Path) -> None:
    feed = Feed(batches(examples, base_dir), batches(examples, base_dir, seed=9), 0.25)
    kinds = [feed.step(step).replay for step in range(40)]
    assert kinds == [step % 4 == 3 for step in range(40)]
    assert feed.own_steps(40) == 30
    assert rows_of(feed.step(4).parts) == rows_of(batches(examples, base_dir).batch(3))


def test_steps_made_ahead_are_the_same_steps(examples: Examples, base_dir: Path) -> None:
    feed = Feed(batches(examples, base_dir))
    ahead = [rows_of(step.parts) for step in Feed(batches(examples, base_dir)).steps(3, 60, 4)]
    assert ahead == [rows_of(step.parts) for step in feed.steps(3, 60)]


def test_an_error_in_the_background_is_raised_in_front(examples: Examples, base_dir: Path) -> None:
    class Broken(Batches):
        def batch(self, number: int) -> list[Batch]:
            if number == 5:
                raise OSError("disk gone")
            return super().batch(number)

    tokenizer = load_tokenizer(base_dir)
    config = PretrainingConfig(batch_size=8)
    steps = Feed(Broken(examples, config, token_table(tokenizer), 0)).steps(0, 9, 2)
    assert [len(next(steps).parts) for _ in range(5)] == [1] * 5
    with pytest.raises(OSError, match="disk gone"):
        next(steps)


def test_a_reader_that_stops_early_stops_the_background(examples: Examples, base_dir: Path) -> None:
    steps = Feed(batches(examples, base_dir)).steps(0, 1000, 2)
    next(steps)
    steps.close()
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_fewer_rows_than_workers_is_refused(examples: Examples, base_dir: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size 8 can't be split over 9 workers"):
        batches(examples, base_dir, world=9)


def test_an_empty_set_is_refused(corpus: Corpus, base_dir: Path) -> None:
    empty = build(Corpus(corpus.pairs.slice(0, 0), corpus.links), base_dir)
    with pytest.raises(DataError, match="medical: no rows to train on"):
        Order(concatenate([empty], ["medical"]), 8, 1.0, 0)
