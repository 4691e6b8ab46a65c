"""Which cells stand against which: two arms at matched factors, as one seeds x items table.

An arm is a part of the grid ("WEAM at 4,000 pairs"). Cells of two arms are matched on every factor
that the arms do not set apart; a factor that one side lacks (no pre-training has no size) matches
anything. What is left of an arm inside a match differs by seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weam_ray.study.results import SEEDS, Correctness, Results, View, target_languages
from weam_ray.study.seeding import Seed, Sides, by_seed, replicate_by, seed_label, seed_names

_FACTORS = ("domain", "pair", "size", "regime")
Languages = Callable[["Cell"], Sequence[str]]
"""The languages a match is scored in, given a cell that has a pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell by its factors."""

    address: str
    domain: str
    pair: str
    size: int
    method: str
    regime: str
    seeds: tuple[int, int, int]
    """Subset, pre-training, fine-tuning; -1 where it has none."""

    @property
    def configuration(self) -> tuple[str, str, int, str, str]:
        """The cell without its seeds: what is measured, not the measurement."""
        return (self.domain, self.pair, self.size, self.method, self.regime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A part of the grid; None leaves a factor open."""

    method: str | None = None
    size: int | None = None
    domain: str | None = None
    pair: str | None = None
    regime: str | None = None

    def takes(self, cell: Cell) -> bool:
        """Whether a cell belongs to this arm."""
        return (
            (self.method is None or self.method == cell.method)
            and (self.size is None or self.size == cell.size)
            and (self.domain is None or self.domain == cell.domain)
            and (self.pair is None or self.pair == cell.pair)
            and (self.regime is None or self.regime == cell.regime)
        )


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Matched cells that differ by seed alone, and the languages they are scored in."""

    key: tuple[str, str, int, str]
    languages: tuple[str, ...]
    a: tuple[Cell, ...]
    b: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """``medical en-qaa 4000``."""
        return " ".join(str(part) for part in self.key if part not in ("", 0)) or "all"


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Two arms, side by side.

    ``table`` has shape (seeds, items): the difference a - b in correctness, averaged over strata
    and languages, for the items asked in all of them. ``right_wrong`` has shape (seeds, 2): items
    that only a, only b got right, summed over languages; None where a seed holds several cells.
    ``weights``: how much each configuration's seed noise enters, for the overlap of comparisons.
    """

    seeds: tuple[str, ...]
    table: NDArray[np.float64]
    right_wrong: NDArray[np.int64] | None
    strata: tuple[Stratum, ...]
    weights: Mapping[tuple[str, str, int, str, str], float]
    notes: tuple[str, ...] = ()
    items: NDArray[np.int64] | None = None
    """Which of the task's items the table has; None: the first ones."""

    @property
    def asked(self) -> NDArray[np.int64]:
        """The positions of the table's items in the task, shape (items,)."""
        return np.arange(self.table.shape[1]) if self.items is None else self.items

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language that enters, once."""
        return tuple(dict.fromkeys(lang for one in self.strata for lang in one.languages))


def cells_of(rows: pd.DataFrame) -> list[Cell]:
    """The cells of a view's rows, in the order of their factors."""
    columns = ["cell", *_FACTORS, "method", *SEEDS]
    records = rows[columns].drop_duplicates("cell").to_dict("records")
    cells = [
        Cell(
            address=str(row["cell"]),
            domain=str(row["domain"]),
            pair=str(row["pair"]),
            size=int(row["size"]),
            method=str(row["method"]),
            regime=str(row["regime"]),
            seeds=(
                int(row["subset_seed"]),
                int(row["pretraining_seed"]),
                int(row["finetuning_seed"]),
            ),
        )
        for row in records
    ]
    return sorted(cells, key=lambda cell: (*cell.configuration, cell.seeds))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells of one view with their items, ready to be matched."""

    cells: tuple[Cell, ...]
    languages: Mapping[str, frozenset[str]]
    """Languages each cell (by address) was scored in."""
    correct: Correctness
    view: View
    source: str
    all_languages: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, results: Results, view: View, source: str) -> Grid:
        """The grid of one view of the results."""
        rows = results.view(view)
        languages = {
            str(cell): frozenset(str(v) for v in group)
            for cell, group in rows.groupby("cell")["language"]
        }
        return cls(
            cells=tuple(cells_of(rows)),
            languages=languages,
            correct=results.correct,
            view=view,
            source=source,
            all_languages=tuple(sorted({str(v) for v in rows["language"].unique()})),
        )

    def taken(self, arm: Arm) -> tuple[Cell, ...]:
        """The cells of an arm, in their order."""
        # Asked for by every question of a family as large as the grid: to look through all cells
        # each time would take the square of them.
        if arm not in self._taken:
            point = (arm.method, arm.domain, arm.pair, arm.size)
            among = self.cells if None in point else self._points.get(point, ())
            self._taken[arm] = tuple(cell for cell in among if arm.takes(cell))
        return self._taken[arm]

    @cached_property
    def matches(self) -> dict[tuple[Arm, Arm], Matched | str]:
        """What :func:`match` has put together so far."""
        return {}

    @cached_property
    def _taken(self) -> dict[Arm, tuple[Cell, ...]]:
        return {}

    @cached_property
    def _points(self) -> dict[tuple[str | int | None, ...], list[Cell]]:
        found: dict[tuple[str | int | None, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault((cell.method, cell.domain, cell.pair, cell.size), []).append(cell)
        return found

    def own(self, cell: Cell) -> tuple[str, ...]:
        """The languages of a cell's bitext; all but the source where it has none."""
        own = target_languages(cell.pair, self.source, self.all_languages)
        return own or tuple(lang for lang in self.all_languages if lang != self.source)

    def array(self, cell: Cell, language: str) -> NDArray[np.int8] | None:
        """Right, wrong or not asked, per item; None when there are no predictions."""
        return self.correct.get(cell.address, language, self.view)


