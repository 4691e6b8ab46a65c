"""From the factors of a study file to its cells, and to the holes where there is no data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from weam_ray.corpus.config import CorpusConfig
from weam_ray.errors import ConfigError
from weam_ray.experiment import Experiment, ExperimentConfig, SharedSteps
from weam_ray.identity import StageConfig
from weam_ray.study.config import CellFactors, Factors, MethodConfig, StudyConfig
from weam_ray.study.inputs import Bitexts, find_gold, find_items, find_questions, find_texts
from weam_ray.study.methods import describe_method, method_names, reads_bitext, reads_links, varied
from weam_ray.study.tasks import XNLI, evaluated_languages, fine_tuning, other_language
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import QuestionsConfig

Config = TypeVar("Config", bound=StageConfig)

NO_SEED = -1
"""A seed that a cell does not have."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CellKey:
    """A cell by its factors: the columns of a result row."""

    domain: str
    pair: str
    size: int
    method: str
    regime: str
    subset_seed: int
    pretraining_seed: int
    finetuning_seed: int
    setting: str = "zero-shot"
    task: str = XNLI
    target: str = ""
    """Language that fine-tuning trains on under ``translate-train``; else empty."""
    budget: str = ""
    """How long pre-training lasts, where the grid says so: ``1 epoch``."""

    @property
    def label(self) -> str:
        """A short name for people and for log files."""
        setting = "" if self.task == XNLI else f".{self.task}"
        setting += "" if self.setting == "zero-shot" else f".{self.setting}"
        if not self.domain:
            target = f".{self.target}" if self.target else ""
            return f"{self.method}{setting}{target}.s{self.finetuning_seed}"
        seeds = f"s{self.pretraining_seed}"
        if self.subset_seed != self.pretraining_seed:
            seeds += f"-u{self.subset_seed}"
        if self.finetuning_seed != self.pretraining_seed:
            seeds += f"-f{self.finetuning_seed}"
        regime = f".{self.regime}" if self.regime not in ("", "pool") else ""
        budget = f".{self.budget.replace(' ', '-')}" if self.budget else ""
        rest = f"{regime}{budget}{setting}"
        return f"{self.domain}.{self.pair}.{self.size}.{self.method}{rest}.{seeds}"

    @property
    def reported_method(self) -> str:
        """What a report calls the method: with its budget, for two budgets are two curves."""
        return f"{self.method} ({self.budget})" if self.budget else self.method

    def factors(self) -> dict[str, Any]:
        """The factors by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A point of the grid and its experiment."""

    key: CellKey
    config: ExperimentConfig
    shared: SharedSteps = field(default_factory=SharedSteps, compare=False, repr=False)
    """With the other cells of its grid."""

    @cached_property
    def experiment(self) -> Experiment:
        """The cell's steps (reads input files once, for their hashes)."""
        return Experiment(self.config, self.shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A point of the grid that can't be run, and why."""

    key: CellKey
    reason: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All points of a study."""

    cells: tuple[Cell, ...]
    holes: tuple[Hole, ...]
    excluded: tuple[int, ...] = ()
    """Points that each pattern of ``exclude`` left out."""


def expand(study: StudyConfig, data_dir: Path | None) -> Grid:
    """Cross the factors; every point is a cell or a hole, each once, in the order of the file.

    Raises:
        ConfigError: an unknown method, or settings of a method that can't be.
        DataError: text or items that every cell needs are not there.
    """
    keys = dict.fromkeys(
        key for factors in (study.grid, *study.extra) for key in _cross(study, factors)
    )
    excluded = [0] * len(study.exclude)
    cells: list[Cell] = []
    holes: list[Hole] = []
    builder, shared = _Builder(study, data_dir), SharedSteps()
    for key in keys:
        patterns = [place for place, one in enumerate(study.exclude) if _matches(one, key)]
        if patterns:
            excluded[patterns[0]] += 1
            continue
        found = builder.experiment(key)
        if isinstance(found, str):
            holes.append(Hole(key=key, reason=found))
        else:
            cells.append(Cell(key=key, config=found, shared=shared))
    return Grid(cells=tuple(cells), holes=tuple(holes), excluded=tuple(excluded))


def _cross(study: StudyConfig, factors: Factors) -> Iterator[CellKey]:
    def seeds(own: tuple[int, ...] | None) -> tuple[int | None, ...]:
        return (None,) if own is None else own

    for name in factors.method:
        method = _method(study, name)
        bitext, links = reads_bitext(study, method), reads_links(study, method)
        texts = itertools.product(
            factors.domain, factors.pair, factors.size, factors.regime, factors.budget or ("",)
        )
        uses = itertools.product(
            factors.task,
            factors.setting or (None,),
            factors.seed,
            seeds(factors.subset_seed),
            seeds(factors.pretraining_seed),
            seeds(factors.finetuning_seed),
        )
        for text, use in itertools.product(texts, uses):
            domain, pair, size, regime, budget = text
            task, setting, seed, subset, pretraining, finetuning = use
            last = seed if finetuning is None else finetuning
            if setting is None:
                setting = fine_tuning(study, task).setting
            # A factor that a method does not have must not split its cells: without bitext there
            # is fine-tuning alone, without links no regime.
            yield CellKey(
                domain=domain if bitext else "",
                pair=pair if bitext else "",
                size=size if bitext else 0,
                method=name,
                regime=regime if links else "",
                subset_seed=(seed if subset is None else subset) if bitext else NO_SEED,
                pretraining_seed=(seed if pretraining is None else pretraining)
                if bitext
                else NO_SEED,
                finetuning_seed=last,
                setting=setting,
                task=task,
                target=other_language(study, task, pair) if setting == "translate-train" else "",
                budget=budget if bitext else "",
            )


def _matches(pattern: CellFactors, key: CellKey) -> bool:
    wanted = pattern.model_dump(exclude_none=True)
    if "seed" in wanted:
        name = "finetuning_seed" if key.pretraining_seed == NO_SEED else "pretraining_seed"
        wanted[name] = wanted.pop("seed")
    return all(getattr(key, name) == value for name, value in wanted.items())


def _method(study: StudyConfig, name: str) -> MethodConfig:
    method = describe_method(study, name)
    if method is None:
        raise ConfigError(
            f"unknown method {name!r}",
            place="grid.method",
            cure=f"Known: {', '.join(method_names(study))}; or describe it under methods.",
        )
    return method


class _Builder:
    """Makes cells' experiments. What many cells share is read and validated once."""

    def __init__(self, study: StudyConfig, data_dir: Path | None) -> None:
        self._study = study
        self._bitexts = Bitexts(study, data_dir)
        self._items = find_items(study, data_dir)
        self._questions = find_questions(study, data_dir)
        self._diagnostics = find_gold(study, data_dir)
        self._texts = find_texts(study, data_dir)
        self._known: dict[tuple[Any, ...], Any] = {}

    def experiment(self, key: CellKey) -> ExperimentConfig | str:
        """A point's experiment, or why there can't be one."""
        study = self._study
        corpora: tuple[CorpusConfig, ...] = ()
        if key.domain:
            found = [self._bitexts.find(key.domain, pair) for pair in key.pair.split("+")]
            missing = [one for one in found if isinstance(one, str)]
            if missing:
                return missing[0]
            corpora = tuple(one for one in found if not isinstance(one, str))
        tuning = self._fine_tuning(key)
        if (reason := self._cannot_be_scored(key, tuning)) is not None:
            return reason
        # Without bitext the seed of pre-training is never used, and must not split what is shared.
        seed = key.pretraining_seed if corpora else study.pretraining.seed
        regime = key.regime or study.alignment.regime
        return ExperimentConfig(
            corpora=corpora,
            size=key.size or None,
            subset_seed=key.subset_seed if corpora else 0,
            at_most=study.bitext.smaller == "whole" and len(corpora) > 1,
            alignment=self._varied(key.method, "alignment", study.alignment, regime=regime),
            items=self._items,
            texts=self._texts,
            vocabulary=study.vocabulary,
            base=self._varied(key.method, "base", study.base),
            pretraining=self._varied(
                key.method, "pretraining", study.pretraining, seed=seed, **_budget(key.budget)
            ),
            task=key.task,
            questions=self._questions,
            diagnostics=self._diagnostics,
            licences=study.licences,
            **tuning,
        )

    def _cannot_be_scored(self, key: CellKey, tuning: Mapping[str, Any]) -> str | None:
        """Why a point's task has no data for it; None where it has."""
        place, what = "items", "items"
        asked: ItemsConfig | QuestionsConfig = self._items
        config: FineTuningConfig = tuning["transfer"]
        if key.task != XNLI:
            place, what = f"questions.{key.task}", f"{key.task} questions"
            asked, config = self._questions[key.task], tuning["qa"]
        if "+" in key.target:
            return f"translate-train trains on one language, not {key.target}: there is -all"
        others = other_language(self._study, key.task, key.pair) if key.pair else ""
        for other in filter(None, others.split("+")):
            if other not in asked.languages:
                return f"no {what} in {other}: {place}.languages does not name it"
        for own in config.source_languages:
            if own not in asked.train_languages:
                return f"no training {what} in {own}: {place}.train_languages does not name it"
        return None

    def _fine_tuning(self, key: CellKey) -> dict[str, Any]:
        study = self._study
        config = fine_tuning(study, key.task)
        changes: dict[str, Any] = {"seed": key.finetuning_seed, "setting": key.setting}
        if key.target:
            changes["target_languages"] = (key.target,)
        elif key.setting in ("translate-train-all", "few-shot") and not config.target_languages:
            # Not target_languages: all that there is stays evaluated, other sets' languages too.
            changes["trained_targets"] = tuple(
                language
                for language in evaluated_languages(study, key.task)
                if language != config.train_language
            )
        if key.task == XNLI:
            return {"transfer": self._varied(key.method, "transfer", study.transfer, **changes)}
        changes["task"] = key.task
        return {
            "transfer": study.transfer,
            "qa": self._varied(key.method, "qa", study.qa, **changes),
        }

    def _varied(self, method: str, part: str, config: Config, **changes: Any) -> Config:
        own: Mapping[str, Any] = getattr(_method(self._study, method), part)

        def make() -> Config:
            try:
                return varied(config, {**own, **changes})
            except ValidationError as error:
                detail = error.errors()[0]
                raise ConfigError(
                    f"{'.'.join(map(str, detail['loc']))} = {detail.get('input')!r}:"
                    f" {detail['msg']}",
                    place=f"methods.{method}.{part}",
                ) from None

        return self._once((method, part, *changes.items()), make)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Config]) -> Config:
        if key not in self._known:
            self._known[key] = make()
        known: Config = self._known[key]
        return known


