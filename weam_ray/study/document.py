"""A YAML document with the line of every key, and ``--set`` overrides laid over it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from weam_ray.errors import ConfigError

Key = tuple[str | int, ...]
"""Path of keys and list places to a value: ``("extra", 0, "size")``."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """Settings as written, and where each was written."""

    path: Path
    tree: dict[str, Any]
    lines: dict[Key, int]
    """1-based, by key; a value that ``--set`` put there has none."""
    overrides: dict[Key, str]
    """``--set`` options by the key they set."""

    def place(self, key: Key) -> str:
        """``file:line`` of a key or of the nearest thing around it, or the ``--set`` option."""
        for end in range(len(key), 0, -1):
            around = key[:end]
            if around in self.lines:
                return f"{self.path}:{self.lines[around]}"
            for setting, override in self.overrides.items():
                if around == setting[:end]:  # it set this, or made it on the way to its own key
                    return f"--set {override}"
        return str(self.path)


def load_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a YAML mapping and apply ``key.path=value`` overrides in order.

    Raises:
        ConfigError: no such file, no YAML, a key given twice, or an override that can't be.
    """
    text = _read(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = {} if node is None else dict(_lines(path, node, (), ()))
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"not valid YAML: {reason}", place=place, cure="Mend the line.") from None
    if not isinstance(tree, dict):
        kind = "nothing" if tree is None else "a list" if isinstance(tree, list) else repr(tree)
        raise ConfigError(
            f"a study file is a mapping of settings, and this is {kind}",
            place=str(path),
            cure="Start from one of sweeps/*.yaml.",
        )
    document = Document(path=path, tree=tree, lines=lines, overrides={})
    for override in overrides:
        key = _apply(tree, override)
        document.overrides[key] = override
        for written in [one for one in lines if one[: len(key)] == key]:
            del lines[written]
    return document


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except FileNotFoundError:
        names = [item.name for item in path.parent.glob("*.yaml")]
        near = difflib.get_close_matches(path.name, names, n=1)
        cure = f"Did you mean {path.parent / near[0]}?" if near else "Shipped ones: sweeps/*.yaml"
        raise ConfigError("no such study file", place=str(path), cure=cure) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"not a text file: byte 0x{error.object[error.start]:02x} is not UTF-8",
            place=f"{path}:{line}",
            cure="Study files are YAML in UTF-8.",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"can't be read ({error.strerror})", place=str(path), cure="Name a study file."
        ) from None


def _lines(
    path: Path, node: yaml.Node, key: Key, around: tuple[yaml.Node, ...]
) -> Iterator[tuple[Key, int]]:
    if any(node is one for one in around):
        raise ConfigError(
            "an alias stands inside what it stands for",
            place=f"{path}:{node.start_mark.line + 1}",
            cure="Write the value out.",
        )
    around = (*around, node)
    if key:
        yield key, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise ConfigError(
                    "a key is a list or a mapping", place=f"{path}:{line}", cure="Keys are names."
                )
            if name.value in first:  # YAML itself would let the last one win
                raise ConfigError(
                    f"{'.'.join(map(str, (*key, name.value)))} is given twice, first on line"
                    f" {first[name.value]}",
                    place=f"{path}:{line}",
                    cure="Keep one.",
                )
            first[name.value] = line
            yield from _lines(path, value, (*key, str(name.value)), around)
            yield (*key, str(name.value)), line
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield from _lines(path, value, (*key, place), around)


def _apply(tree: dict[str, Any], override: str) -> Key:
    """Set one value in place; settings on the way to it that aren't there are made."""
    name, equals, text = override.partition("=")
    names = name.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(
            f"--set {override!r} is not key.path=value", cure="Such as: --set pretraining.steps=200"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    here: Any = tree
    key: Key = ()
    for place, part in enumerate(names):
        step = _step(here, part, override)
        key = (*key, step)
        if place == len(names) - 1:
            here[step] = value
        else:
            if isinstance(here, dict) and here.get(step) is None:
                here[step] = {}
            here = here[step]
    return key


def _step(here: object, part: str, override: str) -> str | int:
    if isinstance(here, dict):
        return part
    if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
        return int(part)
    inside = f"a list of {len(here)}, counted from 0" if isinstance(here, list) else repr(here)
    raise ConfigError(f"--set {override!r}: there is no {part!r} in {inside}")
