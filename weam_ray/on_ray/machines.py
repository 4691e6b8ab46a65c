"""What must hold of every machine of a cluster, asked before a sweep and not found out during it.

The storage folder is one folder, each machine can write to it, and each runs the same code with the
same packages: a worker that `ray up` left behind would make other artifacts at the same addresses.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import weam_ray
from weam_ray.artifacts import package_versions
from weam_ray.bucket import Bucket, is_url
from weam_ray.errors import ResourceError
from weam_ray.identity import content_hash, digest
from weam_ray.study.config import StudyConfig

_SECONDS = 60.0
_DRIVER = "driver"
_OWN = "own"
_UNSEEN = "what it wrote is not seen by the sweep"


@dataclass(frozen=True)
class _Answer:
    problem: str
    code: str = ""
    packages: tuple[tuple[str, str], ...] = ()


def refuse_unfit_machines(study: StudyConfig) -> None:
    """Before a sweep: every machine of a joined cluster can take part in this study.

    Raises:
        ResourceError: see :func:`check_machines`; or the study wants what these machines can't do.
    """
    if len(_alive()) == 1:
        return  # the machine that asks; its storage was looked at when the store was opened
    if is_url(study.storage) and study.resources.cell_workers > 1:
        raise ResourceError(
            f"resources.cell_workers is {study.resources.cell_workers}, and machines that train one"
            " encoder together need a folder that all of them mount",
            place=study.storage,
            cure="Set resources.cell_workers to 1, or storage to a shared folder.",
        )
    check_machines(study.storage)


def check_machines(storage: str | Path, *, seconds: float = _SECONDS) -> list[str]:
    """Let every machine of the joined cluster prove that it can take part.

    Each reads a file that this process wrote to the storage and writes one of its own.

    Args:
        storage: the study's storage, a folder or a bucket's address.
        seconds: how long a machine may take to answer.

    Returns:
        The machines' addresses; one that was lost meanwhile is not among them.

    Raises:
        ResourceError: a machine lacks the folder, sees another one, can't write to it, has other
            code or packages than this one, or does not answer; each is named.
    """
    shared = Bucket(str(storage) if is_url(storage) else Path(storage).absolute().as_uri())
    probe = shared.below(f"tmp/machines-{secrets.token_hex(8)}")
    said = secrets.token_hex(16)
    try:
        _write(probe, said, shared)
        machines = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}
        own = _answer(probe, _OWN, said)
        answers = _ask(machines, probe, said, seconds)
        # Ray takes a while to see that a machine is gone; the others are not refused for it.
        left = {node["NodeID"] for node in _alive()}
        problems = {
            machines[node]: _problem(answer, own, probe, node, said)
            for node, answer in answers.items()
            if node in left
        }
    finally:
        probe.remove_all()
    wrong = {address: problem for address, problem in sorted(problems.items()) if problem}
    if wrong:
        raise ResourceError(
            "; ".join(f"{address}: {problem}" for address, problem in wrong.items()),
            place=shared.named(""),
            cure="Every machine needs the same shared folder mounted at this path, or the same"
            " bucket, and Ray's account must be able to write there (metadata.storage of the"
            " cluster file). `ray up` copies the code again.",
        )
    return sorted(problems)


def _write(probe: Bucket, said: str, shared: Bucket) -> None:
    try:
        probe.write(_DRIVER, said.encode())
    except (OSError, ResourceError) as error:
        raise ResourceError(
            f"the machine that runs the sweep can't write here ({_reason(error)})",
            place=shared.named(""),
            cure="Mount the shared folder, or name another one: --set storage=FOLDER",
        ) from None


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _ask(machines: dict[str, str], probe: Bucket, said: str, seconds: float) -> dict[str, _Answer]:
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


def _answer(probe: Bucket, node: str, said: str) -> _Answer:
    """Run on a machine: what it finds."""
    try:
        seen = probe.read(_DRIVER)
    except (OSError, ResourceError) as error:
        return _Answer(f"can't read ({_reason(error)})")
    if seen is None:
        return _Answer("the sweep's own file is not there")
    if seen != said.encode():
        return _Answer("the sweep's own file has another content")
    try:
        probe.write(node, said.encode())
    except (OSError, ResourceError) as error:
        return _Answer(f"can't write ({_reason(error)})")
    return _Answer("", code_digest(), tuple(sorted(package_versions().items())))


def _problem(answer: _Answer, own: _Answer, probe: Bucket, node: str, said: str) -> str:
    if answer.problem:
        return answer.problem
    if (written := probe.read(node)) != said.encode():
        return "wrote something else than it was told" if written else _UNSEEN
    others = [
        f"{name} {version} instead of {wanted}"
        for (name, version), (_, wanted) in zip(answer.packages, own.packages, strict=True)
        if version != wanted
    ]
    if answer.code != own.code:
        others.append("another state of weam_ray's code")
    return ", ".join(others)


def _reason(error: OSError | ResourceError) -> str:
    return error.what if isinstance(error, ResourceError) else str(error.strerror)


def code_digest() -> str:
    """Hash of the code that runs here, and of the files that pin its packages."""
    package = Path(weam_ray.__file__).parent
    pins = [package.parent / name for name in ("constraints.txt", "pyproject.toml")]
    files = [*sorted(package.rglob("*.py")), *(path for path in pins if path.exists())]
    return digest([[str(path.relative_to(package.parent)), content_hash(path)] for path in files])
