"""The moments of a run, and which of them each selection rule reports for each language.

Shapes: E evaluated rows (dev and test), K numbers that a prediction is made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from weam_ray.transfer.config import Selection

State = Mapping[str, torch.Tensor]


@dataclass(eq=False)
class Moment:
    """The model after ``step`` steps."""

    step: int
    dev: Mapping[str, float]
    """Dev score of the languages that were evaluated."""

    outputs: NDArray[np.float32]
    """(E, K), NaN where not yet predicted."""

    state: State | None = field(default=None, repr=False)
    """Weights in main memory; None for the moment the model itself still holds."""


def choose(
    moments: Sequence[Moment], rule: Selection, languages: Sequence[str], source: Sequence[str]
) -> dict[str, Moment]:
    """The moment that ``rule`` reports for each language; of equally good ones the earliest.

    A language without dev items has no target-dev-oracle and is left out of its answer.
    """
    if rule == "last":
        return dict.fromkeys(languages, moments[-1])
    if rule == "source-dev":
        best = max(moments, key=lambda one: (_mean(one.dev, source), -one.step))
        return dict.fromkeys(languages, best)
    return {
        language: max(moments, key=lambda one: (one.dev[language], -one.step))
        for language in languages
        if all(language in one.dev for one in moments)
    }


def kept(
    moments: Sequence[Moment],
    rules: Sequence[Selection],
    languages: Sequence[str],
    source: Sequence[str],
) -> list[Moment]:
    """The moments that some rule would report now, in order.

    The others can be forgotten: a moment that is not the best so far is never the best later.
    """
    wanted = {
        id(moment) for rule in rules for moment in choose(moments, rule, languages, source).values()
    }
    return [moment for moment in moments if id(moment) in wanted]


def _mean(dev: Mapping[str, float], languages: Sequence[str]) -> float:
    return sum(dev[language] for language in languages) / len(languages)
