"""How accurate each configuration is, on its own: curves and the table of languages.

All levels in the same languages are one family, so that their seed variances lend each other
strength, and an accuracy that is shown twice has one interval. (Other languages have seed variances
of their own: English hardly varies where a target language swings by ten points.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weam_ray.study.comparisons import moderated
from weam_ray.study.intervals import Crossed, Interval, intervals
from weam_ray.study.lines import Key, Line, largest
from weam_ray.study.matching import Arm, Cell, Grid, Languages, Matched, level
from weam_ray.study.results import BASELINE, REFERENCE_METHODS, target_languages
from weam_ray.study.wording import method_name


@dataclass(frozen=True, kw_only=True)
class Level:
    """An accuracy over seeds and items."""

    interval: Interval
    """Within 0-1."""
    seeds: tuple[float, ...]
    """Accuracy of each seed."""
    items: int
    cells: tuple[str, ...]
    """Addresses of the cells behind it."""
    pairs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Those that could be computed."""

    configurations: dict[Key, Level]
    """In the language of the pair."""
    baselines: dict[tuple[str, ...], Level]
    """No pre-training, by the languages it is scored in."""
    references: dict[tuple[str, tuple[str, ...]], Level]
    """Reference methods, by name and languages."""
    languages: dict[tuple[str, str], Level]
    """By language and system; methods at their largest size."""


def measure_levels(grid: Grid, lines: Sequence[Line], keys: Sequence[Key]) -> Levels:
    """Every level that a report shows."""
    scored = {own_languages(grid, pair) for _, _, pair, _ in keys}
    configurations = {
        key: level(grid, key[0].arm(size=key[3], domain=key[1], pair=key[2])) for key in keys
    }
    baselines = {
        languages: level(grid, Arm(method=BASELINE), _always(languages)) for languages in scored
    }
    references = {
        (method_name(method), languages): level(grid, Arm(method=method), _always(languages))
        for languages in scored
        for method in sorted(REFERENCE_METHODS)
    }
    languages = {
        (language, name): level(grid, arm, _one(language, grid.taken(arm), grid.source))
        for name, arm in _systems(grid, lines)
        for language in grid.all_languages
    }
    asked = (*configurations.values(), *baselines.values(), *references.values())
    found = _levels([*asked, *languages.values()])
    return Levels(
        configurations=_known(configurations, found),
        baselines=_known(baselines, found),
        references=_known(references, found),
        languages=_known(languages, found),
    )


_K = TypeVar("_K")


def _known(asked: Mapping[_K, Matched | str], found: Mapping[int, Level]) -> dict[_K, Level]:
    return {key: found[id(one)] for key, one in asked.items() if not isinstance(one, str)}


def own_languages(grid: Grid, pair: str) -> tuple[str, ...]:
    """The languages of a pair that anything was scored in."""
    own = target_languages(pair, grid.source, grid.all_languages)
    return tuple(one for one in own if one in grid.all_languages)


def _systems(grid: Grid, lines: Sequence[Line]) -> list[tuple[str, Arm]]:
    return [
        (method_name(BASELINE), Arm(method=BASELINE)),
        *((line.name, line.arm(size=largest(grid, line.arm()))) for line in lines),
        *((method_name(method), Arm(method=method)) for method in sorted(REFERENCE_METHODS)),
    ]


def _levels(asked: Sequence[Matched | str]) -> dict[int, Level]:
    """By identity of the table: those of the same languages lend each other strength."""
    families: dict[tuple[str, ...], list[Matched]] = {}
    for one in asked:
        if not isinstance(one, str):
            families.setdefault(one.languages, []).append(one)
    found: dict[int, Level] = {}
    for tables in families.values():
        spreads = moderated(tables)
        for one, spread, bounds in zip(tables, spreads, intervals(spreads), strict=True):
            found[id(one)] = _level(one, spread, bounds)
    return found


def _level(matched: Matched, spread: Crossed, bounds: Interval) -> Level:
    return Level(
        interval=Interval(value=bounds.value, low=max(bounds.low, 0.0), high=min(bounds.high, 1.0)),
        seeds=tuple(float(mean) for mean in matched.table.mean(1)),
        items=spread.items,
        cells=tuple(cell.address for one in matched.strata for cell in one.a),
        pairs=tuple(dict.fromkeys(one.key[1] for one in matched.strata)),
    )


def _always(languages: Sequence[str]) -> Languages:
    return lambda _: languages


def _one(language: str, cells: Iterable[Cell], source: str) -> Languages:
    # A language is scored by the cells whose bitext is its own, and by all cells if none is.
    own = {
        cell.pair for cell in cells if language in target_languages(cell.pair, source, (language,))
    }
    return lambda cell: (language,) if not own or cell.pair in own else ()
