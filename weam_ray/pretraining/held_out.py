"""Pairs a run never trains on: which they are, their loss, and when it ends the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from weam_ray.errors import DataError
from weam_ray.pretraining.batches import Batches
from weam_ray.pretraining.config import HeldOutConfig
from weam_ray.pretraining.examples import PairSet
from weam_ray.pretraining.masking import HELD_OUT, U64, draw, seed_word, uniform


def is_held_out(pair_id: U64, config: HeldOutConfig) -> npt.NDArray[np.bool_]:
    """Which pairs are held out, by their content alone: the same in every subset and worker."""
    return _tickets(pair_id, config) < config.share


def _tickets(pair_id: U64, config: HeldOutConfig) -> npt.NDArray[np.float64]:
    return uniform(draw(seed_word(config.seed), np.asarray(pair_id, np.uint64), HELD_OUT))


def split_pairs(pairs: pa.Table, config: HeldOutConfig) -> tuple[pa.Table, pa.Table]:
    """The pairs that are trained on and those that are measured, each in its order."""
    tickets = _tickets(pairs["pair_id"].to_numpy(), config)
    held = np.flatnonzero(tickets < config.share)
    lowest = np.argsort(tickets[held], kind="stable")[: config.at_most]
    return pairs.filter(pa.array(tickets >= config.share)), pairs.take(np.sort(held[lowest]))


def split_set(corpus: PairSet, config: HeldOutConfig) -> tuple[PairSet, PairSet]:
    """A set's two parts.

    Raises:
        DataError: one of them is empty.
    """
    trained, measured = split_pairs(corpus.pairs, config)
    if not trained.num_rows or not measured.num_rows:
        raise DataError(
            f"a share of {config.share} holds {measured.num_rows:,} of "
            f"{corpus.pairs.num_rows:,} pairs out and trains on {trained.num_rows:,}",
            place=corpus.name,
            cure="Set pretraining.held_out.share so that both have pairs, or held_out to null.",
        )
    return replace(corpus, pairs=trained), replace(corpus, pairs=measured)


def held_out_texts(corpora: Sequence[PairSet], config: HeldOutConfig) -> pa.Array:
    """Every text, of either side of any set, that is measured."""
    measured = [split_pairs(corpus.pairs, config)[1] for corpus in corpora]
    sides = [one[side].cast(pa.string()) for one in measured for side in ("source", "target")]
    return pa.chunked_array(
        [chunk for side in sides for chunk in side.chunks], pa.string()
    ).unique()


def without_repeats(corpora: Sequence[PairSet], config: HeldOutConfig) -> list[PairSet]:
    """The sets without the pairs to be trained on that hold a text which is measured.

    Sets of several languages share their English side, and MLM trains on a side by itself. What is
    taken out is counted. Before pairs are shuffled, so that all objectives read the same texts.
    """
    texts = held_out_texts(corpora, config)
    found = []
    for corpus in corpora:
        pairs = corpus.pairs
        held = pa.array(is_held_out(pairs["pair_id"].to_numpy(), config))
        seen = [pc.is_in(pairs[side].cast(pa.string()), texts) for side in ("source", "target")]
        kept = pairs.filter(pc.or_(held, pc.invert(pc.or_(*seen))))
        repeats = corpus.repeats + pairs.num_rows - kept.num_rows
        found.append(replace(corpus, pairs=kept, repeats=repeats))
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """What is measured, and the rule that ends the run."""

    batches: Batches
    config: HeldOutConfig

    def due(self, step: int, steps: int) -> bool:
        """Whether the loss is measured after so many of so many steps."""
        return step % self.config.every == 0 or step == steps

    def measure(self, module: nn.Module, device: torch.device, *, shared: bool) -> list[float]:
        """The three values of the objective over all held-out pairs as one batch, no dropout.

        Args:
            module: an objective; called without gradients.
            device: where it is.
            shared: whether other workers measure the other shares of every piece.
        """
        total = torch.zeros(3, device=device)
        with _evaluating(module), torch.no_grad():
            for part in self.batches.every_row():
                values: Tensor = module(part.to(device), 1.0)[1]
                total += values
        if shared:
            torch.distributed.all_reduce(total)
        found: list[float] = total.tolist()
        return found


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    module.eval()
    try:
        yield
    finally:
        module.train()


class Patience:
    """The lowest loss so far, the weights that had it, and how long ago that was.

    Attributes:
        loss: the lowest; infinite before the first.
        step: steps trained when it was measured.
        weights: the model's then, on the CPU; None where they needn't be kept.
        mark: what a loss has to be lower than, by `least_gain`, to count as a gain.
        passed: measurements since the last gain.
    """

    def __init__(self, config: HeldOutConfig) -> None:
        self._config = config
        self.loss, self.step, self.passed = math.inf, 0, 0
        self.mark = math.inf
        self.weights: dict[str, Tensor] | None = None

    def lower(self, step: int, loss: float) -> bool:
        """Takes a measurement in; whether it is the lowest so far. A NaN never is."""
        if self.mark - loss > self._config.least_gain or (self.mark == math.inf > loss):
            self.mark, self.passed = loss, 0
        else:
            self.passed += 1
        if not loss < self.loss:
            return False
        self.loss, self.step = loss, step
        return True

    @property
    def at_end(self) -> bool:
        """Whether the run is to end."""
        return self._config.patience is not None and self.passed >= self._config.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in ("loss", "step", "mark", "passed", "weights")}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state`."""
        for name, value in state.items():
            setattr(self, name, value)
