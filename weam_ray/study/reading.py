"""Read a study file; whatever is wrong with it is said with file, line, key, value and cure."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from weam_ray.errors import ConfigError
from weam_ray.study.config import StudyConfig

Key = tuple[str | int, ...]


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """A study file with ``--set key.path=value`` overrides applied.

    Raises:
        ConfigError: the file is missing or no YAML, or a key or value can't be; all that is wrong
            is named at once, each with its line and, for a key, the nearest valid one.
    """
    tree, lines = _load(path)
    for override in overrides:
        _apply(tree, override)
    try:
        return StudyConfig.model_validate(tree)
    except ValidationError as error:
        messages = [_message(path, lines, dict(detail)) for detail in error.errors()]
        raise ConfigError("\n".join(messages)) from None


def schema() -> str:
    """The JSON schema of study files, for editors and for ``sweeps/schema.json``."""
    return json.dumps(StudyConfig.model_json_schema(), indent=1, ensure_ascii=False)


def _load(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    try:
        text = path.read_text(encoding="utf8")
    except FileNotFoundError:
        near = difflib.get_close_matches(
            path.name, [item.name for item in path.parent.glob("*.yaml")], n=1
        )
        raise ConfigError(
            "no such study file",
            place=str(path),
            cure=f"Did you mean {path.parent / near[0]}?"
            if near
            else "Shipped ones: sweeps/*.yaml",
        ) from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"not a text file ({error})", place=str(path)) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", place=str(path)) from None
    if not isinstance(tree, dict):
        raise ConfigError("a study file is a mapping of settings", place=str(path))
    return tree, dict(_lines(node, ()))


def _lines(node: yaml.Node, key: Key) -> list[tuple[Key, int]]:
    found: list[tuple[Key, int]] = [(key, node.start_mark.line + 1)]
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*key, str(name.value))
            found += [*_lines(value, inner), (inner, name.start_mark.line + 1)]
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            found += _lines(value, (*key, place))
    return found


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(
            f"--set {override!r} is not key.path=value", cure="Such as: --set pretraining.steps=200"
        )
    keys = name.strip().split(".")
    here = tree
    for key in keys[:-1]:
        inner = here.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override!r}: {key} holds a value, not settings")
        here = inner
    try:
        here[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None


def _message(path: Path, lines: dict[Key, int], detail: dict[str, Any]) -> str:
    key: Key = tuple(detail["loc"])
    line = next((lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in lines), None)
    place = f"{path}:{line}" if line else str(path)
    name = ".".join(str(part) for part in key) or "the file"
    if detail["type"] == "extra_forbidden":
        valid = _valid_names(StudyConfig, key[:-1])
        near = difflib.get_close_matches(str(key[-1]), valid, n=1, cutoff=0.5)
        cure = f"Did you mean {near[0]}?" if near else f"Valid keys: {', '.join(valid)}."
        return f"{place}: unknown key {name}. {cure}"
    if detail["type"] == "missing":
        return f"{place}: {name} is missing."
    value = detail.get("input")
    near = difflib.get_close_matches(str(value), _valid_values(detail), n=1, cutoff=0.4)
    cure = f" Did you mean {near[0]}?" if near else ""
    reason = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {name} = {value!r}: {reason}.{cure}"


def _valid_values(detail: dict[str, Any]) -> list[str]:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    return [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]


def _valid_names(model: type[BaseModel], key: Key) -> list[str]:
    """Field names of the settings at a key; empty where the keys are free."""
    for part in key:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = _model_in(model.model_fields[part].annotation)
        if inner is None:
            return []
        model = inner
    return sorted(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (
        typing.Union,
        types.UnionType,
        tuple,
        dict,
        typing.Annotated,
    ):
        for argument in typing.get_args(annotation):
            if (found := _model_in(argument)) is not None:
                return found
    return None
