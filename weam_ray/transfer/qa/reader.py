"""Fine-tune an extractive reader on the training questions and answer all others, in one load."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoModelForQuestionAnswering

from weam_ray.artifacts import Resources
from weam_ray.errors import ConfigError, DataError
from weam_ray.progress import Progress, Report, silent
from weam_ray.transfer.batches import (
    Collator,
    Rows,
    derived_seed,
    evaluation_batches,
    training_batches,
)
from weam_ray.transfer.fine_tuning import CURVE_SCHEMA
from weam_ray.transfer.loading import check_length, load_model
from weam_ray.transfer.machine import machine
from weam_ray.transfer.optimisation import adamw, rate_share
from weam_ray.transfer.qa.config import QaConfig
from weam_ray.transfer.qa.scoring import qa_scores
from weam_ray.transfer.qa.windows import Windows, best_spans, make_windows
from weam_ray.transfer.scores import PREDICTIONS_SCHEMA

QA_PREDICTIONS_SCHEMA = pa.schema(
    [
        *PREDICTIONS_SCHEMA,
        ("gold_texts", pa.list_(pa.string())),
        ("predicted_text", pa.string()),
    ]
)
"""The layout of all tasks, and the texts. ``gold`` and ``predicted`` are null, and
``log_probabilities`` has one number, that of the answer's span within its window."""

_REPORTS = 50


