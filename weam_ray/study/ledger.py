"""What the store holds of a study, as result rows and as all that its report is written from."""

from __future__ import annotations

import math
import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.artifacts import Artifact, Step, Store, package_versions
from weam_ray.corpus.languages import language_name
from weam_ray.identity import digest
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell, CellKey, Hole
from weam_ray.study.plan import Plan
from weam_ray.study.report_input import (
    AlignerFacts,
    CorpusFacts,
    FailedCell,
    Provenance,
    ReportInput,
    RetrievalFacts,
)
from weam_ray.study.report_input import Gate as ReportedGate
from weam_ray.study.report_input import Hole as ReportedHole
from weam_ray.study.results import Results, View
from weam_ray.transfer.guards import default_gates, evaluate_gates


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What only the run itself knows."""

    command: str
    started: str
    """ISO 8601, UTC."""
    wall_seconds: float


class Shelf:
    """A store whose artifacts are looked up once, however many cells share them."""

    def __init__(self, store: Store) -> None:
        self.root = store.root
        self._store = store
        self._found: dict[str, Artifact | None] = {}

    def find(self, step: Step) -> Artifact | None:
        """The finished artifact of a step, or None."""
        if step.address not in self._found:
            self._found[step.address] = self._store.find(step)
        return self._found[step.address]


def result_rows(cells: Sequence[Cell], store: Store | Shelf) -> pd.DataFrame:
    """One row a finished cell × task × language × split × selection (``results.ROW_COLUMNS``)."""
    tables: list[pa.Table] = []
    columns: list[dict[str, Any]] = []
    for cell in cells:
        done = store.find(cell.experiment.transfer)
        if done is None:
            continue
        tables.append(_read(done.path / "scores.parquet"))
        columns.append(
            {
                **cell.key.factors(),
                **_spent(cell, done, store),
                "cell": done.address,
                "predictions": f"{done.address}/predictions.parquet",
            }
        )
    if not tables:
        return pd.DataFrame()
    # Joined as one table each: a frame a cell takes minutes for thousands of them.
    scores = pa.concat_tables(tables, promote_options="default").to_pandas()
    which = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    own = pd.DataFrame(columns).iloc[which].reset_index(drop=True)
    kept = [name for name in scores.columns if name not in own.columns]
    return pd.DataFrame(pd.concat([scores[kept], own], axis=1))


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:  # much quicker than read_table for many small files
        return file.read()


def _spent(cell: Cell, transfer: Artifact, store: Store | Shelf) -> dict[str, float]:
    """Bilingual pre-training steps, epochs and the cell's own seconds."""
    seconds = float(transfer.record["seconds"])
    if cell.config.pretraining.objective == "none":
        return {"steps": 0, "epochs": 0.0, "seconds": seconds}
    encoder = store.find(cell.experiment.encoder)
    if encoder is None:  # cleared away after its cell was finished
        return {"steps": 0, "epochs": math.nan, "seconds": seconds}
    epochs = encoder.facts.get("epochs_by_set", {})
    return {
        "steps": int(encoder.facts.get("steps", 0)),
        "epochs": float(max(epochs.values(), default=0.0)),
        "seconds": seconds + float(encoder.record["seconds"]),
    }


def study_view(study: StudyConfig) -> View:
    """The measurement that this study's claims are made on."""
    return View(
        task=study.transfer.task,
        setting=study.transfer.setting,
        split=study.report_split,
        selection=study.transfer.selection[0],
    )


def report_input(
    study: StudyConfig,
    plan: Plan,
    store: Store,
    failures: Mapping[CellKey, FailedCell],
    invocation: Invocation,
) -> ReportInput:
    """Everything :func:`weam_ray.study.report.write_report` needs, from the store."""
    shelf = Shelf(store)
    results = Results.read(result_rows(plan.cells, shelf), store.root)
    view = study_view(study)
    sanity = _sanity(plan, shelf, view)
    return ReportInput(
        title=study.title,
        results=results,
        view=view,
        demonstration=study.demonstration,
        planned_cells=len(plan.cells),
        source_language=study.transfer.train_language,
        language_names={code: language_name(code) for code in study.items.languages},
        gates=_gates(study, results, view, sanity),
        sanity=sanity,
        corpora=_corpora(plan, shelf),
        aligners=_aligners(plan, shelf),
        retrieval=_retrieval(plan, shelf),
        holes=tuple(_reported(hole) for hole in plan.holes),
        failures=tuple(failures.values()),
        provenance=_provenance(study, plan, shelf, invocation),
    )


_GATE_SYSTEMS = {"none": "base", "random": "random-encoder"}
"""What gates call the cells that read no bilingual text."""