def strata_of(grid: Grid, a: Arm, b: Arm, languages: Languages | None = None) -> list[Stratum]:
    """The matches of two arms, in the order of their factors."""
    apart = {
        name
        for name in _FACTORS
        if None not in (getattr(a, name), getattr(b, name)) and getattr(a, name) != getattr(b, name)
    }
    kinds_a, kinds_b = (_kinds(grid.taken(arm), apart) for arm in (a, b))
    strata: list[Stratum] = []
    for key_a, cells_a in kinds_a.items():
        for key_b, cells_b in kinds_b.items():
            if not all(x == y or not x or not y for x, y in zip(key_a, key_b, strict=True)):
                continue
            key = tuple(x or y for x, y in zip(key_a, key_b, strict=True))
            bitext = cells_a[0] if cells_a[0].pair else cells_b[0]
            own = (languages or grid.own)(bitext)
            side_a, side_b = (_scored(grid, side, own) for side in (cells_a, cells_b))
            asked = _asked(grid, (*side_a, *side_b), own)
            if asked and side_a and side_b:
                strata.append(
                    Stratum(
                        key=(str(key[0]), str(key[1]), int(key[2] or 0), str(key[3])),
                        languages=tuple(asked),
                        a=tuple(side_a),
                        b=tuple(side_b),
                    )
                )
    return sorted(strata, key=lambda one: one.key)


def _scored(grid: Grid, cells: Sequence[Cell], languages: Sequence[str]) -> list[Cell]:
    """The cells without those that no bitext ties to these languages and that have none of them.

    Under translate-train a cell without bitext is scored in the language it was trained on: that of
    another pair has no part in this one.
    """
    return [
        cell
        for cell in cells
        if cell.pair or not grid.languages[cell.address].isdisjoint(languages)
    ]


def _asked(grid: Grid, cells: Sequence[Cell], languages: Sequence[str]) -> list[str]:
    """Of these languages those that every cell is scored in."""
    return [one for one in languages if all(one in grid.languages[cell.address] for cell in cells)]


def _kinds(cells: Iterable[Cell], apart: set[str]) -> dict[tuple[str | int, ...], list[Cell]]:
    kinds: dict[tuple[str | int, ...], list[Cell]] = {}
    for cell in cells:
        key = tuple("" if name in apart else getattr(cell, name) for name in _FACTORS)
        kinds.setdefault(key, []).append(cell)
    return kinds


def match(grid: Grid, a: Arm, b: Arm, languages: Languages | None = None) -> Matched | str:
    """Two arms as one table of differences, or a sentence that says why there is none."""
    if languages is not None:
        return _matched(grid, strata_of(grid, a, b, languages))
    # The gain of a configuration is asked for by itself and as part of its curve.
    if (a, b) not in grid.matches:
        grid.matches[a, b] = _matched(grid, strata_of(grid, a, b))
    return grid.matches[a, b]


def _matched(grid: Grid, strata: Sequence[Stratum]) -> Matched | str:
    if not strata:
        return "no cells of the two that match in everything else have finished"
    return match_strata(grid, strata)


