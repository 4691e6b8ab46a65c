"""A store in a bucket, with a cache on each machine: the same artifacts at the same addresses.

In the bucket, an artifact's files are objects ``<stage>/<hash>/<writer>/<file>``, and its record is
``<stage>/<hash>/record.json``, written last, which names the writer. So:

- A writer that was killed left objects that no record names: they are never read.
- There are no locks between machines. Two that make one step at a time both finish. Each has
  objects of its own, so that no artifact is a mixture of two, and the record that is written first
  is kept, but for a race of milliseconds in which the later one replaces it whole. A step's output
  follows from its address, so it does not matter which. Jobs of one sweep don't make the same step.
- Processes of one machine take turns with the locks of the cache, as in a folder.

What is read is copied into the cache first, and stays there: an artifact never changes. The cache
can be removed at any time.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from weam_ray.artifacts import (
    Artifact,
    Maker,
    Resources,
    Scratch,
    Step,
    Store,
    storage_errors,
)
from weam_ray.bucket import Bucket, is_url
from weam_ray.errors import DataError
from weam_ray.identity import StageConfig, digest
from weam_ray.progress import Report, silent
from weam_ray.record import RECORD, damaged, read_record, wrong_file

CACHE_VARIABLE = "WEAM_RAY_CACHE"
_WRITER = "writer"
"""In the record as it stands in the bucket: the prefix of the artifact's objects."""
_SECONDS_MISSING = 1.0
"""How long a step that was not there is taken not to be, by those who only look."""


def open_store(storage: str | Path) -> Store:
    """The store of a study's ``storage``: a folder, or a bucket's address."""
    if is_url(storage):
        return BucketStore(Bucket(str(storage)))
    return Store(Path(storage) / "store")


def cache_folder(url: str) -> Path:
    """Where this machine keeps copies of a bucket's artifacts.

    Below ``$WEAM_RAY_CACHE``, else ``~/.cache/weam_ray``; the same path on every machine.
    """
    base = os.environ.get(CACHE_VARIABLE)
    folder = Path(base) if base else Path.home() / ".cache" / "weam_ray"
    return folder.absolute() / digest(url)[:16]


class BucketStore(Store):
    """Finished artifacts in a bucket; ``root`` is this machine's cache of them."""

    def __init__(self, bucket: Bucket, cache: Path | None = None) -> None:
        super().__init__(cache or cache_folder(bucket.url))
        self.bucket = bucket
        self._artifacts = bucket.below("store")
        self._records: dict[str, bytes] = {}
        self._missing: dict[str, float] = {}
        self._frozen = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Each machine has its own cache and its own connection.
        return (BucketStore, (self.bucket,))

    def find(self, step: Step | str) -> Artifact | None:
        """The finished artifact of a step or address, or None; its files come when they are used.

        Raises:
            DataError: its record is damaged.
            ResourceError: the bucket can't be read.
        """
        address = step if isinstance(step, str) else step.address
        text = self._record(address)
        if text is None:
            return None
        record = read_record(text, self._named(address))
        if not isinstance(record.get(_WRITER), str):
            raise damaged("the record is damaged", self._named(address))
        return _Distant(address, record, self)

    def make(
        self,
        step: Step,
        maker: Maker,
        upstream: Mapping[str, Artifact],
        report: Report = silent,
        resources: Resources | None = None,
    ) -> Artifact:
        """As in a folder; turns are taken by the processes of one machine."""
        self._missing.pop(step.address, None)
        return super().make(step, maker, upstream, report, resources)

    def addresses(self, stage: str) -> list[str]:
        """Addresses of a stage that hold a record, sorted."""
        if not self._frozen:
            self._list(stage)
        return sorted(address for address in self._records if address.startswith(f"{stage}/"))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it, all is answered from one listing: thousands of steps in a few requests."""
        if self._frozen:
            yield
            return
        self._list("")
        self._frozen = True
        try:
            yield
        finally:
            self._frozen = False

    @property
    def shared(self) -> Bucket:
        """The bucket."""
        return self.bucket

    def bring_inputs(self, config: StageConfig) -> None:
        """Have the artifacts whose files the settings name in this machine's cache."""
        for path in set(_paths(config.model_dump())):
            if path.is_relative_to(self.root):
                address = "/".join(path.relative_to(self.root).parts[:2])
                if found := self.find(address):
                    self.bring(found)

    def scratch(self, address: str) -> Scratch:
        """What an earlier maker of a step left, on whatever machine."""
        return _DistantScratch(super().scratch(address).folder, self.bucket, f"tmp/kept/{address}")

    def keep(self, files: Sequence[Path], place: str) -> None:
        """Copy files to ``place`` in the bucket, beside the artifacts."""
        for file in files:
            self.bucket.upload(file.parent, [file.name], place)

    def check(self) -> None:
        """Write, read and remove an object.

        Raises:
            ResourceError: one of them fails.
        """
        self.bucket.check()

    def bring(self, artifact: Artifact, only: str | None = None) -> Path:
        """Copy an artifact into the cache, unless it is there.

        Args:
            only: this file suffices.

        Returns:
            Its folder, in which ``only``, or everything, is.

        Raises:
            DataError: an object is missing, or is not as long as it was written.
            ResourceError: the bucket can't be read, or the cache's disk is full.
        """
        whole = self.root / artifact.address
        if _is_whole(whole, artifact.record):
            return whole
        writer: str = artifact.record[_WRITER]
        part = self.root / "parts" / artifact.address / writer
        if only is not None and (part / only).exists():
            return part
        with storage_errors(self.root), self._turn(f"bring/{artifact.address}"):
            if _is_whole(whole, artifact.record):
                return whole
            # The turn is ours, so what stands there was left by a process that died.
            draft = self.root / "tmp" / f"bring-{artifact.address.replace('/', '-')}"
            shutil.rmtree(draft, ignore_errors=True)
            try:
                names = [only] if only is not None else list(artifact.record["files"])
                self._download(artifact, names, draft)
                if only is not None:
                    (part / only).parent.mkdir(parents=True, exist_ok=True)
                    (draft / only).replace(part / only)
                    return part
                (draft / RECORD).write_bytes(_json(artifact.record))
                super()._publish(draft, artifact.address)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return whole

    def _download(self, artifact: Artifact, names: Sequence[str], draft: Path) -> None:
        draft.mkdir(parents=True)
        objects = f"{artifact.address}/{artifact.record[_WRITER]}"
        try:
            self._artifacts.download(objects, names, draft)
        except FileNotFoundError as error:
            missing = str(error.filename).rpartition("/")[2]
            raise damaged(f"{missing} is missing", self._named(artifact.address)) from None
        sizes = {name: artifact.record["files"][name] for name in names}
        if problem := wrong_file({"files": sizes}, draft):
            raise damaged(problem, self._named(artifact.address))

    def _publish(self, draft: Path, address: str) -> None:
        writer = secrets.token_hex(8)
        record = read_record((draft / RECORD).read_bytes(), str(draft))
        self._artifacts.upload(draft, record["files"], f"{address}/{writer}")
        self._missing.pop(address, None)
        if self._record(address) is not None:
            # Another machine was quicker with the same step.
            self._artifacts.remove([f"{address}/{writer}/{name}" for name in record["files"]])
            return
        signed = {_WRITER: writer, **record}
        text = _json(signed)
        (draft / RECORD).write_bytes(text)
        self._artifacts.write(f"{address}/{RECORD}", text)
        self._records[address] = text
        super()._publish(draft, address)

    def _record(self, address: str) -> bytes | None:
        # A record is written once, so one that was seen needs no second look.
        if (known := self._records.get(address)) is not None or self._frozen:
            return known
        if time.monotonic() - self._missing.get(address, -_SECONDS_MISSING) < _SECONDS_MISSING:
            return None
        text = self._artifacts.read(f"{address}/{RECORD}")
        if text is None:
            self._missing[address] = time.monotonic()
        else:
            self._records[address] = text
        return text

    def _list(self, stage: str) -> None:
        """Read every record of a stage, or of all, that this process has not seen yet."""
        names = self._artifacts.names(stage)
        wanted = [name for name in names if name.count("/") == 2 and name.endswith(f"/{RECORD}")]
        wanted = [name for name in wanted if name.removesuffix(f"/{RECORD}") not in self._records]
        for name, text in zip(wanted, self._artifacts.read_all(wanted), strict=True):
            if text is not None:
                self._records[name.removesuffix(f"/{RECORD}")] = text

    def _named(self, address: str) -> str:
        return self._artifacts.named(address)


