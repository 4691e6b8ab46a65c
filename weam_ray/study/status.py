"""``weam-ray status``: how far a study is, seen from another terminal.

What is finished the store knows; what is running, the log files that are being written. Nothing is
asked of the sweep itself, so that it may run elsewhere, or have been killed.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from weam_ray.study.config import StudyConfig
from weam_ray.study.plan import Plan

RECENT = 60.0
"""Seconds since a log's last line up to which its job counts as running."""

_TAIL = 65_536
_LINE = re.compile(r"^\d{4}-\d\d-\d\d \S+ (?P<level>[A-Z]+) (?P<logger>\S+) (?P<message>.*)$")
_DONE = re.compile(r" done(, recorded [\d.]+ s)?$")
_PROGRESS = re.compile(r"^(?P<stage>\S+) (?P<done>\d+)/(?P<total>\d+) (?P<metrics>\{.*\})$")


@dataclass(frozen=True, kw_only=True)
class RunningJob:
    """A job whose log was written to a moment ago."""

    name: str
    """Label of the (first) cell it makes, or ``shared.…``."""
    doing: str
    """Its stage and how far that is, as it last said."""
    seconds_ago: float
    log: Path


@dataclass(frozen=True, kw_only=True)
class FailedJob:
    """A job whose log ends in an error: its cell, or what cells share, is not in the store."""

    name: str
    error: str
    log: Path


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a study is."""

    name: str
    cells: int
    done: int
    running: tuple[RunningJob, ...]
    failed: tuple[FailedJob, ...]
    holes: int
    report: Path | None
    """The report, where one has been written."""


def study_status(study: StudyConfig, plan: Plan, *, now: float | None = None) -> Status:
    """Look at the store, through the plan, and at the study's log files.

    Args:
        now: seconds since the epoch; None asks the clock.
    """
    moment = time.time() if now is None else now
    waiting = {cell.key.label for cell in plan.cells_to_run}
    running: list[RunningJob] = []
    failed: list[FailedJob] = []
    for log in sorted((study.folder / "logs").glob("*.log")):
        name = log.name.removesuffix(".log")
        # An encoder of several workers is a job before its cell's; a search's trials are no cells
        # of the plan.
        cell = name.removesuffix(".encoder")
        if not (cell in waiting or name.startswith("shared.") or ".trial-" in name):
            continue
        level, message, age = _last_word(log, moment)
        if level == "ERROR":
            failed.append(FailedJob(name=name, error=message, log=log))
        elif age <= RECENT and not _DONE.search(message):
            running.append(RunningJob(name=name, doing=_doing(message), seconds_ago=age, log=log))
    report = study.folder / "report.html"
    return Status(
        name=study.name,
        cells=len(plan.cells),
        done=len(plan.cells) - len(waiting),
        running=tuple(running),
        failed=tuple(failed),
        holes=len(plan.holes),
        report=report if report.exists() else None,
    )


def _last_word(log: Path, now: float) -> tuple[str, str, float]:
    """(level, message, seconds ago) of a log's last record; of an error, the exception's line."""
    with open(log, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _TAIL))
        lines = stream.read().decode("utf8", errors="replace").splitlines()
    age = max(0.0, now - log.stat().st_mtime)
    for place in range(len(lines) - 1, -1, -1):
        found = _LINE.match(lines[place])
        if found is None:
            continue
        if found["level"] == "ERROR":
            return "ERROR", next((one for one in reversed(lines[place:]) if one.strip()), ""), age
        if found["logger"] == "weam_ray.job":
            return found["level"], found["message"], age
    return "", "", age


def _doing(message: str) -> str:
    found = _PROGRESS.match(message)
    if found is None:
        return message or "starting"
    loss = re.search(r"'loss': ([-+.\de]+)", found["metrics"])
    text = f"{found['stage']} {int(found['done']):,}/{int(found['total']):,}"
    return f"{text}, loss {float(loss[1]):.3f}" if loss else text


def status_text(status: Status) -> str:
    """The whole of ``weam-ray status``."""
    left = status.cells - status.done
    parts = [f"{status.name}: {status.done:,} of {status.cells:,} cells done"]
    if left and not status.running:
        parts.append("nothing is running")
    if status.failed:
        parts.append(f"{len(status.failed):,} failed")
    if status.holes:
        parts.append(f"{status.holes:,} holes")
    lines = [", ".join(parts)]
    width = max((len(job.name) for job in status.running), default=0)
    lines += [
        f"  running {job.name.ljust(width)}  {job.doing} ({job.seconds_ago:.0f} s ago)"
        for job in status.running
    ]
    lines += [f"  failed {job.name}: {job.error} (log: {job.log})" for job in status.failed]
    if status.report is not None:
        when = "" if not left else " (of an earlier state)"
        lines.append(f"report: {status.report}{when}")
    return "\n".join(lines)
