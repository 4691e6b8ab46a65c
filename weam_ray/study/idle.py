"""Settings that would do nothing where they stand.

They are refused: whoever wrote them expects something of them, and they would change addresses, so
that finished work is done again for no other result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import get_args

from weam_ray.pretraining.config import BaseConfig, Objective
from weam_ray.study.config import StudyConfig
from weam_ray.study.document import Key

_OF_A_MODEL = {"model", "revision"}
_EXCHANGING = frozenset({"weam", "weam-shuffled-links", "weam-aligned-only"})
_READ_BY = {
    "pooling": _EXCHANGING,
    "one_to_many": _EXCHANGING,
    "stop_gradient": _EXCHANGING,
    "cross_lingual_weight": _EXCHANGING | {"tlm-doubled"},
    "anchor_language": frozenset({"word-aligned"}),
    "anchor_weight": frozenset({"word-aligned"}),
}
"""Settings of pre-training that some objectives alone read."""
_MASKS = {"masking_rate", "corruption"}


def idle_settings(study: StudyConfig) -> Iterator[tuple[Key, str, str]]:
    """Each idle setting that the file gives: (key, what, cure)."""
    model = study.base.model
    yield from _of_base(("base",), study.base.model_fields_set, model)
    own = study.pretraining.model_fields_set
    yield from _of_mixing(study, ("pretraining",), own, study.pretraining.replay_share)
    for name, method in study.methods.items():
        key = ("methods", name)
        yield from _of_base((*key, "base"), method.base, method.base.get("model", model))
        objective = method.pretraining.get("objective", study.pretraining.objective)
        replay = method.pretraining.get("replay_share", study.pretraining.replay_share)
        yield from _of_pretraining((*key, "pretraining"), method.pretraining, objective, replay)
        yield from _of_mixing(study, (*key, "pretraining"), method.pretraining, replay)


def _of_base(key: Key, given: Collection[str], model: object) -> Iterator[tuple[Key, str, str]]:
    named = [name for name in BaseConfig.model_fields if name in given]
    if model is not None and (idle := [name for name in named if name not in _OF_A_MODEL]):
        yield (
            (*key, idle[0]),
            f"{model} is taken as it is, so that nothing comes of {', '.join(idle)}",
            f"Take them out, or replace all of it: --set '{'.'.join(map(str, key))}={{model: …}}'",
        )
    if model is None and "revision" in given:
        yield (*key, "revision"), "it is of no model: base.model is not set", "Set it."
    if model is None and "sharding" in given:
        yield (
            (*key, "sharding"),
            "one worker trains the base, so that there is nothing to share",
            "Take it out; pretraining.sharding is that of resources.cell_workers.",
        )


def _of_mixing(
    study: StudyConfig, key: Key, given: Collection[str], replay: object
) -> Iterator[tuple[Key, str, str]]:
    if "temperature" in given and not replay and study.bitext.smaller == "hole":
        yield (
            (*key, "temperature"),
            "every corpus gives as many pairs as the size, so that there is nothing to mix",
            "Take it out, or set bitext.smaller to whole.",
        )


def _of_pretraining(
    key: Key, given: Collection[str], objective: object, replay: object
) -> Iterator[tuple[Key, str, str]]:
    if objective not in get_args(Objective):
        return  # which is an error of its own
    for name in given:
        if name in _MASKS and objective == "word-aligned" and not replay:
            yield (
                (*key, name),
                "word-aligned masks nothing",
                "Take it out; with replay_share it is that of the steps that replay.",
            )
        if objective not in _READ_BY.get(name, (objective,)):
            readers = ", ".join(sorted(_READ_BY[name]))
            yield (
                (*key, name),
                f"{objective} does not read it",
                f"Take it out; of use to: {readers}.",
            )
