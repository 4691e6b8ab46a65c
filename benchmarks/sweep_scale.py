"""Cells of no work at all, and what planning, resuming and reporting them takes.

benchmarks/sweep.py starts this file, each phase as a process of its own, as a person would start
``weam-ray``; nobody else does::

    sweep_scale.py PHASE FOLDER SHAPE CELLS

``plan``: ``weam-ray plan`` of a study of which nothing is done. ``half``: what ``weam-ray sweep``
does up to its first job, with half of the cells done. ``resume``: the same with all of them done.
``report``: ``weam-ray report``. ``make`` pretends the cells' work: their artifacts are of the
stages' own files and sizes, but for weights, and go through the store as any.

Shapes: a study grows by its seeds (``deep``) or by its configurations (``wide``).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "study"))

TARGETS = ("de", "fr", "es", "el", "bg", "ru", "tr")
SIZES = tuple(2**power for power in range(10))
METHODS = ("tlm", "weam")
ITEMS = 90
"""Of each split and language."""


@dataclass(frozen=True)
class Shape:
    """A study by what it crosses, beside every pair and method."""

    domains: int = 1
    seeds: int = 2
    sizes: tuple[int, ...] = SIZES

    @classmethod
    def of(cls, name: str, cells: int) -> Shape:
        """About so many cells."""
        each = len(TARGETS) * len(SIZES) * len(METHODS)
        if name == "deep":
            return cls(seeds=max(1, round(cells / each)))
        return cls(domains=max(1, round(cells / (3 * each))), seeds=3)

    def settings(self) -> dict[str, Any]:
        """The grid of a study file."""
        return {
            "domain": [f"domain{number}" for number in range(self.domains)],
            "pair": [f"en-{code}" for code in TARGETS],
            "size": list(self.sizes),
            "method": ["none", "random", *METHODS],
            "seed": list(range(self.seeds)),
        }


FEW = Shape(sizes=SIZES[:2])


def write(folder: Path, shape: Shape) -> None:
    """The study file beside its data."""
    import planned_study

    planned_study.DOMAINS = {f"domain{number}": TARGETS for number in range(shape.domains)}
    planned_study.LANGUAGES = ("en", *TARGETS)
    planned_study.PAIRS = SIZES[-1] + 100  # a size beyond the files would be a hole
    items = {name: f"{{data_dir}}/{name}.{{language}}" for name in ("train", "dev", "test")}
    folder.mkdir(parents=True, exist_ok=True)
    planned_study.write_study(
        folder,
        items={**items, "languages": ["en", *TARGETS]},
        text_languages=["en", *TARGETS],
        resources={"base_threads": 1},  # or a plan on one core is refused
        grid=shape.settings(),
    )


def prepared(folder: Path, *overrides: str) -> tuple[Any, Any, Any]:
    """Study, plan and store, as every command begins."""
    from weam_ray.study.data import find_data
    from weam_ray.study.plan import make_plan
    from weam_ray.study.reading import read_study

    study = read_study(folder / "small.yaml", overrides)
    store = study.open_store()
    return study, make_plan(study, find_data(study, store), store), store


def command(*words: str) -> None:
    from weam_ray.__main__ import main

    with contextlib.redirect_stdout(sys.stderr):
        if status := main(words):
            raise SystemExit(status)


def plan(folder: Path) -> None:
    empty = f"storage={folder / 'empty'}"
    command("plan", str(folder / "small.yaml"), "--no-calibrate", "--set", empty)


def resume(folder: Path) -> int:
    """Returns the number of steps that would be made, by jobs or beside them."""
    from weam_ray.on_ray.jobs import PlannedJobs, cell_jobs, shared_jobs
    from weam_ray.sweep import refuse_what_cannot_run

    study, found, store = prepared(folder)
    refuse_what_cannot_run(study, found, store)
    jobs = PlannedJobs(shared_jobs(found, study.resources), store)
    jobs.add(cell_jobs(found, study.resources))
    waiting = len(jobs.waiting())
    assert (jobs.take(None) is None) == (waiting == 0)
    return len(found.missing)


def half(folder: Path) -> None:
    assert resume(folder) or folder.name == "few", "nothing is left to run"


def all_done(folder: Path) -> None:
    assert not resume(folder), "something would run again"


def report(folder: Path) -> None:
    command("report", str(folder / "small.yaml"))
    figures = list((folder / "storage" / "studies" / "small" / "figures").glob("*.svg"))
    assert figures, "a gate failed: the report had less to say than it should"


def make(folder: Path) -> None:
    _, found, store = prepared(folder)
    named = {cell.experiment.transfer.address: cell.key for cell in found.cells}
    for address, step in found.steps.items():
        if address in found.missing:
            pretend(step, store, named.get(address))


FACTS: dict[str, dict[str, Any]] = {
    "corpus": {"rows_read": 2000, "rows_kept": 1500, "dropped": {}},
    "links": {"pairs": 1500, "words": {"source": 1}, "linked_share": {"source": 1.0}},
    "encoder": {"steps": 4, "epochs_by_set": {"one": 1.0}},
    "divergence": {"sides": []},
}
_WEIGHTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_FILES = {"encoder": (*_WEIGHTS, "README.md", "curve.parquet"), "transfer": ("curve.parquet",)}


def pretend(step: Any, store: Any, key: Any) -> None:
    """Put an output of a step into the store without doing its work."""
    from planned_study import write_items

    def maker(work: Any) -> None:
        if step.stage == "items":
            write_items(work.out)
        for name in _FILES.get(step.stage, ("output",)):
            (work.out / name).write_text(step.address)
        if step.stage == "transfer":
            write_scores(work, key)
        elif step.stage in ("retrieval", "probe", "sanity"):
            write_diagnostic(work)
        work.facts.update(FACTS.get(step.stage, {}))

    store.make(step, maker, {name: store.find(one) for name, one in step.upstream.items()})


def write_scores(work: Any, key: Any) -> None:
    """Of every item's answers some are right: more of them, the more a method has learnt."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = drawing(work)
    gains = {"random": -0.3, "tlm": 0.01, "weam": 0.02 + 0.01 * np.log2(max(key.size, 1))}
    chance = min(0.95, 0.65 + gains.get(key.method, 0.0) + 0.005 * draw.standard_normal())
    languages, splits = ("en", *TARGETS), ("dev", "test")
    groups = [(language, split) for split in splits for language in languages]
    gold = np.tile(np.arange(ITEMS) % 3, len(groups)).astype(np.int8)
    right = draw.random(len(gold)) < chance
    predicted = np.where(right, gold, (gold + 1) % 3).astype(np.int8)
    likely = np.full((len(gold), 3), np.log(1 / 3), np.float32)
    table = {
        "task": ["xnli"] * len(gold),
        "language": np.repeat([language for language, _ in groups], ITEMS),
        "split": np.repeat([split for _, split in groups], ITEMS),
        "selection": ["source-dev"] * len(gold),
        "item": [f"{split}{n}" for _, split in groups for n in range(ITEMS)],
        "gold": gold,
        "predicted": predicted,
        "log_probabilities": list(likely),
    }
    pq.write_table(pa.table(table), work.out / "predictions.parquet", compression="zstd")
    scores = []
    for place, (language, split) in enumerate(groups):
        rows = slice(place * ITEMS, (place + 1) * ITEMS)
        shares = {f"share_{k}": float((predicted[rows] == k).mean()) for k in range(3)}
        value = float(right[rows].mean())
        scores.append(score_row(language, split, "encoder", value) | shares)
    pq.write_table(pa.Table.from_pylist(scores), work.out / "scores.parquet")


