"""The main job: how long a study takes, what memory, what the second run costs, what came out.

    python benchmarks/main_job.py sweeps/demo.yaml --write docs/demo.md
    python benchmarks/main_job.py sweeps/xnli_small.yaml --set data_dir=DATA \
        --write docs/xnli_small.md

The command runs as a person would start it, in a storage folder of its own; then once more. What
the study found is taken from the tables of its report, not computed again.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from machine import processor

from weam_ray.study import wording
from weam_ray.study.analysis import analyse
from weam_ray.study.config import StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.export import all_tables
from weam_ray.study.ledger import Invocation, report_input
from weam_ray.study.plan import make_plan
from weam_ray.study.reading import read_study
from weam_ray.study.tables import Row, Table

BEGIN, END = "<!-- main job: begin -->", "<!-- main job: end -->"
SECONDS_BETWEEN_SAMPLES = 2.0
SHOWN = ("curves", "methods", "aligners", "gates", "holes")
"""Tables of the report that are copied whole."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the command."""

    status: int
    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system, of the command and all it started, as last seen of each."""
    memory: int
    """Bytes: the largest proportional set size of the process and its descendants together, so
    that what processes share is counted once."""


def run(command: Sequence[str]) -> Run:
    """Run a command to its end and watch the memory and CPU time of everything it starts."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    # Nobody waits for Ray's processes, so their CPU time is looked at while they run.
    peak, cpu, over = 0, dict[tuple[int, float], float](), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(SECONDS_BETWEEN_SAMPLES):
            seen = list(_look(process.pid))
            peak = max(peak, sum(memory for *_, memory in seen))
            cpu.update({(pid, born): seconds for pid, born, seconds, _ in seen})

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    wall = time.monotonic() - started
    over.set()
    watcher.join()
    return Run(status=status, wall=wall, cpu=sum(cpu.values()), memory=peak)


def _look(pid: int) -> Iterator[tuple[int, float, float, int]]:
    # Number, time of birth, CPU seconds and bytes of a process and of each descendant.
    try:
        root = psutil.Process(pid)
        everyone = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in everyone:
        try:
            times = process.cpu_times()
            memory = process.memory_full_info().pss
            yield process.pid, process.create_time(), times.user + times.system, memory
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue  # ended between being listed and being asked


def artifacts(storage: Path) -> dict[str, int]:
    """Every record of the store and when it was written."""
    found = (storage / "store").rglob("record.json")
    return {str(path): path.stat().st_mtime_ns for path in found}


def tables(study: StudyConfig) -> dict[str, Table]:
    """The tables of the study's report, by name."""
    store = study.open_store()
    plan = make_plan(study, find_data(study, store), store)
    said_elsewhere = Invocation(command="", started="", wall_seconds=0.0)
    source = report_input(study, plan, store, {}, said_elsewhere)
    return {table.name: table for table in all_tables(source, analyse(source))}


def markdown(table: Table) -> Iterator[str]:
    """A table as the page shows it."""
    yield f"**{table.caption}**"
    yield ""
    yield f"| {' | '.join(column.heading for column in table.columns)} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(column.text(row) for column in table.columns)} |"
    yield ""


def by_language(table: Table) -> Iterator[str]:
    """Accuracy with its interval, a line a language and a column a system; then class shares."""
    cells = {(str(row["language"]), str(row["system"])): row for row in table.rows}
    names = list(dict.fromkeys(language for language, _ in cells))
    systems = list(dict.fromkeys(system for _, system in cells))
    for caption, say in (
        (f"{table.caption}: %, 95 % interval", _accuracy),
        ("Share of the class predicted most often, %", _largest_share),
    ):
        yield from (f"**{caption}**", "", f"| language | {' | '.join(systems)} |")
        yield f"|{'---|' * (len(systems) + 1)}"
        for language in names:
            said = (say(cells.get((language, system), {})) for system in systems)
            yield f"| {language} | {' | '.join(said)} |"
        yield ""


def _accuracy(row: Row) -> str:
    value, low, high = (_number(row.get(key)) for key in ("accuracy", "low", "high"))
    if value is None:
        return ""
    return f"{wording.percent(value)} ({wording.percent(low)}–{wording.percent(high)})"


def _largest_share(row: Row) -> str:
    shares = [_number(row.get(f"share_{place}")) for place in range(3)]
    known = [share for share in shares if share is not None]
    return wording.percent(max(known)) if known else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def machine() -> str:
    """Where and with what this was measured."""
    parts = [f"{name} {version(name)}" for name in ("torch", "ray", "mlflow")]
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores of {processor()}, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, " + ", ".join(parts)
    )


def page(command: str, first: Run, second: Run, recomputed: int, found: dict[str, Table]) -> str:
    """What is written between the markers."""
    lines = [
        f"`{command}`, {time.strftime('%Y-%m-%d')}, {machine()}.",
        "",
        "| | wall time | CPU time | peak memory, all processes | exit status |",
        "|---|---|---|---|---|",
    ]
    for name, one in (("first run", first), (f"again: {recomputed} stages recomputed", second)):
        memory = f"{one.memory / 2**30:.1f} GiB"
        lines.append(f"| {name} | {one.wall:.1f} s | {one.cpu:.0f} s | {memory} | {one.status} |")
    lines.append("")
    for name in SHOWN:
        if name in found:
            lines += markdown(found[name])
    lines += by_language(found["languages"])
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Put the text between the file's markers."""
    whole = path.read_text(encoding="utf8")
    head, _, rest = whole.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not rest or not tail:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf8")


def main() -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--storage", type=Path, help="an empty folder; default: a temporary one")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page with this job's markers")
    given = parser.parse_args()
    if given.write and BEGIN not in given.write.read_text(encoding="utf8"):
        parser.error(f"{given.write} has no line {BEGIN}")
    with tempfile.TemporaryDirectory(prefix="main-job-") as scratch:
        storage: Path = given.storage or Path(scratch)
        if artifacts(storage):
            parser.error(f"{storage} holds results already")
        changes = [*given.changes, f"storage={storage}"]
        settings = [word for change in changes for word in ("--set", change)]
        command = [sys.executable, "-m", "weam_ray.sweep", str(given.study), *settings]
        first = run(command)
        made = artifacts(storage)
        second = run(command)
        recomputed = sum(made.get(path) != stamp for path, stamp in artifacts(storage).items())
        found = tables(read_study(given.study, changes))
    said = [f"--set {change.partition('=')[0]}=…" for change in given.changes]
    shown = shlex.join(["python", "-m", "weam_ray.sweep", str(given.study)])
    text = page(" ".join([shown, *said]), first, second, recomputed, found)
    print(text)
    if given.write:
        write(given.write, text)
    return first.status or second.status


if __name__ == "__main__":
    sys.exit(main())
