"""Batches as Ray Data: each Train worker's share of every step, drawn in the background.

A dataset a worker, whose rows are the worker's steps in order. An actor draws them ahead of the
trainer from columns in the object store, so that the trainer's process does nothing but train, and
what a batch holds follows from its number: the same on one worker, two or four, and after a resume.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
from ray.data import ExecutionOptions

from weam_ray.pretraining import Checkpoints, DistributedContext, PretrainingConfig
from weam_ray.pretraining.feed import Step

_STEPS_A_BLOCK = 16
_BLOCKS_AHEAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Makes a worker's dataset whenever workers start: from the last checkpoint on."""

    prepared: ray.ObjectRef
    config: PretrainingConfig
    steps: int
    rank: int
    world: int
    checkpoints: Checkpoints

    def __call__(self) -> ray.data.Dataset:
        begins = range(self.checkpoints.latest_step, self.steps, _STEPS_A_BLOCK)
        blocks = [
            {"begin": begin, "end": min(begin + _STEPS_A_BLOCK, self.steps)} for begin in begins
        ]
        # Nobody waits for a CPU that the trainers hold: drawing takes little of one.
        return ray.data.from_items(
            blocks or [{"begin": 0, "end": 0}], override_num_blocks=max(len(blocks), 1)
        ).map_batches(
            _Drawn,
            batch_size=1,
            fn_constructor_args=(
                self.prepared,
                self.config,
                DistributedContext(rank=self.rank, world=self.world),
            ),
            concurrency=1,
            num_cpus=0,
        )


class _Drawn:
    """The actor: blocks of step numbers to blocks of steps."""

    def __init__(
        self, prepared: ray.ObjectRef, config: PretrainingConfig, worker: DistributedContext
    ) -> None:
        self._feed = ray.get(prepared).feed(config, worker)

    def __call__(self, block: Mapping[str, Any]) -> dict[str, Any]:
        numbers = range(int(block["begin"][0]), int(block["end"][0]))
        steps = np.empty(len(numbers), object)
        steps[:] = [pickle.dumps(self._feed.step(number)) for number in numbers]
        return {"number": np.array(numbers, np.int64), "step": steps}


def shards(
    prepared: ray.ObjectRef,
    config: PretrainingConfig,
    *,
    steps: int,
    world: int,
    checkpoints: Checkpoints,
) -> dict[str, Callable[[], ray.data.Dataset]]:
    """The datasets of `TorchTrainer`, by name: one a worker.

    Args:
        prepared: rows in the object store, a :class:`weam_ray.pretraining.Prepared`.
        config: the run's settings.
        steps: optimiser steps in all.
        world: workers.
        checkpoints: whose newest step the datasets begin at.
    """
    return {
        _name(rank): _Shard(
            prepared=prepared,
            config=config,
            steps=steps,
            rank=rank,
            world=world,
            checkpoints=checkpoints,
        )
        for rank in range(world)
    }


def data_config() -> ray.train.DataConfig:
    """Each worker reads its own dataset whole and in order."""
    return ray.train.DataConfig(
        datasets_to_split=[], execution_options=ExecutionOptions(preserve_order=True)
    )


def steps_of_shard(first: int, stop: int) -> Iterator[Step]:
    """A worker's steps `first` to `stop` − 1, as they come from its dataset."""
    rank = ray.train.get_context().get_world_rank()
    rows = ray.train.get_dataset_shard(_name(rank)).iter_batches(
        batch_size=None, batch_format="numpy", prefetch_batches=_BLOCKS_AHEAD
    )
    for block in rows:
        for number, step in zip(block["number"], block["step"], strict=True):
            if number < first:
                continue  # a checkpoint was finished while the dataset was made
            assert number == first, f"step {number} came where {first} was to come"
            yield pickle.loads(step)
            first += 1
            if first == stop:
                return


def _name(rank: int) -> str:
    return f"worker{rank}"
