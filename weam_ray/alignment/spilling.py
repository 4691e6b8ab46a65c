"""Where large arrays lie between uses: in memory, or in files without a name in a work folder.

The one decision between the two is :func:`.memory.choose`'s. Files are read and written in whole
arrays, so that what is resident is what is worked on; text is mapped, since its words are wanted in
any order. The files have no names, so nothing is left behind, however the process ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from weam_ray.errors import ResourceError

Item = TypeVar("Item", bound=np.generic)


class Kept(Protocol[Item]):
    """An array that lies somewhere."""

    def read(self) -> NDArray[Item]:
        """The array; not to be written to."""

    def replace(self, array: NDArray[Item]) -> None:
        """Put another array of the same size and type in its place."""


class Gathering(Protocol):
    """int32 numbers that come piece by piece and become one array."""

    def add(self, piece: NDArray[np.int32]) -> None:
        """The next piece; not to be written to afterwards."""

    def finish(self, new: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
        """All pieces as one read-only array, each number n as ``new[n]``, or as it is."""


class Shelf(Protocol):
    """A place for arrays."""

    on_disk: bool

    def keep(self, array: NDArray[Item]) -> Kept[Item]:
        """Put an array away."""

    def gather(self) -> Gathering:
        """Begin an array whose size is not known."""

    def mapped(self, array: NDArray[Item]) -> NDArray[Item]:
        """The same array, read-only, in memory that the machine can take back."""

    def release(self) -> None:
        """Nothing that is mapped will be wanted soon."""

    def another(self) -> AbstractContextManager[Shelf]:
        """A shelf of the same kind for the length of a block, whose arrays are gone after it."""


class _InMemory(Generic[Item]):
    def __init__(self, array: NDArray[Item]) -> None:
        self._array = array

    def read(self) -> NDArray[Item]:
        return self._array

    def replace(self, array: NDArray[Item]) -> None:
        self._array = array


class _PiecesInMemory:
    def __init__(self) -> None:
        self._pieces: list[NDArray[np.int32]] = []

    def add(self, piece: NDArray[np.int32]) -> None:
        self._pieces.append(piece)

    def finish(self, new: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
        whole = np.empty(sum(map(len, self._pieces)), np.int32)
        end = len(whole)
        # Each piece is freed as soon as it is copied, and pages of the whole come one by one.
        while self._pieces:
            piece = self._pieces.pop()
            part = whole[end - len(piece) : end]
            end -= len(piece)
            if new is None:
                part[:] = piece
            else:
                np.take(new, piece, out=part, mode="clip")
        whole.flags.writeable = False
        return whole


class Memory:
    """Arrays stay where they are."""

    on_disk = False

    def keep(self, array: NDArray[Item]) -> Kept[Item]:
        """The array itself."""
        return _InMemory(array)

    def gather(self) -> Gathering:
        """Pieces in a list until they are finished."""
        return _PiecesInMemory()

    def mapped(self, array: NDArray[Item]) -> NDArray[Item]:
        """A read-only view."""
        view = array.view()
        view.flags.writeable = False
        return view

    def release(self) -> None:
        """Nothing to give back."""

    def another(self) -> AbstractContextManager[Shelf]:
        """This one will do."""
        return nullcontext(self)


class _InFile(Generic[Item]):
    def __init__(self, disk: Disk, array: NDArray[Item]) -> None:
        self._disk, self._dtype, self._size = disk, array.dtype, array.size
        self._at = disk.reserve(array.nbytes)
        disk.write(array, self._at)

    def read(self) -> NDArray[Item]:
        array = np.empty(self._size, self._dtype)
        self._disk.read(array, self._at)
        return array

    def replace(self, array: NDArray[Item]) -> None:
        self._disk.write(array, self._at)


class _PiecesInFile:
    def __init__(self, disk: Disk) -> None:
        self._disk = Disk(disk.folder)
        self._owner = disk
        self._sizes: list[int] = []

    def add(self, piece: NDArray[np.int32]) -> None:
        self._disk.write(piece, self._disk.reserve(piece.nbytes))
        self._sizes.append(len(piece))

    def finish(self, new: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
        if new is not None:
            at = 0
            for size in self._sizes:
                piece = np.empty(size, np.int32)
                self._disk.read(piece, at)
                self._disk.write(new[piece], at)
                at += piece.nbytes
        return self._owner.map_file(self._disk, np.dtype(np.int32))


class Disk:
    """Arrays lie in files of a folder and are read when they are wanted.

    Args:
        folder: on a local disk; its file system's free space bounds what can be kept.
    """

    on_disk = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = 0
        """Bytes reserved so far, mapped files apart."""
        self._lock = threading.Lock()
        self._maps: list[mmap.mmap] = []
        with self._full():
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix="weam-ray-align-")

    def keep(self, array: NDArray[Item]) -> Kept[Item]:
        """A copy in the folder's file."""
        return _InFile(self, array)

    def gather(self) -> Gathering:
        """Pieces go to a file of their own."""
        return _PiecesInFile(self)

    def mapped(self, array: NDArray[Item]) -> NDArray[Item]:
        """A copy in a file of its own, mapped."""
        disk = Disk(self.folder)
        disk.write(array, disk.reserve(array.nbytes))
        return self.map_file(disk, array.dtype)

    def release(self) -> None:
        """Give mapped pages back; they stay in the system's cache as long as there is room."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Shelf]:
        """For the length of a block; what is mapped stays as long as it is used."""
        disk = cls(folder)
        with disk._file:
            yield disk

    def another(self) -> AbstractContextManager[Shelf]:
        """Another file in the same folder."""
        return Disk.opened(self.folder)

    def reserve(self, size: int) -> int:
        """Where the next ``size`` bytes go."""
        with self._lock:
            at = self.written
            self.written += size
        return at

    def read(self, array: NDArray[Any], at: int) -> None:
        """Fill an array from a place in the file."""
        rest = _bytes_of(array)
        while len(rest):
            got = os.preadv(self._file.fileno(), [rest], at)
            if not got:
                raise ResourceError("a work file was cut short", place=str(self.folder))
            rest, at = rest[got:], at + got

    def write(self, array: NDArray[Any], at: int) -> None:
        """Write an array to a place in the file."""
        rest = _bytes_of(np.ascontiguousarray(array))
        with self._full():
            while len(rest):
                put = os.pwrite(self._file.fileno(), rest, at)
                rest, at = rest[put:], at + put

    def map_file(self, disk: Disk, dtype: np.dtype[Item]) -> NDArray[Item]:
        """All that another disk's file holds, as a read-only array that lives in the file."""
        with disk._file:
            if not disk.written:
                return np.empty(0, dtype)
            mapped = mmap.mmap(disk._file.fileno(), disk.written, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return np.frombuffer(mapped, dtype)

    @contextmanager
    def _full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResourceError(
                f"can't write work files: {error.strerror}",
                place=str(self.folder),
                cure="Name a folder with more space (--work-folder).",
            ) from None


def shelf_of(in_memory: bool, folder: Path) -> AbstractContextManager[Shelf]:
    """A shelf for the length of a block."""
    return Memory().another() if in_memory else Disk.opened(folder)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