def fine_tune_reader(
    encoder_dir: Path,
    questions: pa.Table,
    config: QaConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Fine-tune on the train questions, answer those of dev and test, write the three files.

    The last step is reported: XQuAD and MLQA's protocol has no dev set to choose by.

    Args:
        encoder_dir: a ``save_pretrained`` folder with its tokenizer.
        questions: rows of ``QUESTIONS_SCHEMA``.
        out: folder for ``predictions.parquet``, ``scores.parquet``, ``curve.parquet``.

    Returns:
        Facts: steps, epochs, windows, training windows without their answer, tokens, seconds.

    Raises:
        DataError: no questions to train on, or none to answer.
        ConfigError: ``max_length`` beyond the encoder, or a loss that is no longer finite.
    """
    resources = resources or Resources()
    splits = np.asarray(questions["split"].to_pylist(), dtype=object)
    for wanted, what in ((splits == "train", "train on"), (splits != "train", "answer")):
        if not wanted.any():
            raise DataError(f"there are no questions to {what}")
    windows = make_windows(questions, encoder_dir, config)
    training = np.flatnonzero(splits[windows.question] == "train")
    with machine(resources, derived_seed("reader", config.seed)):
        reader = _Reader(encoder_dir, windows, config, torch.device(resources.device))
        started = time.monotonic()
        steps = reader.train(training, report)
        trained = time.monotonic()
        predictions = reader.predict(questions, np.flatnonzero(splits[windows.question] != "train"))
        finished = time.monotonic()
    pq.write_table(predictions, out / "predictions.parquet", compression="zstd")
    pq.write_table(qa_scores(predictions), out / "scores.parquet", compression="zstd")
    pq.write_table(reader.curve(), out / "curve.parquet", compression="zstd")
    return {
        "steps": steps,
        "epochs": round(reader.windows_seen / len(training), 4),
        "windows": len(windows.question),
        "training_windows": len(training),
        "training_windows_without_answer": int((windows.answers[training, 0] == 0).sum()),
        "tokens": reader.tokens_seen,
        "training_seconds": round(trained - started, 3),
        "prediction_seconds": round(finished - trained, 3),
    }


class _Reader:
    """A reader, its windows and what it has seen of them."""

    def __init__(
        self, encoder_dir: Path, windows: Windows, config: QaConfig, device: torch.device
    ) -> None:
        self._windows, self._config, self._device = windows, config, device
        self._model = load_model(AutoModelForQuestionAnswering, encoder_dir, device, config.seed)
        check_length(self._model, int(windows.lengths.max()))
        self._collator = Collator(windows, windows.answers, device)
        self._optimiser = adamw(self._model, config.learning_rate, config.weight_decay)
        self._curve: list[tuple[int, str, float]] = []
        self.windows_seen = 0
        self.tokens_seen = 0

    def train(self, rows: Rows, report: Report) -> int:
        """Run all steps; returns how many."""
        config = self._config
        a_pass = math.ceil(len(rows) / config.batch_size)
        steps = config.steps or max(1, math.ceil(config.epochs * a_pass))
        every = max(1, steps // _REPORTS)
        losses: list[torch.Tensor] = []
        self._model.train()
        for done, batch in zip(range(steps), self._batches(rows), strict=False):
            rate = config.learning_rate * rate_share(done, steps, config.warmup)
            losses.append(self._step(batch, rate))
            if (done + 1) % every == 0 or done + 1 == steps:
                self._log(done + 1, steps, losses, rate, report)
                losses.clear()
        return steps

    def _batches(self, rows: Rows) -> Iterator[Rows]:
        epoch = 0
        lengths = self._windows.lengths[rows]
        while True:
            yield from training_batches(
                rows, lengths, self._config.batch_size, self._config.seed, epoch
            )
            epoch += 1

    def _step(self, rows: Rows, rate: float) -> torch.Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        inputs = self._collator.inputs(rows)
        with self._autocast():
            found = self._model(**inputs)
        answers_B2 = self._collator.targets(rows)
        logits_BL2 = torch.stack([found.start_logits, found.end_logits], dim=-1).float()
        if "attention_mask" in inputs:
            # Padding is no place to answer, and how much there is depends on the batch.
            logits_BL2 = logits_BL2.masked_fill(inputs["attention_mask"].unsqueeze(-1) == 0, -1e9)
        loss = F.cross_entropy(logits_BL2, answers_B2)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.windows_seen += len(rows)
        self.tokens_seen += int(self._windows.lengths[rows].sum())
        return loss.detach()

    def _log(
        self, step: int, steps: int, losses: list[torch.Tensor], rate: float, report: Report
    ) -> None:
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise ConfigError(
                f"the fine-tuning loss is {loss} at step {step}",
                place="qa.learning_rate",
                cure="Lower the learning rate, or use precision fp32.",
            )
        self._curve += [(step, "loss", loss), (step, "learning_rate", rate)]
        report(Progress(stage="qa", done=step, total=steps, metrics={"loss": loss}))

    def predict(self, questions: pa.Table, rows: Rows) -> pa.Table:
        """The best span of each question over all its windows."""
        spans, scores = self._spans(rows)
        best: dict[int, int] = {}
        for place, row in enumerate(rows):
            question = int(self._windows.question[row])
            if question not in best or scores[place, 0] > scores[best[question], 0]:
                best[question] = place
        answered = questions.take(pa.array(sorted(best)))
        contexts = answered["context"].to_pylist()
        places = [best[question] for question in sorted(best)]
        texts = [
            context[spans[place, 0] : spans[place, 1]]
            for context, place in zip(contexts, places, strict=True)
        ]
        return _predictions(answered, texts, scores[places, 1])

    @torch.inference_mode()
    def _spans(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Characters of each window's best span, and its logit sum and log-probability."""
        self._model.eval()
        windows = self._windows
        spans = np.zeros((len(rows), 2), np.int64)
        scores = np.zeros((len(rows), 2), np.float32)
        place = np.full(len(windows.question), -1, np.int64)
        place[rows] = np.arange(len(rows))
        tokens = self._config.evaluation_tokens
        for batch in evaluation_batches(rows, windows.lengths[rows], tokens):
            with self._autocast():
                found = self._model(**self._collator.inputs(batch))
            context = self._context(batch, found.start_logits.shape[1])
            first, last, best, log_probability = best_spans(
                found.start_logits, found.end_logits, context, self._config.max_answer
            )
            here = place[batch]
            begin = windows.offsets[batch]
            spans[here, 0] = windows.characters[begin + first.cpu().numpy(), 0]
            spans[here, 1] = windows.characters[begin + last.cpu().numpy(), 1]
            scores[here] = torch.stack([best, log_probability], dim=1).cpu().numpy()
        return spans, scores

    def _context(self, batch: Rows, width: int) -> torch.Tensor:
        """True where a subword is of the context: (B, L)."""
        windows = self._windows
        inside = np.zeros((len(batch), width), dtype=bool)
        for row, window in enumerate(batch):
            here = slice(windows.offsets[window], windows.offsets[window + 1])
            inside[row, : windows.lengths[window]] = windows.characters[here, 0] >= 0
        return torch.from_numpy(inside).to(self._device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._config.precision == "bf16":
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()

    def curve(self) -> pa.Table:
        """curve.parquet: loss and learning rate by step."""
        steps, metrics, values = zip(*self._curve, strict=True)
        return pa.table([list(steps), list(metrics), list(values)], schema=CURVE_SCHEMA)


def _predictions(
    answered: pa.Table, texts: list[str], log_probabilities: NDArray[np.float32]
) -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "task": answered["task"],
            "language": answered["language"],
            "split": answered["split"],
            "selection": pa.array(["last"] * count, pa.string()),
            "item": answered["item"],
            "gold": pa.nulls(count, pa.int8()),
            "predicted": pa.nulls(count, pa.int8()),
            "log_probabilities": [[float(one)] for one in log_probabilities],
            "gold_texts": answered["answers"],
            "predicted_text": texts,
        },
        schema=QA_PREDICTIONS_SCHEMA,
    )
