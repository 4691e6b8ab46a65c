"""The store of finished work: address, atomic write, record. It knows no stage.

A :class:`Step` is a piece of work by its identity: stage, stage version, settings, the steps it
builds on and the content of its input files. Its address follows from those alone, so it is known
before anything runs; the ledger of what is done is the store itself.

An artifact is a folder. It is written under ``tmp/``, its ``record.json`` last, and renamed whole
to ``<stage>/<hash>``: a folder that stands at an address is complete, whatever was killed when.
:mod:`weam_ray.bucket_store` keeps the same artifacts in an object store, :mod:`weam_ray.record`
says what is in a record.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import IO, Any

from weam_ray.bucket import Bucket
from weam_ray.errors import ResourceError
from weam_ray.identity import StageConfig, digest
from weam_ray.progress import Report, silent
from weam_ray.record import RECORD, damaged, read_record, sizes, write_record, wrong_file

_BLOCK = 4096
"""Bytes of a file system's block: a file of fewer may fit where nothing else does."""
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

    def file(self, name: str) -> Path:
        """One of its files, where the others are not needed."""
        return self.path / name

    def lighter(self, keys: Iterable[str]) -> Artifact:
        """The same with these keys of its record alone, and with what finding its files takes."""
        record = {key: self.record[key] for key in keys}
        return Artifact(address=self.address, path=self.path, record=record)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a stage may use. Never part of an identity."""

    threads: int = 1
    device: str = "cpu"
    """A torch device: ``cpu``, ``cuda``, ``cuda:1``."""


class Scratch:
    """Where a step keeps what a killed maker's successor goes on from: checkpoints.

    Args:
        folder: None where nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def saved(self, path: Path, step: int) -> None:
        """A file of the folder was written: the signature of a checkpoint's callback."""

    def clear(self) -> None:
        """The step is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(kw_only=True)
class Work:
    """What the function that makes a step is given."""

    step: Step
    upstream: Mapping[str, Artifact]
    out: Path
    """An empty folder for the output."""
    scratch: Scratch = field(default_factory=lambda: Scratch(None))
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
            with open(f"{path}/{RECORD}", "rb") as stream:
                record = read_record(stream.read(), str(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if problem := wrong_file(record, path):
            raise damaged(problem, str(path))
        return Artifact(address=address, path=path, record=record)

    def addresses(self, stage: str) -> list[str]:
        """Addresses of a stage that something stands at, sorted; it may be damaged."""
        folder = self.root / stage
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [f"{stage}/{name}" for name in names]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it, what another process finishes may go unseen, so that looking is quick."""
        yield

    @property
    def shared(self) -> Bucket:
        """The store's place as all machines see it, for messages between them below ``tmp/``."""
        return Bucket(self.root.as_uri())

    def bring_inputs(self, config: StageConfig) -> None:
        """Have the files that settings name on this machine, where this store keeps them."""

    def scratch(self, address: str) -> Scratch:
        """What an earlier maker of a step left to go on from; the step's turn must be held."""
        return Scratch(self.root / "tmp" / f"kept-{address.replace('/', '-')}")

    def keep(self, files: Sequence[Path], place: str) -> None:
        """Copy a study's own files (report, tables, logs) beside what they were made from."""

    def check(self) -> None:
        """Find out that the store can be written, which may otherwise fail hours later.

        Raises:
            ResourceError: it can't.
        """
        with storage_errors(self.root):
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / "tmp") as probe:
                probe.write(bytes(_BLOCK))

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
        with storage_errors(self.root), self._turn(step.address):
            if done := self.find(step):
                return done
            draft = self._empty_draft(step)
            work = Work(
                step=step,
                upstream=upstream,
                out=draft,
                scratch=self.scratch(step.address),
                report=report,
                resources=resources or Resources(),
            )
            started = time.monotonic()
            try:
                self.bring_inputs(step.config)
                maker(work)
                self._write_record(work, time.monotonic() - started)
                self._publish(draft, step.address)
                work.scratch.clear()
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        done = self.find(step)
        assert done is not None
        return done

    def _publish(self, draft: Path, address: str) -> None:
        final = self.root / address
        final.parent.mkdir(parents=True, exist_ok=True)
        # A folder without a record is no artifact: a copy of the store that was cut off.
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)

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

    def clear_drafts(self, patience: float) -> None:
        """Remove what makers left that died or were ended; a draft that is being made stays.

        Args:
            patience: seconds that makers which are being ended have to be gone.
        """
        deadline = time.monotonic() + patience
        for draft in (self.root / "tmp").glob("*-*.*.*"):
            lock = self.root / "locks" / f"{draft.name.partition('.')[0]}.lock"
            if not lock.exists():
                continue
            with open(lock, "a", encoding="utf8") as stream:
                while not _taken(stream) and time.monotonic() < deadline:
                    time.sleep(0.1)
                if _taken(stream):
                    shutil.rmtree(draft, ignore_errors=True)

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
            "files": sizes(work.out),
            "seconds": round(seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "packages": package_versions(),
        }
        write_record(record, work.out)


def _taken(stream: IO[str]) -> bool:
    """Take the lock if it is free; whether it is ours now."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """A disk that is full or can't be written, said as such; everything else passes through.

    Raises:
        ResourceError: the disk is full, or the folder is another's, read-only, or no folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                "the disk is full",
                place=str(root),
                cure="Free some space and run the same command again: what is finished is kept.",
            ) from error
        if isinstance(error, (NotADirectoryError, FileExistsError)):
            if (file := _file_above(root)) is not None:
                raise ResourceError(
                    f"storage can't lie here: {file} is a file",
                    place=str(root),
                    cure="Set storage to a folder: --set storage=FOLDER",
                ) from error
        if error.errno in (errno.EACCES, errno.EROFS) and _concerns(error.filename, root):
            raise ResourceError(
                f"the store can't be written ({error.strerror}: {error.filename})",
                place=str(root),
                cure="Set storage to a folder of yours: --set storage=FOLDER",
            ) from error
        raise


def _file_above(root: Path) -> Path | None:
    """What stands where the store, or a folder around it, should be and is no folder."""
    return next(
        (path for path in (root, *root.parents) if path.exists() and not path.is_dir()), None
    )


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
