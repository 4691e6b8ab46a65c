"""Hyper-parameter search: what is varied, what a trial runs, and what it is judged by.

A trial is the grid's own cells of one method under other settings, so its work has addresses like
all other work: a trial that was stopped goes on where it was, and one that repeats known settings
costs nothing. It is judged on development items alone; of the test items of a trial nothing is read
but those of the one that was chosen, and only after it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from weam_ray.artifacts import Artifact
from weam_ray.errors import DataError
from weam_ray.identity import StageConfig, digest

if TYPE_CHECKING:
    from weam_ray.study.config import StudyConfig
    from weam_ray.study.estimate import Estimate
    from weam_ray.study.grid import Cell
    from weam_ray.study.plan import Plan

PARTS = ("pretraining", "alignment", "transfer", "qa")
"""Settings that a search may vary: the base encoder is shared by all trials."""

Value = float | int | str | bool
Parameters = Mapping[str, Value]
"""Values by setting: ``{"pretraining.masking_rate": 0.15}``."""


class Range(StageConfig):
    """Numbers from ``low`` to ``high``, or the values of ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    """Drawn evenly in the logarithm: for learning rates."""
    step: float | None = Field(default=None, gt=0)
    """Only low, low + step, low + 2 step, …; with whole numbers of low, high and step, whole."""
    choices: tuple[Value, ...] | None = None
    """In place of low and high."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounds = (self.low, self.high)
        if self.choices is not None:
            if bounds != (None, None) or self.log or self.step:
                raise ValueError("choices stand alone, without low, high, log and step")
            if len(set(self.choices)) < 2:
                raise ValueError("choices need at least two values")
        elif self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        elif self.log and (self.low <= 0 or self.step):
            raise ValueError("log needs low above 0 and no step")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return self.step is not None and all(
            value is not None and float(value).is_integer()
            for value in (self.low, self.high, self.step)
        )

    def ends(self) -> tuple[Value, ...]:
        """Values that must be valid for all to be: the ends, or every choice."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


class SearchConfig(StageConfig):
    """A search over settings of one method of the grid (Optuna's tree-structured Parzen estimator).

    A trial runs the grid's cells of that method with its values; its objective is their mean dev
    accuracy. The first trial has the study's own settings.
    """

    method: str = "weam"
    """The method of ``grid.method`` that is searched for."""
    space: dict[str, Range] = Field(min_length=1)
    """What is varied, by setting: ``pretraining.cross_lingual_weight: {low: 0, high: 2}``."""
    languages: Literal["target"] | tuple[str, ...] = "target"
    """Whose dev accuracy counts: the other language of each cell's pair, or these. The source
    language's (a list with it alone) looks at no target item at all."""
    trials: Annotated[int, Field(ge=1)] = 20
    """All in all; raise it to go on."""
    at_once: Annotated[int, Field(ge=1)] = 4
    """Trials proposed together, before any of them is judged. Decides what is proposed, and not how
    many cells run side by side: so it is no resource, and the same on every machine."""
    pruner: Literal["median", "none"] = "median"
    """median: after each of its cells (seeds, pairs, sizes) a trial is ended whose best mean so far
    is below the median of complete trials' means after as many cells (Optuna's MedianPruner).
    Nothing is judged within a cell: a training loss is another quantity at another λ or masking
    rate, and no measure of transfer."""
    startup: Annotated[int, Field(ge=1)] = 5
    """Random trials before the sampler models anything, and before any is ended early."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the sampler."""

    @field_validator("space")
    @classmethod
    def _known_parts(cls, space: dict[str, Range]) -> dict[str, Range]:
        for name in space:
            part, _, rest = name.partition(".")
            if part not in PARTS or not rest:
                raise ValueError(
                    f"{name} is none of {', '.join(f'{one}.…' for one in PARTS)}: a search varies"
                    " what is done with the shared base"
                )
        return space

    @property
    def name(self) -> str:
        """Of the search in its storage: another space or method is another search."""
        return digest(
            self.model_dump(mode="json", include={"method", "space", "languages", "seed"})
        )


def trial_study(study: StudyConfig, number: int, parameters: Parameters) -> StudyConfig:
    """The study whose grid is the cells of one trial.

    Raises:
        pydantic.ValidationError: a value that can't be.
    """
    return _with_method(study, f"trial-{number:04d}", parameters)


def chosen_study(study: StudyConfig, parameters: Parameters) -> StudyConfig:
    """The study whose grid is the cells of the trial that was chosen, under a name for reports."""
    assert study.search is not None
    return _with_method(study, f"{study.search.method}-tuned", parameters)


def _with_method(study: StudyConfig, name: str, parameters: Parameters) -> StudyConfig:
    from weam_ray.study.methods import describe_method

    assert study.search is not None
    method = describe_method(study, study.search.method)
    assert method is not None  # the file was checked
    own = {part: dict(getattr(method, part)) for part in (*PARTS, "base")}
    for setting, value in parameters.items():
        part, _, key = setting.partition(".")
        own[part][key] = value
    return study.model_copy(
        update={
            "methods": {**study.methods, name: method.model_copy(update=own)},
            "grid": study.grid.model_copy(update={"method": (name,)}),
            "extra": (),
            "exclude": (),
        }
    )


def own_parameters(study: StudyConfig) -> dict[str, Value]:
    """The study's own values of what is searched, where they lie within their ranges."""
    from weam_ray.study.methods import describe_method

    search = study.search
    assert search is not None
    method = describe_method(study, search.method)
    assert method is not None
    found: dict[str, Value] = {}
    for setting, allowed in search.space.items():
        part, _, key = setting.partition(".")
        value = getattr(method, part).get(key, getattr(getattr(study, part), key))
        if _lies_in(value, allowed):
            found[setting] = value
    return found


