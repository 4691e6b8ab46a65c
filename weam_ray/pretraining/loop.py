"""The one training loop: from scratch, continued, on one worker or several.

A run is a pure function of its inputs and its seed: order and masks come from `batches.py`, dropout
is seeded anew at every step from (seed, step, worker), so a resumed run ends where an undisturbed
one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from weam_ray.artifacts import Resources
from weam_ray.errors import WeamError
from weam_ray.pretraining.checkpoints import Checkpoints
from weam_ray.pretraining.config import TrainingConfig
from weam_ray.pretraining.feed import Feed, Step
from weam_ray.pretraining.masking import DROPOUT, seed_word
from weam_ray.progress import Progress, Report, silent

_STEPS_AHEAD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedContext:
    """One worker of several; `torch.distributed` is initialised by whoever made it."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this worker writes and reports."""
        return self.rank == 0


@dataclass(slots=True)
class _Window:
    """What has been measured since the last point of the curve; sums stay on the device."""

    device: torch.device
    sums: Tensor = field(init=False)
    replay: Tensor = field(init=False)
    steps: int = 0
    replays: int = 0
    tokens: int = 0
    masked: int = 0
    aligned: int = 0
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(3, device=self.device)
        self.replay = torch.zeros(3, device=self.device)

    def count(self, data: Step) -> None:
        """Adds a step's numbers, which are those of the whole batch on every worker."""
        self.tokens += data.parts[0].all_tokens
        if data.replay:
            self.replays += 1
            return
        self.steps += 1
        self.masked += data.parts[0].all_masked
        self.aligned += data.parts[0].all_aligned

    def values(
        self, names: Sequence[str], links: bool, distributed: DistributedContext | None
    ) -> dict[str, float]:
        sums = torch.stack([self.sums, self.replay])
        if distributed is not None:
            torch.distributed.all_reduce(sums)
        own, replay = sums.tolist()
        seconds = time.perf_counter() - self.began
        values = {
            "tokens_per_second": self.tokens / seconds,
            "wait_share": self.waited / seconds,
        }
        if self.steps:
            values |= {name: value / self.steps for name, value in zip(names, own, strict=False)}
        if self.replays:
            values["loss_replay"] = replay[0] / self.replays
        if links and self.masked:
            values["aligned_share"] = self.aligned / self.masked
        return values


