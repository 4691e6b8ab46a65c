"""Evaluation by slices: whoever answers which part, each row gets the numbers it always gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from weam_ray.transfer import TransferConfig, tokenise_items
from weam_ray.transfer.evaluation import LocalEvaluator, in_order
from weam_ray.transfer.fine_tuning import PairTask

CPU = torch.device("cpu")
Model = tuple[LocalEvaluator, torch.nn.Module]


def evaluator(encoder: Path, items: pa.Table, tokens: int = 512) -> Model:
    task = PairTask(tokenise_items(items, encoder, 128), "xnli")
    config = TransferConfig(evaluation_tokens=tokens)
    return LocalEvaluator(task, config, CPU), task.load(encoder, 0, CPU)


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_parts_answered_apart_are_the_whole_bit_by_bit(
    encoder: Path, world: Callable[..., pa.Table], count: int
) -> None:
    own, model = evaluator(encoder, world(train=0, dev=40, test=20))
    rows = np.arange(len(own.task.examples))
    batches = own.batches(rows)
    parts = own.parts(batches, count)
    assert len(parts) <= count
    assert [batch.tolist() for part in parts for batch in part] == [b.tolist() for b in batches]
    apart = np.concatenate([own.answer(model, part) for part in reversed(parts)][::-1])
    assert np.array_equal(in_order(rows, batches, apart), own(model, rows))


def test_outputs_come_in_the_order_of_the_rows_asked_for(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    own, model = evaluator(encoder, world(train=0, dev=20, test=0))
    rows = np.arange(len(own.task.examples))
    asked = np.random.default_rng(0).permutation(rows)[:25]
    np.testing.assert_allclose(own(model, asked), own(model, rows)[asked], atol=1e-4)


def test_other_batches_and_their_padding_move_a_row_by_less_than_the_stated_tolerance(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    items = world(train=0, dev=40, test=20)
    found = []
    for tokens in (256, 2048, 65536):
        own, model = evaluator(encoder, items, tokens)
        found.append(own(model, np.arange(len(own.task.examples))))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4)


def test_parts_hold_about_as_many_subwords(encoder: Path, world: Callable[..., pa.Table]) -> None:
    own, _ = evaluator(encoder, world(train=0, dev=200, test=100), tokens=256)
    lengths = own.task.examples.lengths
    batches = own.batches(np.arange(len(lengths)))
    sizes = [
        sum(len(batch) * int(lengths[batch].max()) for batch in part)
        for part in own.parts(batches, 4)
    ]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 2 * 256
