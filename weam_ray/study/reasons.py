"""Why a step runs although the store holds something like it: what of the two differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from weam_ray.artifacts import Artifact, Step, Store
from weam_ray.errors import DataError

_RECORDS_READ = 300
_SHOWN = 3


def difference(step: Step, store: Store) -> str | None:
    """What sets a step apart from the recorded one most like it; None when there is none.

    Such as ``pretraining.steps 700 → 800 (else as encoder/12ab…)``.
    """
    best: tuple[int, str, list[str]] | None = None
    for found in _recorded(step, store):
        changes = list(_changes(step, found.record))
        if best is None or len(changes) < best[0]:
            best = (len(changes), found.address, changes)
    if best is None or not best[2]:
        return None
    count, address, changes = best
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return f"{', '.join(changes[:_SHOWN])}{more} (else as {address})"


def _recorded(step: Step, store: Store) -> Iterator[Artifact]:
    for address in store.addresses(step.stage)[:_RECORDS_READ]:
        try:
            found = store.find(address)
        except DataError:  # damage is said where the step itself is wanted
            continue
        if found is not None:
            yield found


def _changes(step: Step, record: Mapping[str, Any]) -> Iterator[str]:
    if record["version"] != step.version:
        yield f"version {record['version']} → {step.version}"
    upstream = {name: needed.address for name, needed in step.upstream.items()}
    for name in sorted({*upstream, *record["upstream"]}):
        if upstream.get(name) != record["upstream"].get(name):
            yield f"another {name}"
    for name in sorted({*step.inputs, *record["inputs"]}):
        if step.inputs.get(name) != record["inputs"].get(name):
            yield f"the content of {name} changed"
    yield from _settings(step.config.identity(), _recorded_identity(step, record["config"]), "")


def _recorded_identity(step: Step, config: dict[str, Any]) -> dict[str, Any]:
    # What a default stands for may hang on other settings; a record holds what was written.
    try:
        return type(step.config).model_validate(config).identity()
    except ValidationError:  # of another version of the stage
        return config


def _settings(now: Any, then: Any, name: str) -> Iterator[str]:
    if isinstance(now, dict) and isinstance(then, dict):
        # The record also holds paths and resources; only what decides the output is compared.
        for key, value in now.items():
            yield from _settings(value, then.get(key), f"{name}.{key}" if name else key)
    elif now != then:
        yield f"{name} {then} → {now}"
