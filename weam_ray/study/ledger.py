"""What the store holds of a study, as result rows and as all that its report is written from."""

from __future__ import annotations

import math
import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from weam_ray.artifacts import Artifact, Step, Store, package_versions
from weam_ray.collecting import uncollected
from weam_ray.corpus.languages import language_name
from weam_ray.identity import digest
from weam_ray.study.config import StudyConfig
from weam_ray.study.diagnostics import read_diagnostics, read_retrieval
from weam_ray.study.evaluated import read_evaluated
from weam_ray.study.gates import measured_gates
from weam_ray.study.grid import Cell, CellKey, Hole
from weam_ray.study.loss_gate import loss_gates
from weam_ray.study.plan import Plan
from weam_ray.study.report_input import (
    AlignerFacts,
    CorpusFacts,
    DivergenceFacts,
    FailedCell,
    Provenance,
    ReportInput,
)
from weam_ray.study.report_input import Hole as ReportedHole
from weam_ray.study.results import Results, View, small_table
from weam_ray.study.tasks import XNLI, fine_tuning, source_language, source_languages


def this_hardware() -> str:
    """Cores, architecture and system of this machine."""
    return f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What only the run itself knows."""

    command: str
    started: str
    """ISO 8601, UTC."""
    wall_seconds: float
    hardware: str = field(default_factory=this_hardware)
    """Of the driver."""


STUDY_FILE = "study.yaml"
"""The study file as it was run, in the study's folder; ``--set`` is in the command beside it."""


def keep_study_file(file: Path, folder: Path) -> None:
    """Copy the study file, comments and all, to where its report goes: a folder that is moved, or
    an experiment that somebody else opens, then says what was run.
    """
    text = file.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{STUDY_FILE}.{os.getpid()}"
    draft.write_bytes(text)
    os.replace(draft, folder / STUDY_FILE)


_KEPT = ("facts", "seconds")
"""What a report is written from, of an artifact's record."""


class Shelf:
    """A store whose artifacts are looked up once, however many cells share them."""

    def __init__(self, store: Store) -> None:
        self.root = store.root
        self._store = store
        self._found: dict[str, Artifact | None] = {}

    def find(self, step: Step) -> Artifact | None:
        """The finished artifact of a step, or None."""
        if step.address not in self._found:
            found = self._store.find(step)
            # Settings and versions are most of a record, and thousands of them would stay.
            self._found[step.address] = found and found.lighter(_KEPT)
        return self._found[step.address]


