"""The curves: accuracy by size in the language of each pair, a panel for each domain and pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weam_ray.study.levels import Level, Levels, own_languages
from weam_ray.study.lines import Key, Line
from weam_ray.study.matching import Grid
from weam_ray.study.report_input import ReportInput
from weam_ray.study.scaling import Band
from weam_ray.study.slopes import Bands
from weam_ray.study.wording import system_name


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a panel."""

    line: Line
    levels: tuple[tuple[int, Level], ...]
    """By size."""
    band: Band | None = None
    """The fitted gain; None where no slope was found, which would extrapolate noise."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Accuracy by size in the language of one pair and domain."""

    domain: str
    pair: str
    languages: tuple[str, ...]
    baseline: Level | None
    curves: tuple[Curve, ...]
    references: tuple[tuple[str, float], ...]
    """Reference methods and sanity rows drawn as lines: name and accuracy."""


def panels(
    source: ReportInput,
    grid: Grid,
    lines: Sequence[Line],
    keys: Sequence[Key],
    levels: Levels,
    bands: Bands,
) -> tuple[Panel, ...]:
    """A panel for every domain and pair that has a finished cell."""
    found = []
    for domain, pair in sorted({(d, p) for _, d, p, _ in keys}):
        languages = own_languages(grid, pair)
        curves = [
            Curve(
                line=line,
                levels=tuple(
                    (key[3], levels.configurations[key])
                    for key in keys
                    if key[:3] == (line, domain, pair) and key in levels.configurations
                ),
                band=bands.get((line, domain, pair)),
            )
            for line in lines
        ]
        found.append(
            Panel(
                domain=domain,
                pair=pair,
                languages=languages,
                baseline=levels.baselines.get(languages),
                curves=tuple(curve for curve in curves if curve.levels),
                references=tuple(_references(source, levels, languages)),
            )
        )
    return tuple(found)


def _references(
    source: ReportInput, levels: Levels, languages: tuple[str, ...]
) -> list[tuple[str, float]]:
    methods = [
        (name, one.interval.value)
        for (name, scored), one in levels.references.items()
        if scored == languages
    ]
    blind = sanity_means(source, languages)
    return methods + [
        (system_name(system), value)
        for system, value in blind.items()
        if system == "word-overlap-only"
    ]


def sanity_means(source: ReportInput, languages: Sequence[str]) -> dict[str, float]:
    """Mean accuracy of each sanity system in some languages, on the view's split."""
    rows = source.view_sanity
    if rows.empty or not languages:
        return {}
    rows = rows[rows["language"].isin(list(languages))]
    return {str(k): float(v) for k, v in rows.groupby("system", sort=False)["value"].mean().items()}
