"""Are the report's statistics what they say? Simulated studies with known effects, and its speed.

Only the encoder is replaced by a draw. What is the same in every study of a world, its rows and how
they match, is done once (tests/study/repeated.py); tables, judgement and corrections are made anew
for each, by the functions that make the report. The first studies of every row also go the long
way, from rows and predictions to the page's sentences, and must come out the same. Each section
writes its part of docs/statistics.md, between two marks, with its command, machine and date::

    python benchmarks/claims.py calibration recovery power speed degenerate
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "study"))

from claims_simulated import (  # noqa: E402
    POWERED,
    WORLDS,
    Calibrating,
    Effect,
    Finding,
    Recovering,
    pilot_noise,
)
from degenerate import DEGENERATE  # noqa: E402
from machine import processor  # noqa: E402
from simulated import World, planted, simulate  # noqa: E402

from weam_ray.study.analysis import analyse  # noqa: E402
from weam_ray.study.answer import answer  # noqa: E402
from weam_ray.study.export import write_tables  # noqa: E402
from weam_ray.study.figures import write_figures  # noqa: E402
from weam_ray.study.power import detectable_effect  # noqa: E402
from weam_ray.study.report import render, write_report  # noqa: E402
from weam_ray.study.report_input import ReportInput  # noqa: E402
from weam_ray.study.results import Results  # noqa: E402

Study = TypeVar("Study")


class Run:
    """Runs the studies of a row: all that were asked for, or as many as its time allows."""

    def __init__(self, studies: int, minutes: float | None) -> None:
        self.studies = studies
        self.minutes = minutes

    def __call__(self, simulated: Callable[[int], Study]) -> list[Study]:
        """The studies, in the order of their seeds."""
        started, found = time.monotonic(), []
        for seed in range(self.studies):
            spent = (time.monotonic() - started) / 60
            if self.minutes is not None and spent > self.minutes and found:
                break
            found.append(simulated(seed))
            if seed + 1 in (10, 100) or not (seed + 1) % 500:
                print(f"  {seed + 1} studies, {spent:.1f} min", file=sys.stderr, flush=True)
        return found


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def mean(found: Sequence[object], name: str) -> float:
    values = [getattr(one, name) for one in found]
    return float(np.mean([value for value in values if value is not None]))


def calibration(run: Run) -> Iterator[str]:
    yield (
        "| world | studies | false claims: answer | false claims: heat map "
        "| page says none detectable | coverage: methods | slopes | configurations "
        "| naive: false claims | coverage | percentile bootstrap: coverage |"
    )
    yield "|-|-|-|-|-|-|-|-|-|-|-|"
    names = ("answer_false", "cells_false", "said_none", "methods_covered", "slopes_covered")
    names += ("cells_covered", "naive_false", "naive_covered", "bootstrap_covered")
    for name, world in WORLDS.items():
        found = run(Calibrating(world))
        figures = " | ".join(percent(mean(found, key)) for key in names)
        yield f"| {name} | {len(found):,} | {figures} |"


def recovery(run: Run) -> Iterator[str]:
    yield (
        "| world | studies | slope covered | number of pairs: asked | interval given | and covers |"
    )
    yield "|-|-|-|-|-|-|"
    for name, world in WORLDS.items():
        found = run(Recovering(world))
        given = [one for study in found for one in study.needed]
        asked = sum(study.asked for study in found)
        covers = percent(float(np.mean(given))) if given else "–"
        yield (
            f"| {name} | {len(found):,} | {percent(mean(found, 'slopes_covered'))} | "
            f"{asked:,} | {percent(len(given) / asked)} | {covers} |"
        )


def power(run: Run) -> Iterator[str]:
    yield "| seeds | seed sd | comparisons | studies | detectable, points | found |"
    yield "|-|-|-|-|-|-|"
    for methods in (("weam",), ("weam", "a", "b", "c", "d")):
        for seeds in (3, 5):
            for sd in (0.005, 0.02):
                effect = detectable_effect(
                    pilot_noise(sd), seeds=seeds, items=POWERED.items, comparisons=len(methods)
                )
                world = replace(
                    POWERED, methods=methods, seeds=seeds, seed_sd=sd, gain=Effect(effect)
                )
                found = run(Finding(world))
                yield (
                    f"| {seeds} | {100 * sd:.1f} | {len(methods)} | {len(found):,} | "
                    f"{100 * effect:.2f} | {percent(float(np.mean(found)))} |"
                )


def speed(run: Run) -> Iterator[str]:
    languages = ("en", "fr", "es", "de", "el", "bg", "ru", "tr", "ar", "vi", "th", "zh", "hi")
    world = World(
        pairs=("en-de", "en-fr", "en-ru", "en-zh", "en-sw"),
        domains=("medical", "law"),
        languages=(*languages, "sw", "ur"),
        sizes=(1000, 4000, 16000),
        methods=("tlm", "weam"),
        seeds=5,
        items=5010,
        gain=planted(0.01),
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = simulate(world).write(root)
        (root / "rows.json").write_text(json.dumps(rows, default=float))
        command = [sys.executable, __file__, "--analyse", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    cells = len({row["cell"] for row in rows})
    yield (
        f"{cells} cells × {len(world.languages)} languages × {world.items:,} items in a process "
        f"of its own: predictions read in {told['read']:.1f} s, page written in "
        f"{told['page']:.1f} s, tables and figures in {told['files']:.1f} s, together "
        f"{sum(told[name] for name in ('read', 'page', 'files')):.1f} s, of which the process "
        f"itself had a processor for {told['processor']:.1f} s; peak memory "
        f"{told['memory']:.2f} GiB."
    )


def analyse_folder(root: Path) -> dict[str, float]:
    """Seconds and peak memory (GiB) of a report, from predictions files to page and tables.

    On a machine that others use too, the wall time says more of them; hence the processor's time.
    """
    rows = json.loads((root / "rows.json").read_text())
    marks, busy = [time.monotonic()], time.process_time()
    source = ReportInput(title="speed", results=Results.read(rows, root))
    marks.append(time.monotonic())
    found = analyse(source)
    write_report(source, root / "report.html", found)
    marks.append(time.monotonic())
    write_tables(source, root / "tables", found)
    write_figures(source, root / "figures", found)
    marks.append(time.monotonic())
    read, page, files = np.diff(marks)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "read": float(read),
        "page": float(page),
        "files": float(files),
        "processor": time.process_time() - busy,
        "memory": memory,
    }


def degenerate(run: Run) -> Iterator[str]:
    yield "| study | what the page opens with |"
    yield "|-|-|"
    for name, make in DEGENERATE.items():
        source = ReportInput(title=name, results=make())
        found = analyse(source)
        text = re.sub(r"<(style|svg)\b.*?</\1>", "", render(source, found), flags=re.DOTALL)
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE), name
        yield f"| {name} | {' '.join(answer(source, found).sentences)} |"


SECTIONS: dict[str, Callable[[Run], Iterator[str]]] = {
    "calibration": calibration,
    "recovery": recovery,
    "power": power,
    "speed": speed,
    "degenerate": degenerate,
}
_SIMULATED = {"calibration", "recovery", "power"}


def machine() -> str:
    return f"{processor()}, {os.cpu_count()} cores"


def commit() -> str:
    """The commit that is measured, and whether its code was changed since."""
    code = ["weam_ray", "tests/study", "benchmarks"]
    asked = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", *code])
    found, changed = (
        subprocess.run(["git", *one], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for one in asked
    )
    return f"{found.strip()} with changes" if changed.strip() else found.strip()


def fill(doc: Path, name: str, lines: Sequence[str]) -> None:
    """Put a section's lines between its marks."""
    begin, end = f"<!-- {name}: written by benchmarks/claims.py -->", f"<!-- /{name} -->"
    text = doc.read_text(encoding="utf8")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    assert rest and end in rest, f"{doc} has no marks for {name}"
    body = "\n".join(lines)
    doc.write_text(f"{before}{begin}\n\n{body}\n\n{end}{after}", encoding="utf8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all")
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a row")
    parser.add_argument("--minutes", type=float, help="end a row's studies after so long")
    parser.add_argument("--doc", type=Path, default=ROOT / "docs" / "statistics.md")
    parser.add_argument("--analyse", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.analyse:
        print(json.dumps(analyse_folder(given.analyse)))
        return
    measured = commit()
    run = Run(given.studies, given.minutes)
    for name in given.sections or SECTIONS:
        started, lines = time.monotonic(), []
        asked = f" --studies {given.studies}" if name in _SIMULATED else ""
        for line in SECTIONS[name](run):
            print(line, flush=True)
            lines.append(line)
            # Row by row: a run that is ended after an hour keeps what it has.
            told = (
                f"`python benchmarks/claims.py {name}{asked}`, commit {measured}, "
                f"{time.strftime('%Y-%m-%d')}, {machine()}, 1 process, "
                f"{(time.monotonic() - started) / 60:.0f} min."
            )
            fill(given.doc, name, [*lines, "", told])


if __name__ == "__main__":
    main()
