"""Simulated studies whose truth is known: a class for each question that claims.py asks of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from repeated import Repeated, Right, retabled
from simulated import World, planted

from weam_ray.study.analysis import analyse
from weam_ray.study.answer import answer, sentences
from weam_ray.study.comparisons import (
    Comparison,
    Question,
    compare_family,
    multi_bootstrap,
    together,
)
from weam_ray.study.intervals import crossed
from weam_ray.study.lines import method_questions
from weam_ray.study.matching import Arm, Grid
from weam_ray.study.power import Noise
from weam_ray.study.report_input import ReportInput
from weam_ray.study.results import View
from weam_ray.study.slopes import Slope, conclude, measure

NONE = Arm(method="none")
SLOPE = 0.02
TARGET = 0.07
"""Gain of "how many pairs for this gain?" in the recovery section."""
WHOLE = 2
"""Studies of each row that also go the long way."""
SLOWER = 4
"""One study of so many draws the percentile bootstrap, which is there for contrast alone, has its
sentences written and read, and is asked how many pairs a gain takes."""

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
class Effect:
    """WEAM gains this much, the others nothing."""

    effect: float

    def __call__(self, method: str, size: int, pair: str) -> float:
        """The gain of a method, as a share."""
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
