"""Which items each transfer setting trains on and evaluates; batches drawn from the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from weam_ray.errors import DataError
from weam_ray.transfer import TransferConfig, tokenise_items
from weam_ray.transfer.batches import evaluation_batches, training_batches
from weam_ray.transfer.phases import Plan, check_shots, evaluation_steps, plan_run
from weam_ray.transfer.qa.config import QaConfig
from weam_ray.transfer.tokenised import TokenisedItems


def plan(encoder: Path, items: pa.Table, **settings: Any) -> tuple[TokenisedItems, Plan]:
    tokens = tokenise_items(items, encoder, 64)
    return tokens, plan_run(tokens, TransferConfig(**settings))


def trained(tokens: TokenisedItems, plan: Plan, phase: int = 0) -> set[tuple[str, str]]:
    rows = plan.phases[phase].rows
    return set(zip(tokens.column("split")[rows], tokens.column("language")[rows], strict=True))


def test_zero_shot_trains_on_english_and_evaluates_all(encoder: Path, items: pa.Table) -> None:
    tokens, found = plan(encoder, items)
    assert trained(tokens, found) == {("train", "en")}
    assert set(found.dev) == {"en", "de", "fr"}
    assert len(found.evaluated) == 3 * 90


def test_translate_train_trains_on_the_target_alone(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    items = world(train_languages=("en", "de"))
    settings = {"setting": "translate-train", "target_languages": ("de",)}
    tokens, found = plan(encoder, items, **settings)
    assert trained(tokens, found) == {("train", "de")}
    assert set(tokens.column("language")[found.evaluated]) == {"de"}
    tokens, found = plan(encoder, items, setting="translate-train-all", target_languages=("de",))
    assert trained(tokens, found) == {("train", "en"), ("train", "de")}
    with pytest.raises(DataError, match="no training items in 'fr'"):
        plan(encoder, items, setting="translate-train", target_languages=("fr",))
    with pytest.raises(ValidationError, match="name exactly one"):
        TransferConfig(setting="translate-train", target_languages=("de", "fr"))


def test_few_shot_takes_its_dev_items_out_of_dev_in_every_language(
    encoder: Path, items: pa.Table
) -> None:
    settings = {"setting": "few-shot", "target_languages": ("de",), "few_shot_items": 12}
    tokens, found = plan(encoder, items, **settings)
    assert trained(tokens, found, 0) == {("train", "en")}
    assert trained(tokens, found, 1) == {("dev", "de")}
    shots = set(tokens.column("item")[found.phases[1].rows])
    assert len(shots) == 12
    assert not shots & set(tokens.column("item")[found.evaluated])
    assert {language: len(rows) for language, rows in found.dev.items()} == {"en": 48, "de": 48}
    _, other = plan(encoder, items, **settings, seed=1)
    assert set(tokens.column("item")[other.phases[1].rows]) != shots


def test_few_shot_leaves_no_dev_item_whose_premise_was_trained_on(
    encoder: Path, items: pa.Table
) -> None:
    # As in XNLI three items have one premise; from row 240 on an item's languages follow it.
    thirds = [*range(240), *(240 + (row - 240) // 9 * 9 for row in range(240, len(items)))]
    items = items.set_column(3, "premise", items["premise"].take(thirds))
    settings = {"setting": "few-shot", "target_languages": ("de",), "few_shot_items": 5}
    tokens, found = plan(encoder, items, **settings)
    premises = np.asarray(items["premise"].to_pylist(), object)
    shots = set(premises[found.phases[1].rows])
    dev = found.dev["de"]
    assert len(dev) == 60 - 3 * len(shots) and not shots & set(premises[dev])
    names = tokens.column("item")
    assert set(names[found.dev["en"]]) == set(names[dev])


def test_few_shot_beyond_what_there_is_is_refused_before_any_cell(items: pa.Table) -> None:
    config = TransferConfig(setting="few-shot", target_languages=("de",), few_shot_items=61)
    with pytest.raises(DataError, match="asks for 61 items in 'de', there are 60") as error:
        check_shots(items, config)
    assert error.value.place == "transfer.few_shot_items"
    reader = QaConfig(setting="few-shot", target_languages=("de",), few_shot_items=61)
    with pytest.raises(DataError) as error:
        check_shots(items, reader)
    assert error.value.place == "qa.few_shot_items"
    check_shots(items, config.model_copy(update={"few_shot_items": 60}))
    check_shots(items, config.model_copy(update={"setting": "zero-shot"}))


def test_few_shot_learns_nothing_of_a_set_beside_the_task(encoder: Path, items: pa.Table) -> None:
    tokens = tokenise_items(items, encoder, 64)
    own = np.asarray([int(name[-3:]) % 2 == 0 for name in tokens.column("item")])
    settings = {"setting": "few-shot", "target_languages": ("de",), "few_shot_items": 12}
    found = plan_run(tokens, TransferConfig(**settings), chosen_by=own)
    assert own[found.phases[1].rows].all()


def test_few_shot_prefers_training_items_of_the_target(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    items = world(train_languages=("en", "de"))
    settings = {"setting": "few-shot", "target_languages": ("de",), "few_shot_items": 12}
    tokens, found = plan(encoder, items, **settings)
    assert trained(tokens, found, 1) == {("train", "de")}
    assert len(found.dev["de"]) == 60
    with pytest.raises(DataError, match="asks for 500 items in 'de', there are 240"):
        plan(encoder, items, **(settings | {"few_shot_items": 500}))


def test_every_epoch_reads_every_item_once_in_an_order_from_the_seed() -> None:
    rows = np.arange(1000, 1333)
    lengths = np.random.default_rng(0).integers(5, 60, len(rows))
    first = training_batches(rows, lengths, 8, seed=3, epoch=0)
    assert sorted(np.concatenate(first)) == list(rows)
    again = training_batches(rows, lengths, 8, seed=3, epoch=0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in ((4, 0), (3, 1)):
        batches = training_batches(rows, lengths, 8, *other)
        assert [list(one) for one in batches] != [list(one) for one in first]


def test_batches_of_like_length_pad_little() -> None:
    rows = np.arange(4096)
    lengths = np.random.default_rng(0).integers(5, 100, len(rows))
    padded = sum(
        len(batch) * lengths[batch].max()
        for batch in training_batches(rows, lengths, 32, seed=0, epoch=0)
    )
    assert padded < 1.05 * lengths.sum()


def test_evaluation_batches_hold_every_row_within_the_budget() -> None:
    rows = np.arange(50, 500)
    lengths = np.random.default_rng(0).integers(5, 300, len(rows))
    batches = list(evaluation_batches(rows, lengths, 256))
    assert sorted(np.concatenate(batches)) == list(rows)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch - 50].max() <= 256


@pytest.mark.parametrize(
    ("total", "start", "count", "expected"),
    [(100, 0, 4, [25, 50, 75, 100]), (3, 0, 10, [1, 2, 3]), (12, 10, 2, [11, 12])],
)
def test_evaluations_are_spread_evenly_and_end_with_the_last_step(
    total: int, start: int, count: int, expected: list[int]
) -> None:
    assert evaluation_steps(total, start, count) == expected
