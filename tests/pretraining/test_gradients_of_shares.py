"""What the optimiser is given: the whole batch's gradient, however the batch was shared out.

Neither clipping nor Adam sees a gradient that is too large by a constant, so losses don't show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from one_of_several import one_of
from small_corpus import make_corpus, pair_set
from test_pretraining_runs import CONFIG

from weam_ray.pretraining import PretrainingConfig, loop, pretrain

# Weights stay where they are, or the rounding of one step's sums would be in the next one's.
STILL = {"steps": 4, "learning_rate": 1e-12, "clip": None}
RUNS: dict[str, dict[str, Any]] = {
    "weam": {"objective": "weam"},
    "weam-aligned-only": {"objective": "weam-aligned-only"},
    "tlm": {"objective": "tlm"},
    "mlm": {"objective": "mlm"},
    "word-aligned": {"objective": "word-aligned"},
    "weam with replay": {"objective": "weam", "replay_share": 0.5},
    "word-aligned with replay": {"objective": "word-aligned", "replay_share": 0.5},
}

Gradients = list[list[torch.Tensor | None]]


@contextmanager
def gradients() -> Iterator[Gradients]:
    """Those of every step, as the optimiser finds them."""
    seen: Gradients = []
    make = loop.adamw

    def watched(parameters: Any, config: PretrainingConfig) -> torch.optim.AdamW:
        optimiser = make(parameters, config)
        optimiser.register_step_pre_hook(
            lambda *_: seen.append([None if p.grad is None else p.grad.clone() for p in parameters])
        )
        return optimiser

    loop.adamw = watched  # type: ignore[assignment]
    try:
        yield seen
    finally:
        loop.adamw = make


def train(
    name: str, base_dir: Path, texts: dict[str, Path], out: Path, **changes: Any
) -> Gradients:
    out.mkdir(parents=True, exist_ok=True)
    context = changes.pop("distributed", None)
    config = CONFIG.model_copy(update={**STILL, **RUNS[name], **changes})
    with gradients() as seen:
        pretrain(base_dir, [pair_set(make_corpus(200))], config, out,
                 replay_texts=texts, distributed=context)  # fmt: skip
    return seen


def assert_alike(found: Gradients, wanted: Gradients) -> None:
    assert len(found) == len(wanted) == STILL["steps"]
    for step, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert [g is None for g in one] == [g is None for g in other], step
        for a, b in zip(one, other, strict=True):
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_micro_batches_add_up_to_the_batch(
    name: str, base_dir: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    whole = train(name, base_dir, texts, tmp_path)
    assert_alike(train(name, base_dir, texts, tmp_path, micro_batch=5), whole)


def test_clipping_bounds_the_gradient_and_keeps_its_direction(
    base_dir: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    whole = train("weam", base_dir, texts, tmp_path)
    clipped = train("weam", base_dir, texts, tmp_path, clip=1e-3)
    for one, other in zip(clipped, whole, strict=True):
        short, long = (
            torch.cat([g.ravel() for g in step if g is not None]) for step in (one, other)
        )
        assert float(long.norm()) > 1e-2 > 2e-3 > float(short.norm()) > 0.99e-3
        torch.testing.assert_close(short / short.norm(), long / long.norm(), atol=1e-5, rtol=1e-3)


def _worker(
    rank: int, world: int, meet: str, base_dir: Path, texts: dict[str, Path], out: Path
) -> None:
    with one_of(rank, world, meet) as context:
        for name in RUNS:
            seen = train(name, base_dir, texts, out / name, micro_batch=5, distributed=context)
            torch.save(seen, out / f"{name}-{rank}.pt")


@pytest.mark.slow
def test_two_workers_hand_the_optimiser_the_gradient_of_one(
    base_dir: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    """With replay too, where word-aligned reads the head at some steps and not at others."""
    mp.spawn(_worker, (2, str(tmp_path / "meet"), base_dir, texts, tmp_path), nprocs=2)
    for name in RUNS:
        whole = train(name, base_dir, texts, tmp_path / "one")
        for rank in range(2):
            assert_alike(torch.load(tmp_path / f"{name}-{rank}.pt"), whole)
