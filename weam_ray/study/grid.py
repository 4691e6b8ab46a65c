"""From the factors of a study file to its cells, and to the holes where there is no data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from weam_ray.corpus.config import CorpusConfig
from weam_ray.errors import ConfigError, DataError
from weam_ray.experiment import Experiment, ExperimentConfig
from weam_ray.identity import StageConfig
from weam_ray.pretraining.config import Objective
from weam_ray.study.config import CellFactors, Factors, MethodConfig, StudyConfig

Config = TypeVar("Config", bound=StageConfig)

WITHOUT_BITEXT = ("none", "random")
"""Methods that read no bilingual text: one cell a fine-tuning seed, whatever the domain or pair."""


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

    @property
    def label(self) -> str:
        """A short name for people and for log files."""
        seeds = f"s{self.pretraining_seed}"
        if self.subset_seed != self.pretraining_seed:
            seeds += f"-u{self.subset_seed}"
        if self.finetuning_seed != self.pretraining_seed:
            seeds += f"-f{self.finetuning_seed}"
        if self.method in WITHOUT_BITEXT:
            return f"{self.method}.{seeds}"
        regime = "" if self.regime == "pool" else f".{self.regime}"
        return f"{self.domain}.{self.pair}.{self.size}.{self.method}{regime}.{seeds}"

    def factors(self) -> dict[str, Any]:
        """The factors by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A point of the grid and its experiment."""

    key: CellKey
    config: ExperimentConfig

    @cached_property
    def experiment(self) -> Experiment:
        """The cell's steps (reads input files once, for their hashes)."""
        return Experiment(self.config)


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


def expand(study: StudyConfig, data_dir: Path | None) -> Grid:
    """Cross the factors; every point is a cell or a hole, each once, in the order of the file.

    Raises:
        ConfigError: an unknown method, or settings of a method that can't be.
    """
    keys: dict[CellKey, None] = {}
    for factors in (study.grid, *study.extra):
        for key in _cross(factors):
            if not any(_matches(pattern, key) for pattern in study.exclude):
                keys.setdefault(key)
    cells: list[Cell] = []
    holes: list[Hole] = []
    known = _Corpora(study, data_dir)
    for key in keys:
        corpus = None if key.method in WITHOUT_BITEXT else known.corpus(key.domain, key.pair)
        if isinstance(corpus, str):
            holes.append(Hole(key=key, reason=corpus))
        else:
            cells.append(Cell(key=key, config=_experiment(study, key, corpus, data_dir)))
    return Grid(cells=tuple(cells), holes=tuple(holes))


def _cross(factors: Factors) -> Iterator[CellKey]:
    def seeds(own: tuple[int, ...] | None) -> tuple[int | None, ...]:
        return (None,) if own is None else own

    for (
        method,
        domain,
        pair,
        size,
        regime,
        seed,
        subset,
        pretraining,
        finetuning,
    ) in itertools.product(
        factors.method,
        factors.domain,
        factors.pair,
        factors.size,
        factors.regime,
        factors.seed,
        seeds(factors.subset_seed),
        seeds(factors.pretraining_seed),
        seeds(factors.finetuning_seed),
    ):
        last = seed if finetuning is None else finetuning
        if method in WITHOUT_BITEXT:
            # Nothing before fine-tuning has a seed here, so cells differ in the last one alone.
            yield CellKey(
                domain="",
                pair="",
                size=0,
                method=method,
                regime="",
                subset_seed=last,
                pretraining_seed=last,
                finetuning_seed=last,
            )
        else:
            yield CellKey(
                domain=domain,
                pair=pair,
                size=size,
                method=method,
                regime=regime,
                subset_seed=seed if subset is None else subset,
                pretraining_seed=seed if pretraining is None else pretraining,
                finetuning_seed=last,
            )


def _matches(pattern: CellFactors, key: CellKey) -> bool:
    wanted = pattern.model_dump(exclude_none=True)
    if "seed" in wanted:
        wanted["pretraining_seed"] = wanted.pop("seed")
    return all(getattr(key, name) == value for name, value in wanted.items())


class _Corpora:
    """The bitexts of a study by domain and pair; a reason in their place where there is none."""

    def __init__(self, study: StudyConfig, data_dir: Path | None) -> None:
        self._study = study
        self._data_dir = data_dir
        self._known: dict[tuple[str, str], CorpusConfig | str] = {}

    def corpus(self, domain: str, pair: str) -> CorpusConfig | str:
        if (domain, pair) not in self._known:
            self._known[domain, pair] = self._look(domain, pair)
        return self._known[domain, pair]

    def _look(self, domain: str, pair: str) -> CorpusConfig | str:
        bitext = self._study.bitext
        source, _, target = pair.partition("-")
        names = {"domain": domain, "source": source, "target": target}
        paths = {
            side: fill_pattern(pattern, f"bitext.{side}", self._data_dir, **names)
            for side in ("source", "target", "gold")
            if (pattern := getattr(bitext, side)) is not None
        }
        config = CorpusConfig(
            domain=domain,
            source_language=source,
            target_language=target,
            segmenter=bitext.segmenter,
            cleaning=bitext.cleaning,
            contamination=bitext.contamination,
            **paths,
        )
        missing = [str(path) for path in paths.values() if not path.exists()]
        if missing:
            return f"no {domain} text for {pair}: {missing[0]} is not there"
        return config


