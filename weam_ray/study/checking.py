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
from weam_ray.study.idle import idle_settings
from weam_ray.study.methods import (
    RANDOM,
    describe_method,
    method_names,
    planned_methods,
    varied,
)
from weam_ray.study.search import search_problems
from weam_ray.study.tasks import XNLI, data_of
from weam_ray.study.wording import ORACLE
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.guards import PAIR_SYSTEMS, QUESTION_SYSTEMS
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
    yield from _gates(study)
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
            parts = pair.split("+")
            if twice := next((p for p in parts if parts.count(p) > 1), None):
                yield Problem(
                    key=(*key, number),
                    what=f"{twice} is there twice, and would be read twice an epoch",
                    value=pair,
                    cure="Name it once.",
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
    replays = [key for key, one in _configs(study, "pretraining") if one.replay_share > 0]
    if study.texts is None and (scratch or replays):
        reader = f"{'.'.join(map(str, replays[0]))}.replay_share" if replays else ""
        reader = "a base encoder from scratch" if scratch else reader
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


def _configs(study: StudyConfig, part: str) -> Iterator[tuple[Key, Any]]:
    """A part of the settings as the file has it and as each method varies it."""
    yield (part,), getattr(study, part)
    for name in sorted(planned_methods(study)):
        key, config = _of_method(study, name, part)
        if len(key) > 1 and config is not None:
            yield key, config


def _of_method(study: StudyConfig, name: str, part: str) -> tuple[Key, Any]:
    """A method's settings of a part and where they stand; None where they can't be."""
    own = getattr(study.methods.get(name), part, None)
    if not own:
        return (part,), getattr(study, part)
    try:
        return ("methods", name, part), varied(getattr(study, part), own)
    except ValidationError:
        return ("methods", name, part), None  # said by varied_problems


def _settings(study: StudyConfig, task: str) -> set[str]:
    """How a task is fine-tuned in the grid: zero-shot, translate-train."""
    own = getattr(study, _part(task)).setting
    crossed = [one for one in (study.grid, *study.extra) if task in one.task]
    return {setting for one in crossed for setting in one.setting or (own,)}


def _evaluated(study: StudyConfig) -> Iterator[Problem]:
    """What the tasks of the grid are fine-tuned on and scored by."""
    for task in _tasks(study):
        key: Key = ("items",) if task == XNLI else ("questions", task)
        place = ".".join(map(str, key))
        data = study.items if task == XNLI else study.questions[task]
        if data.train is None:
            yield Problem(
                key=(*key, "train"), what="there is nothing to fine-tune on", cure="Give its path."
            )
        if task == study.grid.task[0] and getattr(data, study.report_split) is None:
            yield Problem(
                key=("report_split",),
                what=f"claims are to be made on {study.report_split}, and"
                f" {place}.{study.report_split} names no files",
                cure=f"Give {place}.{study.report_split}, or report on the other split.",
            )
        elif data.dev is None and data.test is None:
            yield Problem(
                key=key, what="neither dev nor test names files", cure="Give the path of one."
            )
        for own, config in _configs(study, _part(task)):
            yield from _fits(study, task, place, data, own, config)


def _fits(
    study: StudyConfig,
    task: str,
    place: str,
    data: ItemsConfig | QuestionsConfig,
    key: Key,
    config: FineTuningConfig,
) -> Iterator[Problem]:
    """Whether a task's data has what its fine-tuning asks of it."""
    rule = next((one for one in config.selection if one != "last"), None)
    if data.dev is None and rule is not None:
        yield Problem(
            key=(*key, "selection"),
            what=f"{rule} chooses by dev items, and {place}.dev names no files",
            cure=f"Give {place}.dev, or set {'.'.join(map(str, key))}.selection to [last].",
        )
    source = config.train_language
    on_source = _settings(study, task) != {"translate-train"}
    probed = task == XNLI and study.diagnostics.probe_items > 0
    if (on_source or probed) and source not in data.train_languages:
        yield Problem(
            key=(*place.split("."), "train_languages"),
            what=f"{source} is {'.'.join(map(str, key))}.train_language and is not among them",
            cure="Add it.",
        )
    if on_source and "source-dev" in config.selection and source not in data.languages:
        yield Problem(
            key=(*key, "selection"),
            what=f"source-dev chooses by dev items in {source}, and {place}.languages does not name"
            " it",
            cure="Add it there, or leave the rule out.",
        )
    for number, language in enumerate(config.target_languages or ()):
        if language not in data.languages:
            yield Problem(
                key=(*key, "target_languages", number),
                what=f"{place}.languages does not name it",
                value=language,
                valid=data.languages,
            )


def _lengths(study: StudyConfig) -> Iterator[Problem]:
    """Inputs longer than the positions of an encoder from scratch, of the study and each method."""
    said: set[tuple[Key, Key]] = set()
    for name in ("", *sorted(planned_methods(study))):
        base_key, base = _of_method(study, name, "base")
        for part in ("pretraining", *dict.fromkeys(map(_part, _tasks(study)))):
            key, config = _of_method(study, name, part)
            if None in (base, config) or base.model is not None or (base_key, key) in said:
                continue
            said.add((base_key, key))
            most, positions = base.max_positions, f"{'.'.join(map(str, base_key))}.max_positions"
            if config.max_length > most:
                yield Problem(
                    key=(*key, "max_length"),
                    what=f"{config.max_length} subwords, and {positions} is {most}",
                    cure=f"Set it to {most} or less, or {positions} to at least that.",
                )


def _gates(study: StudyConfig) -> Iterator[Problem]:
    """Gates that nothing measured could ever answer."""
    for place, gate in enumerate(study.gates):
        key: Key = ("gates", place)
        tasks = (XNLI, *(name for one in study.questions for name in _sets(study, one)))
        task = gate.task or study.grid.task[0]
        if task not in tasks:
            yield Problem(key=(*key, "task"), what="unknown task", value=task, valid=tasks)
            continue
        pairs = task == XNLI
        data, config = data_of(study, task), study.transfer if pairs else study.qa
        languages = list(data.languages)
        if not isinstance(data, ItemsConfig):  # "de-en": a German context, asked in English
            languages += [f"{one}-{other}" for one, other in data.language_pairs() if one != other]
        systems = ("base", "random-encoder", *(PAIR_SYSTEMS if pairs else QUESTION_SYSTEMS))
        asked: list[tuple[Key, str, Sequence[str], str]] = [
            (("system",), gate.system, systems, "unknown rows"),
            (("above",), gate.above, systems, "unknown rows"),
            *(
                (("languages", number), language, languages, f"{task} has no such language")
                for number, language in enumerate(gate.languages)
            ),
        ]
        if gate.selection is not None:
            rules = config.selection
            asked.append((("selection",), gate.selection, rules, "the study has no such rule"))
        for name, value, valid, what in asked:
            if value not in valid:
                yield Problem(key=(*key, *name), what=what, value=value, valid=valid)
        if gate.split is not None and getattr(data, gate.split) is None:
            yield Problem(
                key=(*key, "split"),
                what=f"{task} has no {gate.split} files",
                cure="Leave it out: the gate then takes what there is.",
            )


def _sets(study: StudyConfig, task: str) -> Sequence[str]:
    """A task of questions and the sets beside it."""
    return (task, *study.questions[task].also)


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