def level(grid: Grid, arm: Arm, languages: Languages | None = None) -> Matched | str:
    """One arm against nothing: its table of correctness, averaged over its configurations."""
    kinds: dict[tuple[str | int, ...], list[Cell]] = _kinds(grid.taken(arm), set())
    strata = []
    for (domain, pair, size, regime), cells in kinds.items():
        own = (languages or grid.own)(cells[0])
        side = _scored(grid, cells, own)
        asked = _asked(grid, side, own)
        if asked and side:
            key = (str(domain), str(pair), int(size), str(regime))
            strata.append(Stratum(key=key, languages=tuple(asked), a=tuple(side), b=()))
    return match_strata(grid, strata) if strata else "no such cell has finished"


def replicates(grid: Grid, a: Arm, b: Arm) -> int:
    """The seeds that a comparison of two arms will have; 0 where nothing matches."""
    strata = strata_of(grid, a, b)
    if not strata:
        return 0
    _, places = replicate_by(strata)
    return len(set.intersection(*(set(by_seed(one, places)) for one in strata)))


def match_strata(grid: Grid, strata: Sequence[Stratum]) -> Matched | str:
    """The table of given strata, over the seeds that all of them have."""
    notes: list[str] = []
    carried, places = replicate_by(strata)
    full = [by_seed(one, places) for one in strata]
    seeds = sorted(set.intersection(*(set(one) for one in full)))
    everywhere = set.union(*(set(one) for one in full))
    if not seeds:
        return "the two have no seed in common"
    if len(everywhere) > len(seeds):
        notes.append(
            f"{len(everywhere) - len(seeds)} of {len(everywhere)} seeds left out: "
            "not every cell of theirs has finished"
        )
    if len(places) < len(carried):
        notes.append("seeds that cross are averaged within " + seed_names(places))
    gathered = _gather(grid, strata, full, seeds)
    if isinstance(gathered, str):
        return gathered
    table, right_wrong, asked = gathered
    if not asked.all():
        notes.append(f"{(~asked).sum()} items left out: not asked in every cell")
    labels = tuple(seed_label(seed, places) for seed in seeds)
    return Matched(
        seeds=labels,
        table=table,
        right_wrong=right_wrong,
        strata=tuple(strata),
        weights=_weights(strata),
        notes=tuple(notes),
        items=np.flatnonzero(asked),
    )


def _gather(
    grid: Grid,
    strata: Sequence[Stratum],
    full: Sequence[Mapping[Seed, Sides]],
    seeds: Sequence[Seed],
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None, NDArray[np.bool_]] | str:
    single = all(len(side) <= 1 for one in full for seed in seeds for side in one[seed])
    right_wrong = np.zeros((len(seeds), 2), np.int64)
    table: list[NDArray[np.float64]] = []
    asked = np.ones(1, np.bool_)
    for place, seed in enumerate(seeds):
        total = np.zeros(1)
        for one, cells in zip(strata, full, strict=True):
            for language in one.languages:
                found = _difference(grid, cells[seed], language)
                if found is None:
                    return "a cell has no predictions file"
                difference, here = found
                asked = asked & here
                right_wrong[place] += [(difference[here] > 0).sum(), (difference[here] < 0).sum()]
                total = total + difference / (len(one.languages) * len(strata))
        table.append(total)
    if not asked.any():
        return "the two were not asked a single item in common"
    kept = np.stack(table)[:, asked]
    return kept, right_wrong if single else None, asked


def _difference(
    grid: Grid, sides: Sides, language: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    means: list[NDArray[np.float64]] = []
    asked = np.ones(1, np.bool_)
    for cells in sides:
        if not cells:  # a level: nothing on the other side
            means.append(np.zeros(1))
            continue
        arrays = [array for cell in cells if (array := grid.array(cell, language)) is not None]
        if len(arrays) < len(cells):
            return None
        if len(arrays) == 1:
            asked = asked & (arrays[0] >= 0)
            means.append(arrays[0].astype(np.float64))
            continue
        stacked = np.stack(arrays)
        asked = asked & (stacked >= 0).all(0)
        means.append(stacked.mean(0, dtype=np.float64))
    return means[0] - means[1], np.asarray(asked)


def _weights(strata: Sequence[Stratum]) -> dict[tuple[str, str, int, str, str], float]:
    weights: dict[tuple[str, str, int, str, str], float] = {}
    for one in strata:
        for sign, cells in ((1.0, one.a), (-1.0, one.b)):
            kinds = {cell.configuration for cell in cells}
            for kind in kinds:
                weights[kind] = weights.get(kind, 0.0) + sign / (len(strata) * len(kinds))
    return weights


def same_items(matched: Sequence[Matched]) -> bool:
    """Whether every table has the same items, in the same order."""
    return all(np.array_equal(one.asked, matched[0].asked) for one in matched)
