"""Studies at the edge of what can be said, for tests and for benchmarks/claims.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from simulated import Answers, World, planted, simulate

from weam_ray.study.results import Results


def _of(world: World) -> Callable[[], Results]:
    return lambda: simulate(world).results()


def _alike(shift: int) -> Callable[[], Results]:
    """Every system gives the same label to an item: the right one, moved on by ``shift``."""

    def results() -> Results:
        answers = simulate(World(items=60))
        for key in answers.predicted:
            answers.predicted[key] = (answers.gold + shift) % 3
        return answers.results()

    return results


def _one_class() -> Results:
    answers = simulate(World(items=60))
    for key in answers.predicted:
        answers.predicted[key] = np.zeros_like(answers.gold)
    return answers.results()


def _without(answers: Answers, *parts: str) -> Results:
    kept = [row for row in answers.rows if not any(part in str(row["cell"]) for part in parts)]
    return replace(answers, rows=kept).results()


_WHOLE = World(items=60, gain=planted(0.05))

DEGENERATE: dict[str, Callable[[], Results]] = {
    "no cell": lambda: Results.read([], Path()),
    "one seed": _of(replace(_WHOLE, seeds=1)),
    "one size": _of(replace(_WHOLE, sizes=(1000,))),
    "one pair and language": _of(replace(_WHOLE, pairs=("en-qaa",), languages=("qaa",))),
    "one method": _of(replace(_WHOLE, methods=("weam",))),
    "one item": _of(replace(_WHOLE, items=1)),
    "one of each": _of(World(items=5, seeds=1, sizes=(1000,), pairs=("en-qaa",), methods=("tlm",))),
    "no bitext": _of(replace(_WHOLE, methods=())),
    "a missing cell": lambda: _without(simulate(_WHOLE), "en-qaa.4000.weam.1"),
    "a missing size of one pair": lambda: _without(simulate(_WHOLE), "en-qaa.16000"),
    "no baseline": lambda: _without(simulate(_WHOLE), ".none."),
    "identical predictions": _alike(1),
    "all-correct predictions": _alike(0),
    "one class for every item": _one_class,
    "no predictions files": lambda: Results(rows=simulate(_WHOLE).results().rows),
}