def fit(
    module: nn.Module,
    feed: Feed,
    steps: int,
    config: TrainingConfig,
    names: Sequence[str],
    *,
    out: Path,
    stage: str,
    report: Report = silent,
    resources: Resources | None = None,
    distributed: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Trains `module` for `steps` steps and writes `curve.parquet` to `out`.

    Args:
        module: an objective of `objectives.py`, on the CPU.
        feed: its batches.
        steps: optimiser steps in all.
        config: optimisation settings.
        names: of the three values the objective measures; those of L_cp are left out where the
            names are shorter.
        out: where the curve goes; only the leading worker writes.
        stage: what reports are headed with.
        report: told every `log_every` steps.
        resources: threads and device.
        distributed: this worker's place among several.
        checkpoints: where to save and resume; None does neither.

    Returns:
        steps, tokens, seconds, tokens_per_second, wait_share, aligned_share, final losses.

    Raises:
        WeamError: the loss is no longer a number.
    """
    resources = resources or Resources()
    run = _Run(module, feed, steps, config, names, resources, distributed)
    with _threads(resources.threads), torch.random.fork_rng(_cuda_devices(run.device)):
        if checkpoints is not None:
            run.resume(checkpoints)
        run.train(stage, report, checkpoints)
    leads = distributed is None or distributed.leads
    if leads:
        run.write_curve(out)
    return run.facts()


class _Run:
    """The state of a run: what a checkpoint holds and a resumed run goes on from."""

    def __init__(
        self,
        module: nn.Module,
        feed: Feed,
        steps: int,
        config: TrainingConfig,
        names: Sequence[str],
        resources: Resources,
        distributed: DistributedContext | None,
    ) -> None:
        self.device = torch.device(resources.device)
        self._feed, self._steps, self._config = feed, steps, config
        self._names, self._distributed = names, distributed
        self._rank = distributed.rank if distributed else 0
        self._world = distributed.world if distributed else 1
        self._module = module.to(self.device).train()
        self._wrapped: nn.Module = self._module
        if distributed is not None:
            self._wrapped = nn.parallel.DistributedDataParallel(self._module)
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._optimiser = _adamw(self._parameters, config)
        self._done = 0
        self._tokens = self._masked = self._aligned = 0
        self._seconds = self._waited = 0.0
        self._curve: dict[str, list[Any]] = {"step": [], "metric": [], "value": []}

    def train(self, stage: str, report: Report, checkpoints: Checkpoints | None) -> None:
        window = _Window(self.device)
        ahead = 0 if self.device.type == "cpu" else _STEPS_AHEAD
        steps = self._feed.steps(self._done, self._steps, ahead)
        while self._done < self._steps:
            asked = time.perf_counter()
            data = next(steps)
            window.waited += time.perf_counter() - asked
            self._step(data, window)
            self._done += 1
            if self._done % self._config.log_every == 0 or self._done == self._steps:
                self._log(window, stage, report)
                window = _Window(self.device)
            due = checkpoints is not None and self._done % checkpoints.every == 0
            if due and self._done < self._steps:
                assert checkpoints is not None
                if self._rank == 0:
                    checkpoints.save(self._done, self._state())
                window.began = time.perf_counter()

    def _step(self, data: Step, window: _Window) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._config, self._done, self._steps)
        self._seed_dropout()
        total = window.replay if data.replay else window.sums
        for number, part in enumerate(data.parts):
            last = number == len(data.parts) - 1
            with self._sync(last), self._autocast():
                # DDP averages over workers; the parts of a batch are to be summed.
                loss, values = self._wrapped(part.to(self.device), float(self._world), data.replay)
            loss.backward()
            total += values
        if self._config.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        window.count(data)

    def _seed_dropout(self) -> None:
        # Not torch.manual_seed: without a GPU it keeps a stack trace for every call.
        seed = seed_word(self._config.seed, DROPOUT, self._done, self._rank)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def _sync(self, last: bool) -> Any:
        wrapped = self._wrapped
        if last or not isinstance(wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return wrapped.no_sync()

    def _autocast(self) -> Any:
        if self._config.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _log(self, window: _Window, stage: str, report: Report) -> None:
        links = self._feed.batches.has_links
        values = window.values(self._names, links, self._distributed)
        self._tokens += window.tokens
        self._masked += window.masked
        self._aligned += window.aligned
        self._seconds += time.perf_counter() - window.began
        self._waited += window.waited
        values["learning_rate"] = learning_rate(self._config, self._done - 1, self._steps)
        for name, value in values.items():
            self._curve["step"].append(self._done)
            self._curve["metric"].append(name)
            self._curve["value"].append(value)
        if self._rank == 0:
            report(Progress(stage=stage, done=self._done, total=self._steps, metrics=values))
        if not math.isfinite(values.get("loss", values.get("loss_replay", 0.0))):
            raise WeamError(
                f"the loss is {values.get('loss')} at step {self._done}",
                place=stage,
                cure="Lower learning_rate, or train in fp32.",
            )

    def _state(self) -> dict[str, Any]:
        return {
            "model": self._module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "done": self._done,
            "counts": (self._tokens, self._masked, self._aligned, self._seconds, self._waited),
            "curve": self._curve,
        }

    def resume(self, checkpoints: Checkpoints) -> None:
        """Goes on from the last checkpoint, if there is one."""
        state = checkpoints.latest(self.device)
        if state is None:
            return
        self._module.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._done, self._curve = state["done"], state["curve"]
        self._tokens, self._masked, self._aligned, self._seconds, self._waited = state["counts"]

    def write_curve(self, out: Path) -> None:
        schema = pa.schema([("step", pa.int64()), ("metric", pa.string()), ("value", pa.float64())])
        pq.write_table(pa.table(self._curve, schema=schema), out / "curve.parquet")

    def facts(self) -> dict[str, Any]:
        last: dict[str, float] = {}
        for name, value in zip(self._curve["metric"], self._curve["value"], strict=True):
            if name.startswith("loss"):
                last[f"final_{name}"] = value
        seconds = max(self._seconds, 1e-9)
        return {
            "steps": self._steps,
            "tokens": self._tokens,
            "seconds": round(self._seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1),
            "wait_share": round(self._waited / seconds, 4),
            **({"aligned_share": self._aligned / self._masked} if self._aligned else {}),
            **last,
        }


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of `steps`: linear warm-up, then linear decay or flat."""
    warm = config.warmup_share * steps
    if step < warm:
        return config.learning_rate * (step + 1) / (math.floor(warm) + 1)
    if config.decay == "constant":
        return config.learning_rate
    return config.learning_rate * (steps - step) / max(steps - warm, 1.0)


def _adamw(parameters: Sequence[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """Fused AdamW; biases and normalisation weights aren't decayed."""
    decayed = [p for p in parameters if p.dim() > 1]
    spared = [p for p in parameters if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def _cuda_devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
