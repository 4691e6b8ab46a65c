"""Are the report's statistics what they say? Simulated studies with known effects, and its speed.

Only the encoder is replaced by a draw. What is the same in every study of a world, its rows and how
they match, is done once (tests/study/repeated.py); tables, judgement and corrections are made anew
for each, by the functions that make the report. The first studies of every row also go the long
way, from rows and predictions to the page's sentences, and must come out the same. Each section
writes its part of docs/statistics.md, between two marks, with its command, machine and date::

    python benchmarks/statistics.py calibration recovery power speed degenerate
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Python puts a script's own folder first on the path, where this file would be found by whoever
# imports the standard library's `statistics` (pandas does). So the folder goes.
sys.path[:] = [str(ROOT), str(ROOT / "tests" / "study")] + [
    entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent
]

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import re  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from dataclasses import dataclass, replace  # noqa: E402
from functools import lru_cache  # noqa: E402
from typing import TypeVar  # noqa: E402

import numpy as np  # noqa: E402
from degenerate import DEGENERATE  # noqa: E402
from repeated import Repeated, Right, retabled  # noqa: E402
from simulated import World, planted, simulate  # noqa: E402

from weam_ray.study.analysis import analyse  # noqa: E402
from weam_ray.study.answer import answer, sentences  # noqa: E402
from weam_ray.study.comparisons import (  # noqa: E402
    Comparison,
    Question,
    compare_family,
    multi_bootstrap,
    together,
)
from weam_ray.study.export import write_tables  # noqa: E402
from weam_ray.study.figures import write_figures  # noqa: E402
from weam_ray.study.intervals import crossed  # noqa: E402
from weam_ray.study.lines import method_questions  # noqa: E402
from weam_ray.study.matching import Arm, Grid  # noqa: E402
from weam_ray.study.power import Noise, detectable_effect  # noqa: E402
from weam_ray.study.report import render, write_report  # noqa: E402
from weam_ray.study.report_input import ReportInput  # noqa: E402
from weam_ray.study.results import Results, View  # noqa: E402
from weam_ray.study.slopes import Slope, conclude, measure  # noqa: E402

NONE = Arm(method="none")
SLOPE = 0.02
TARGET = 0.07
"""Gain of "how many pairs for this gain?" in the recovery section."""
WHOLE = 2
"""Studies of each row that also go the long way."""
SLOWER = 4
"""One study of so many draws the percentile bootstrap, which is there for contrast alone, has its
sentences written and read, and is asked how many pairs a gain takes."""
Study = TypeVar("Study")

WORLDS: dict[str, World] = {
    f"{seeds} seeds, seed sd {100 * sd:.1f}{note}": World(
        pairs=("en-qaa", "en-qab"),
        sizes=(1000, 4000, 16000),
        methods=("tlm", "weam", "weam-shuffled-links"),
        seeds=seeds,
        items=500,
        seed_sd=sd,
        baseline_seed_sd=base,
    )
    for seeds in (3, 5)
    for sd, base, note in (
        (0.005, None, ""),
        (0.02, None, ""),
        (0.02, 0.004, ", the baseline's a fifth"),
    )
}
WORLDS["the demo's shape: 3 seeds, 1 pair, 1,200 items, seed sd 2.0"] = World(
    pairs=("en-qaa",),
    languages=("en", "qaa"),
    sizes=(30, 300, 3000),
    methods=("tlm", "weam", "weam-shuffled-links"),
    seeds=3,
    items=1200,
    seed_sd=0.02,
)
XNLI = "XNLI's size: 5 seeds, 5,010 items, seed sd 0.6"
WORLDS[XNLI] = replace(WORLDS["5 seeds, seed sd 0.5"], items=5010, seed_sd=0.006)

POWERED = World(
    pairs=("en-qaa",), languages=("en", "qaa"), sizes=(1000,), methods=("weam",), items=500
)


@dataclass(frozen=True)
class Calibration:
    """One study of nothing: what was claimed, and which intervals hold the truth, 0."""

    answer_false: bool
    cells_false: bool
    said_none: bool
    methods_covered: float
    slopes_covered: float
    cells_covered: float
    naive_false: bool
    naive_covered: float
    bootstrap_covered: bool | None
    """Of the first method; None where it was not drawn."""


class Calibrating:
    """Studies of a world without any effect."""

    def __init__(self, world: World) -> None:
        self.studies = Repeated.of(world)
        self.methods = self.studies.ask(method_questions(self.studies.grid, self.studies.lines))

    def __call__(self, seed: int) -> Calibration:
        """Draw and judge one study."""
        right = self.studies.draw(seed)
        methods, slopes = together(
            self.studies.judge(self.methods, right), self.studies.grown(right).answers
        )
        cells = self.studies.judge(self.studies.cells, right)
        if seed < WHOLE:
            self.check(right, methods, slopes, cells)
        none = not any(one.found for one in self.told(methods, slopes))
        if not seed % SLOWER:
            assert none == says_none(self.sentences(methods, slopes))
        naive = self.studies.naive(self.methods, right)
        return Calibration(
            answer_false=any(one.found for one in (*methods, *slopes)),
            cells_false=any(one.found for one in cells),
            said_none=none,
            methods_covered=coverage(methods, 0.0),
            slopes_covered=coverage(slopes, 0.0),
            cells_covered=coverage(cells, 0.0),
            naive_false=min(naive) < 0.05,
            naive_covered=float(np.mean([p > 0.05 for p in naive])),
            bootstrap_covered=None if seed % SLOWER else self.bootstrap(right),
        )

    def bootstrap(self, right: Right) -> bool:
        """Whether the percentile interval of the first method holds the truth."""
        drawn = multi_bootstrap(retabled(self.methods, right)[0].table, draws=500)
        return drawn.low <= 0 <= drawn.high

    def told(self, methods: Sequence[Comparison], slopes: Sequence[Comparison]) -> list[Comparison]:
        """What the page's three sentences are about."""
        main = [line.name for line in self.studies.lines].index("WEAM")
        names = ("WEAM against no", "WEAM against TLM", "WEAM against WEAM, shuffled links")
        return [slopes[main], *(one for one in methods if one.question.name.startswith(names))]

    def sentences(
        self, methods: Sequence[Comparison], slopes: Sequence[Comparison]
    ) -> tuple[str, ...]:
        """What the page would open with, but for the number of pairs, which claims nothing."""
        studies = self.studies
        source = ReportInput(title="simulated", results=studies.results)
        return sentences(
            source,
            studies.lines,
            methods,
            [
                Slope(line=line, comparison=one, form=None)
                for line, one in zip(studies.lines, slopes, strict=True)
            ],
        )

    def check(
        self,
        right: Right,
        methods: Sequence[Comparison],
        slopes: Sequence[Comparison],
        cells: Sequence[Comparison],
    ) -> None:
        """Raise unless the same study, taken the long way to its page, says the same."""
        source = ReportInput(title="simulated", results=self.studies.whole(right))
        found = analyse(source)
        grown = [slope.comparison for slope in found.slopes]
        same_answers((*methods, *slopes, *cells), (*found.methods, *grown, *found.cells))
        said = says_none(answer(source, found).sentences)
        assert said == says_none(self.sentences(methods, slopes))


