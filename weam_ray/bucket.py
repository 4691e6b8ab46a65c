"""Whole objects in a bucket: ``s3://``, ``gs://``, ``abfs://``, through pyarrow's file systems.

A bucket has neither renames nor locks, and what is written appears at once or not at all. This is
all that :mod:`weam_ray.bucket_store` asks of it. Credentials are found where the service's own
tools find them: environment, profile, the machine's role. They never stand in the address, which is
printed and recorded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from weam_ray.errors import ConfigError, ResourceError

SCHEMES = ("s3", "gs", "abfs", "file")
"""``file`` is for a mounted bucket, whose renames and locks can't be trusted."""
_CONNECTIONS = 16
_CHUNK = 8 * 2**20
_FIRST_WAIT = 0.5
_ATTEMPTS = 4
_FINAL = ("NO_SUCH_BUCKET", "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")
"""What the service will say again however often it is asked."""
_SECRETS = ("key", "secret", "token", "password", "credential")

T = TypeVar("T")


def is_url(place: str | Path) -> bool:
    """Whether a place is a bucket's address and not a folder."""
    return isinstance(place, str) and "://" in place


def home_of(storage: str | Path) -> Path:
    """The folder of whatever of a study is not in a bucket: reports, logs, the tracking database.

    Beside a bucket it is ``storage`` in the current folder, of the machine that runs the sweep.
    """
    return Path("storage") if is_url(storage) else Path(storage)


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket; names of objects are relative to it.

    Args:
        url: ``s3://bucket/prefix``; of a server other than Amazon's with
            ``?scheme=http&endpoint_override=host:port``, or with AWS_ENDPOINT_URL set.

    Raises:
        ConfigError: the address can't be one, or holds a secret.
    """

    url: str

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in SCHEMES:
            raise ConfigError(
                f"storage {parts.scheme}://… is none of {', '.join(f'{one}://' for one in SCHEMES)}"
            )
        # A key in the address would be in logs, command lines, records and the report.
        options = urllib.parse.parse_qs(parts.query)
        if "@" in parts.netloc or any(word in name for name in options for word in _SECRETS):
            raise ConfigError(
                "storage holds a key or a password",
                cure="Leave it out of the address: it is taken from the environment"
                " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile or the machine's role.",
            )
        if parts.scheme != "file" and not parts.netloc:
            raise ConfigError(f"storage {self.url} names no bucket")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Bucket, (self.url,))  # each machine connects for itself

    def below(self, name: str) -> Bucket:
        """The prefix ``name`` in this one."""
        parts = urllib.parse.urlsplit(self.url)
        path = f"{parts.path.rstrip('/')}/{name}"
        return Bucket(urllib.parse.urlunsplit(parts._replace(path=path)))

    def named(self, name: str) -> str:
        """An object's address, for people: without options of the connection."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{name}".rstrip("/")

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is no such object."""

        def get() -> bytes | None:
            try:
                with self._system.open_input_stream(self._path(name)) as stream:
                    return bytes(stream.readall())
            except FileNotFoundError:
                return None

        return self._asked("read", name, get)

    def read_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Contents of many small objects, in order."""
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return list(pool.map(self.read, names))

    def write(self, name: str, data: bytes) -> None:
        """Write an object; readers see the old one, or none, until all of it is there."""
        self._asked("written", name, lambda: self._put(name, lambda stream: stream.write(data)))

    def upload(self, folder: Path, names: Iterable[str], to: str) -> None:
        """Write files of a folder as objects ``to/name``."""

        def one(name: str) -> None:
            def copy(stream: Any) -> None:
                with open(folder / name, "rb") as source:
                    while chunk := source.read(_CHUNK):
                        stream.write(chunk)

            place = f"{to}/{name}"
            self._asked("written", place, lambda: self._put(place, copy))

        _each(one, names)

    def download(self, prefix: str, names: Iterable[str], folder: Path) -> None:
        """Write objects ``prefix/name`` as files of a folder, which need not exist.

        Raises:
            FileNotFoundError: an object is missing; its address is the error's ``filename``.
        """

        def one(name: str) -> None:
            place = f"{prefix}/{name}"

            def copy() -> None:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    source = self._system.open_input_stream(self._path(place))
                except FileNotFoundError:
                    raise FileNotFoundError(
                        errno.ENOENT, "no such object", self.named(place)
                    ) from None
                with source, open(target, "wb") as file:
                    while chunk := source.read(_CHUNK):
                        file.write(chunk)

            self._asked("read", place, copy)

        _each(one, names)

    def names(self, prefix: str = "") -> list[str]:
        """Names of all objects below a prefix, sorted."""
        from pyarrow.fs import FileSelector, FileType

        root = self._path(prefix)

        def listed() -> list[str]:
            wanted = FileSelector(root, recursive=True, allow_not_found=True)
            found = self._system.get_file_info(wanted)
            base = self._path("")
            paths = [info.path for info in found if info.type == FileType.File]
            return sorted(path.removeprefix(base).lstrip("/") for path in paths)

        return self._asked("listed", prefix, listed)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is gone already is no error."""

        def one(name: str) -> None:
            def delete() -> None:
                try:
                    self._system.delete_file(self._path(name))
                except FileNotFoundError:
                    return

            self._asked("removed", name, delete)

        _each(one, names)

    def remove_all(self) -> None:
        """Remove the prefix and all objects below it, as far as that can be done."""
        from pyarrow.fs import FileType

        with contextlib.suppress(OSError, ResourceError):
            if self._system.get_file_info(self._path("")).type == FileType.Directory:
                self._system.delete_dir(self._path(""))

    def check(self) -> None:
        """Write, read and remove an object.

        Raises:
            ResourceError: one of them fails: no such bucket, no network, no rights.
        """
        name = f"tmp/check-{os.urandom(8).hex()}"
        self.write(name, name.encode())
        if self.read(name) != name.encode():
            raise ResourceError(
                "the bucket gives back something else than was written", place=self.named(name)
            )
        self.remove([name])

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem

        parts = urllib.parse.urlsplit(self.url)
        options = dict(urllib.parse.parse_qsl(parts.query))
        own = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & os.environ.keys()
        if parts.scheme == "s3" and own and "region" not in options:
            # Amazon would else be asked for the region of a bucket that it doesn't have.
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            options["region"] = region or "us-east-1"
        query = urllib.parse.urlencode(options, safe=":/")
        url = urllib.parse.urlunsplit(parts._replace(query=query))
        system, path = self._asked("opened", "", lambda: FileSystem.from_uri(url))
        return system, str(path).rstrip("/")

    @property
    def _system(self) -> Any:
        return self._opened[0]

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}".rstrip("/")

    def _put(self, name: str, write: Callable[[Any], object]) -> None:
        path = self._path(name)
        if not self.url.startswith("file:"):
            with self._system.open_output_stream(path) as stream:
                write(stream)
            return
        # A name of its own for each write: two threads of one process may write the same object.
        draft = Path(f"{path}.{uuid.uuid4().hex}.draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "wb") as file:
            write(file)
        os.replace(draft, path)

    def _asked(self, what: str, name: str, call: Callable[[], T]) -> T:
        """The call's result; a network that fails for seconds fails nothing."""
        for attempt in range(_ATTEMPTS):
            try:
                return call()
            except OSError as error:
                # Of a file here, or an object that the caller asks about: not the service's fault.
                if error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                final = isinstance(error, FileNotFoundError | PermissionError)
                if final or attempt == _ATTEMPTS - 1 or any(one in str(error) for one in _FINAL):
                    raise self._said(what, name, error) from error
            time.sleep(_FIRST_WAIT * 2**attempt)
        raise AssertionError("unreachable")

    def _said(self, what: str, name: str, error: OSError) -> ResourceError:
        return ResourceError(
            f"the bucket can't be {what} ({str(error).splitlines()[0]})",
            place=self.named(name),
            cure="See that the bucket exists and that this machine's credentials may read, write,"
            " list and remove objects in it: weam-ray doctor --storage URL",
        )


def _each(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in pool.map(work, names):
            pass
