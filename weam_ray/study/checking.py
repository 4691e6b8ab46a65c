"""What a study file's types can't tell: names that must be known, settings that must fit together.

Each problem is found when the file is read, in seconds, and not by a stage after hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from weam_ray.corpus.languages import normalise_language
from weam_ray.errors import ConfigError
from weam_ray.study.config import StudyConfig
from weam_ray.study.document import Key
from weam_ray.study.grid import XNLI
from weam_ray.study.idle import idle_settings
from weam_ray.study.methods import RANDOM, describe_method, method_names, varied
from weam_ray.study.search import search_problems
from weam_ray.study.wording import ORACLE
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import QuestionsConfig

_BASELINE = "none"
"""As in :mod:`.results`, which is too heavy to be loaded for reading a file."""
_PARTS = ("pretraining", "alignment", "base", "transfer", "qa")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something in a study file that can't be."""

    key: Key
    """Path of keys to it."""
    what: str
    cure: str = ""
    valid: Sequence[str] = ()
    """Values that would do; the nearest is named."""
    value: str = ""


def problems(study: StudyConfig) -> Iterator[Problem]:
    """All that is wrong with a study whose types are right."""
    yield from _methods(study)
    yield from _languages(study)
    yield from _texts(study)
    yield from _evaluated(study)
    yield from _lengths(study)
    yield from _rules(study)
    if study.adaptive is not None and _BASELINE not in study.grid.method:
        yield Problem(
            key=("adaptive",),
            what=f"gains are over {_BASELINE}, and grid.method does not name it",
            cure="Add it.",
        )
    if study.adaptive is not None:
        crossed = [*study.extra, study.grid]
        views = {(task, one.setting) for one in crossed for task in one.task}
        if len(views) > 1 or any(len(one.setting or ()) > 1 for one in crossed):
            yield Problem(
                key=("adaptive",),
                what="slopes are of one task and setting, and the grid has several",
                cure="Make a study of each; they share what they can.",
            )
    for key, what, cure in (*idle_settings(study), *search_problems(study)):
        yield Problem(key=key, what=what, cure=cure)


def varied_problems(study: StudyConfig) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Pydantic's errors in what ``methods`` vary, each with the key it stands under."""
    for name, method in study.methods.items():
        for part in _PARTS:
            try:
                varied(getattr(study, part), getattr(method, part))
            except ValidationError as error:
                for detail in error.errors():
                    yield ("methods", name, part), dict(detail)


def _methods(study: StudyConfig) -> Iterator[Problem]:
    used: list[tuple[Key, str]] = []
    for key, factors in (
        (("grid",), study.grid),
        *((("extra", place), one) for place, one in enumerate(study.extra)),
    ):
        used += [((*key, "method", place), name) for place, name in enumerate(factors.method)]
    used += [
        (("exclude", place, "method"), pattern.method)
        for place, pattern in enumerate(study.exclude)
        if pattern.method is not None
    ]
    for where, name in used:
        if describe_method(study, name) is None:
            yield Problem(key=where, what="unknown method", value=name, valid=method_names(study))


def _languages(study: StudyConfig) -> Iterator[Problem]:
    named: list[tuple[Key, str]] = []
    for key, factors in (
        (("grid", "pair"), study.grid),
        *((("extra", place, "pair"), one) for place, one in enumerate(study.extra)),
    ):
        for number, pair in enumerate(factors.pair):
            named += [((*key, number), code) for code in re.split(r"[-+]", pair)]
            if one := next((p for p in pair.split("+") if len(set(p.split("-"))) == 1), None):
                yield Problem(
                    key=(*key, number),
                    what="a language with itself is no pair",
                    value=one,
                    cure="Name two languages, source first: en-de.",
                )
    items, transfer = study.items, study.transfer
    listed: list[tuple[Key, Sequence[str]]] = [
        (("text_languages",), study.text_languages),
        (("items", "languages"), items.languages),
        (("items", "train_languages"), items.train_languages),
        (("items", "test_languages"), items.test_languages or ()),
        (("transfer", "target_languages"), transfer.target_languages or ()),
    ]
    for where, codes in listed:
        named += [((*where, number), code) for number, code in enumerate(codes)]
    named.append((("transfer", "train_language"), transfer.train_language))
    for where, code in named:
        try:
            normalise_language(code)
        except ConfigError as error:
            yield Problem(key=where, what=error.what.rstrip("."), cure=error.cure or "")


