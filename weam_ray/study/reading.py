"""Read a study file; whatever is wrong with it is said with file, line, key, value and cure."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from weam_ray.errors import ConfigError
from weam_ray.study.checking import Problem, problems, varied_problems
from weam_ray.study.config import BUDGET_FORM, NAME_FORM, PAIR_FORM, STUDY_FORM, StudyConfig
from weam_ray.study.document import Document, Key, load_document


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """A study file with ``--set key.path=value`` overrides applied.

    Raises:
        ConfigError: the file is missing or no YAML, or a key or value can't be; all that is wrong
            is named at once, each with its line and, for a name, the nearest valid one.
    """
    document = load_document(path, overrides)
    try:
        study = StudyConfig.model_validate(document.tree)
    except ValidationError as error:
        messages = [
            _message(document, detail)
            for detail in error.errors()
            # Pydantic counts a list without its wrong items, and then calls it too short as well.
            if not (detail["type"] == "too_short" and detail["input"])
        ]
        raise ConfigError("\n".join(messages)) from None
    except ConfigError as error:  # of a validator, which knows its settings and not the file
        place = f"{path}: {error.place}" if error.place else str(path)
        raise ConfigError(error.what, place=place, cure=error.cure) from None
    messages = [
        _message(document, {**detail, "loc": (*key, *detail["loc"])})
        for key, detail in varied_problems(study)
    ]
    messages += [_problem(document, problem) for problem in problems(study)]
    if messages:
        raise ConfigError("\n".join(messages))
    return study


def schema() -> str:
    """The JSON schema of study files, for editors and for ``sweeps/schema.json``."""
    return json.dumps(StudyConfig.model_json_schema(), indent=1, ensure_ascii=False)


def _problem(document: Document, problem: Problem) -> str:
    name = ".".join(map(str, problem.key))
    value = f" = {problem.value!r}" if problem.value else ""
    cure = problem.cure or _nearest(problem.value, problem.valid)
    return f"{document.place(problem.key)}: {name}{value}: {problem.what}. {cure}".rstrip()


def _message(document: Document, detail: Mapping[str, Any]) -> str:
    """One of pydantic's errors in our words."""
    key: Key = tuple(detail["loc"])
    place = document.place(key)
    name = ".".join(str(part) for part in key) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key {name}. {_nearest(str(key[-1]), _valid_names(key[:-1]))}"
    if detail["type"] == "missing":
        return f"{place}: {name} is missing."
    value = detail.get("input")
    # Of several settings together the message itself says which.
    together = isinstance(value, Mapping) and detail["type"] == "value_error"
    shown = "" if together else f" = {value!r}"
    return f"{place}: {name}{shown}: {_reason(detail)}. {_cure(value, detail)}".rstrip()


_FORMS = {
    PAIR_FORM: "this is no language pair. Two codes, source first: en-de; a set: en-de+en-fr",
    BUDGET_FORM: "this is no budget. Such as: 8000 steps; 1 epoch; 2.5 epochs",
    NAME_FORM: "names have letters, digits and _ . + - alone",
    STUDY_FORM: "a study's name has lower-case letters, digits and underscores alone",
}


def _reason(detail: Mapping[str, Any]) -> str:
    form = _FORMS.get(str(detail.get("ctx", {}).get("pattern")))
    return form or str(detail["msg"]).removeprefix("Value error, ").rstrip(".")


def _cure(value: object, detail: Mapping[str, Any]) -> str:
    if isinstance(value, bool) and detail["type"] == "string_type":
        return "YAML reads yes, no, on and off as true and false: put quotes round it."
    expected = str(detail.get("ctx", {}).get("expected", ""))
    valid = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ") if word]
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.4)
    return f"Did you mean {near[0]}?" if near else ""


def _nearest(value: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, valid, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(valid)}." if valid else ""


def _valid_names(key: Key) -> list[str]:
    """Field names of the settings at a key; empty where the keys are free."""
    if key[:1] == ("methods",) and len(key) > 2:
        key = key[2:]  # a method varies the study's own settings
    model: type[BaseModel] = StudyConfig
    for part in key:
        field = model.model_fields.get(str(part))
        if isinstance(part, int) or field is None:
            continue
        inner = _model_in(field.annotation)
        if inner is None:
            return []
        model = inner
    return sorted(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    containers = (typing.Union, types.UnionType, tuple, dict, typing.Annotated)
    if typing.get_origin(annotation) in containers:
        for argument in typing.get_args(annotation):
            if (found := _model_in(argument)) is not None:
                return found
    return None
