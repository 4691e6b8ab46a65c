"""Fine-tune an encoder on NLI items and predict every item of every language, in one model load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from weam_ray.artifacts import Resources
from weam_ray.progress import Report, silent
from weam_ray.transfer.batches import Rows, derived_seed
from weam_ray.transfer.classifier import load_classifier
from weam_ray.transfer.config import TransferConfig
from weam_ray.transfer.evaluation import LocalEvaluator
from weam_ray.transfer.guards import flags
from weam_ray.transfer.machine import machine
from weam_ray.transfer.phases import plan_run
from weam_ray.transfer.reading import LABELS
from weam_ray.transfer.run import Run, Spread
from weam_ray.transfer.scores import predictions_table, scores_from_predictions
from weam_ray.transfer.task import Outputs
from weam_ray.transfer.tokenised import TokenisedItems, tokenise_items


def fine_tune(
    encoder_dir: Path,
    items: TokenisedItems | pa.Table,
    config: TransferConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
    spread: Spread | None = None,
) -> dict[str, Any]:
    """Fine-tune once, evaluate all languages, and write the three files of a ``transfer`` artifact.

    Args:
        encoder_dir: a ``save_pretrained`` folder with its tokenizer.
        items: tokenised items, or rows of items.parquet, which are then tokenised here.
        out: folder for ``predictions.parquet``, ``scores.parquet``, ``curve.parquet``.
        spread: lets other processes take part in evaluation.

    Returns:
        Facts: steps, epochs, tokens, seconds, truncated items, chosen steps and guard flags.

    Raises:
        ConfigError, DataError: what :func:`plan_run`, :func:`load_model` and :func:`check_length`
            refuse, or a loss that is no longer finite.
    """
    if isinstance(items, pa.Table):
        items = tokenise_items(items, encoder_dir, config.max_length)
    resources = resources or Resources()
    plan = plan_run(items, config)
    task = PairTask(items, config.task)
    device = torch.device(resources.device)
    with machine(resources, derived_seed("fine-tuning", config.seed)):
        done = Run(encoder_dir, task, config, plan, report, device, spread).carry_out()
    done.write(out, scores_from_predictions(done.predictions))
    return {
        "steps": plan.steps,
        "epochs": done.epochs,
        "training_items": done.training_rows,
        "tokens": done.tokens,
        "truncated_items": items.truncated,
        "training_seconds": done.training_seconds,
        "prediction_seconds": done.prediction_seconds,
        "chosen_steps": done.chosen_steps,
        "flags": [flag.as_fact() for flag in flags(done.predictions)],
    }


class PairTask:
    """Sentence pairs in three classes; an item's outputs are its log-probabilities."""

    place = "transfer"
    metric = "accuracy"
    width = len(LABELS)

    def __init__(self, items: TokenisedItems, name: str) -> None:
        self.examples = items
        self.targets = items.labels
        self._name = name

    def load(self, encoder_dir: Path, seed: int, device: torch.device) -> PreTrainedModel:
        """The encoder with a three-way head."""
        return load_classifier(encoder_dir, seed, device)

    def loss(
        self, found: Any, targets: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Cross-entropy."""
        return F.cross_entropy(found.logits.float(), targets)

    def outputs(self, found: Any, rows: Rows) -> Outputs:
        """Log-probabilities: (B, 3)."""
        return np.asarray(F.log_softmax(found.logits.float(), dim=-1).cpu().numpy(), np.float32)

    def score(self, rows: Rows, outputs: Outputs) -> float:
        """Accuracy."""
        return float((outputs.argmax(axis=1) == self.targets[rows]).mean())

    def predictions(self, selection: str, rows: Rows, outputs: Outputs) -> pa.Table:
        """Rows of predictions.parquet."""
        items = self.examples.rows.take(pa.array(rows))
        return predictions_table(self._name, selection, items, outputs)


def predict(
    model: PreTrainedModel, items: TokenisedItems, tokens: int | None = None
) -> NDArray[np.float32]:
    """Log-probabilities of all N items by a classifier as it stands: (N, 3)."""
    config = TransferConfig(evaluation_tokens=tokens)
    task = PairTask(items, config.task)
    return LocalEvaluator(task, config, model.device)(model, np.arange(len(items)))