class _Distant(Artifact):
    """An artifact in a bucket: its files are fetched when somebody asks where they are."""

    def __init__(self, address: str, record: Mapping[str, Any], store: BucketStore) -> None:
        for name, value in (("address", address), ("record", record), ("_store", store)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<artifact {self.address}>"  # the field path would fetch it

    def __reduce__(self) -> tuple[Any, ...]:
        # Where its files are is another place on another machine.
        return (_Distant, (self.address, self.record, self.__dict__["_store"]))

    @cached_property
    def path(self) -> Path:
        store: BucketStore = self.__dict__["_store"]
        return store.bring(self)

    def file(self, name: str) -> Path:
        """One of its files, fetched alone."""
        store: BucketStore = self.__dict__["_store"]
        return store.bring(self, only=name) / name

    def lighter(self, keys: Iterable[str]) -> Artifact:
        """The same with these keys of its record alone, and with what finding its files takes."""
        record = {key: self.record[key] for key in {*keys, "files", _WRITER}}
        return _Distant(self.address, record, self.__dict__["_store"])


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(record), indent=1, ensure_ascii=False, allow_nan=False).encode()


class _DistantScratch(Scratch):
    """Checkpoints that outlive the machine: the newest is in the bucket too."""

    def __init__(self, folder: Path | None, bucket: Bucket, place: str) -> None:
        super().__init__(folder)
        self._bucket, self._place = bucket, place
        assert folder is not None
        if names := self._names():
            self._bucket.download(place, names[-1:], folder)

    def saved(self, path: Path, step: int) -> None:
        """Copy the file away, then what it replaces."""
        older = self._names()
        self._bucket.upload(path.parent, [path.name], self._place)
        self._remove(name for name in older if name != path.name)

    def clear(self) -> None:
        """Remove both copies."""
        super().clear()
        self._remove(self._names())

    def _names(self) -> list[str]:
        found = self._bucket.names(self._place)
        return [name.removeprefix(f"{self._place}/") for name in found]

    def _remove(self, names: Iterable[str]) -> None:
        self._bucket.remove([f"{self._place}/{name}" for name in names])


def _is_whole(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the cached copy is the one that the record speaks of, with all its files."""
    try:
        cached = read_record((folder / RECORD).read_bytes(), str(folder))
    except (OSError, DataError):
        return False
    return cached.get(_WRITER) == record[_WRITER] and wrong_file(record, folder) is None


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _paths(inner)
