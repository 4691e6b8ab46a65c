"""Are the report's statistics what they say? Simulated studies with known effects, and its speed.

Every simulated study goes the way of a real one, from rows and predictions to Holm-adjusted
comparisons; only the encoder is replaced by a draw. Writes docs/statistics.md::

    python benchmarks/statistics.py --studies 2000 --workers 2

(``python -m`` would find this file instead of the standard library's ``statistics``.)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# This folder comes first on the path and holds a file named like a standard module.
sys.path[:] = [str(ROOT), str(ROOT / "tests" / "study")] + [
    entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent
]

import argparse  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from dataclasses import dataclass, replace  # noqa: E402

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402
from simulated import World, planted, simulate  # noqa: E402

from weam_ray.study import scaling  # noqa: E402
from weam_ray.study.comparisons import (  # noqa: E402
    Comparison,
    Question,
    compare_family,
    judge,
    multi_bootstrap,
)
from weam_ray.study.intervals import crossed  # noqa: E402
from weam_ray.study.lines import keys_of, lines_of, method_questions  # noqa: E402
from weam_ray.study.matching import Arm, Grid, Matched, match  # noqa: E402
from weam_ray.study.power import Noise, detectable_effect  # noqa: E402
from weam_ray.study.report import write_report  # noqa: E402
from weam_ray.study.report_input import ReportInput  # noqa: E402
from weam_ray.study.results import Results, View  # noqa: E402

NONE = Arm(method="none")
SLOPE = 0.02


def grid_of(world: World, seed: int) -> Grid:
    return Grid.of(simulate(world, seed).results(), View(), "en")


@dataclass(frozen=True)
class Calibration:
    """One null study: rejections and coverage of each family, and of contrasting tests."""

    methods_false: bool
    cells_false: bool
    covered: float
    cells_covered: float
    naive_false: bool
    naive_covered: float
    bootstrap_covered: bool
    slopes_false: bool


def calibrate(job: tuple[World, int]) -> Calibration:
    """Every truth is 0: whatever is found is false."""
    world, seed = job
    grid = grid_of(world, seed)
    lines = lines_of(grid.cells)
    questions = method_questions(grid, lines)
    methods = compare_family(grid, questions)
    cells = compare_family(grid, cell_questions(grid))
    naive = [unpaired(grid, one) for one in questions]
    first = match(grid, questions[0].a, questions[0].b)
    assert isinstance(first, Matched)
    drawn = multi_bootstrap(first.table, draws=400)
    return Calibration(
        methods_false=any(one.found for one in methods),
        cells_false=any(one.found for one in cells),
        covered=coverage(methods, 0.0),
        cells_covered=coverage(cells, 0.0),
        naive_false=min(naive) < 0.05,
        naive_covered=float(np.mean([p > 0.05 for p in naive])),
        bootstrap_covered=drawn.low <= 0 <= drawn.high,
        slopes_false=any(one.found for one in slopes(grid, world)),
    )


def cell_questions(grid: Grid) -> list[Question]:
    return [
        Question(name="cell", a=line.arm(size=size, domain=domain, pair=pair), b=NONE)
        for line, domain, pair, size in keys_of(grid, lines_of(grid.cells))
    ]


def coverage(family: list[Comparison], truth: float) -> float:
    bounds = [one.effect for one in family if one.effect is not None]
    return float(np.mean([one.low <= truth <= one.high for one in bounds]))


def unpaired(grid: Grid, question: Question) -> float:
    """The contrast: all answers of all seeds and languages as independent, two proportions."""
    counts = []
    for arm, other in ((question.a, question.b), (question.b, question.a)):
        side = match(grid, arm, other)
        assert isinstance(side, Matched)
        right, n = 0, 0
        for stratum in side.strata:
            for cell in stratum.a:
                for language in stratum.languages:
                    array = grid.array(cell, language)
                    assert array is not None
                    right, n = right + int(array.sum()), n + len(array)
        counts.append((right, n))
    (a, n), (b, m) = counts
    pooled = (a + b) / (n + m)
    z = (a / n - b / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(2 * stats.norm.sf(abs(z)))


def slopes(grid: Grid, world: World) -> list[Comparison]:
    """The slopes of all methods, averaged over pairs, as one family."""
    contrasts: list[Matched | str] = []
    for method in world.methods:
        parts = []
        for pair in world.pairs:
            gains = {
                n: match(grid, Arm(method=method, size=n, pair=pair), NONE) for n in world.sizes
            }
            one = scaling.series({n: g for n, g in gains.items() if isinstance(g, Matched)})
            assert isinstance(one, scaling.Series)
            parts.append(one)
        mean = scaling.mean_series(parts)
        assert isinstance(mean, scaling.Series)
        contrasts.append(scaling.slope_contrast(mean))
    return judge([Question(name=m, a=Arm(), b=Arm()) for m in world.methods], contrasts)


def recover(job: tuple[World, int]) -> float:
    """Share of the planted slopes that their intervals cover."""
    world, seed = job
    return coverage(slopes(grid_of(world, seed), world), SLOPE)


def find(job: tuple[World, int]) -> bool:
    """Whether a study of one comparison finds its effect."""
    world, seed = job
    question = Question(name="power", a=Arm(method="weam"), b=NONE)
    return compare_family(grid_of(world, seed), [question])[0].found


def pilot_noise(world: World) -> Noise:
    """The noise of a world, from a pilot with far more seeds and items than a study has."""
    grid = grid_of(replace(world, seeds=60, items=4000), 12345)
    found = match(grid, Arm(method="weam"), NONE)
    assert isinstance(found, Matched)
    spread = crossed(found.table)
    return Noise.of(spread, spread.item_variance + spread.residual)


CALIBRATED: dict[str, World] = {
    f"{seeds} seeds, seed sd {100 * sd:.1f} points{note}": World(
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


def gain_of(effect: float) -> Callable[[str, int, str], float]:
    return _Effect(effect)


@dataclass(frozen=True)
class _Effect:
    # A class and not a closure, so that worlds cross to worker processes.
    effect: float

    def __call__(self, method: str, size: int, pair: str) -> float:
        return self.effect if method == "weam" else 0.0


@dataclass(frozen=True)
class _Planted:
    slope: float

    def __call__(self, method: str, size: int, pair: str) -> float:
        return planted(self.slope)(method, size, pair)


def run(pool: ProcessPoolExecutor, job: Callable, world: World, studies: int) -> list:
    return list(pool.map(job, [(world, seed) for seed in range(studies)], chunksize=20))


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def calibration(pool: ProcessPoolExecutor, studies: int) -> Iterator[str]:
    yield "## Nothing to find: false claims and coverage\n"
    yield (
        "Two pairs, three sizes, three methods, 500 items, every truth 0. *Family-wise*: share of "
        "studies with any claim after Holm (goal: at most 6 %). *Coverage* of 95 % intervals "
        "(goal: 94–96 %). *Naive*: unpaired, unclustered, uncorrected test of two proportions. "
        "*Bootstrap*: percentile Multi-Bootstrap over seeds × items.\n"
    )
    yield (
        "| world | family-wise, 5 methods | family-wise, 18 configurations | family-wise, slopes "
        "| coverage, methods | coverage, configurations | naive family-wise | naive coverage "
        "| bootstrap coverage |"
    )
    yield "|-|-|-|-|-|-|-|-|-|"
    for name, world in CALIBRATED.items():
        found = run(pool, calibrate, world, studies)
        means = [
            float(np.mean([getattr(one, field) for one in found]))
            for field in (
                "methods_false",
                "cells_false",
                "slopes_false",
                "covered",
                "cells_covered",
                "naive_false",
                "naive_covered",
                "bootstrap_covered",
            )
        ]
        yield f"| {name} | " + " | ".join(percent(one) for one in means) + " |"


def powered(pool: ProcessPoolExecutor, studies: int) -> Iterator[str]:
    yield "\n## An effect of the size that the plan calls detectable\n"
    yield "Goal: found in 80 % ± 3 of studies. Noise from a pilot of 60 seeds × 4,000 items.\n"
    yield "| seeds | items | seed sd | detectable, points | found |"
    yield "|-|-|-|-|-|"
    for seeds in (3, 5):
        for sd in (0.005, 0.02):
            world = World(
                pairs=("en-qaa",),
                languages=("en", "qaa"),
                sizes=(1000,),
                methods=("weam",),
                seeds=seeds,
                items=500,
                seed_sd=sd,
            )
            effect = detectable_effect(pilot_noise(world), seeds=seeds, items=500)
            found = run(pool, find, replace(world, gain=gain_of(effect)), studies)
            yield (
                f"| {seeds} | 500 | {100 * sd:.1f} | {100 * effect:.2f} | "
                f"{percent(float(np.mean(found)))} |"
            )


def recovered(pool: ProcessPoolExecutor, studies: int) -> Iterator[str]:
    yield f"\n## A planted log-linear gain, {100 * SLOPE:.0f} points a doubling\n"
    yield "Goal: the slope's 95 % interval covers the truth in 94–96 %.\n"
    yield "| world | coverage |"
    yield "|-|-|"
    for name, world in CALIBRATED.items():
        gaining = replace(world, methods=("tlm", "weam"), gain=_Planted(SLOPE))
        yield f"| {name} | {percent(float(np.mean(run(pool, recover, gaining, studies))))} |"


def speed() -> Iterator[str]:
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
        cells = len({row["cell"] for row in rows})
        started = time.monotonic()
        results = Results.read(rows, root)
        read = time.monotonic()
        write_report(ReportInput(title="speed", results=results), root / "report.html")
        done = time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield "\n## Speed\n"
    yield (
        f"{cells} cells × 15 languages × 5,010 items: read in {read - started:.1f} s, analysed and "
        f"reported in {done - read:.1f} s, peak memory {memory:.2f} GiB (with the simulation), "
        f"one process. Goal: 30 s and 4 GiB."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a world")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "statistics.md")
    given = parser.parse_args()
    started = time.monotonic()
    lines = [
        "# Are the statistics what they say?\n",
        f"Written by `python benchmarks/statistics.py --studies {given.studies}`: "
        f"{given.studies} simulated studies a row; a share near 5 % has a standard error of "
        f"{100 * np.sqrt(0.05 * 0.95 / given.studies):.1f} points, one near 80 % of "
        f"{100 * np.sqrt(0.8 * 0.2 / given.studies):.1f}.\n",
    ]
    for line in speed():
        print(line, flush=True)
        lines.append(line)
    lines.append("")
    with ProcessPoolExecutor(given.workers) as pool:
        for part in (calibration, powered, recovered):
            for line in part(pool, given.studies):
                print(line, flush=True)
                lines.append(line)
    lines.append(f"\nThe whole run took {(time.monotonic() - started) / 60:.0f} minutes.\n")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines), encoding="utf8")


if __name__ == "__main__":
    main()
