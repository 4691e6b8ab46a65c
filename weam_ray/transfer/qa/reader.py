"""Fine-tune an extractive reader on the training questions and answer all others, in one load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from weam_ray.artifacts import Resources
from weam_ray.errors import DataError
from weam_ray.progress import Report, silent
from weam_ray.transfer.batches import Rows, derived_seed
from weam_ray.transfer.loading import load_model
from weam_ray.transfer.machine import machine
from weam_ray.transfer.phases import plan_run
from weam_ray.transfer.qa.config import QaConfig
from weam_ray.transfer.qa.flags import qa_flags
from weam_ray.transfer.qa.scoring import QA_PREDICTIONS_SCHEMA, exact_match, f1, qa_scores
from weam_ray.transfer.qa.windows import Windows, best_spans, make_windows
from weam_ray.transfer.run import Run, Spread
from weam_ray.transfer.task import Outputs


def fine_tune_reader(
    encoder_dir: Path,
    questions: pa.Table,
    config: QaConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
    *,
    windows: Windows | None = None,
    spread: Spread | None = None,
) -> dict[str, Any]:
    """Fine-tune on the train questions, answer those of dev and test, write the three files.

    Args:
        encoder_dir: a ``save_pretrained`` folder with its tokenizer.
        questions: rows of ``QUESTIONS_SCHEMA``.
        out: folder for ``predictions.parquet``, ``scores.parquet``, ``curve.parquet``.
        windows: those of these questions; None cuts them here.
        spread: lets other processes take part in evaluation.

    Returns:
        Facts: steps, epochs, windows, training windows without their answer, tokens, seconds,
        chosen steps and guard flags.

    Raises:
        DataError: no questions to train on, none to answer, or none in dev that a selection rule
            needs.
        ConfigError: ``max_length`` beyond the encoder, or a loss that is no longer finite.
    """
    resources = resources or Resources()
    splits = np.asarray(questions["split"].to_pylist(), dtype=object)
    for wanted, what in ((splits == "train", "train on"), (splits != "train", "answer")):
        if not wanted.any():
            raise DataError(f"there are no questions to {what}")
    if windows is None:
        windows = make_windows(questions, encoder_dir, config)
    task = ReaderTask(windows, config.max_answer, questions)
    plan = plan_run(windows, config, chosen_by=windows.column("task") == config.task)
    device = torch.device(resources.device)
    with machine(resources, derived_seed("reader", config.seed)):
        done = Run(encoder_dir, task, config, plan, report, device, spread).carry_out()
    done.write(out, qa_scores(done.predictions))
    training = np.concatenate([phase.rows for phase in plan.phases])
    return {
        "steps": plan.steps,
        "epochs": done.epochs,
        "windows": len(windows),
        "training_windows": done.training_rows,
        "training_windows_without_answer": int((windows.answers[training, 0] == 0).sum()),
        "tokens": done.tokens,
        "training_seconds": done.training_seconds,
        "prediction_seconds": done.prediction_seconds,
        "chosen_steps": done.chosen_steps,
        "flags": [flag.as_fact() for flag in qa_flags(done.predictions)],
    }


class ReaderTask:
    """Spans of windows. A window's outputs: where its best span begins and ends (characters of the
    context), the sum of both logits, by which windows are compared, and its log-probability.

    Args:
        questions: the questions of the windows; a process that only answers windows needs none.
    """

    place = "qa"
    metric = "f1"
    width = 4

    def __init__(
        self, windows: Windows, max_answer: int, questions: pa.Table | None = None
    ) -> None:
        self.examples = windows
        self.targets: NDArray[np.int64] = windows.answers
        self._max_answer = max_answer
        self._questions = questions

    def load(self, encoder_dir: Path, seed: int, device: torch.device) -> PreTrainedModel:
        """The encoder with a span head."""
        return load_model(AutoModelForQuestionAnswering, encoder_dir, device, seed)

    def loss(
        self, found: Any, targets: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Mean cross-entropy of the first and the last subword of the answer."""
        logits_BL2 = torch.stack([found.start_logits, found.end_logits], dim=-1).float()
        if "attention_mask" in inputs:
            # Padding is no place to answer, and how much there is depends on the batch.
            logits_BL2 = logits_BL2.masked_fill(inputs["attention_mask"].unsqueeze(-1) == 0, -1e9)
        return F.cross_entropy(logits_BL2, targets)

    def outputs(self, found: Any, rows: Rows) -> Outputs:
        """Best span of each window: (B, 4)."""
        windows = self.examples
        context = self._context(rows, found.start_logits.shape[1]).to(found.start_logits.device)
        first, last, best, log_probability = best_spans(
            found.start_logits, found.end_logits, context, self._max_answer
        )
        begin = windows.offsets[rows]
        outputs = np.empty((len(rows), self.width), np.float32)
        # Characters are whole numbers far below 2^24, which float32 holds exactly.
        outputs[:, 0] = windows.characters[begin + first.cpu().numpy(), 0]
        outputs[:, 1] = windows.characters[begin + last.cpu().numpy(), 1]
        outputs[:, 2:] = torch.stack([best, log_probability], dim=1).cpu().numpy()
        return outputs

    def _context(self, rows: Rows, width: int) -> torch.Tensor:
        """True where a subword is of the context: (B, L)."""
        windows = self.examples
        inside = np.zeros((len(rows), width), dtype=bool)
        for place, window in enumerate(rows):
            here = slice(windows.offsets[window], windows.offsets[window + 1])
            inside[place, : windows.lengths[window]] = windows.characters[here, 0] >= 0
        return torch.from_numpy(inside)

    def score(self, rows: Rows, outputs: Outputs) -> float:
        """Mean F1 over the questions of the windows."""
        asked, texts, _ = self._answers(rows, outputs)
        answers, languages = asked["answers"].to_pylist(), asked["language"].to_pylist()
        found = zip(texts, answers, languages, strict=True)
        return float(np.mean([f1(text, gold, language) for text, gold, language in found]))

    def predictions(self, selection: str, rows: Rows, outputs: Outputs) -> pa.Table:
        """Rows of predictions.parquet, one a question."""
        asked, texts, log_probabilities = self._answers(rows, outputs)
        answers, languages = asked["answers"].to_pylist(), asked["language"].to_pylist()
        found = list(zip(texts, answers, languages, strict=True))
        count = len(texts)
        return pa.table(
            {
                "task": asked["task"],
                "language": asked["language"],
                "split": asked["split"],
                "selection": pa.array([selection] * count, pa.string()),
                "item": asked["item"],
                "gold": pa.nulls(count, pa.int8()),
                "predicted": pa.nulls(count, pa.int8()),
                "log_probabilities": [[float(one)] for one in log_probabilities],
                "gold_texts": asked["answers"],
                "predicted_text": texts,
                "exact_match": pa.array([exact_match(*one) for one in found], pa.float32()),
                "f1": pa.array([f1(*one) for one in found], pa.float32()),
            },
            schema=QA_PREDICTIONS_SCHEMA,
        )

    def _answers(
        self, rows: Rows, outputs: Outputs
    ) -> tuple[pa.Table, list[str], NDArray[np.float32]]:
        """The questions of the windows, and the best span of each over all its windows."""
        assert self._questions is not None
        question = self.examples.question[rows]
        # Of a question's windows the best comes first; of equally good ones the earliest.
        order = np.lexsort((rows, -outputs[:, 2], question))
        asked, first = np.unique(question[order], return_index=True)
        best = outputs[order[first]]
        table = self._questions.take(pa.array(asked))
        contexts = table["context"].to_pylist()
        texts = [
            context[int(begin) : int(end)]
            for context, begin, end in zip(contexts, best[:, 0], best[:, 1], strict=True)
        ]
        return table, texts, best[:, 3]