def _lies_in(value: Any, allowed: Range) -> bool:
    if allowed.choices is not None:
        return value in allowed.choices
    assert allowed.low is not None and allowed.high is not None
    return isinstance(value, (int, float)) and allowed.low <= value <= allowed.high


def objective(search: SearchConfig, cell: Cell, transfer: Artifact) -> float:
    """Mean dev accuracy (of answers F1) of a finished cell over the languages that count, 0-1.

    Raises:
        DataError: the cell was not scored on dev items of such a language.
    """
    import pyarrow.parquet as pq

    rule = cell.config.fine_tuning.selection[0]
    wanted = counted_languages(search, cell)
    rows = pq.ParquetFile(transfer.path / "scores.parquet").read().to_pylist()
    values = [
        float(row["value"])
        for row in rows
        if (row["task"], row["split"], row["selection"]) == (cell.key.task, "dev", rule)
        and row["metric"] in ("accuracy", "f1")
        and row["language"] in wanted
    ]
    if len(values) < len(wanted):
        raise DataError(
            f"no dev accuracy in {', '.join(sorted(wanted))}",
            place=transfer.address,
            cure="A search is judged on dev items: give items.dev in these languages.",
        )
    return sum(values) / len(values)


def counted_languages(search: SearchConfig, cell: Cell) -> frozenset[str]:
    """The languages whose dev accuracy is a cell's objective."""
    if search.languages == "target":
        from weam_ray.study.results import target_languages

        config, task = cell.config, cell.key.task
        scored = config.questions[task] if task in config.questions else config.items
        source = config.fine_tuning.train_language
        return frozenset(target_languages(cell.key.pair, source, scored.languages))
    return frozenset(search.languages)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial as it stands."""

    number: int
    state: Literal["complete", "pruned", "failed", "running"]
    parameters: Parameters
    values: Sequence[float]
    """Objective of each cell that was run, in the order of the grid."""

    @property
    def value(self) -> float | None:
        """The objective; of a trial that was not run to its end, None."""
        whole = self.state == "complete" and self.values
        return sum(self.values) / len(self.values) if whole else None


def best(trials: Sequence[TrialResult]) -> TrialResult | None:
    """The complete trial with the highest objective, the earliest of equals."""
    complete = [trial for trial in trials if trial.value is not None]
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def outline(study: StudyConfig, plan: Plan, estimate: Estimate) -> str:
    """What a search adds to a plan: cells at most, and their time where that of the grid's is
    known.
    """
    search = study.search
    assert search is not None
    cells = sum(cell.key.method == search.method for cell in plan.cells)
    text = (
        f"then a search of {search.trials} trials, of at most {cells} cells each"
        f" ({', '.join(search.space)}); judged by dev accuracy"
    )
    each = [
        one.seconds / one.to_run
        for one in estimate.stages
        if one.stage in ("encoder", "transfer") and one.to_run and one.seconds
    ]
    if not each:
        return text
    hours = sum(each) * cells * search.trials / estimate.at_once / 3600
    return f"{text}; at most about {hours:,.1f} h more"


def write_trials(trials: Sequence[TrialResult], folder: Path) -> list[Path]:
    """``trials.csv``, and ``tuned.yaml`` to paste into a study file's ``methods``."""
    import csv

    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "trials.csv"
    names = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
    with open(table, "w", encoding="utf8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["trial", "state", "dev_accuracy", "cells", *names])
        for trial in trials:
            value = "" if trial.value is None else f"{trial.value:.6f}"
            own = [trial.parameters.get(name, "") for name in names]
            rows.writerow([trial.number, trial.state, value, len(trial.values), *own])
    chosen = best(trials)
    if chosen is None:
        return [table]
    settings: dict[str, dict[str, Value]] = {}
    for setting, found in chosen.parameters.items():
        part, _, key = setting.partition(".")
        settings.setdefault(part, {})[key] = found
    tuned = folder / "tuned.yaml"
    tuned.write_text(
        f"# Trial {chosen.number}: dev accuracy {chosen.value:.4f}. Chosen on dev items.\n"
        + yaml.safe_dump(settings, sort_keys=True),
        encoding="utf8",
    )
    return [table, tuned]


def search_problems(study: StudyConfig) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What is wrong with a study's ``search``: (key, what, cure)."""
    from weam_ray.study.methods import describe_method, varied

    search = study.search
    if search is None:
        return
    method = describe_method(study, search.method)
    if search.method not in study.grid.method or method is None:
        yield ("search", "method"), f"grid.method does not name {search.method}", "Add it there."
        return
    if study.report_split == "dev":
        what = "a search chooses on dev items, so claims can't be made on them too"
        yield ("report_split",), what, "Report on test, or take search out."
    if study.items.dev is None:
        yield ("items", "dev"), "a search is judged on dev items", "Give their path."
    for code in () if search.languages == "target" else search.languages:
        if code not in study.items.languages:
            yield ("search", "languages"), f"items.languages does not name {code}", "Add it."
    for setting, allowed in search.space.items():
        part, _, key = setting.partition(".")
        config, own = getattr(study, part), getattr(method, part)
        if key not in type(config).model_fields:
            near = difflib.get_close_matches(key, type(config).model_fields, n=1)
            cure = f"Did you mean {part}.{near[0]}?" if near else ""
            yield ("search", "space", setting), f"{part} has no setting {key}", cure
            continue
        for value in allowed.ends():
            try:
                varied(config, {**own, key: value})
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                yield ("search", "space", setting), f"{value!r} can't be: {reason}", ""