def _texts(study: StudyConfig) -> Iterator[Problem]:
    scratch = study.base.model is None
    replay = study.pretraining.replay_share > 0
    if study.texts is None and (scratch or replay):
        reader = "a base encoder from scratch" if scratch else "pretraining.replay_share"
        yield Problem(
            key=("texts",), what=f"{reader} needs monolingual text", cure="Give its path pattern."
        )
    if study.texts is not None and not study.text_languages:
        yield Problem(
            key=("text_languages",),
            what="texts is given and no language of it",
            cure="Such as: text_languages: [en, de]",
        )
    if not scratch and study.base.steps == 0:
        yield Problem(
            key=("base", "steps"),
            what=f"0 would give base.model {study.base.model} random weights in every cell",
            cure=f"Take it out: the random encoder is the method {RANDOM}.",
        )
    if not scratch and study.vocabulary is not None:
        yield Problem(
            key=("vocabulary",),
            what=f"base.model {study.base.model} brings its own vocabulary",
            cure="Take vocabulary out, or train the base from scratch.",
        )


def _tasks(study: StudyConfig) -> tuple[str, ...]:
    """The tasks of the grid that there can be."""
    named = dict.fromkeys(task for one in (study.grid, *study.extra) for task in one.task)
    return tuple(task for task in named if task == XNLI or task in study.questions)


def _part(task: str) -> str:
    return "transfer" if task == XNLI else "qa"


def _evaluated(study: StudyConfig) -> Iterator[Problem]:
    """What the tasks of the grid are fine-tuned on and scored by."""
    for task in _tasks(study):
        key: Key = ("items",) if task == XNLI else ("questions", task)
        place, part = ".".join(map(str, key)), _part(task)
        data: ItemsConfig | QuestionsConfig
        data = study.items if task == XNLI else study.questions[task]
        config: FineTuningConfig = getattr(study, part)
        if data.train is None:
            yield Problem(
                key=(*key, "train"), what="there is nothing to fine-tune on", cure="Give its path."
            )
        if getattr(data, study.report_split) is None:
            yield Problem(
                key=("report_split",),
                what=f"claims are to be made on {study.report_split}, and"
                f" {place}.{study.report_split} names no files",
                cure=f"Give {place}.{study.report_split}, or report on the other split.",
            )
        rule = next((one for one in config.selection if one != "last"), None)
        if data.dev is None and rule is not None:
            yield Problem(
                key=(part, "selection"),
                what=f"{rule} chooses by dev items, and {place}.dev names no files",
                cure=f"Give {place}.dev, or set {part}.selection to [last].",
            )
        if config.train_language not in data.train_languages:
            yield Problem(
                key=(*key, "train_languages"),
                what=f"{config.train_language} is {part}.train_language and is not among them",
                cure="Add it.",
            )
        for number, language in enumerate(config.target_languages or ()):
            if language not in data.languages:
                yield Problem(
                    key=(part, "target_languages", number),
                    what=f"{place}.languages does not name it",
                    value=language,
                    valid=data.languages,
                )


def _lengths(study: StudyConfig) -> Iterator[Problem]:
    """Inputs longer than the positions of an encoder from scratch."""
    if study.base.model is not None:
        return
    most = study.base.max_positions
    for part in ("pretraining", *dict.fromkeys(map(_part, _tasks(study)))):
        length = getattr(study, part).max_length
        if length > most:
            yield Problem(
                key=(part, "max_length"),
                what=f"{length} subwords, and base.max_positions is {most}",
                cure=f"Set it to {most} or less, or base.max_positions to {length} or more.",
            )


def _rules(study: StudyConfig) -> Iterator[Problem]:
    parts = ("transfer", "qa")
    listed: list[tuple[Key, Sequence[str]]] = [
        ((part, "selection"), getattr(study, part).selection) for part in parts
    ]
    listed += [
        (("methods", name, part, "selection"), getattr(method, part).get("selection", ()))
        for name, method in study.methods.items()
        for part in parts
    ]
    for key, rules in listed:
        if rules and rules[0] == ORACLE:
            yield Problem(
                key=(*key, 0),
                what="the first rule gives the study's result, and this one chooses by the dev"
                " items of the target languages: an upper bound",
                value=ORACLE,
                cure="Name source-dev or last first.",
            )
