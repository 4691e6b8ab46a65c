"""Which items a setting trains on, in which order and for how long, and which it evaluates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.errors import DataError
from weam_ray.transfer.batches import Rows, training_batches
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.items import hash_order
from weam_ray.transfer.task import Examples


@dataclass(frozen=True, eq=False)
class Phase:
    """One stretch of training with its own warm-up and decay."""

    rows: Rows
    steps: int
    salt: int
    """Tells the batch orders of the phases of one run apart."""

    def batches(self, lengths: NDArray[np.int64], config: FineTuningConfig) -> Iterator[Rows]:
        """``steps`` batches, epoch after epoch."""
        done = epoch = 0
        while True:
            for batch in training_batches(
                self.rows,
                lengths[self.rows],
                config.batch_size,
                config.seed,
                epoch * 2 + self.salt,
            ):
                if done == self.steps:
                    return
                yield batch
                done += 1
            epoch += 1


@dataclass(frozen=True, eq=False)
class Plan:
    """All of one run."""

    phases: tuple[Phase, ...]
    evaluated: Rows
    """Dev and test items of the languages reported."""

    dev: dict[str, Rows]
    """Dev items by language, a part of ``evaluated``."""

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)


def plan_run(
    examples: Examples, config: FineTuningConfig, chosen_by: NDArray[np.bool_] | None = None
) -> Plan:
    """Choose the rows of a run.

    Args:
        chosen_by: (N,) the dev rows that selection rules may look at; None takes all.

    Raises:
        DataError: no training items in a language that the setting trains on, no items to
            evaluate, or no dev items for a selection rule that needs them.
    """
    splits, languages = examples.column("split"), examples.column("language")
    own = np.isin(languages, np.asarray(config.source_languages, object))
    train = np.flatnonzero((splits == "train") & own)
    for language in config.source_languages:
        if not (languages[train] == language).any():
            raise DataError(
                f"no training items in {language!r}, which {config.setting} trains on",
                cure=f"Name them in train and train_languages of {config.data}.",
            )
    phases = [Phase(train, _steps(len(train), config), salt=0)]
    held_out = np.zeros(len(examples), dtype=bool)
    if config.setting == "few-shot":
        shots, held_out = _few_shots(examples, config, splits, chosen_by)
        steps = math.ceil(config.few_shot_epochs * _batches(len(shots), config.batch_size))
        phases.append(Phase(shots, steps, salt=1))
    wanted = np.isin(splits, ["dev", "test"]) & ~held_out
    if config.evaluated_languages is not None:
        wanted &= examples.among(config.evaluated_languages)
    evaluated = np.flatnonzero(wanted)
    if not len(evaluated):
        raise DataError("there are no dev or test items in the languages to evaluate")
    is_dev = splits[evaluated] == "dev"
    dev_rows = evaluated[is_dev if chosen_by is None else is_dev & chosen_by[evaluated]]
    dev = {
        str(language): dev_rows[languages[dev_rows] == language]
        for language in dict.fromkeys(languages[dev_rows])
    }
    _check_selection(config, dev)
    return Plan(phases=tuple(phases), evaluated=evaluated, dev=dev)


def _batches(rows: int, batch_size: int) -> int:
    return math.ceil(rows / batch_size)


def _steps(rows: int, config: FineTuningConfig) -> int:
    if config.steps is not None:
        return config.steps
    return max(1, math.ceil(config.epochs * _batches(rows, config.batch_size)))


def _few_shots(
    examples: Examples,
    config: FineTuningConfig,
    splits: NDArray[np.object_],
    chosen_by: NDArray[np.bool_] | None,
) -> tuple[Rows, NDArray[np.bool_]]:
    """The rows of the target items trained on, and the mask of dev rows taken out of dev.

    With an item from dev go all that share its passage, or dev would be asked of texts seen.
    """
    names, units, passages = examples.column("item"), examples.units, examples.column("passage")
    shots: list[Rows] = []
    used: set[str] = set()
    for language in config.taught:
        own = examples.among((language,))
        rows = np.flatnonzero((splits == "train") & own)
        from_dev = not len(rows)
        if from_dev:
            own &= splits == "dev"
            # Of another set that the same reader answers nothing is learnt.
            rows = np.flatnonzero(own if chosen_by is None else own & chosen_by)
        items, first = np.unique(units[rows], return_index=True)
        _check_shots(len(items), language, config)
        order = hash_order([str(name) for name in names[rows[first]]], f"few-shot {config.seed}")
        chosen = items[order[: config.few_shot_items]]
        shots += [rows[units[rows] == item] for item in chosen]
        if from_dev:
            seen = passages[rows[np.isin(units[rows], chosen)]]
            used.update(names[rows[np.isin(passages[rows], seen)]])
    held_out = (splits == "dev") & np.isin(names, np.asarray(sorted(used), object))
    return np.concatenate(shots), held_out


def check_shots(rows: pa.Table, config: FineTuningConfig) -> None:
    """Refuse few-shot that asks for more than there is, before any cell is trained for it.

    Args:
        rows: of items.parquet, or the questions of the task that is learnt.

    Raises:
        DataError: a target language has fewer items.
    """
    if config.setting != "few-shot":
        return
    counts = Counter(zip(rows["split"].to_pylist(), rows["language"].to_pylist(), strict=True))
    for language in config.taught:
        _check_shots(counts["train", language] or counts["dev", language], language, config)


def _check_shots(there: int, language: str, config: FineTuningConfig) -> None:
    if there < config.few_shot_items:
        raise DataError(
            f"few-shot asks for {config.few_shot_items} items in {language!r}, there are {there}",
            place=f"{config.place}.few_shot_items",
            cure="Ask for no more than that.",
        )


def _check_selection(config: FineTuningConfig, dev: dict[str, Rows]) -> None:
    if "source-dev" in config.selection:
        without = [name for name in config.source_languages if name not in dev]
        if without:
            raise DataError(
                f"selection source-dev needs dev items in {', '.join(without)}",
                cure=f"Give {config.data} a dev in that language, or set {config.place}.selection"
                " to [last].",
            )
    if "target-dev-oracle" in config.selection and not dev:
        raise DataError(
            "selection target-dev-oracle needs dev items",
            cure=f"Give {config.data} a dev, or set {config.place}.selection to [last].",
        )


def evaluation_steps(total: int, start: int, count: int) -> Sequence[int]:
    """``count`` evenly spread steps in ``start < step <= total``, ``total`` the last of them."""
    span = total - start
    return sorted({start + max(1, round(span * place / count)) for place in range(1, count + 1)})