def same_answers(ours: Sequence[Comparison], theirs: Sequence[Comparison]) -> None:
    """Raise unless two ways came to the same names, intervals and p values."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.question.name == other.question.name, (one.question, other.question)
        assert one.effect is not None and other.effect is not None
        pairs = [(one.effect.low, other.effect.low), (one.effect.high, other.effect.high)]
        pairs.append((one.p_holm or 0.0, other.p_holm or 0.0))
        assert np.allclose(*np.array(pairs).T, rtol=1e-9, atol=1e-9), (one, other)


def says_none(sentences: Sequence[str]) -> bool:
    """Whether the page's sentences, as they are read, find neither gain nor slope nor rival."""
    gain, growth, rivals = sentences
    return (
        "no difference between WEAM and no pre-training is detectable" in gain
        and "No slope is detectable" in growth
        and not re.search(r"it is (better|worse)", rivals)
    )


def coverage(family: Sequence[Comparison], truth: float) -> float:
    bounds = [one.effect for one in family if one.effect is not None]
    return float(np.mean([one.low <= truth <= one.high for one in bounds]))


@dataclass(frozen=True)
class Recovery:
    """One study of a planted log-linear gain."""

    slopes_covered: float
    needed: tuple[bool, ...]
    """Whether an interval of "how many pairs" holds the truth, for those that were given."""
    asked: int
    """How often it was asked."""


