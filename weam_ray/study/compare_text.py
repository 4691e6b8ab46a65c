"""Two studies beside each other, as a person reads it in a terminal and as tables for a paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from weam_ray.study import wording
from weam_ray.study.columns import DIFFERENCE, Column, Table, difference_row, verdict
from weam_ray.study.compare import StudyComparison
from weam_ray.study.comparisons import Comparison
from weam_ray.study.export import write_table

_MOST_SETTINGS = 20


def compare_text(found: StudyComparison, *, every_cell: bool = False) -> str:
    """The whole of `weam-ray compare`.

    Args:
        found: of :func:`weam_ray.study.compare.compare_studies`.
        every_cell: a line for every configuration, not only for the methods.
    """
    lines = [f"{found.second} less {found.first}, points, 95 % intervals over seeds x items"]
    families = [("accuracy", found.methods), ("gain over no pre-training", found.gains)]
    if every_cell:
        families.append(("every configuration", found.cells))
    for title, family in families:
        if family:
            lines += ["", title, *_lines(family)]
    if not found.cells:
        lines += ["", "nothing that both measured can be compared"]
    if found.same:
        lines += ["", f"the same work in both: {_configurations(found.same)}"]
    if found.apart:
        lines += ["", "not compared", *(f"  {reason}" for reason in found.apart)]
    if found.settings:
        lines += ["", "settings that differ", *_settings(found)]
    return "\n".join(lines)


def _configurations(number: int) -> str:
    return "1 configuration" if number == 1 else f"{number} configurations"


def _lines(family: Sequence[Comparison]) -> Iterator[str]:
    width = max(len(one.question.name) for one in family)
    for one in family:
        name = one.question.name.ljust(width)
        if one.effect is None or one.spread is None:
            yield f"  {name}  {verdict(one)}"
            continue
        span = wording.span(one.effect.low, one.effect.high)
        size = f"{one.spread.seeds} seeds x {one.spread.items} items"
        p = f"p {wording.probability(one.p_holm)} (Holm)"
        yield (
            f"  {name}  {wording.points(one.effect.value):>6} ({span}), {size}, {p}: {verdict(one)}"
        )
        for note in one.notes:
            yield f"  {'':{width}}  {note}"


def _settings(found: StudyComparison) -> Iterator[str]:
    for name, first, second in found.settings[:_MOST_SETTINGS]:
        yield f"  {name}: {first} in {found.first}, {second} in {found.second}"
    if len(found.settings) > _MOST_SETTINGS:
        yield f"  and {len(found.settings) - _MOST_SETTINGS} more"


def compare_tables(found: StudyComparison) -> Iterator[Table]:
    """Methods, gains, configurations and settings."""
    columns = (
        Column(key="question", heading="what"),
        *DIFFERENCE,
        Column(key="verdict", heading="in words"),
    )
    what = f"{found.second} less {found.first}"
    families = {
        "compared_methods": (f"{what}: accuracy by method", found.methods),
        "compared_gains": (f"{what}: gain over no pre-training", found.gains),
        "compared_cells": (f"{what}: accuracy of every configuration", found.cells),
    }
    for name, (caption, family) in families.items():
        rows = tuple(difference_row(one) for one in family)
        yield Table(name=name, caption=caption, columns=columns, rows=rows)
    yield Table(
        name="compared_settings",
        caption="Settings that differ",
        columns=(
            Column(key="setting", heading="setting"),
            Column(key="first", heading=found.first),
            Column(key="second", heading=found.second),
        ),
        rows=tuple({"setting": n, "first": one, "second": two} for n, one, two in found.settings),
    )


def write_comparison(found: StudyComparison, folder: Path) -> list[Path]:
    """The tables as CSV and LaTeX, and what was not compared as text."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [path for table in compare_tables(found) for path in write_table(table, folder)]
    text = folder / "compared.txt"
    text.write_text(compare_text(found, every_cell=True) + "\n", encoding="utf8")
    return [*written, text]