def result_rows(cells: Sequence[Cell], store: Store | Shelf) -> pd.DataFrame:
    """One row a finished cell × task × language × split × selection (``results.ROW_COLUMNS``)."""
    tables: list[pa.Table] = []
    columns: list[dict[str, Any]] = []
    for cell in cells:
        done = store.find(cell.experiment.transfer)
        if done is None:
            continue
        tables.append(small_table(done.path / "scores.parquet"))
        columns.append(
            {
                # The scores name the task: a reader answers the sets of several.
                **{name: one for name, one in cell.key.factors().items() if name != "task"},
                "method": cell.key.reported_method,
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
    task = study.grid.task[0]
    config = fine_tuning(study, task)
    settings = study.grid.setting or (config.setting,)
    return View(
        task=task,
        setting=config.setting if config.setting in settings else settings[0],
        split=study.report_split,
        selection=config.selection[0],
        metric="accuracy" if task == XNLI else "exact_match",
    )


@uncollected()
def report_input(
    study: StudyConfig,
    plan: Plan,
    store: Store,
    failures: Mapping[CellKey, FailedCell],
    invocation: Invocation,
) -> ReportInput:
    """Everything :func:`weam_ray.study.report.write_report` needs, from the store."""
    shelf = Shelf(store)
    retrieval, layers = read_retrieval(plan.cells, shelf)
    results = Results.read(result_rows(plan.cells, shelf), store.root)
    view = study_view(study)
    sanity = _sanity(plan, shelf)
    gates = (
        *measured_gates(study, results, view, sanity),
        *loss_gates(study, plan.cells, shelf),
    )
    return ReportInput(
        title=study.title,
        results=results,
        view=view,
        demonstration=study.demonstration,
        planned_cells=len(plan.cells),
        source_language=source_language(study, view.task),
        language_names=_language_names(study),
        chance=1 / 3 if view.task == XNLI else 0.0,
        gates=gates,
        sanity=sanity,
        corpora=_corpora(plan, shelf),
        evaluated=read_evaluated(plan.cells, shelf),
        aligners=_aligners(plan, shelf),
        retrieval=retrieval,
        diagnostics=read_diagnostics(
            plan.cells, shelf, results, view, source_languages(study), layers, sanity
        ),
        divergences=_divergences(plan, shelf, view.task),
        objectives=_objectives(plan),
        target_gain=study.power.effect,
        holes=tuple(_reported(hole) for hole in plan.holes),
        failures=tuple(failures.values()),
        provenance=_provenance(study, plan, shelf, invocation),
    )


def _language_names(study: StudyConfig) -> dict[str, str]:
    """Of items and questions; "de-en" is a German context with an English question."""
    names = {code: language_name(code) for code in study.items.languages}
    for one in study.questions.values():
        for context, question in (
            pair for asked in one.evaluated("").values() for pair in asked.language_pairs()
        ):
            names.setdefault(context, language_name(context))
            if context != question:
                names[f"{context}-{question}"] = (
                    f"{language_name(context)}, asked in {language_name(question)}"
                )
    return names


def _reported(hole: Hole) -> ReportedHole:
    return ReportedHole(factors=hole.key.label, reason=hole.reason)


def _sanity(plan: Plan, shelf: Shelf) -> pd.DataFrame:
    """The sanity rows of every task and setting."""
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for cell in plan.cells:
        step, setting = cell.experiment.sanity, cell.key.setting
        if (step.address, setting) not in found and (done := shelf.find(step)) is not None:
            rows = small_table(done.path / "scores.parquet").to_pandas()
            found[step.address, setting] = rows.assign(setting=setting)
    if not found:
        return pd.DataFrame()
    rows = pd.concat(found.values(), ignore_index=True)
    # Methods may vary what is fine-tuned, and then have steps of their own for the same rows.
    return rows.drop_duplicates(["task", "setting", "language", "split", "system", "metric"])


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


def _divergences(plan: Plan, shelf: Shelf, task: str) -> tuple[DivergenceFacts, ...]:
    found: dict[tuple[str, str, str], DivergenceFacts] = {}
    for cell in (one for one in plan.cells if one.key.task == task):
        for step in cell.experiment.divergences:
            for side in done.facts["sides"] if (done := shelf.find(step)) else ():
                place = (cell.key.domain, cell.key.pair, side["language"])
                names = ("words", "words_within", "subwords", "subwords_within", "unseen")
                found[place] = DivergenceFacts(
                    domain=place[0],
                    pair=place[1],
                    language=place[2],
                    **{name: side[name] for name in names},
                )
    return tuple(found.values())


def _objectives(plan: Plan) -> dict[str, str]:
    return {cell.key.method: cell.config.pretraining.objective for cell in plan.cells}


def _linked_share(links: Artifact) -> float:
    """Words with a partner among the words of both sides."""
    words, linked = links.facts["words"], links.facts["linked_share"]
    return float(sum(linked[side] * words[side] for side in words) / max(1, sum(words.values())))


def _aer(links: Artifact) -> float | None:
    quality = links.facts.get("aer")
    if quality is None:
        return None
    return float(quality["aer"] if isinstance(quality, dict) else quality)


def _provenance(study: StudyConfig, plan: Plan, shelf: Shelf, invocation: Invocation) -> Provenance:
    seconds: dict[str, float] = defaultdict(float)
    inputs: dict[str, str] = {}
    for step in plan.steps.values():
        if (done := shelf.find(step)) is not None:
            seconds[step.stage] += float(done.record["seconds"])
        for name, value in step.inputs.items():
            # Steps that read the same file say so once.
            known = inputs.setdefault(f"{step.stage} {name}", value)
            if known != value:
                inputs[f"{step.address} {name}"] = value
    return Provenance(
        command=invocation.command,
        started=invocation.started,
        wall_seconds=invocation.wall_seconds,
        study_hash=digest(study.identity()),
        packages=package_versions(),
        inputs=inputs,
        settings=study_settings(study),
        licences=study.licences,
        hardware=invocation.hardware,
        stage_seconds=dict(seconds),
    )


def study_settings(study: StudyConfig) -> dict[str, str]:
    """The settings that decide outcomes, flat: ``pretraining.steps``."""
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{prefix}.{name}" if prefix else name, inner)
        elif value is not None:
            found[prefix] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    parts = ("vocabulary", "base", "alignment", "pretraining", "transfer", "qa")
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