class Recovering:
    """Studies of a world in which every doubling of the text gains the same."""

    def __init__(self, world: World) -> None:
        smallest = world.sizes[0]
        gain = planted(SLOPE, smallest)
        self.studies = Repeated.of(replace(world, methods=("tlm", "weam"), gain=gain))
        self.truth = smallest * 2 ** (TARGET / SLOPE - 1)

    def __call__(self, seed: int) -> Recovery:
        """Draw and fit one study."""
        right = self.studies.draw(seed)
        growth = self.studies.grown(right)
        if seed < WHOLE:
            results = self.studies.whole(right)
            grid = Grid.of(results, View(), "en")
            same_answers(
                growth.answers, measure(grid, self.studies.lines, self.studies.keys).answers
            )
        slopes = () if seed % SLOWER else conclude(growth, growth.answers, TARGET)
        given = [slope.needed.sizes for slope in slopes if slope.needed and slope.needed.sizes]
        return Recovery(
            slopes_covered=coverage(growth.answers, SLOPE),
            needed=tuple(one.low <= self.truth <= one.high for one in given),
            asked=len(slopes),
        )


@dataclass(frozen=True)
class _Effect:
    """WEAM gains this much, the others nothing."""

    effect: float

    def __call__(self, method: str, size: int, pair: str) -> float:
        return self.effect if method == "weam" else 0.0


class Finding:
    """Studies in which WEAM alone has an effect, among all its methods' comparisons with none."""

    def __init__(self, world: World) -> None:
        self.studies = Repeated.of(world)
        self.asked = self.studies.ask(against_none(world))
        self.weam = [one.name for one in self.asked.questions].index("weam")

    def __call__(self, seed: int) -> bool:
        """Whether the effect is found in one study."""
        right = self.studies.draw(seed)
        found = self.studies.judge(self.asked, right)
        if seed < WHOLE:
            grid = Grid.of(self.studies.whole(right), View(), "en")
            same_answers(found, compare_family(grid, against_none(self.studies.world)))
        return found[self.weam].found


def against_none(world: World) -> list[Question]:
    return [Question(name=m, a=Arm(method=m), b=NONE) for m in world.methods]


@lru_cache(maxsize=8)
def pilot_noise(seed_sd: float) -> Noise:
    """The noise of a world, from a pilot so large that it is the truth but for 2 %."""
    small = replace(POWERED, seed_sd=seed_sd)
    studies = Repeated.of(small)
    pilot = replace(studies, world=replace(small, seeds=1500, items=4000))
    found = retabled(studies.ask(against_none(small)), pilot.draw(12345))[0]
    spread = crossed(found.table)
    return Noise.of(spread, spread.item_variance + spread.residual)


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
                    POWERED, methods=methods, seeds=seeds, seed_sd=sd, gain=_Effect(effect)
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
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def commit() -> str:
    """The commit that is measured, and whether its code was changed since."""
    code = ["weam_ray", "tests/study", "benchmarks/statistics.py"]
    asked = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", *code])
    found, changed = (
        subprocess.run(["git", *one], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for one in asked
    )
    return f"{found.strip()} with changes" if changed.strip() else found.strip()


def fill(doc: Path, name: str, lines: Sequence[str]) -> None:
    """Put a section's lines between its marks."""
    begin, end = f"<!-- {name}: written by benchmarks/statistics.py -->", f"<!-- /{name} -->"
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
                f"`python benchmarks/statistics.py {name}{asked}`, commit {measured}, "
                f"{time.strftime('%Y-%m-%d')}, {machine()}, 1 process, "
                f"{(time.monotonic() - started) / 60:.0f} min."
            )
            fill(given.doc, name, [*lines, "", told])


if __name__ == "__main__":
    main()
