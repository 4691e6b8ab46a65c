"""Does TLM read the other sentence? Its loss must be below that of MLM on the same text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from weam_ray.artifacts import Artifact, Step
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell
from weam_ray.study.methods import describe_method, planned_methods
from weam_ray.study.report_input import Gate

NAME = "TLM reads the other sentence: its loss is below that of MLM on the same text"
# docs/pretraining.md has the curves: from random weights TLM crosses MLM after some epochs.
_CURE = "an encoder finds words in the other sentence late: more steps, or a base trained longer"
_OBJECTIVES = frozenset({"mlm", "tlm"})
_MEASURES = ("kept_held_out_loss_mp", "final_held_out_loss_mp", "final_loss_mp")
"""The first that a record has; the second is that of older records."""


class Finds(Protocol):
    """Whatever knows which steps are done."""

    def find(self, step: Step) -> Artifact | None:
        """The finished artifact of a step, or None."""


def asks_for_losses(study: StudyConfig) -> bool:
    """Whether the grid has both objectives, whatever gates the file names besides."""
    found = (describe_method(study, name) for name in planned_methods(study))
    objectives = {
        one.pretraining.get("objective", study.pretraining.objective) for one in found if one
    }
    return objectives >= _OBJECTIVES


def loss_gates(study: StudyConfig, cells: Sequence[Cell], store: Finds) -> tuple[Gate, ...]:
    """The gate with its figures, of a study that asks for it.

    Runs are matched that differ by the objective alone. Of each the held-out loss counts where it
    was measured, of the weights that were kept, else the mean over the last tenth of the steps;
    both are of a token's own vector.
    """
    if not asks_for_losses(study):
        return ()
    pairs = [
        (found["tlm"], found["mlm"])
        for found in _matched(cells, store).values()
        if found.keys() == _OBJECTIVES
    ]
    if not pairs:
        return (Gate(name=NAME, passed=None, detail="no two finished runs to compare"),)
    tlm, mlm = np.array(pairs).T
    detail = (
        f"TLM {tlm.mean():.2f}, MLM {mlm.mean():.2f} nats a masked token; lower in "
        f"{int((tlm < mlm).sum())} of {len(pairs)} matched runs"
    )
    passed = bool(tlm.mean() < mlm.mean())
    return (Gate(name=NAME, passed=passed, detail=detail if passed else f"{detail}; {_CURE}"),)


def _matched(cells: Iterable[Cell], store: Finds) -> Mapping[str, dict[str, float]]:
    """Losses by objective, of runs alike in all else."""
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        objective = cell.config.pretraining.objective
        done = store.find(cell.experiment.encoder) if objective in _OBJECTIVES else None
        if done is None:
            continue
        measured = [done.facts[name] for name in _MEASURES if name in done.facts]
        if measured:
            found.setdefault(_but_for_the_objective(cell), {})[objective] = measured[0]
    return found


def _but_for_the_objective(cell: Cell) -> str:
    step = cell.experiment.encoder
    settings = step.config.identity()
    settings["pretraining"] = {**settings["pretraining"], "objective": ""}
    upstream = {name: one.address for name, one in sorted(step.upstream.items())}
    return json.dumps([settings, upstream], sort_keys=True)