def _gates(
    study: StudyConfig, results: Results, view: View, sanity: pd.DataFrame
) -> tuple[ReportedGate, ...]:
    rows = results.rows[results.rows["method"].isin(list(_GATE_SYSTEMS))]
    rows = rows[rows["setting"] == view.setting]
    rows = rows.assign(system=rows["method"].map(_GATE_SYSTEMS))
    known: list[Mapping[str, Any]] = [
        {str(name): value for name, value in row.items()}
        for row in [*rows.to_dict("records"), *sanity.to_dict("records")]
    ]
    targets = [code for code in study.items.languages if code != study.transfer.train_language]
    gates = study.gates or default_gates(study.transfer.train_language, targets)
    return tuple(
        ReportedGate(name=result.gate.name, passed=result.passed, detail=result.figures())
        for result in evaluate_gates(known, gates)
    )


def _reported(hole: Hole) -> ReportedHole:
    return ReportedHole(factors=hole.key.label, reason=hole.reason)


def _sanity(plan: Plan, shelf: Shelf, view: View) -> pd.DataFrame:
    for cell in plan.cells:
        done = shelf.find(cell.experiment.sanity) if cell.key.setting == view.setting else None
        if done is not None:
            return pd.DataFrame(_read(done.path / "scores.parquet").to_pandas())
    return pd.DataFrame()


def _corpora(plan: Plan, shelf: Shelf) -> tuple[CorpusFacts, ...]:
    found: dict[str, CorpusFacts] = {}
    for cell in plan.cells:
        for step in cell.experiment.corpora:
            if step.address not in found and (done := shelf.find(step)) is not None:
                found[step.address] = CorpusFacts(
                    domain=cell.key.domain,
                    pair=cell.key.pair,
                    read=done.facts["rows_read"],
                    kept=done.facts["rows_kept"],
                    dropped=done.facts["dropped"],
                    place=step.address,
                )
    return tuple(found.values())


def _aligners(plan: Plan, shelf: Shelf) -> tuple[AlignerFacts, ...]:
    found: dict[str, AlignerFacts] = {}
    for cell in plan.cells:
        for step in cell.experiment.links:
            if step.address not in found and (done := shelf.find(step)) is not None:
                found[step.address] = AlignerFacts(
                    domain=cell.key.domain,
                    pair=cell.key.pair,
                    size=done.facts["pairs"],
                    regime=cell.config.alignment.regime,
                    symmetrisation=cell.config.alignment.symmetrisation,
                    aer=_aer(done),
                    linked_share=_linked_share(done),
                )
    return tuple(found.values())


def _linked_share(links: Artifact) -> float:
    """Words with a partner among the words of both sides."""
    words, linked = links.facts["words"], links.facts["linked_share"]
    return float(sum(linked[side] * words[side] for side in words) / max(1, sum(words.values())))


def _aer(links: Artifact) -> float | None:
    quality = links.facts.get("aer")
    if quality is None:
        return None
    return float(quality["aer"] if isinstance(quality, dict) else quality)


def _retrieval(plan: Plan, shelf: Shelf) -> tuple[RetrievalFacts, ...]:
    """Sentence retrieval, averaged over the seeds of a point of the grid."""
    values: dict[tuple[str, str, str, int, str], list[tuple[float, int]]] = defaultdict(list)
    seen: set[str] = set()
    for cell in plan.cells:
        step = cell.experiment.retrieval
        done = None if step.address in seen else shelf.find(step)
        if done is None:
            continue
        seen.add(step.address)
        for row in _read(done.path / "retrieval.parquet").to_pylist():
            point = (cell.key.method, cell.key.domain, cell.key.pair, cell.key.size)
            values[(*point, row["language"])].append((row["accuracy"], row["n"]))
    return tuple(
        RetrievalFacts(
            method=method,
            domain=domain,
            pair=pair,
            size=size,
            language=language,
            accuracy=sum(accuracy for accuracy, _ in found) / len(found),
            n=found[0][1],
            chance=1 / found[0][1],
        )
        for (method, domain, pair, size, language), found in values.items()
    )


def _provenance(study: StudyConfig, plan: Plan, shelf: Shelf, invocation: Invocation) -> Provenance:
    seconds: dict[str, float] = defaultdict(float)
    inputs: dict[str, str] = {}
    for step in plan.steps.values():
        if (done := shelf.find(step)) is not None:
            seconds[step.stage] += float(done.record["seconds"])
        inputs.update({f"{step.address} {name}": value for name, value in step.inputs.items()})
    return Provenance(
        command=invocation.command,
        started=invocation.started,
        wall_seconds=invocation.wall_seconds,
        study_hash=digest(study.identity()),
        packages=package_versions(),
        inputs=inputs,
        settings=_settings(study),
        licences=study.licences,
        hardware=f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}",
        stage_seconds=dict(seconds),
    )


def _settings(study: StudyConfig) -> dict[str, str]:
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{prefix}.{name}" if prefix else name, inner)
        elif value is not None:
            found[prefix] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    parts = ("vocabulary", "base", "alignment", "pretraining", "transfer")
    identity = study.identity()
    for part in parts:
        walk(part, identity[part])
    return found


def write_rows(results: Results, folder: Path) -> list[Path]:
    """The result rows as ``results.csv`` and ``results.parquet``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "results.csv", folder / "results.parquet"]
    results.rows.to_csv(paths[0], index=False)
    results.rows.to_parquet(paths[1], index=False)
    return paths
