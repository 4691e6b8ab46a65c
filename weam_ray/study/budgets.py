"""Does more text help, or more training? Equal steps against equal passes over the text.

At equal steps (matched compute) a larger text is seen fewer times; at equal passes (matched epochs)
it is trained on for longer. A study of one budget alone can't tell size from repetition, and says
so. The budget of a line is read off what its cells really did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from weam_ray.study.comparisons import Question
from weam_ray.study.lines import Line
from weam_ray.study.matching import Grid
from weam_ray.study.wording import about, count

Kind = Literal["steps", "passes", "neither", "one size"]
_ALIKE = 1.05
"""Largest over smallest, to be called equal: epochs round up to whole steps."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long one line trained, by size: means over its cells."""

    line: Line
    kind: Kind
    sizes: tuple[int, ...]
    steps: tuple[float, ...]
    passes: tuple[float, ...]


def budgets(grid: Grid, rows: pd.DataFrame, lines: Sequence[Line]) -> tuple[Budget, ...]:
    """The budget of every line, from the ``steps`` and ``epochs`` of the view's rows."""
    spent = rows.drop_duplicates("cell").set_index("cell")[["steps", "epochs"]]
    return tuple(_budget(grid, spent, line) for line in lines)


def _budget(grid: Grid, spent: pd.DataFrame, line: Line) -> Budget:
    by_size: dict[int, list[str]] = {}
    for cell in grid.cells:
        if line.arm().takes(cell):
            by_size.setdefault(cell.size, []).append(cell.address)
    sizes = tuple(sorted(by_size))
    steps, passes = (
        tuple(float(spent.loc[by_size[size], name].mean()) for size in sizes)
        for name in ("steps", "epochs")
    )
    kind: Kind = "neither"
    if len(sizes) < 2:
        kind = "one size"
    elif _equal(steps):
        kind = "steps"
    elif _equal(passes):
        kind = "passes"
    return Budget(line=line, kind=kind, sizes=sizes, steps=steps, passes=passes)


def _equal(values: Sequence[float]) -> bool:
    known = np.array(values)
    return bool(np.isfinite(known).all() and known.min() > 0 and known.max() / known.min() < _ALIKE)


def budget_questions(
    found: Sequence[Budget], objectives: Mapping[str, str]
) -> tuple[list[Question], list[str]]:
    """Equal steps against equal passes, where lines of one objective have both; else, why not.

    Args:
        found: of :func:`budgets`.
        objectives: of each method; a method that isn't named is its own.
    """
    questions: list[Question] = []
    alone: dict[str, list[str]] = {}
    groups: dict[tuple[str, str], list[Budget]] = {}
    for one in found:
        key = (objectives.get(one.line.method, one.line.method), one.line.regime)
        groups.setdefault(key, []).append(one)
    for group in groups.values():
        by_kind = {one.kind: one for one in group}
        if "steps" in by_kind and "passes" in by_kind:
            questions += _questions(by_kind["steps"], by_kind["passes"])
            continue
        for one in group:
            if reason := _reason(one):
                alone.setdefault(reason, []).append(one.line.name)
    return questions, [f"{'; '.join(names)}: {reason}" for reason, names in alone.items()]


def _questions(steps: Budget, passes: Budget) -> list[Question]:
    shared = sorted({*steps.sizes} & {*passes.sizes})
    return [
        Question(
            name=f"{steps.line.name} (equal steps) against {passes.line.name} (equal passes), "
            f"{count(size)} pairs",
            a=steps.line.arm(size=size),
            b=passes.line.arm(size=size),
        )
        for size in shared
    ]


def _reason(one: Budget) -> str:
    small, large = one.sizes[0], one.sizes[-1]
    if one.kind == "steps" and np.isfinite(one.passes).all():
        return (
            f"every cell trained for {count(one.steps[0])} steps, so each pair was seen "
            f"{_times(one.passes[0])} at {count(small)} pairs and {_times(one.passes[-1])} at "
            f"{count(large)}. More text and fewer repetitions can't be told apart without cells "
            "at equal passes (a method with `epochs` for its budget)."
        )
    if one.kind == "passes":
        return (
            f"every cell saw its text {_times(one.passes[0])}, so it trained for "
            f"{count(one.steps[0])} steps at {count(small)} pairs and {count(one.steps[-1])} at "
            f"{count(large)}. More text and longer training can't be told apart without cells at "
            "equal steps (a method with `steps` for its budget)."
        )
    if one.kind == "neither":
        return (
            "its cells share neither steps nor passes over the text, so size, repetition "
            "and training time can't be told apart."
        )
    return ""


def _times(passes: float) -> str:
    if passes >= 10:
        return f"{about(passes)} times"
    return "once" if abs(passes - 1) < 0.05 else f"{passes:.1f} times"
