"""A study on files of a few bytes: enough to plan, nothing to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from weam_ray.artifacts import Step, Store, Work
from weam_ray.errors import ConfigError
from weam_ray.study.config import StudyConfig
from weam_ray.study.estimate import Estimate, Machine, estimate
from weam_ray.study.grid import Grid, expand
from weam_ray.study.plan import Plan, make_plan
from weam_ray.study.reading import read_study

LANGUAGES = ("en", "de", "fr")
DOMAINS = {"law": ("de", "fr"), "talks": ("de",)}
"""There is no talks text in French."""
PAIRS = 12
"""Lines of every bitext."""


def write_data(folder: Path) -> None:
    """Bitexts, monolingual text and items, told apart by their content."""
    for language in LANGUAGES:
        for name in ("mono", "train", "dev", "test"):
            _write(folder / f"{name}.{language}", f"{name} {language}")
    for domain, targets in DOMAINS.items():
        for target in targets:
            for side in ("en", target):
                _write(folder / f"{domain}.en-{target}.{side}", f"{domain} {target} {side}", PAIRS)


def _write(path: Path, text: str, lines: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n" * lines, encoding="utf8")


def settings(**changes: Any) -> dict[str, Any]:
    """A study file's content, some of it replaced."""
    study: dict[str, Any] = {
        "name": "small",
        "title": "A small study",
        "texts": "{data_dir}/mono.{language}",
        "text_languages": list(LANGUAGES),
        "bitext": {
            "source": "{data_dir}/{domain}.{source}-{target}.{source}",
            "target": "{data_dir}/{domain}.{source}-{target}.{target}",
        },
        "items": {
            "train": "{data_dir}/train.{language}",
            "dev": "{data_dir}/dev.{language}",
            "test": "{data_dir}/test.{language}",
            "languages": list(LANGUAGES),
        },
        "base": {"layers": 1, "hidden": 8, "heads": 1, "intermediate": 8, "steps": 5},
        "pretraining": {"steps": 4, "batch_size": 2, "max_length": 16},
        "transfer": {"steps": 3, "batch_size": 2, "max_length": 16},
        "grid": {"domain": "law", "pair": "en-de", "size": [2, 4], "method": ["none", "weam"]},
    }
    if "model" in (changes.get("base") or {}):
        del study["base"]  # whose shape is of one from scratch
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(study.get(name), dict):
            study[name] = {**study[name], **value}
        else:
            study[name] = value
    return study


def write_study(folder: Path, **changes: Any) -> Path:
    """A study file beside its data; storage goes below ``folder``."""
    write_data(folder / "data")
    place = {"data_dir": str(folder / "data"), "storage": str(folder / "storage")}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**settings(), **place, **settings(**changes)}, sort_keys=False))
    return path


def read_small(folder: Path, *overrides: str, **changes: Any) -> StudyConfig:
    """The study of :func:`write_study`, read."""
    return read_study(write_study(folder, **changes), overrides)


def plan_of(study: StudyConfig) -> Plan:
    """Its plan, with the store that its storage names."""
    return make_plan(study, study.data_dir, store_of(study))


def store_of(study: StudyConfig) -> Store:
    """The store that a sweep of this study would use."""
    return study.open_store()


FACTS: dict[str, dict[str, Any]] = {
    "corpus": {"rows_read": 5, "rows_kept": 4, "dropped": {"duplicate": 1}},
    "items": {"by_split": {"train/en": {"items": 7}}},
    "tokens": {"items": 7, "truncated": 0},
}


def pretend(step: Step, store: Store, facts: Mapping[str, Any] | None = None) -> None:
    """Put an output of a step into the store without doing its work."""

    def maker(work: Work) -> None:
        if step.stage == "items":
            write_items(work.out)
        else:
            (work.out / "output").write_text(step.address)
        work.facts.update(FACTS.get(step.stage, {}) if facts is None else facts)

    store.make(step, maker, {name: _stub(one, store) for name, one in step.upstream.items()})


def write_items(folder: Path) -> None:
    """Seven training items in English, two dev and two test items in every language."""
    rows = [("train", "en", f"t{number}") for number in range(7)]
    for split in ("dev", "test"):
        rows += [(split, code, f"{split}{number}") for number in range(2) for code in LANGUAGES]
    names = ("split", "language", "item")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    pq.write_table(table, folder / "items.parquet")


def _stub(step: Step, store: Store) -> Any:
    found = store.find(step)
    assert found is not None, f"{step.address} comes first"
    return found


MACHINE = Machine(cpus=2, memory=2**34, disk_free=2**34)


def run(plan: Plan, store: Store, *, only: str | None = None) -> None:
    """Pretend to make what a plan lacks, or the steps of one stage with what they build on."""
    for address, step in plan.steps.items():
        if address in plan.missing and only in (None, step.stage):
            for needed in step.chain().values():
                pretend(needed, store)


def estimate_of(study: StudyConfig, machine: Machine = MACHINE, **rest: Any) -> Estimate:
    """What a plan of the study costs on a machine."""
    return estimate(plan_of(study), store_of(study), study.resources, machine, **rest)


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read_study(path, overrides)
    return str(raised.value)


def line_of(path: Path, start: str) -> int:
    lines = path.read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.strip().startswith(start))


def grid_of(study: StudyConfig) -> Grid:
    return expand(study, study.data_dir)


def labels(grid: Grid) -> list[str]:
    return [cell.key.label for cell in grid.cells]
