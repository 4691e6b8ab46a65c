"""The store of finished work: address, atomic write, record. It knows no stage.

A :class:`Step` is a piece of work by its identity: stage, stage version, settings, the steps it
builds on and the content of its input files. Its address follows from those alone, so it is known
before anything runs; the ledger of what is done is the store itself.

An artifact is a folder. It is written under ``tmp/``, its ``record.json`` last, and renamed whole
to ``<stage>/<hash>``: a folder that stands at an address is complete, whatever was killed when.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from weam_ray.errors import DataError, ResourceError
from weam_ray.identity import StageConfig, digest
from weam_ray.progress import Report, silent

RECORD = "record.json"
_RECORDED_PACKAGES = (
    "weam_ray",
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "numba",
    "pyarrow",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One piece of work, known by what decides its outcome."""

    stage: str
    version: int
    """Raised by hand whenever the stage's code would give another output for the same settings."""
    config: StageConfig
    upstream: Mapping[str, Step] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Content hashes of input files, by name."""

    @cached_property
    def address(self) -> str:
        """``stage/hash``, the folder of the output below the store's root."""
        return f"{self.stage}/{digest(self._identity())}"

    def _identity(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "version": self.version,
            "config": self.config.identity(),
            "upstream": {name: step.address for name, step in sorted(self.upstream.items())},
            "inputs": dict(sorted(self.inputs.items())),
        }

    def chain(self) -> dict[str, Step]:
        """This step and all it builds on, by address, what comes first first."""
        steps: dict[str, Step] = {}
        for step in self.upstream.values():
            steps.update(step.chain())
        steps[self.address] = self
        return steps


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished output: a folder that will not change, and its record."""

    address: str
    path: Path
    record: Mapping[str, Any]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the stage counted and measured: rows, dropped by reason, seconds, losses."""
        facts: Mapping[str, Any] = self.record["facts"]
        return facts


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a stage may use. Never part of an identity."""

    threads: int = 1
    device: str = "cpu"
    """A torch device: ``cpu``, ``cuda``, ``cuda:1``."""


@dataclass(kw_only=True)
class Work:
    """What the function that makes a step is given."""

    step: Step
    upstream: Mapping[str, Artifact]
    out: Path
    """An empty folder for the output."""
    report: Report = silent
    resources: Resources = field(default_factory=Resources)
    facts: dict[str, Any] = field(default_factory=dict)
    """Filled by the maker; becomes ``record.json``'s ``facts``."""


Maker = Callable[[Work], None]


class Store:
    """Finished artifacts below one local or shared folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()

    def find(self, step: Step | str) -> Artifact | None:
        """The finished artifact of a step or address, or None.

        Raises:
            DataError: there is one, but it isn't what was written: a damaged record, a file that
                is missing or cut short (an interrupted copy of the store, a failing disk).
        """
        address = step if isinstance(step, str) else step.address
        path = self.root / address
        try:
            text = (path / RECORD).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            record = json.loads(text)
            sizes = dict(record["files"])
            record["facts"], record["seconds"]
        except (ValueError, TypeError, KeyError):
            raise _damaged("the record is damaged", path) from None
        for name, size in sizes.items():
            try:
                found = os.stat(path / name).st_size
            except OSError:
                raise _damaged(f"{name} is missing", path) from None
            if found != size:
                raise _damaged(f"{name} holds {found:,} bytes, not {size:,}", path)
        return Artifact(address=address, path=path, record=record)

    def make(
        self,
        step: Step,
        maker: Maker,
        upstream: Mapping[str, Artifact],
        report: Report = silent,
        resources: Resources | None = None,
    ) -> Artifact:
        """The step's artifact: the finished one if there is one, else made now, once.

        Two processes that want the same step at the same time take turns, and the second finds the
        first one's work. A maker that raises leaves nothing behind.

        Raises:
            ResourceError: the store can't be written, or its disk is full.
        """
        with _storage_errors(self.root), self._turn(step.address):
            if done := self.find(step):
                return done
            draft = self._empty_draft(step)
            work = Work(
                step=step,
                upstream=upstream,
                out=draft,
                report=report,
                resources=resources or Resources(),
            )
            started = time.monotonic()
            try:
                maker(work)
                self._write_record(work, time.monotonic() - started)
                final = self.root / step.address
                final.parent.mkdir(parents=True, exist_ok=True)
                # A folder without a record is no artifact: a copy of the store that was cut off.
                shutil.rmtree(final, ignore_errors=True)
                os.replace(draft, final)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        done = self.find(step)
        assert done is not None
        return done

    @contextmanager
    def _turn(self, address: str) -> Iterator[None]:
        # flock is given up by the kernel when its holder dies, so a killed run blocks nobody.
        path = self.root / "locks" / f"{address.replace('/', '-')}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _empty_draft(self, step: Step) -> Path:
        # The turn is ours, so any other draft of this address was left by a process that died.
        name = step.address.replace("/", "-")
        for stale in (self.root / "tmp").glob(f"{name}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        draft = self.root / "tmp" / f"{name}.{platform.node()}.{os.getpid()}"
        draft.mkdir(parents=True)
        return draft

    def _write_record(self, work: Work, seconds: float) -> None:
        step = work.step
        record = {
            "address": step.address,
            "stage": step.stage,
            "version": step.version,
            "config": step.config.model_dump(mode="json"),
            "upstream": {name: item.address for name, item in step.upstream.items()},
            "inputs": dict(step.inputs),
            "facts": work.facts,
            "files": _sizes(work.out),
            "seconds": round(seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "packages": package_versions(),
        }
        try:
            text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise DataError(
                f"{step.stage} measured something that is no number ({error}): {work.facts}",
                place=step.address,
                cure="A loss that is not finite comes of too high a learning rate.",
            ) from None
        with open(work.out / RECORD, "w", encoding="utf8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _damaged(what: str, path: Path) -> DataError:
    return DataError(
        f"{what} (it was whole when it was written)",
        place=str(path),
        cure=f"Remove the folder {path} and run the same command again.",
    )


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """A disk that is full or can't be written, said as such; everything else passes through."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                "the disk is full",
                place=str(root),
                cure="Free some space and run the same command again: what is finished is kept.",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS) and _concerns(error.filename, root):
            raise ResourceError(
                f"the store can't be written ({error.strerror}: {error.filename})",
                place=str(root),
                cure="Set storage to a folder of yours: --set storage=FOLDER",
            ) from error
        raise


def _concerns(name: object, root: Path) -> bool:
    if not isinstance(name, (str, Path)):
        return False
    # Above the root too: making its parents may be what failed.
    return Path(name).is_relative_to(root) or root.is_relative_to(name)


def ensure(
    step: Step,
    store: Store,
    makers: Mapping[str, Maker],
    report: Report = silent,
    resources: Resources | None = None,
) -> Artifact:
    """The step's artifact, making whatever of its chain is missing, in order.

    What a finished step was built on is not asked for again: it may have been cleared away.
    """
    if done := store.find(step):
        return done
    upstream = {
        name: ensure(needed, store, makers, report, resources)
        for name, needed in step.upstream.items()
    }
    return store.make(step, makers[step.stage], upstream, report, resources)


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a result, and Python's."""
    versions = {"python": platform.python_version()}
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions
