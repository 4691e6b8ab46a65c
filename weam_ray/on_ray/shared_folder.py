"""Is a folder the same folder on every machine of the cluster? Asked before a sweep, not during."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from weam_ray.errors import ResourceError

_SECONDS = 60.0


def prove_shared(folder: Path, *, seconds: float = _SECONDS) -> list[str]:
    """Let every machine of the joined cluster read the driver's file and write one of its own.

    Args:
        folder: the study's storage; it must be an absolute path.
        seconds: how long a machine may take.

    Returns:
        The machines' addresses.

    Raises:
        ResourceError: a machine lacks the folder, sees another one, can't write to it, or does not
            answer; each is named.
    """
    probe = folder / "tmp" / f"shared-{secrets.token_hex(8)}"
    _make(probe)
    said = secrets.token_hex(16)
    try:
        (probe / "driver").write_text(said, encoding="utf8")
        machines = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}
        answers = _ask(machines, probe, said, seconds)
        problems = {
            machines[node]: answer or _unseen(probe / node, said)
            for node, answer in answers.items()
        }
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    wrong = {address: problem for address, problem in problems.items() if problem}
    if wrong:
        raise ResourceError(
            "; ".join(f"{address}: {problem}" for address, problem in sorted(wrong.items())),
            place=str(folder),
            cure="Mount one shared folder at this path on every machine, writable for Ray's account"
            " (metadata.storage of the cluster file).",
        )
    return sorted(problems)


def _make(probe: Path) -> None:
    try:
        probe.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(
            f"the machine that runs the sweep can't write here ({error.strerror})",
            place=str(probe.parent.parent),
            cure="Mount the shared folder, or name another one: --set storage=FOLDER",
        ) from None


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _ask(machines: dict[str, str], probe: Path, said: str, seconds: float) -> dict[str, str]:
    # No CPU is asked for: a machine that is busy with cells answers as well.
    asked = {
        ray.remote(num_cpus=0)(_read_and_write)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(probe, node, said): node
        for node in machines
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    answers = {asked[task]: f"no answer in {seconds:.0f} s" for task in late}
    for task in done:
        try:
            answers[asked[task]] = ray.get(task)
        except ray.exceptions.RayError as error:
            answers[asked[task]] = str(error).splitlines()[0]
    return answers


def _read_and_write(probe: Path, node: str, said: str) -> str:
    """Run on a machine: what is wrong with its folder, or an empty text."""
    try:
        seen = (probe / "driver").read_text(encoding="utf8")
    except OSError as error:
        return f"the sweep's own file is not there ({error.strerror})"
    if seen != said:
        return "the sweep's own file has another content"
    try:
        (probe / node).write_text(said, encoding="utf8")
    except OSError as error:
        return f"can't write ({error.strerror})"
    return ""


def _unseen(path: Path, said: str) -> str:
    try:
        return "" if path.read_text(encoding="utf8") == said else "wrote something else"
    except OSError:
        return "what it wrote is not seen by the sweep"
