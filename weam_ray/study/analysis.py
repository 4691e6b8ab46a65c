"""From results to everything the report shows: levels, families of comparisons, slopes, answers.

Families, each with its own Holm correction, in the order in which they are believed:

1. the answer, which the page opens with: every method against no pre-training, and WEAM against its
   rivals, at the largest size that both have; and whether each method's gain grows with size. All
   averaged over domains and pairs, in the language of each pair. One family, for a reader takes
   its sentences together;
2. cells: every domain x pair x size x method against no pre-training (the heat map);
3. pairwise: any two methods that the answer leaves, and any two sizes of a method;
4. causes: aligner regimes, domains and budgets against each other, where the study varies them;
5. decompositions: differences taken apart (:mod:`weam_ray.study.causes`).
"""

from __future__ import annotations

from dataclasses import dataclass

from weam_ray.study.budgets import Budget, budget_questions, budgets
from weam_ray.study.causes import Decomposition, decompose
from weam_ray.study.comparisons import Comparison, compare_family, together
from weam_ray.study.domain import DomainMatch, domain_match
from weam_ray.study.levels import Levels, measure_levels
from weam_ray.study.lines import (
    Key,
    Line,
    cause_questions,
    cell_questions,
    keys_of,
    lines_of,
    method_questions,
    pairwise_questions,
)
from weam_ray.study.matching import Grid
from weam_ray.study.panels import Panel, panels
from weam_ray.study.report_input import ReportInput
from weam_ray.study.slopes import Slope, conclude, curve_bands, measure


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything computed; the report only lays it out."""

    grid: Grid
    lines: tuple[Line, ...]
    sizes: tuple[int, ...]
    levels: Levels
    panels: tuple[Panel, ...]
    methods: tuple[Comparison, ...]
    slopes: tuple[Slope, ...]
    cells: tuple[Comparison, ...]
    """In the order of :attr:`cell_keys`."""
    cell_keys: tuple[Key, ...]
    """(line, domain, pair, size)."""
    pairwise: tuple[Comparison, ...]
    """Other methods against each other, and sizes of one method."""
    causes: tuple[Comparison, ...]
    """Regimes, domains and budgets against each other."""
    decompositions: tuple[Decomposition, ...]
    budgets: tuple[Budget, ...]
    untold: tuple[str, ...]
    """What the budgets of this study can't tell apart."""
    domain_match: tuple[DomainMatch, ...]


def analyse(source: ReportInput) -> Analysis:
    """Compute the study's answers. Deterministic; needs no randomness but the bands' fixed seed."""
    grid = Grid.of(source.results, source.view, source.source_language)
    lines = lines_of(grid.cells)
    keys = tuple(keys_of(grid, lines))
    cells = compare_family(grid, cell_questions(keys))
    growth = measure(grid, lines, keys)
    methods, slopes = together(
        compare_family(grid, method_questions(grid, lines), bootstrap=True), growth.answers
    )
    found = conclude(growth, slopes, source.target_gain)
    spent = budgets(grid, source.results.view(source.view), lines)
    asked, untold = budget_questions(spent, source.objectives)
    levels = measure_levels(grid, lines, keys)
    by_key = dict(zip(keys, cells, strict=True))
    return Analysis(
        grid=grid,
        lines=lines,
        sizes=tuple(sorted({size for *_, size in keys})),
        levels=levels,
        panels=panels(source, grid, lines, keys, levels, curve_bands(growth, found)),
        methods=tuple(methods),
        slopes=found,
        cells=tuple(cells),
        cell_keys=keys,
        pairwise=tuple(compare_family(grid, pairwise_questions(grid, lines))),
        causes=tuple(compare_family(grid, [*cause_questions(grid), *asked])),
        decompositions=decompose(grid, lines, methods),
        budgets=spent,
        untold=tuple(untold),
        domain_match=domain_match(source.divergences, lines, by_key, source.source_language),
    )
