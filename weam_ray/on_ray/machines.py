"""What must hold of every machine of a cluster, asked before a sweep and not found out during it.

The storage folder is one folder, each machine can write to it, and each runs the same code with the
same packages: a worker that `ray up` left behind would make other artifacts at the same addresses.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import weam_ray
from weam_ray.artifacts import package_versions
from weam_ray.errors import ResourceError
from weam_ray.identity import content_hash, digest

_SECONDS = 60.0


@dataclass(frozen=True)
class _Answer:
    problem: str
    code: str = ""
    packages: tuple[tuple[str, str], ...] = ()


def check_machines(storage: Path, *, seconds: float = _SECONDS) -> list[str]:
    """Let every machine of the joined cluster prove that it can take part.

    Each reads a file that this process wrote to the storage folder and writes one of its own.

    Args:
        storage: the study's storage, an absolute path.
        seconds: how long a machine may take to answer.

    Returns:
        The machines' addresses.

    Raises:
        ResourceError: a machine lacks the folder, sees another one, can't write to it, has other
            code or packages than this one, or does not answer; each is named.
    """
    probe = storage / "tmp" / f"machines-{secrets.token_hex(8)}"
    said = secrets.token_hex(16)
    _write(probe, said)
    try:
        machines = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}
        own = _answer(probe, "own", said)
        problems = {
            machines[node]: _problem(answer, own, probe / node, said)
            for node, answer in _ask(machines, probe, said, seconds).items()
        }
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    wrong = {address: problem for address, problem in sorted(problems.items()) if problem}
    if wrong:
        raise ResourceError(
            "; ".join(f"{address}: {problem}" for address, problem in wrong.items()),
            place=str(storage),
            cure="Mount one shared folder at this path on every machine, writable for Ray's account"
            " (metadata.storage of the cluster file), and run `ray up` again: it copies the code.",
        )
    return sorted(problems)


def _write(probe: Path, said: str) -> None:
    try:
        probe.mkdir(parents=True)
        (probe / "driver").write_text(said, encoding="utf8")
    except OSError as error:
        raise ResourceError(
            f"the machine that runs the sweep can't write here ({error.strerror})",
            place=str(probe.parent.parent),
            cure="Mount the shared folder, or name another one: --set storage=FOLDER",
        ) from None


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _ask(machines: dict[str, str], probe: Path, said: str, seconds: float) -> dict[str, _Answer]:
    # No CPU is asked for: a machine that is busy with cells answers as well.
    asked = {
        ray.remote(num_cpus=0)(_answer)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(probe, node, said): node
        for node in machines
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    answers = {asked[task]: _Answer(f"no answer in {seconds:.0f} s") for task in late}
    for task in done:
        try:
            answers[asked[task]] = ray.get(task)
        except ray.exceptions.RayError as error:
            answers[asked[task]] = _Answer(str(error).splitlines()[0])
    return answers


def _answer(probe: Path, node: str, said: str) -> _Answer:
    """Run on a machine: what it finds."""
    try:
        seen = (probe / "driver").read_text(encoding="utf8")
    except OSError as error:
        return _Answer(f"the sweep's own file is not there ({error.strerror})")
    if seen != said:
        return _Answer("the sweep's own file has another content")
    try:
        (probe / node).write_text(said, encoding="utf8")
    except OSError as error:
        return _Answer(f"can't write ({error.strerror})")
    return _Answer("", code_digest(), tuple(sorted(package_versions().items())))


def code_digest() -> str:
    """Hash of the code that runs here, and of the files that pin its packages."""
    package = Path(weam_ray.__file__).parent
    pins = [package.parent / name for name in ("constraints.txt", "pyproject.toml")]
    files = [*sorted(package.rglob("*.py")), *(path for path in pins if path.exists())]
    return digest([[str(path.relative_to(package.parent)), content_hash(path)] for path in files])


def _problem(answer: _Answer, own: _Answer, written: Path, said: str) -> str:
    if answer.problem:
        return answer.problem
    try:
        if written.read_text(encoding="utf8") != said:
            return "wrote something else than it was told"
    except OSError:
        return "what it wrote is not seen by the sweep"
    others = [
        f"{name} {version} instead of {wanted}"
        for (name, version), (_, wanted) in zip(answer.packages, own.packages, strict=True)
        if version != wanted
    ]
    if answer.code != own.code:
        others.append("another state of weam_ray's code")
    return ", ".join(others)
