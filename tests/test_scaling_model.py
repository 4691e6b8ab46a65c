"""The scaling model: sums that can be done by hand, and what must hold of any figures."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

# By its path: the folder of benchmarks has modules that are named as the standard library's.
_PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "scaling_model.py"
_spec = importlib.util.spec_from_file_location("scaling_model", _PATH)
assert _spec is not None and _spec.loader is not None
model = importlib.util.module_from_spec(_spec)
sys.modules["scaling_model"] = model  # where dataclasses look for their annotations
_spec.loader.exec_module(model)

MEASURED = model.Measured(
    clean_seconds=50e-6,
    align_seconds=100e-6,
    raw_bytes=200.0,
    corpus_bytes=150.0,
    links_bytes=20.0,
    corpus_memory=500.0,
    align_memory=1000.0,
    vocabulary=30.0,
    words=50.0,
    tracking_seconds=0.5,
)
ASSUMED = model.Assumed()


def test_the_longest_job_goes_first_onto_the_slot_that_is_free() -> None:
    assert model.schedule([3.0, 2.0, 2.0, 1.0], 2) == 4.0
    assert model.schedule([5.0, 1.0, 1.0], 8) == 5.0
    assert model.schedule([1.0] * 6, 1) == 6.0
    assert model.schedule([], 4) == 0.0


def test_a_gpus_time_is_arithmetic_over_what_it_reaches() -> None:
    study = replace(model.Study(pairs=1000), layer_weights=1e6, embedding_weights=1e7)
    exact = replace(ASSUMED, peak_flops=1e12, utilisation=0.5)
    # 6 × (1,000 tokens × 1e6 + 10 predicted × 1e7) = 6.6e9 FLOPs, at 5e11 a second.
    assert model.training_seconds(study, 1000, 10, exact, 1) == pytest.approx(6.6e9 / 5e11)


def test_gpus_that_share_a_cell_pay_for_their_gradients() -> None:
    study = model.Study(pairs=1000)
    alone = model.training_seconds(study, 1e9, 0, ASSUMED, 1)
    four = model.training_seconds(study, 1e9, 0, ASSUMED, 4)
    free = model.training_seconds(study, 1e9, 0, replace(ASSUMED, network_bandwidth=1e18), 4)
    assert free == pytest.approx(alone / 4)
    assert four > free


def test_sizes_go_up_to_all_pairs_and_every_size_has_its_cells() -> None:
    assert model.Study(pairs=30_000).sizes == [1_000, 10_000, 30_000]
    assert model.Study(pairs=1_000).sizes == [1_000]
    found = model.simulate(model.Study(pairs=30_000), 1, MEASURED, ASSUMED)
    assert found.cells == 3 * 3 * 3


def test_more_gpus_never_take_longer_and_more_pairs_never_less() -> None:
    hours = [
        [
            model.simulate(model.Study(pairs=pairs), gpus, MEASURED, ASSUMED).hours
            for gpus in (1, 4, 16, 256)
        ]
        for pairs in (10**6, 10**7, 10**9)
    ]
    assert all(row == sorted(row, reverse=True) for row in hours)
    assert all(column == sorted(column) for column in map(list, zip(*hours, strict=True)))


def test_no_schedule_beats_what_its_resources_need() -> None:
    for gpus in (1, 7, 256):
        found = model.simulate(model.Study(pairs=10**8), gpus, MEASURED, ASSUMED)
        beside = ("GPUs", "the largest cell", "storage", "driver")
        assert found.seconds["cells"] >= max(found.bounds[name] for name in beside) * (1 - 1e-9)


def test_the_bottleneck_is_the_gpus_until_the_largest_cell_is() -> None:
    few = model.simulate(model.Study(pairs=10**8), 1, MEASURED, ASSUMED)
    many = model.simulate(model.Study(pairs=10**8), 256, MEASURED, ASSUMED)
    assert few.bottlenecks[0] == "GPUs" and many.bottlenecks[0] == "the largest cell"


def test_what_does_not_fit_into_a_machines_memory_is_said() -> None:
    assert model.simulate(model.Study(pairs=10**6), 1, MEASURED, ASSUMED).refused == ()
    (aligning,) = model.simulate(model.Study(pairs=5 * 10**7), 1, MEASURED, ASSUMED).refused
    assert aligning.startswith("the head's memory (aligning): 47 of 32 GiB")


def test_a_cell_is_at_least_its_fine_tuning() -> None:
    study = model.Study(pairs=10**6)
    least = model.training_seconds(study, study.finetune_tokens, 0.0, ASSUMED, 1)
    assert model.cell_seconds(study, 1_000, MEASURED, ASSUMED) > least


def test_the_document_names_every_assumption() -> None:
    said = {"command": "python x", "pairs": 1, "machine": "m", "date": "d"}
    text = model.tables(MEASURED, ASSUMED, said)
    for name in ("utilisation", "peak_flops", "gpu_price", "network_bandwidth"):
        assert f"`{name}`" in text


def test_the_check_predicts_the_second_host_from_the_first() -> None:
    one = {"seconds": 60.0, "shared": {"base": 10.0}, "cells": [10.0, 10.0, 10.0, 10.0]}
    two = {"seconds": 40.0}
    # 10 s of shared work, 4 × 10.2 s of cells and 9.2 s around them; two hosts halve the cells.
    text = model.check({"hosts: 1": one, "hosts: 2": two})
    assert "| start, end and all else | 9 |" in text
    assert "| two hosts, predicted | 40 |" in text and "off by -1%" in text
