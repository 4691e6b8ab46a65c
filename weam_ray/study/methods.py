"""What a method's name stands for: an objective, a built-in control or a variation of the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from weam_ray.identity import StageConfig
from weam_ray.pretraining.config import OBJECTIVES_WITH_LINKS, Objective
from weam_ray.study.config import MethodConfig, StudyConfig

Config = TypeVar("Config", bound=StageConfig)

RANDOM = "random"
"""The untrained encoder, fine-tuned: how much of an accuracy the task alone gives."""


def method_names(study: StudyConfig) -> list[str]:
    """Every name ``grid.method`` may hold."""
    return sorted({*study.methods, RANDOM, *get_args(Objective)})


def planned_methods(study: StudyConfig) -> frozenset[str]:
    """Every name that the grid and its further crossings hold."""
    return frozenset(name for factors in (study.grid, *study.extra) for name in factors.method)


def describe_method(study: StudyConfig, name: str) -> MethodConfig | None:
    """The settings in which a method differs from the study's own; None for an unknown name."""
    if name in study.methods:
        return study.methods[name]
    if name == RANDOM:
        return MethodConfig(pretraining={"objective": "none"}, base={"steps": 0, "epochs": None})
    if name in get_args(Objective):
        return MethodConfig(pretraining={"objective": name})
    return None


def reads_bitext(study: StudyConfig, method: MethodConfig) -> bool:
    """Whether bilingual text is part of a method's cells at all."""
    return _objective(study, method) != "none"


def reads_links(study: StudyConfig, method: MethodConfig) -> bool:
    """Whether word alignments are."""
    return _objective(study, method) in OBJECTIVES_WITH_LINKS


def _objective(study: StudyConfig, method: MethodConfig) -> str:
    return str(method.pretraining.get("objective", study.pretraining.objective))


def varied(config: Config, changes: Mapping[str, Any]) -> Config:
    """A copy with other values, validated as if it had been written so in the file.

    Raises:
        pydantic.ValidationError: a key or value that can't be.
    """
    return type(config).model_validate({**config.model_dump(), **changes})