def _experiment(
    study: StudyConfig, key: CellKey, corpus: CorpusConfig | None, data_dir: Path | None
) -> ExperimentConfig:
    method = _method(study, key.method)
    pretraining = {**method.pretraining, "seed": key.pretraining_seed}
    if corpus is None:
        pretraining["seed"] = study.pretraining.seed  # not run: must not split what is shared
    alignment = {**method.alignment, "regime": key.regime or study.alignment.regime}
    return ExperimentConfig(
        corpora=() if corpus is None else (corpus,),
        size=key.size or None,
        subset_seed=key.subset_seed if corpus else 0,
        alignment=_varied(study.alignment, alignment, f"methods.{key.method}.alignment"),
        items=_items(study, data_dir),
        texts=_texts(study, data_dir),
        vocabulary=study.vocabulary,
        base=_varied(study.base, method.base, f"methods.{key.method}.base"),
        pretraining=_varied(study.pretraining, pretraining, f"methods.{key.method}.pretraining"),
        transfer=_varied(study.transfer, {"seed": key.finetuning_seed}, "transfer"),
    )


def _method(study: StudyConfig, name: str) -> MethodConfig:
    if name in study.methods:
        return study.methods[name]
    if name == "random":
        return MethodConfig(pretraining={"objective": "none"}, base={"steps": 0, "epochs": None})
    if name in get_args(Objective):
        return MethodConfig(pretraining={"objective": name})
    known = sorted({*study.methods, "random", *get_args(Objective)})
    raise ConfigError(
        f"unknown method {name!r}",
        place="grid.method",
        cure=f"Known: {', '.join(known)}; or describe it under methods.",
    )


def _varied(config: Config, changes: dict[str, Any], place: str) -> Config:
    try:
        return type(config).model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        detail = error.errors()[0]
        raise ConfigError(
            f"{'.'.join(map(str, detail['loc']))} = {detail.get('input')!r}: {detail['msg']}",
            place=place,
        ) from None


def _items(study: StudyConfig, data_dir: Path | None) -> Any:
    patterns = {
        split: _fill_data_dir(pattern, f"items.{split}", data_dir)
        for split in ("train", "dev", "test")
        if (pattern := getattr(study.items, split)) is not None
    }
    return study.items.model_copy(update=patterns)


def _texts(study: StudyConfig, data_dir: Path | None) -> dict[str, Path]:
    if study.texts is None:
        return {}
    texts = {
        language: fill_pattern(study.texts, "texts", data_dir, language=language)
        for language in study.text_languages
    }
    for language, path in texts.items():
        if not path.exists():
            raise DataError(
                f"no monolingual text for {language}: {path} is not there",
                place="texts",
                cure="Check data_dir and text_languages.",
            )
    return texts


def _fill_data_dir(pattern: str, place: str, data_dir: Path | None) -> str:
    if "{data_dir}" not in pattern:
        return pattern
    if data_dir is None:
        raise ConfigError(
            f"{pattern!r} needs data_dir",
            place=place,
            cure="Say where the data lies: --set data_dir=FOLDER",
        )
    return pattern.replace("{data_dir}", str(data_dir))


def fill_pattern(pattern: str, place: str, data_dir: Path | None, **names: str) -> Path:
    """A path pattern with its names filled in.

    Raises:
        ConfigError: it needs a name there is none for.
    """
    filled = _fill_data_dir(pattern, place, data_dir)
    try:
        return Path(filled.format(**names))
    except (KeyError, IndexError) as error:
        raise ConfigError(
            f"{pattern!r} uses {error}, which is not known here",
            place=place,
            cure=f"Known names: {{data_dir}}, {', '.join(f'{{{name}}}' for name in names)}.",
        ) from None


def without_oversized(grid: Grid, rows: dict[str, int]) -> Grid:
    """Turn cells whose corpora, now counted, are smaller than the size into holes.

    Args:
        rows: pairs kept of each corpus, by the address of its step.
    """
    cells: list[Cell] = []
    holes = list(grid.holes)
    for cell in grid.cells:
        small = [
            f"the {cell.key.domain} {cell.key.pair} corpus holds {rows[step.address]:,} pairs"
            f" after cleaning, not {cell.key.size:,}"
            for step in cell.experiment.corpora
            if rows.get(step.address, cell.key.size) < cell.key.size
        ]
        if small:
            holes.append(Hole(key=cell.key, reason=small[0]))
        else:
            cells.append(cell)
    return Grid(cells=tuple(cells), holes=tuple(holes))
