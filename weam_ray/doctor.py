"""``weam-ray doctor``: is all that a sweep needs here? Each line is ok, or names the cure."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.metadata
import os
import secrets
import shutil
import socket
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from weam_ray.bucket import Bucket, home_of, is_url
from weam_ray.bucket_store import cache_folder
from weam_ray.errors import WeamError
from weam_ray.on_ray.cluster import cluster_address
from weam_ray.study.estimate import in_bytes

_LEAST_MEMORY = 2 * 2**30
"""Bytes: the demo's Ray, MLflow and two cells."""
_LEAST_DISK = 2 * 2**30
_LEAST_SHARED_MEMORY = 512 * 2**20
"""Bytes of /dev/shm: what Ray's object store is given on one machine."""
_SECONDS = 5.0
"""How long a server may take to answer."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    """What was found: versions, sizes, an error."""
    cure: str = ""
    """What to do about it, when it is not ok."""

    def __str__(self) -> str:
        line = f"{'ok  ' if self.ok else 'FAIL'}  {self.name:<15} {self.detail}"
        return line if self.ok else f"{line}. {self.cure}"


def check(storage: str | Path, tracking_uri: str | None = None) -> list[Finding]:
    """Look at everything; nothing but probe files, removed at once, is written.

    Args:
        storage: the study's: a folder, or a bucket's address.
        tracking_uri: MLflow's; None for SQLite below ``storage``.
    """
    looks: Mapping[str, Callable[[], Finding]] = {
        "Python": _python,
        "packages": _packages,
        "torch": _torch,
        "memory": _memory,
        "disk": lambda: _disk(cache_folder(str(storage)) if is_url(storage) else Path(storage)),
        "storage": lambda: _bucket(storage) if is_url(storage) else _storage(Path(storage)),
        "aligner": _aligner,
        "tracking": lambda: _tracking(home_of(storage), tracking_uri),
        "ports": _loopback,
        "authentication": _authentication,
        "cluster": lambda: _cluster(storage),
    }
    return [_guarded(name, look) for name, look in looks.items()]


def exit_status(findings: Sequence[Finding]) -> int:
    """0 when all is ok, else 1."""
    return 0 if all(finding.ok for finding in findings) else 1


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    # A broken installation breaks in ways nobody listed; the other lines are wanted all the same.
    try:
        return look()
    except Exception as error:
        return Finding(
            name=name,
            ok=False,
            detail=f"{type(error).__name__}: {error}",
            cure="Install again: make install",
        )


def _python() -> Finding:
    wanted = SpecifierSet(importlib.metadata.metadata("weam_ray")["Requires-Python"])
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        name="Python",
        ok=wanted.contains(version),
        detail=f"{version} at {sys.executable}",
        cure=f"weam_ray needs {wanted}: make PYTHON=python3.11 install",
    )


def _packages() -> Finding:
    wanted = [Requirement(text) for text in importlib.metadata.requires("weam_ray") or ()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = list(_wrong_versions(wanted))
    return Finding(
        name="packages",
        ok=not wrong,
        detail="; ".join(wrong) or f"{len(wanted)} within their ranges",
        cure="make install, or: pip install -c constraints.txt -e .",
    )


def _wrong_versions(wanted: Sequence[Requirement]) -> Iterator[str]:
    for one in wanted:
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{one.name} is not installed"
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield f"{one.name} {version} is not {one.specifier}"


def _torch() -> Finding:
    import torch

    from weam_ray.pretraining.precision import has_bf16

    threads = f"torch {torch.__version__}, {torch.get_num_threads()} of {os.cpu_count()} CPUs"
    if torch.cuda.is_available():
        try:
            torch.ones(8, 8, device="cuda").sum().item()
        except RuntimeError as error:
            return Finding(
                name="torch",
                ok=False,
                detail=f"{threads}; the GPU does not compute: {str(error).splitlines()[0]}",
                cure="Install the torch build of this machine's CUDA version.",
            )
        gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
        names = ", ".join(f"{one.name} {in_bytes(one.total_memory)}" for one in gpus)
        return Finding(name="torch", ok=True, detail=f"{threads}; {names}")
    if shutil.which("nvidia-smi"):
        return Finding(
            name="torch",
            ok=False,
            detail=f"{threads}; there is a GPU driver, and torch sees no GPU",
            cure="Install the CUDA build of torch, or hide the GPU: CUDA_VISIBLE_DEVICES=",
        )
    half = "bf16" if has_bf16(torch.device("cpu")) else "no bf16 (studies that ask for it use fp32)"
    return Finding(name="torch", ok=True, detail=f"{threads}, {half}; no GPU")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.is_dir() else 0
    little = free < _LEAST_SHARED_MEMORY
    return Finding(
        name="memory",
        ok=memory.available >= _LEAST_MEMORY and not little,
        detail=f"{in_bytes(memory.available)} of {in_bytes(memory.total)} free, "
        f"{in_bytes(free)} in /dev/shm",
        cure=f"Give /dev/shm {in_bytes(_LEAST_SHARED_MEMORY)} (docker run --shm-size=1g)."
        if little
        else f"A sweep wants {in_bytes(_LEAST_MEMORY)}: end other programs.",
    )


def _disk(storage: Path) -> Finding:
    place = storage.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return Finding(
        name="disk",
        ok=free >= _LEAST_DISK,
        detail=f"{in_bytes(free)} free at {place}",
        cure=f"A sweep wants {in_bytes(_LEAST_DISK)}: free some, or --set storage=FOLDER",
    )


def _storage(storage: Path) -> Finding:
    """Write, read, rename and lock as the store does."""
    folder = storage.absolute() / "tmp" / f"doctor-{secrets.token_hex(8)}"
    made = [path for path in (*reversed(folder.parents), folder) if not path.exists()]
    try:
        folder.mkdir(parents=True)
        problem = _probe(folder)
    except OSError as error:
        problem = f"{error.strerror}: {error.filename}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made[:-1])
    return Finding(
        name="storage",
        ok=problem is None,
        detail=problem or f"{storage.absolute()} is written, read, renamed and locked",
        cure="Name a folder of yours on a file system with locks: --set storage=FOLDER",
    )


def _bucket(storage: str | Path) -> Finding:
    try:
        Bucket(str(storage)).check()
    except WeamError as error:
        return Finding(name="storage", ok=False, detail=error.what, cure=error.cure or "")
    return Finding(name="storage", ok=True, detail=f"{storage} is written, read and removed from")


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:  # somebody has put something there since, or it was never made
            return


def _probe(folder: Path) -> str | None:
    said = secrets.token_bytes(64)
    draft, final = folder / "draft", folder / "final"
    draft.mkdir()
    (draft / "file").write_bytes(said)
    os.replace(draft, final)
    if (final / "file").read_bytes() != said:
        return f"{folder} gives back something else than was written"
    with open(folder / "lock", "w") as one, open(folder / "lock", "w") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
    return f"{folder} has no locks: two sweeps on it would do the same work twice"


def _aligner() -> Finding:
    from weam_ray.alignment import AlignmentConfig, align_words

    started = time.monotonic()
    words = [["a", "b"], ["b", "c"], ["a", "c"]]
    found = align_words(
        words, [[word.upper() for word in pair] for pair in words], AlignmentConfig()
    )
    linked = len(found.links.to_arrow())
    return Finding(
        name="aligner",
        ok=linked == len(words),
        detail=f"kernels ready and run in {time.monotonic() - started:.1f} s",
        cure="Install numba again, and let it write its cache: NUMBA_CACHE_DIR=FOLDER",
    )


def _tracking(storage: Path, uri: str | None) -> Finding:
    if uri is None or uri.startswith("sqlite:///"):
        path = storage / "mlflow.db" if uri is None else Path(uri.removeprefix("sqlite:///"))
        return _database(path.absolute())
    if urllib.parse.urlparse(uri).scheme in ("http", "https"):
        return _server(uri)
    return Finding(name="tracking", ok=True, detail=f"{uri} (not asked: not a server of HTTP)")


def _database(path: Path) -> Finding:
    if not path.exists():
        return Finding(name="tracking", ok=True, detail=f"{path} will be made at the first sweep")
    try:
        opened = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_SECONDS)
        with contextlib.closing(opened) as database:
            found = database.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    return Finding(
        name="tracking",
        ok=found == "ok",
        detail=f"{path} is sound" if found == "ok" else f"{path}: {found}",
        cure="Move it away: the next sweep makes a new one. Results are in the store, not in it.",
    )


def _server(uri: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SECONDS) as answer:
            said = f"{uri} answers ({answer.status})"
        return Finding(name="tracking", ok=True, detail=said)
    except urllib.error.HTTPError as error:
        # Behind a gateway of its own the health page may ask for a login: somebody answers.
        ok, said = error.code in (401, 403), f"{uri} answers {error.code}"
    except OSError as error:
        ok, said = False, f"{uri} does not answer ({getattr(error, 'reason', error)})"
    return Finding(
        name="tracking",
        ok=ok,
        detail=said,
        cure="Start the server (make ui), or leave tracking_uri out; a sweep runs without it.",
    )


def _loopback() -> Finding:
    try:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            one.listen()
            socket.create_connection(("127.0.0.1", port), timeout=_SECONDS).close()
    except OSError as error:
        return Finding(
            name="ports",
            ok=False,
            detail=f"loopback can't be reached ({error.strerror or error})",
            cure="Let programs talk over 127.0.0.1: Ray's processes have no other way.",
        )
    return Finding(name="ports", ok=True, detail="programs reach each other over 127.0.0.1")


def _authentication() -> Finding:
    mode, address = os.environ.get("RAY_AUTH_MODE"), cluster_address()
    if address is None:
        known = mode in (None, "disabled", "token")
        return Finding(
            name="authentication",
            ok=known,
            detail=f"RAY_AUTH_MODE={mode}" if mode else "Ray of this machine alone, on loopback",
            cure="RAY_AUTH_MODE is disabled or token.",
        )
    return Finding(
        name="authentication",
        ok=mode == "token",
        detail=f"RAY_AUTH_MODE={mode or 'unset'}, cluster at {address}",
        cure="Anyone who reaches the ports runs code there: export RAY_AUTH_MODE=token on every"
        " machine, as the cluster files do.",
    )


def _cluster(storage: str | Path) -> Finding:
    address = cluster_address()
    if address is None:
        return Finding(name="cluster", ok=True, detail="this machine (RAY_ADDRESS is not set)")
    from weam_ray.on_ray.cluster import ray_runtime
    from weam_ray.on_ray.machines import check_machines

    try:
        with ray_runtime() as resources:
            machines = check_machines(storage)
    except WeamError as error:
        return Finding(name="cluster", ok=False, detail=error.what, cure=error.cure or "")
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    return Finding(
        name="cluster",
        ok=True,
        detail=f"{len(machines)} machines with {cpus:g} CPUs and {gpus:g} GPUs share"
        f" {storage if is_url(storage) else Path(storage).absolute()}",
    )
