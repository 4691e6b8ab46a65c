"""Answers of a model to rows: by batches that the rows alone decide, whoever computes them.

Batches are formed of all rows that are asked about, so a batch holds the same rows, and is padded
alike, whether one process answers all of them or several answer some each: the numbers are the same
bit by bit on like machines. With other batches (``evaluation_tokens``) padding and kernels differ,
and log-probabilities move by rounding, below 1e-4 in fp32 (``tests/transfer/test_slices.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from weam_ray.pretraining.precision import autocast
from weam_ray.transfer.batches import Collator, Rows, evaluation_batches
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.task import Outputs, Task

Evaluator = Callable[[PreTrainedModel, Rows], Outputs]
"""The outputs of some rows by the model as it stands, in the order of the rows: (rows, K)."""

_TOKENS = {"cpu": 2_048}
"""Padded subwords in a batch, by device, where no setting says how many."""


class LocalEvaluator:
    """Answers rows in this process, in batches of like length whatever their language."""

    def __init__(self, task: Task, config: FineTuningConfig, device: torch.device) -> None:
        self.task, self.config = task, config
        self._collator = Collator(task.examples, task.targets, device)
        self._lengths = task.examples.lengths
        self._tokens = config.evaluation_tokens or _TOKENS.get(device.type, 16_384)

    def __call__(self, model: PreTrainedModel, rows: Rows) -> Outputs:
        """The outputs of rows: (rows, K)."""
        batches = self.batches(rows)
        return in_order(rows, batches, self.answer(model, batches))

    def batches(self, rows: Rows) -> list[Rows]:
        """The batches in which rows are answered, longest first."""
        return list(evaluation_batches(rows, self._lengths[rows], self._tokens))

    @torch.inference_mode()
    def answer(self, model: PreTrainedModel, batches: Sequence[Rows]) -> Outputs:
        """The outputs of some batches, one after the other."""
        model.eval()
        found = []
        for batch in batches:
            with autocast(self.config.precision, model.device):
                answered = model(**self._collator.inputs(batch))
            found.append(self.task.outputs(answered, batch))
        return np.concatenate(found) if found else np.empty((0, self.task.width), np.float32)

    def parts(self, batches: Sequence[Rows], count: int) -> list[list[Rows]]:
        """Batches in at most ``count`` runs of about equal padded subwords."""
        sizes = [len(batch) * int(self._lengths[batch].max()) for batch in batches]
        ends = np.cumsum(sizes)
        marks = np.linspace(0, ends[-1] if len(ends) else 0, count + 1)[1:-1]
        cuts = [0, *np.searchsorted(ends, marks, side="right").tolist(), len(batches)]
        parts = [list(batches[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
        return [part for part in parts if part]


def in_order(rows: Rows, batches: Sequence[Rows], outputs: Outputs) -> Outputs:
    """Outputs of batches in the order of the rows that they were formed of."""
    if not len(rows):
        return outputs
    answered = np.concatenate(batches)
    place = np.empty(int(rows.max()) + 1, np.int64)
    place[answered] = np.arange(len(answered))
    return outputs[place[rows]]
