"""Evaluation of a fine-tuned cell with the help of other workers: Ray tasks that answer batches.

The cell's own process goes on answering; what helpers have not brought back by then it answers
itself. So a cluster whose CPUs are all taken is no slower than without helpers, nothing waits for a
task that can't start, and a helper that dies costs its batches' time alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import torch
from transformers import PreTrainedModel

from weam_ray.artifacts import Artifact, Maker, Work
from weam_ray.transfer.batches import Rows
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.evaluation import LocalEvaluator, in_order
from weam_ray.transfer.machine import machine
from weam_ray.transfer.run import Spread
from weam_ray.transfer.steps import make_reader, make_transfer, task_of, tokenised
from weam_ray.transfer.task import Outputs

_PARTS_EACH = 4
"""Parts a helper, so that a slow one holds up little at the end."""

_WORTH_IT = 50_000
"""Subwords below which sending the weights takes longer than answering here."""

_LEAST_WAIT = 1.0
"""Seconds that helpers are given at the end, however quick the parts were here."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What a helper answers by; an artifact's path is one on the machine that asks for it."""

    addresses: tuple[str, str]
    """Of the two, which tell sources apart."""
    encoder: Artifact = field(compare=False)
    tokenised: Artifact = field(compare=False)
    config: FineTuningConfig
    threads: int
    device: str


def evaluation_makers(helpers: int, gpus: float = 0.0) -> Mapping[str, Maker]:
    """Makers of fine-tuned cells whose evaluation so many helpers may take part in.

    Args:
        gpus: of each helper; above 0 it computes on one.
    """

    def spread(work: Work) -> Spread:
        encoder, items = work.upstream["encoder"], tokenised(work.upstream)
        source = _Source(
            addresses=(encoder.address, items.address),
            encoder=encoder,
            tokenised=items,
            config=_config(work),
            threads=work.resources.threads,
            device="cuda" if gpus else "cpu",
        )
        return lambda own: Helped(own, source, helpers, gpus)

    def transfer(work: Work) -> None:
        make_transfer(work, spread(work))

    def reader(work: Work) -> None:
        make_reader(work, spread(work))

    return {"transfer": transfer, "reader": reader}


def _config(work: Work) -> FineTuningConfig:
    assert isinstance(work.step.config, FineTuningConfig)
    return work.step.config


class Helped:
    """An evaluator that shares its batches with Ray tasks.

    Args:
        own: answers in this process.
        helpers: tasks at once.
    """

    def __init__(
        self,
        own: LocalEvaluator,
        source: _Source,
        helpers: int,
        gpus: float = 0.0,
    ) -> None:
        self._own, self._source, self._helpers = own, source, helpers
        # Without a strategy of its own the task would be placed in the cell's own group of
        # resources, which the cell fills.
        self._task: Any = ray.remote(
            num_cpus=source.threads, num_gpus=gpus, max_retries=0, scheduling_strategy="DEFAULT"
        )(_answer)

    def __call__(self, model: PreTrainedModel, rows: Rows) -> Outputs:
        """The outputs of rows: (rows, K)."""
        batches = self._own.batches(rows)
        if int(self._own.task.examples.lengths[rows].sum()) < _WORTH_IT:
            return in_order(rows, batches, self._own.answer(model, batches))
        parts = self._own.parts(batches, _PARTS_EACH * (self._helpers + 1))
        state = ray.put({name: value.cpu() for name, value in model.state_dict().items()})
        found = _Shared(self._own, model, parts, self._send(state)).all(self._helpers)
        return in_order(rows, batches, np.concatenate(found))

    def _send(self, state: Any) -> Callable[[list[Rows]], Any]:
        return lambda part: self._task.remote(self._source, state, state.hex(), part)


class _Shared:
    """Parts on their way: some are answered here, some by helpers."""

    def __init__(
        self,
        own: LocalEvaluator,
        model: PreTrainedModel,
        parts: list[list[Rows]],
        send: Callable[[list[Rows]], Any],
    ) -> None:
        self._own, self._model, self._parts, self._send = own, model, parts, send
        self._waiting = deque(range(len(parts)))
        self._sent: dict[Any, int] = {}
        self._found: dict[int, Outputs] = {}
        self._longest = 0.0

    def all(self, helpers: int) -> list[Outputs]:
        """The outputs of all parts, in their order."""
        while self._waiting:
            while len(self._sent) < helpers and len(self._waiting) > 1:
                # From the end: what is longest, and comes first, is begun here.
                part = self._waiting.pop()
                self._sent[self._send(self._parts[part])] = part
            self._answer_here(self._waiting.popleft())
            self._collect(seconds=0.0)
        # Whoever has not come back in the time of two parts never started, or is far slower.
        self._collect(seconds=max(_LEAST_WAIT, 2 * self._longest), every=True)
        for task, part in self._sent.items():
            ray.cancel(task)
            self._waiting.append(part)
        while self._waiting:
            self._answer_here(self._waiting.popleft())
        return [self._found[part] for part in range(len(self._parts))]

    def _answer_here(self, part: int) -> None:
        started = time.monotonic()
        self._found[part] = self._own.answer(self._model, self._parts[part])
        self._longest = max(self._longest, time.monotonic() - started)

    def _collect(self, *, seconds: float, every: bool = False) -> None:
        if not self._sent:
            return
        count = len(self._sent) if every else 1
        done, _ = ray.wait(list(self._sent), num_returns=count, timeout=seconds)
        for task in done:
            part = self._sent.pop(task)
            try:
                self._found[part] = ray.get(task)
            except ray.exceptions.RayError as error:
                _log.warning("a helper of evaluation failed: %s", str(error).splitlines()[0])
                self._waiting.appendleft(part)


def _answer(
    source: _Source, state: Mapping[str, torch.Tensor], version: str, part: list[Rows]
) -> Outputs:
    """Run by a helper: the outputs of some batches, one after the other."""
    from weam_ray.artifacts import Resources

    with machine(Resources(threads=source.threads, device=source.device)):
        evaluator, model = _opened(source)
        _load(model, state, version)
        return evaluator.answer(model, part)


@lru_cache(maxsize=1)
def _opened(source: _Source) -> tuple[LocalEvaluator, PreTrainedModel]:
    device = torch.device(source.device)
    task = task_of(source.config, source.tokenised.path)
    model = task.load(source.encoder.path, source.config.seed, device)
    return LocalEvaluator(task, source.config, device), model


_loaded: dict[int, str] = {}


def _load(model: PreTrainedModel, state: Mapping[str, torch.Tensor], version: str) -> None:
    # A helper answers several parts by the same weights.
    if _loaded.get(id(model)) != version:
        model.load_state_dict(state)
        _loaded.clear()
        _loaded[id(model)] = version