def drawing(work: Any) -> Any:
    """Random numbers that are the step's own, as its results would be."""
    import numpy as np

    return np.random.default_rng(int(work.step.address.rpartition("/")[2][:8], 16))


def score_row(language: str, split: str, system: str, value: float) -> dict[str, Any]:
    return {
        "task": "xnli",
        "language": language,
        "split": split,
        "selection": "source-dev",
        "system": system,
        "metric": "accuracy",
        "value": value,
        "n": ITEMS,
    }


def write_diagnostic(work: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = drawing(work)
    if work.step.stage == "retrieval":
        ways = ("to_target", "to_source", "centred_to_target", "centred_to_source")
        rows = [
            {"language": code, "accuracy": draw.random(), "shared_subwords": 0.1, "n": ITEMS}
            | {way: draw.random(13).tolist() for way in ways}
            for code in TARGETS
        ]
        pq.write_table(pa.Table.from_pylist(rows), work.out / "retrieval.parquet")
        return
    if work.step.stage == "probe":
        systems, splits = ("frozen-probe", "frozen-probe-centred"), ("dev",)
    else:
        systems, splits = ("majority", "hypothesis-only", "word-overlap-only"), ("dev", "test")
    found = [
        score_row(language, split, system, 0.34 + 0.02 * draw.random())
        for split in splits
        for language in ("en", *TARGETS)
        for system in systems
    ]
    pq.write_table(pa.Table.from_pylist(found), work.out / "scores.parquet")


PHASES: dict[str, Callable[[Path], None]] = {
    "plan": plan,
    "half": half,
    "resume": all_done,
    "report": report,
}


def measured(phase: Callable[[Path], None], folder: Path) -> dict[str, float]:
    """Seconds, CPU seconds and the largest memory (bytes) of the process up to now."""
    started, cpu = time.monotonic(), time.process_time()
    phase(folder)
    return {
        "seconds": time.monotonic() - started,
        "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main(phase: str, place: str, name: str, cells: str) -> None:
    folder, few = Path(place), Path(place) / "few"
    if phase in ("write", "make"):
        write(folder, Shape.of(name, int(cells)))
        write(few, FEW)
    if phase == "make":
        make(folder)
        make(few)
    if phase in PHASES:
        # On a few cells first, so that imports and first uses are counted apart.
        found = {"start": measured(PHASES[phase], few), "own": measured(PHASES[phase], folder)}
        print(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    main(*sys.argv[1:])
