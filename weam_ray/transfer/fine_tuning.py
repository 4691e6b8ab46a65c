"""Fine-tune an encoder on NLI items and predict every item of every language, in one model load."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from weam_ray.artifacts import Resources
from weam_ray.errors import ConfigError
from weam_ray.progress import Progress, Report, silent
from weam_ray.transfer.batches import Collator, Rows, derived_seed, evaluation_batches
from weam_ray.transfer.classifier import freeze, load_classifier
from weam_ray.transfer.config import TransferConfig
from weam_ray.transfer.guards import flags
from weam_ray.transfer.loading import check_length
from weam_ray.transfer.machine import machine
from weam_ray.transfer.optimisation import adamw, rate_share
from weam_ray.transfer.phases import Phase, Plan, evaluation_steps, plan_run
from weam_ray.transfer.reading import LABELS
from weam_ray.transfer.scores import predictions_table, scores_from_predictions
from weam_ray.transfer.selection import Moment, choose, kept
from weam_ray.transfer.tokenised import TokenisedItems, tokenise_items

CURVE_SCHEMA = pa.schema([("step", pa.int64()), ("metric", pa.string()), ("value", pa.float64())])

_REPORTS = 50
"""Points of the loss curve, and reports to the listener, over a run."""


def fine_tune(
    encoder_dir: Path,
    items: TokenisedItems | pa.Table,
    config: TransferConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Fine-tune once, evaluate all languages, and write the three files of a ``transfer`` artifact.

    Args:
        encoder_dir: a ``save_pretrained`` folder with its tokenizer.
        items: tokenised items, or rows of items.parquet, which are then tokenised here.
        out: folder for ``predictions.parquet``, ``scores.parquet``, ``curve.parquet``.

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
    with machine(resources, derived_seed("fine-tuning", config.seed)):
        run = _Run(encoder_dir, items, config, plan, report, torch.device(resources.device))
        started = time.monotonic()
        moments = run.train()
        trained = time.monotonic()
        predictions = run.predictions(moments)
        finished = time.monotonic()
    scores = scores_from_predictions(predictions)
    pq.write_table(predictions, out / "predictions.parquet", compression="zstd")
    pq.write_table(scores, out / "scores.parquet", compression="zstd")
    pq.write_table(run.curve(), out / "curve.parquet", compression="zstd")
    return {
        "steps": plan.steps,
        "epochs": round(run.items_seen / sum(len(phase.rows) for phase in plan.phases), 4),
        "training_items": sum(len(phase.rows) for phase in plan.phases),
        "tokens": run.tokens_seen,
        "truncated_items": items.truncated,
        "training_seconds": round(trained - started, 3),
        "prediction_seconds": round(finished - trained, 3),
        "chosen_steps": run.chosen_steps(moments),
        "flags": [flag.as_fact() for flag in flags(predictions)],
    }


class _Run:
    """The state of one fine-tuning run: a model, its optimiser and what was seen so far."""

    def __init__(
        self,
        encoder_dir: Path,
        items: TokenisedItems,
        config: TransferConfig,
        plan: Plan,
        report: Report,
        device: torch.device,
    ) -> None:
        self._items, self._config, self._plan, self._report = items, config, plan, report
        self._device = device
        self._model = load_classifier(encoder_dir, config.seed, device)
        check_length(self._model, int(items.lengths.max()))
        freeze(self._model, config.freeze_embeddings, config.freeze_layers)
        self._parameters = [part for part in self._model.parameters() if part.requires_grad]
        self._optimiser = adamw(self._model, config.learning_rate, config.weight_decay)
        self._collator = Collator(items, items.labels, device)
        self._lengths = items.lengths
        self._languages = items.column("language")
        self._place = np.full(len(items), -1, dtype=np.int64)
        self._place[plan.evaluated] = np.arange(len(plan.evaluated))
        self._reported = list(dict.fromkeys(self._languages[plan.evaluated]))
        self._watched = self._watched_languages()
        self._curve: list[tuple[int, str, float]] = []
        self.items_seen = 0
        self.tokens_seen = 0

    def train(self) -> list[Moment]:
        """Run all phases; the moments that the selection rules may report, the last one last."""
        moments: list[Moment] = []
        before_last = self._plan.steps - self._plan.phases[-1].steps
        count = self._config.evaluations if self._watched else 1
        stops = set(evaluation_steps(self._plan.steps, before_last, count))
        step = 0
        for phase in self._plan.phases:
            step = self._train_phase(phase, step, stops, moments)
        return moments

    def _train_phase(self, phase: Phase, step: int, stops: set[int], moments: list[Moment]) -> int:
        self._model.train()
        every = max(1, self._plan.steps // _REPORTS)
        losses: list[torch.Tensor] = []
        for done, rows in enumerate(phase.batches(self._lengths, self._config)):
            rate = self._config.learning_rate * rate_share(done, phase.steps, self._config.warmup)
            losses.append(self._step(rows, rate))
            step += 1
            if step % every == 0 or step == self._plan.steps:
                self._log(step, losses, rate)
                losses.clear()
            if step in stops:
                self._evaluate(step, moments)
                self._model.train()
        return step

    def _step(self, rows: Rows, rate: float) -> torch.Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with self._autocast():
            logits = self._model(**self._collator.inputs(rows)).logits
        loss = F.cross_entropy(logits.float(), self._collator.targets(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.items_seen += len(rows)
        self.tokens_seen += int(self._lengths[rows].sum())
        return loss.detach()

    def _log(self, step: int, losses: list[torch.Tensor], rate: float) -> None:
        loss = float(torch.stack(losses).mean())
        if not np.isfinite(loss):
            raise ConfigError(
                f"the fine-tuning loss is {loss} at step {step}",
                place="transfer.learning_rate",
                cure="Lower the learning rate, or use precision fp32.",
            )
        self._curve += [(step, "loss", loss), (step, "learning_rate", rate)]
        self._report(
            Progress(stage="transfer", done=step, total=self._plan.steps, metrics={"loss": loss})
        )

    def _evaluate(self, step: int, moments: list[Moment]) -> None:
        moment = Moment(
            step=step,
            accuracy={},
            log_probabilities=np.full((len(self._plan.evaluated), len(LABELS)), np.nan, np.float32),
        )
        if self._watched:
            self._fill(moment, np.concatenate([self._plan.dev[one] for one in self._watched]))
            moment.accuracy = {one: self._dev_accuracy(moment, one) for one in self._watched}
            metrics = {f"accuracy/dev/{one}": value for one, value in moment.accuracy.items()}
            self._curve += [(step, name, value) for name, value in metrics.items()]
            total = self._plan.steps
            self._report(Progress(stage="transfer", done=step, total=total, metrics=metrics))
        moments.append(moment)
        rules = [rule for rule in self._config.selection if rule != "last"]
        moments[:] = kept(moments, rules, self._watched, self._config.source_languages)
        if step == self._plan.steps:
            if moment not in moments:
                moments.append(moment)
        elif moment in moments:
            moment.state = {
                name: value.to("cpu", copy=True) for name, value in self._model.state_dict().items()
            }

    def _dev_accuracy(self, moment: Moment, language: str) -> float:
        rows = self._plan.dev[language]
        predicted = moment.log_probabilities[self._place[rows]].argmax(axis=1)
        return float((predicted == self._items.labels[rows]).mean())

    def _watched_languages(self) -> list[str]:
        """Languages whose dev items are evaluated during training: those some rule looks at."""
        if "target-dev-oracle" in self._config.selection:
            return list(self._plan.dev)
        if "source-dev" in self._config.selection:
            return list(self._config.source_languages)
        return []

    def _choices(self, moments: list[Moment]) -> dict[str, dict[str, Moment]]:
        config = self._config
        return {
            rule: choose(moments, rule, self._reported, config.source_languages)
            for rule in config.selection
        }

    def chosen_steps(self, moments: list[Moment]) -> dict[str, Any]:
        """The step each rule reports; by language for the oracle."""
        return {
            rule: {language: moment.step for language, moment in chosen.items()}
            if rule == "target-dev-oracle"
            else next(iter(chosen.values())).step
            for rule, chosen in self._choices(moments).items()
        }

    def predictions(self, moments: list[Moment]) -> pa.Table:
        """Predictions of every evaluated item under every rule."""
        choices = self._choices(moments)
        wanted: dict[int, set[str]] = defaultdict(set)
        for chosen in choices.values():
            for language, moment in chosen.items():
                wanted[moment.step].add(language)
        # The last moment is the model as it stands, so it comes before weights are loaded back.
        for moment in reversed(moments):
            self._complete(moment, wanted[moment.step])
        evaluated = self._plan.evaluated
        parts = []
        for rule, chosen in choices.items():
            log_probabilities = np.full((len(evaluated), len(LABELS)), np.nan, np.float32)
            for language, moment in chosen.items():
                of_language = self._languages[evaluated] == language
                log_probabilities[of_language] = moment.log_probabilities[of_language]
            have = ~np.isnan(log_probabilities[:, 0])
            rows = self._items.rows.take(pa.array(evaluated[have]))
            task = self._config.task
            parts.append(predictions_table(task, rule, rows, log_probabilities[have]))
        return pa.concat_tables(parts).combine_chunks()

    def _complete(self, moment: Moment, languages: set[str]) -> None:
        evaluated = self._plan.evaluated
        names = np.asarray(sorted(languages), dtype=object)
        lacking = np.isin(self._languages[evaluated], names)
        lacking &= np.isnan(moment.log_probabilities[:, 0])
        if lacking.any():
            if moment.state is not None:
                self._model.load_state_dict(moment.state)
            self._fill(moment, evaluated[lacking])
        moment.state = None

    @torch.inference_mode()
    def _fill(self, moment: Moment, rows: Rows) -> None:
        self._model.eval()
        tokens = self._config.evaluation_tokens
        for batch in evaluation_batches(rows, self._lengths[rows], tokens):
            with self._autocast():
                logits = self._model(**self._collator.inputs(batch)).logits
            log_probabilities = F.log_softmax(logits.float(), dim=-1).cpu().numpy()
            moment.log_probabilities[self._place[batch]] = log_probabilities

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._config.precision == "bf16":
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()

    def curve(self) -> pa.Table:
        """curve.parquet: loss, learning rate and dev accuracies by step."""
        steps, metrics, values = zip(*self._curve, strict=True)
        return pa.table([list(steps), list(metrics), list(values)], schema=CURVE_SCHEMA)


def predict(
    model: PreTrainedModel, items: TokenisedItems, tokens: int = 16384
) -> NDArray[np.float32]:
    """Log-probabilities of all N items by a classifier as it stands: (N, 3)."""
    collator = Collator(items, items.labels, model.device)
    found = np.empty((len(items), len(LABELS)), np.float32)
    model.eval()
    with torch.inference_mode():
        for rows in evaluation_batches(np.arange(len(items)), items.lengths, tokens):
            logits = model(**collator.inputs(rows)).logits
            found[rows] = F.log_softmax(logits.float(), dim=-1).cpu().numpy()
    return found
