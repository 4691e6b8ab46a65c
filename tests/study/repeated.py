"""Many studies of one world: what is the same in all of them is done once.

Studies of one world have the same cells, matches and questions; only the answers differ. So a world
is simulated and matched once, and every table that is judged becomes a sum, with fixed weights, of
the answers of some configurations in some languages. A study is then those answers drawn anew, the
sums, and the judgement itself, which is the one of every report. :meth:`Repeated.whole` is the same
study the long way, for a check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from naive import two_proportions
from numpy.typing import NDArray
from simulated import World, chances, simulate

from weam_ray.study.comparisons import Comparison, Question, judge
from weam_ray.study.lines import Key, Line, cell_questions, keys_of, lines_of
from weam_ray.study.matching import Grid, Matched, match
from weam_ray.study.results import Correctness, Results, View
from weam_ray.study.scaling import Series, slope_contrast
from weam_ray.study.slopes import Growth, measure, slope_question

Unit = tuple[str, str, int, str, str]
"""Domain, pair, size and method of a configuration, and a language that it is scored in."""
Right = NDArray[np.bool_]
"""Shape (units, seeds, items)."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A family of questions, matched, and each table's weights over the units."""

    questions: list[Question]
    matched: list[Matched]
    weights: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """A world whose studies differ in their answers alone."""

    world: World
    results: Results
    grid: Grid
    lines: tuple[Line, ...]
    keys: tuple[Key, ...]
    units: tuple[Unit, ...]
    cells: Asked
    growth: Growth
    """Of the first study; its tables stand for those of the others."""

    @classmethod
    def of(cls, world: World) -> Repeated:
        """Simulate one study and match it."""
        results = simulate(world).results()
        grid = Grid.of(results, View(split=world.split, selection=world.selection), "en")
        lines = lines_of(grid.cells)
        keys = tuple(keys_of(grid, lines))
        units = tuple(_units(grid))
        return cls(
            world=world,
            results=results,
            grid=grid,
            lines=lines,
            keys=keys,
            units=units,
            cells=_asked(grid, units, cell_questions(keys)),
            growth=measure(grid, lines, keys),
        )

    def ask(self, questions: list[Question]) -> Asked:
        """Match a family of questions."""
        return _asked(self.grid, self.units, questions)

    def draw(self, seed: int) -> Right:
        """The answers of another study."""
        world, random = self.world, np.random.default_rng([seed, 20210602])
        shape = (len(self.units), world.seeds, world.items)
        ease = random.normal(0, 1.5, world.items)
        taste = ease + world.item_sd * random.standard_normal((shape[0], shape[2]), np.float32)
        kinds = list(dict.fromkeys(unit[:4] for unit in self.units))
        own = world.seed_sd if world.baseline_seed_sd is None else world.baseline_seed_sd
        sds = np.array([own if kind[3] == "none" else world.seed_sd for kind in kinds])
        shifts = sds[:, None] * random.standard_normal((len(kinds), world.seeds))
        wanted = np.empty(shape[:2], np.float32)
        for place, (domain, pair, size, method, language) in enumerate(self.units):
            shift = shifts[kinds.index((domain, pair, size, method))]
            gain = world.gain(method, size, pair) if pair else 0.0
            wanted[place] = world.base + shift + (0.15 if language == "en" else 0.0) + gain
        likely = chances(taste.astype(np.float32)[:, None], wanted[:, :, None])
        return np.asarray(random.random(shape, np.float32) < likely)

    def judge(self, asked: Asked, right: Right) -> list[Comparison]:
        """A family's answers in the study that has these answers."""
        return judge(asked.questions, retabled(asked, right))

    def grown(self, right: Right) -> Growth:
        """The gains by size in the study that has these answers."""
        tables = dict(zip(self.keys, _tables(self.cells.weights, right), strict=True))
        parts = {
            line: {place: _series(one, line, [place], tables) for place, one in places.items()}
            for line, places in self.growth.parts.items()
        }
        joined = {
            line: one
            if isinstance(one, str)
            else _series(one, line, list(self.growth.parts[line]), tables)
            for line, one in self.growth.joined.items()
        }
        contrasts = [
            one if isinstance(one, str) else slope_contrast(one) for one in joined.values()
        ]
        questions = [slope_question(line) for line in self.lines]
        return Growth(
            lines=self.lines, parts=parts, joined=joined, answers=judge(questions, contrasts)
        )

    def naive(self, asked: Asked, right: Right) -> list[float]:
        """The p values of two proportions, unpaired and unclustered."""
        counts, n = right.sum((1, 2)), right[0].size
        return [
            two_proportions(
                (int(counts[row > 0].sum()), n * int((row > 0).sum())),
                (int(counts[row < 0].sum()), n * int((row < 0).sum())),
            )
            for row in asked.weights
        ]

    def whole(self, right: Right) -> Results:
        """The study as rows and predictions; answers that nothing asks for stay as they were."""
        arrays = dict(self.results.correct.arrays)
        for cell in self.grid.cells:
            for place, unit in enumerate(self.units):
                if unit[:4] == (cell.domain, cell.pair, cell.size, cell.method):
                    view = self.grid.view
                    key = (cell.address, view.task, unit[4], view.split, view.selection)
                    arrays[key] = right[place, cell.seeds[2]].astype(np.int8)
        correct = Correctness(arrays=arrays, positions=self.results.correct.positions)
        return Results(rows=self.results.rows, correct=correct)


def _units(grid: Grid) -> list[Unit]:
    found = [
        (cell.domain, cell.pair, cell.size, cell.method, language)
        for cell in grid.cells
        for language in grid.own(cell)
    ]
    return sorted(set(found))


def _asked(grid: Grid, units: Sequence[Unit], questions: list[Question]) -> Asked:
    matched = [match(grid, one.a, one.b) for one in questions]
    tables = [one for one in matched if isinstance(one, Matched)]
    assert len(tables) == len(questions), matched
    weights = np.zeros((len(tables), len(units)))
    for row, one in zip(weights, tables, strict=True):
        for stratum in one.strata:
            share = 1 / (len(one.strata) * len(stratum.languages))
            for sign, cells in ((share, stratum.a), (-share, stratum.b)):
                first = cells[0]
                assert {one.configuration for one in cells} == {first.configuration}
                for language in stratum.languages:
                    unit = (first.domain, first.pair, first.size, first.method, language)
                    row[units.index(unit)] += sign
    return Asked(questions=questions, matched=tables, weights=weights)


def _tables(weights: NDArray[np.float64], right: Right) -> NDArray[np.float64]:
    units, seeds, items = right.shape
    flat = right.reshape(units, -1).astype(np.float64)
    return np.asarray((weights @ flat).reshape(-1, seeds, items))


def retabled(asked: Asked, right: Right) -> list[Matched]:
    """The matches of a family with the tables of the study that has these answers."""
    tables = _tables(asked.weights, right)
    return [
        replace(one, table=table, right_wrong=None)
        for one, table in zip(asked.matched, tables, strict=True)
    ]


def _series(
    one: Series,
    line: Line,
    places: Sequence[tuple[str, str]],
    tables: dict[Key, NDArray[np.float64]],
) -> Series:
    stacked = [
        np.mean([tables[line, domain, pair, size] for domain, pair in places], axis=0)
        for size in one.sizes
    ]
    return replace(one, tables=np.stack(stacked))
