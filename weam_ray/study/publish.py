"""A study's folder: the page, the tables, the figures and the result rows, written together."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from weam_ray.artifacts import Store
from weam_ray.collecting import uncollected
from weam_ray.study.analysis import Analysis, analyse
from weam_ray.study.config import StudyConfig
from weam_ray.study.export import write_tables
from weam_ray.study.figures import write_figures
from weam_ray.study.ledger import Invocation, report_input, write_rows
from weam_ray.study.plan import Plan
from weam_ray.study.report import write_report
from weam_ray.study.report_input import FailedCell, ReportInput
from weam_ray.study.status import study_status

_INVOCATION = "invocation.json"
"""What only the sweep itself knew; `weam-ray report` reads it back."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was written."""

    page: Path
    rows: tuple[Path, ...]
    """``results.csv`` and ``results.parquet``."""
    tables: tuple[Path, ...]
    """CSV and LaTeX."""
    figures: tuple[Path, ...]
    """SVG and PDF; none where a gate fails or nothing has finished."""
    analysis: Analysis
    """What they show."""


@uncollected()
def publish(source: ReportInput, folder: Path) -> Published:
    """Write everything that a study's results are read from; what was there is replaced."""
    found = analyse(source)
    rows = write_rows(source.results, folder)
    tables = write_tables(source, folder / "tables", found)
    figures = write_figures(source, folder / "figures", found)
    for old in (folder / "figures").glob("*"):
        if old not in figures:  # of a run whose gates held
            old.unlink()
    return Published(
        page=write_report(source, folder / "report.html", found),
        rows=tuple(rows),
        tables=tuple(tables),
        figures=tuple(figures),
        analysis=found,
    )


def remember(invocation: Invocation, folder: Path) -> None:
    """Keep a sweep's command and time beside its report."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{_INVOCATION}.{os.getpid()}"
    draft.write_text(json.dumps(asdict(invocation), indent=1) + "\n", encoding="utf8")
    os.replace(draft, folder / _INVOCATION)


def recall(folder: Path) -> Invocation:
    """The last sweep's command and time; empty where none has come to its report."""
    path = folder / _INVOCATION
    if not path.exists():
        return Invocation(command="", started="", wall_seconds=0.0, hardware="")
    return Invocation(**json.loads(path.read_text(encoding="utf8")))


def report_again(study: StudyConfig, plan: Plan, store: Store, command: str) -> Published:
    """`weam-ray report`: everything from the store as it stands, without running anything."""
    facts = report_input(study, plan, store, {}, recall(study.folder))
    failed = tuple(
        FailedCell(factors=job.name, error=job.error, log=str(job.log))
        for job in study_status(study, plan).failed
    )
    run = " · ".join(part for part in (facts.provenance.command, command) if part)
    facts = replace(facts, failures=failed, provenance=replace(facts.provenance, command=run))
    return publish(facts, study.folder)
