"""Data sets of the Hugging Face Hub as local parquet files, through ``datasets``.

``hub:facebook/xnli/{language}/validation`` names repository, configuration and split;
``facebook/xnli@1d2ce39`` would be one revision of the repository. It is fetched once into a folder
of parquet files, from which everything else reads: so content hashes, offline runs and machines
without ``datasets`` work alike.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from weam_ray.errors import ConfigError, DataError, ResourceError

PREFIX = "hub:"

_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?/[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class HubSplit:
    """One split of one configuration of a data set."""

    repository: str
    """``owner/name``."""

    configuration: str
    """``default`` where the data set has only one."""

    split: str

    revision: str | None = None
    """Commit, tag or branch; None takes the main branch as it stands when it is fetched."""

    @classmethod
    def parse(cls, text: str) -> HubSplit:
        """From ``hub:owner/name/configuration/split`` or ``hub:owner/name@revision/...``.

        Raises:
            ConfigError: not of that form.
        """
        name = text.removeprefix(PREFIX)
        if not _NAME.fullmatch(name) or ".." in name:
            raise ConfigError(
                f"{text!r} names no split of the Hub",
                cure="Write hub:owner/name/configuration/split, as in"
                " hub:facebook/xnli/{language}/validation.",
            )
        owner, repository, configuration, split = name.split("/")
        repository, _, revision = repository.partition("@")
        return cls(f"{owner}/{repository}", configuration, split, revision or None)

    def __str__(self) -> str:
        """As it is written in settings."""
        at = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{at}/{self.configuration}/{self.split}"

    def path(self, cache: Path, mirror: Path | None = None) -> Path:
        """Where it lies once fetched, apart for each revision and each state of a mirror."""
        owner, name = self.repository.split("/")
        if mirror is not None:
            cache = cache / "mirrors" / _state(mirror / self.repository)
        at = f"@{self.revision}" if self.revision else ""
        return cache / f"{owner}--{name}{at}" / self.configuration / f"{self.split}.parquet"


def _state(folder: Path) -> str:
    """A digest of where a folder is and of the names, sizes and times of its files."""
    seen = [str(folder.resolve())]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            seen.append(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.blake2b("\0".join(seen).encode(), digest_size=8).hexdigest()


def fetch_split(source: HubSplit, cache: Path, *, offline: bool, mirror: Path | None) -> Path:
    """The local parquet file of a split, fetched if it isn't there yet.

    Args:
        cache: folder of fetched splits.
        offline: never touch the network; a mirror is still read.
        mirror: a folder with ``owner/name`` folders laid out as on the Hub, read instead of it.

    Raises:
        ConfigError: a revision of a mirror, which has no revisions.
        DataError: not fetched yet and offline, or no such data set, configuration or split.
        ResourceError: ``datasets`` is not installed, or the Hub can't be reached.
    """
    place = str(source)
    location = source.repository if mirror is None else str(mirror / source.repository)
    if mirror is not None and source.revision is not None:
        raise ConfigError(
            f"a mirror has no revision {source.revision!r}",
            place=place,
            cure="Leave the revision or hub_mirror out.",
        )
    if mirror is not None and not Path(location).is_dir():
        raise DataError(f"the mirror has no folder {location}", place=place)
    path = source.path(cache, mirror)
    if path.is_file():
        return path
    if mirror is None and offline:
        raise DataError(
            f"not fetched yet ({path} is missing) and the run is offline",
            place=place,
            cure="Run once without offline, or copy the file there.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _download(source, location, path, place)
    return path


def _download(source: HubSplit, location: str, path: Path, place: str) -> None:
    try:
        import datasets
    except ImportError:
        raise ResourceError(
            "reading from the Hub needs the package datasets",
            place=place,
            cure="Install it, or fetch the files elsewhere and give their paths.",
        ) from None
    # Everything is written beside the file and renamed, so a killed fetch leaves no half file.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as scratch, _quiet():
        try:
            found = datasets.load_dataset(
                location,
                source.configuration,
                split=source.split,
                revision=source.revision,
                cache_dir=scratch,
            )
        except RuntimeError as error:
            raise DataError(
                f"datasets can't load it ({error})",
                place=place,
                cure="A data set that is a script no longer loads: fetch its files elsewhere and"
                " give their paths.",
            ) from error
        except (datasets.exceptions.DatasetBuildError, pa.ArrowException) as error:
            raise DataError(
                f"its files can't be read ({error.__cause__ or error})",
                place=place,
                cure="Fetch it again, or give local files.",
            ) from error
        except (ValueError, FileNotFoundError) as error:
            raise DataError(
                f"no such data set, configuration or split ({error})", place=place
            ) from error
        except OSError as error:
            raise ResourceError(
                f"can't fetch it ({error})",
                place=place,
                cure="Check the network, or give local files.",
            ) from error
        draft = Path(scratch) / "split.parquet"
        found.to_parquet(str(draft))
        os.replace(draft, path)


@contextmanager
def _quiet() -> Iterator[None]:
    import datasets

    were = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were:
            datasets.enable_progress_bars()