def _budget(rule: str) -> dict[str, int | float | None]:
    """A budget rule as settings of pre-training."""
    amount, _, unit = rule.partition(" ")
    if unit == "steps":
        return {"steps": int(amount), "epochs": None}
    return {"steps": None, "epochs": float(amount)} if unit else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Pairs of a corpus: those kept, or, as long as it isn't cleaned, those there are at most."""

    count: int
    cleaned: bool


def without_oversized(grid: Grid, rows: Mapping[str, Rows]) -> Grid:
    """Turn cells whose corpora are smaller than the size into holes.

    Args:
        rows: of each corpus, by the address of its step, as far as they are known.
    """
    cells: list[Cell] = []
    holes = list(grid.holes)
    for cell in grid.cells:
        small = [
            f"the {cell.key.domain} {cell.key.pair} corpus holds {known.count:,} pairs"
            f" {'after' if known.cleaned else 'before'} cleaning, not {cell.key.size:,}"
            for step in cell.experiment.corpora
            if (known := rows.get(step.address)) is not None and known.count < cell.key.size
        ]
        # Of several corpora that are read together one at least must have what the size says.
        if small and (not cell.config.at_most or len(small) == len(cell.experiment.corpora)):
            holes.append(Hole(key=cell.key, reason=small[0]))
        else:
            cells.append(cell)
    return Grid(cells=tuple(cells), holes=tuple(holes), excluded=grid.excluded)
