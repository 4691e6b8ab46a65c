"""One fine-tuning run of any task: training, the moments that rules may report, predictions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from weam_ray.errors import ConfigError
from weam_ray.pretraining.precision import autocast
from weam_ray.progress import Progress, Report
from weam_ray.transfer.batches import Collator, Rows
from weam_ray.transfer.classifier import freeze
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.evaluation import Evaluator, LocalEvaluator
from weam_ray.transfer.loading import check_length
from weam_ray.transfer.optimisation import adamw, rate_share
from weam_ray.transfer.phases import Phase, Plan, evaluation_steps
from weam_ray.transfer.selection import Moment, choose, kept
from weam_ray.transfer.task import Task

CURVE_SCHEMA = pa.schema([("step", pa.int64()), ("metric", pa.string()), ("value", pa.float64())])

_REPORTS = 50
"""Points of the loss curve, and reports to the listener, over a run."""

Spread = Callable[[LocalEvaluator], Evaluator]
"""Makes an evaluator that has help (other processes) out of one that has none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a run came to."""

    training_rows: int
    epochs: float
    tokens: int
    training_seconds: float
    prediction_seconds: float
    chosen_steps: dict[str, Any]
    """As :meth:`Run.chosen_steps`."""
    predictions: pa.Table
    curve: pa.Table

    def write(self, out: Path, scores: pa.Table) -> None:
        """The three files of the artifact: predictions, their scores, and the curve."""
        tables = {"predictions": self.predictions, "scores": scores, "curve": self.curve}
        for name, table in tables.items():
            pq.write_table(table, out / f"{name}.parquet", compression="zstd")


class Run:
    """The state of one fine-tuning run: a model, its optimiser and what was seen so far.

    Args:
        spread: lets others take part in evaluation; None evaluates in this process.

    Raises:
        DataError: not an encoder folder.
        ConfigError: rows longer than the encoder takes, or parts to freeze that it hasn't.
    """

    def __init__(
        self,
        encoder_dir: Path,
        task: Task,
        config: FineTuningConfig,
        plan: Plan,
        report: Report,
        device: torch.device,
        spread: Spread | None = None,
    ) -> None:
        self._task, self._config, self._plan, self._report = task, config, plan, report
        self._lengths = task.examples.lengths
        self._languages = task.examples.column("language")
        self._model = task.load(encoder_dir, config.seed, device)
        check_length(self._model, int(self._lengths.max()), place=f"{task.place}.max_length")
        freeze(self._model, config.freeze_embeddings, config.freeze_layers, task.place)
        self._parameters = [part for part in self._model.parameters() if part.requires_grad]
        self._optimiser = adamw(self._model, config.learning_rate, config.weight_decay)
        self._collator = Collator(task.examples, task.targets, device)
        own = LocalEvaluator(task, config, device)
        self._evaluator: Evaluator = own if spread is None else spread(own)
        self._place = np.full(len(task.examples), -1, dtype=np.int64)
        self._place[plan.evaluated] = np.arange(len(plan.evaluated))
        self._reported = list(dict.fromkeys(self._languages[plan.evaluated]))
        self._watched = self._watched_languages()
        self._curve: list[tuple[int, str, float]] = []
        self.rows_seen = 0
        self.tokens_seen = 0

    def carry_out(self) -> Outcome:
        """Train, and predict every evaluated item."""
        started = time.monotonic()
        moments = self.train()
        trained = time.monotonic()
        predictions = self.predictions(moments)
        finished = time.monotonic()
        training_rows = sum(len(phase.rows) for phase in self._plan.phases)
        return Outcome(
            training_rows=training_rows,
            epochs=round(self.rows_seen / training_rows, 4),
            tokens=self.tokens_seen,
            training_seconds=round(trained - started, 3),
            prediction_seconds=round(finished - trained, 3),
            chosen_steps=self.chosen_steps(moments),
            predictions=predictions,
            curve=self.curve(),
        )

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
        inputs = self._collator.inputs(rows)
        with autocast(self._config.precision, self._model.device):
            found = self._model(**inputs)
        loss = self._task.loss(found, self._collator.targets(rows), inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.rows_seen += len(rows)
        self.tokens_seen += int(self._lengths[rows].sum())
        return loss.detach()

    def _log(self, step: int, losses: list[torch.Tensor], rate: float) -> None:
        loss = float(torch.stack(losses).mean())
        if not np.isfinite(loss):
            raise ConfigError(
                f"the fine-tuning loss is {loss} at step {step}",
                place=f"{self._task.place}.learning_rate",
                cure="Lower the learning rate, or use precision fp32.",
            )
        self._curve += [(step, "loss", loss), (step, "learning_rate", rate)]
        self._say(step, {"loss": loss})

    def _say(self, step: int, metrics: dict[str, float]) -> None:
        total = self._plan.steps
        self._report(Progress(stage=self._task.place, done=step, total=total, metrics=metrics))

    def _evaluate(self, step: int, moments: list[Moment]) -> None:
        shape = (len(self._plan.evaluated), self._task.width)
        moment = Moment(step=step, dev={}, outputs=np.full(shape, np.nan, np.float32))
        if self._watched:
            self._fill(moment, np.concatenate([self._plan.dev[one] for one in self._watched]))
            moment.dev = {one: self._dev_score(moment, one) for one in self._watched}
            name = self._task.metric
            metrics = {f"{name}/dev/{one}": value for one, value in moment.dev.items()}
            self._curve += [(step, name, value) for name, value in metrics.items()]
            self._say(step, metrics)
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

    def _dev_score(self, moment: Moment, language: str) -> float:
        rows = self._plan.dev[language]
        return self._task.score(rows, moment.outputs[self._place[rows]])

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
            outputs = np.full((len(evaluated), self._task.width), np.nan, np.float32)
            for language, moment in chosen.items():
                of_language = self._languages[evaluated] == language
                outputs[of_language] = moment.outputs[of_language]
            have = ~np.isnan(outputs[:, 0])
            parts.append(self._task.predictions(rule, evaluated[have], outputs[have]))
        return pa.concat_tables(parts).combine_chunks()

    def _complete(self, moment: Moment, languages: set[str]) -> None:
        evaluated = self._plan.evaluated
        names = np.asarray(sorted(languages), dtype=object)
        lacking = np.isin(self._languages[evaluated], names)
        lacking &= np.isnan(moment.outputs[:, 0])
        if lacking.any():
            if moment.state is not None:
                self._model.load_state_dict(moment.state)
            self._fill(moment, evaluated[lacking])
        moment.state = None

    def _fill(self, moment: Moment, rows: Rows) -> None:
        outputs = self._evaluator(self._model, rows)
        if lost := int(np.isnan(outputs).any(axis=1).sum()):
            raise ConfigError(
                f"the fine-tuned model gives no number for {lost} of {len(rows)} rows at step"
                f" {moment.step}",
                place=f"{self._task.place}.learning_rate",
                cure="Lower the learning rate, or use precision fp32.",
            )
        moment.outputs[self._place[rows]] = outputs

    def curve(self) -> pa.Table:
        """curve.parquet: loss, learning rate and dev scores by step."""
        steps, metrics, values = zip(*self._curve, strict=True)
        return pa.table([list(steps), list(metrics), list(values)], schema=CURVE_SCHEMA)
