"""The one training loop: from scratch, continued, on one worker or several.

A run is a pure function of its inputs and its seed: order and masks come from `batches.py`, dropout
is seeded anew at every step from (seed, step, worker), so a resumed run ends where an undisturbed
one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from weam_ray import notice
from weam_ray.artifacts import Resources
from weam_ray.errors import WeamError
from weam_ray.pretraining.checkpoints import Checkpoints
from weam_ray.pretraining.config import TrainingConfig
from weam_ray.pretraining.distributed import DistributedContext
from weam_ray.pretraining.feed import Feed, Step
from weam_ray.pretraining.held_out import HeldOut, Patience
from weam_ray.pretraining.masking import DROPOUT, seed_word
from weam_ray.pretraining.optimiser import adamw, learning_rate
from weam_ray.pretraining.placement import place
from weam_ray.pretraining.precision import autocast, used
from weam_ray.pretraining.window import Window
from weam_ray.progress import Progress, Report, silent

_STEPS_AHEAD = 4


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
    held_out: HeldOut | None = None,
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
        held_out: pairs whose loss is measured and may end the run before `steps`.

    Returns:
        steps, tokens, seconds, tokens_per_second, wait_share, aligned_share, final losses (means of
        the last tenth of the steps); of a run with held-out pairs also whether they ended it
        (stopped_early), the step whose weights `module` then has (kept_step), their losses there,
        and the seconds that measuring took, which `seconds` doesn't hold.

    Raises:
        WeamError: the loss is no longer a number.
        Preempted: the machine is to be taken away; the state was saved.
    """
    resources = resources or Resources()
    run = _Run(module, feed, steps, config, names, resources, distributed, held_out)
    with _threads(resources.threads), torch.random.fork_rng(_cuda_devices(run.device)):
        if checkpoints is not None:
            run.resume(checkpoints)
        # One of several workers can't save alone: the others would wait for it.
        alone = checkpoints is not None and distributed is None
        with notice.heeded() if alone else nullcontext():
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
        held_out: HeldOut | None,
    ) -> None:
        self.device = torch.device(resources.device)
        self._feed, self._steps, self._config = feed, steps, config
        self._names, self._distributed = names, distributed
        self._rank = distributed.rank if distributed else 0
        self._world = distributed.world if distributed else 1
        self._placed = place(
            module, self.device, distributed=distributed is not None, sharding=config.sharding
        )
        self._parameters = [p for p in self._placed.module.parameters() if p.requires_grad]
        self._optimiser = adamw(self._parameters, config)
        self._done = 0
        self._window = Window(self.device)
        self._tokens = self._masked = self._aligned = 0
        self._seconds = self._waited = 0.0
        self._curve: dict[str, list[Any]] = {"step": [], "metric": [], "value": []}
        self._held_out = held_out
        self._patience = Patience(held_out.config) if held_out else None
        self._measuring = 0.0

    def train(self, stage: str, report: Report, checkpoints: Checkpoints | None) -> None:
        window, self._window = self._window, Window(self.device)
        saved = time.perf_counter()
        ahead = 0 if self.device.type == "cpu" else _STEPS_AHEAD
        if not self._steps:  # the base is what is kept, and its loss is asked for all the same
            self._measure(stage, report)
        with closing(self._feed.steps(self._done, self._steps, ahead)) as steps:
            while not self._ended:
                asked = time.perf_counter()
                data = next(steps)
                window.waited += time.perf_counter() - asked
                self._step(data, window)
                self._done += 1
                window.began += self._measure(stage, report)
                if self._done % self._config.log_every == 0 or self._ended:
                    self._log(window, stage, report)
                    window = Window(self.device)
                if checkpoints is None or self._ended:
                    continue
                noticed = notice.given() and self._world == 1
                if noticed or checkpoints.due(self._done, time.perf_counter() - saved):
                    window.began += self._save(window, checkpoints)
                    saved = time.perf_counter()
                if noticed:
                    raise notice.Preempted(f"{stage} was saved at step {self._done:,}")
        best = self._patience.weights if self._patience is not None else None
        self._placed.hand_back(best, leads=self._rank == 0)

    @property
    def _ended(self) -> bool:
        early = self._patience is not None and self._patience.at_end
        return early or self._done >= self._steps

    def _measure(self, stage: str, report: Report) -> float:
        """The held-out loss where it is due; the seconds that took."""
        if self._held_out is None or not self._held_out.due(self._done, self._steps):
            return 0.0
        assert self._patience is not None
        began = time.perf_counter()
        with autocast(self._config.precision, self.device):
            found = self._held_out.measure(
                self._placed.module, self.device, shared=self._distributed is not None
            )
        kept = self._held_out.config.keep == "best"
        if self._patience.lower(self._done, found[0]) and kept:
            self._patience.weights = self._placed.weights()
        names = (f"held_out_{name}" for name in self._names)
        self._point(dict(zip(names, found, strict=False)), stage, report)
        seconds = time.perf_counter() - began
        self._measuring += seconds
        return seconds

    def _save(self, window: Window, checkpoints: Checkpoints) -> float:
        """Returns the seconds that took."""
        # On several workers every one comes here at the same step: their sums are added. A GPU ends
        # its steps first, which is training still.
        sums = window.state(self._distributed)
        began = time.perf_counter()
        state = {**self._state(), "window": sums}
        if self._rank == 0:
            checkpoints.save(self._done, state)
        return time.perf_counter() - began

    def _step(self, data: Step, window: Window) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self._config, self._done, self._steps)
        self._seed_dropout()
        total = window.replay if data.replay else window.sums
        for number, part in enumerate(data.parts):
            last = number == len(data.parts) - 1
            with self._placed.sums(last):
                with autocast(self._config.precision, self.device):
                    # Gradients are averaged over workers; the parts of a batch are to be summed.
                    loss, values = self._placed.called(
                        part.to(self.device), float(self._world), data.replay
                    )
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

    def _log(self, window: Window, stage: str, report: Report) -> None:
        links = self._feed.batches.has_links
        values = window.values(self._names, links, self._distributed)
        self._tokens += window.tokens
        self._masked += window.masked
        self._aligned += window.aligned
        self._seconds += time.perf_counter() - window.began
        self._waited += window.waited
        values["learning_rate"] = learning_rate(self._config, self._done - 1, self._steps)
        self._point(values, stage, report)
        if not math.isfinite(values.get("loss", values.get("loss_replay", 0.0))):
            raise WeamError(
                f"the loss is {values.get('loss')} at step {self._done}",
                place=stage,
                cure="Lower learning_rate, or train in fp32.",
            )

    def _point(self, values: dict[str, float], stage: str, report: Report) -> None:
        """Adds to the curve, and tells of it."""
        for name, value in values.items():
            self._curve["step"].append(self._done)
            self._curve["metric"].append(name)
            self._curve["value"].append(value)
        if self._rank == 0:
            report(Progress(stage=stage, done=self._done, total=self._steps, metrics=values))

    def _state(self) -> dict[str, Any]:
        measured = {"patience": self._patience.state()} if self._patience else {}
        return {
            **measured,
            "measuring": self._measuring,
            **self._placed.state(self._optimiser),
            "done": self._done,
            "counts": (self._tokens, self._masked, self._aligned, self._seconds, self._waited),
            "curve": self._curve,
        }

    def resume(self, checkpoints: Checkpoints) -> None:
        """Goes on from the last checkpoint, if there is one."""
        state = checkpoints.latest()
        if state is None:
            return
        self._placed.restore(state, self._optimiser)
        self._done, self._curve = state["done"], state["curve"]
        self._tokens, self._masked, self._aligned, self._seconds, self._waited = state["counts"]
        self._window.restore(state["window"], leads=self._rank == 0)
        self._measuring = state.get("measuring", 0.0)
        if self._patience is not None:
            self._patience.restore(state["patience"])

    def write_curve(self, out: Path) -> None:
        schema = pa.schema([("step", pa.int64()), ("metric", pa.string()), ("value", pa.float64())])
        pq.write_table(pa.table(self._curve, schema=schema), out / "curve.parquet")

    def facts(self) -> dict[str, Any]:
        points: dict[str, list[tuple[int, float]]] = {}
        columns = (self._curve[name] for name in ("metric", "step", "value"))
        for name, step, value in zip(*columns, strict=True):
            points.setdefault(name, []).append((step, value))
        last = {
            f"final_{name}": _final(found) if name.startswith("loss") else found[-1][1]
            for name, found in points.items()
            if name.startswith(("loss", "held_out_loss"))
        }
        seconds = max(self._seconds, 1e-9)
        # word-aligned has links and masks nothing: it has no share of its masked tokens.
        links = self._feed.batches.has_links and self._masked
        return {
            "steps": self._done,
            "tokens": self._tokens,
            "seconds": round(self._seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1),
            "wait_share": round(self._waited / seconds, 4),
            "precision": used(self._config.precision, self.device),
            **({"aligned_share": self._aligned / self._masked} if links else {}),
            **last,
            **self._measured(),
        }

    def _measured(self) -> dict[str, Any]:
        if self._held_out is None or self._patience is None:
            return {}
        best = self._held_out.config.keep == "best" and math.isfinite(self._patience.loss)
        kept = self._patience.step if best else self._done
        points = zip(*(self._curve[name] for name in ("step", "metric", "value")), strict=True)
        return {
            "planned_steps": self._steps,
            "stopped_early": self._done < self._steps,
            "kept_step": kept,
            **{
                f"kept_{metric}": value
                for step, metric, value in points
                if step == kept and metric.startswith("held_out_loss")
            },
            "lowest_held_out_loss": self._patience.loss,
            "held_out_seconds": round(self._measuring, 3),
        }


def _final(points: Sequence[tuple[int, float]]) -> float:
    """The mean loss of the last tenth of the steps, whole windows of the curve.

    Not the last window's: that may be one step, and would hang on how often the curve is logged.
    """
    steps = np.array([0, *(step for step, _ in points)])
    values = np.array([value for _, value in points])
    late = steps[1:] > steps[-1] - max(1, steps[-1] // 10)
    return float(np.average(values[late], weights=np.diff(steps)[late]))


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
