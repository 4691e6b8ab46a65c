"""NLI items of every language and split as one checked table (items.parquet of docs/design.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from weam_ray.errors import ConfigError, DataError
from weam_ray.identity import Placement, StageConfig
from weam_ray.transfer.hub import PREFIX, HubSplit, fetch_split
from weam_ray.transfer.reading import LABELS, NliRow, read_nli

ITEMS_SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("split", pa.string()),
        ("language", pa.string()),
        ("premise", pa.string()),
        ("hypothesis", pa.string()),
        ("label", pa.int8()),
    ]
)

SPLITS = ("train", "dev", "test")

FilePattern = Annotated[str | None, Placement()]


class ItemsConfig(StageConfig):
    """Where the NLI items are and how many of them are used.

    A pattern is a path in which ``{language}`` stands for the language and ``*`` for any text, as
    in ``{language}/validation-*.parquet``, or a split of the Hugging Face Hub, as in
    ``hub:facebook/xnli/{language}/validation`` or ``hub:nyu-mll/multi_nli/default/train``. A file
    may also hold several languages, told apart by a column ``language``.
    """

    train: FilePattern = None
    """Training files: .jsonl, .tsv (header) or .parquet, the first two plain or .gz."""

    dev: FilePattern = None
    """Development files."""

    test: FilePattern = None
    """Test files."""

    train_languages: tuple[str, ...] = ("en",)
    """Languages whose training items are read: one for zero-shot, more for translate-train."""

    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    """Languages of the dev items, the source language among them."""

    test_languages: tuple[str, ...] | None = None
    """Languages of the test items; None means ``languages``."""

    train_limit: Annotated[int | None, Field(ge=3)] = None
    """Use only so many training items a language: the first in the order of a hash of the item, so
    smaller limits are subsets of larger ones. None means all."""

    dev_limit: Annotated[int | None, Field(ge=3)] = None
    """The same for dev; every language keeps the same items."""

    test_limit: Annotated[int | None, Field(ge=3)] = None
    """The same for test."""

    offline: Annotated[bool, Placement()] = False
    """Never fetch anything from the Hub: use what was fetched before."""

    hub_cache: Annotated[Path, Placement()] = Path("~/.cache/weam-ray/hub")
    """Where splits of the Hub are kept, as parquet files."""

    hub_mirror: Annotated[Path | None, Placement()] = None
    """A folder with ``owner/name`` folders laid out as on the Hub, read in its place."""

    @property
    def patterns(self) -> dict[str, str]:
        """The splits that have files, with their patterns."""
        named = {split: getattr(self, split) for split in SPLITS}
        return {split: pattern for split, pattern in named.items() if pattern is not None}

    def split_languages(self, split: str) -> tuple[str, ...]:
        """The languages asked for in ``train``, ``dev`` or ``test``."""
        if split == "train":
            return self.train_languages
        if split == "test" and self.test_languages is not None:
            return self.test_languages
        return self.languages


def item_files(config: ItemsConfig) -> dict[str, tuple[Path, ...]]:
    """The files of each ``split/language`` asked for; their content is part of the identity.

    What is named on the Hub is fetched first, unless it was before.

    Raises:
        ConfigError: no pattern at all.
        DataError: a language has no file, with the languages that have one.
        ResourceError: the Hub can't be reached.
    """
    files: dict[str, tuple[Path, ...]] = {}
    for split, pattern in config.patterns.items():
        found = {
            language: find_paths(pattern.replace("{language}", language), config)
            for language in config.split_languages(split)
        }
        for language, paths in found.items():
            if not paths:
                others = ", ".join(name for name, some in found.items() if some) or "none"
                raise DataError(
                    f"no {split} file for language {language!r} (found for: {others})",
                    place=pattern.replace("{language}", language),
                    cure="Check the path, or take the language out of the items' languages.",
                )
            files[f"{split}/{language}"] = paths
    if not files:
        raise ConfigError("items name no files", cure="Give train, dev or test a path.")
    return files


class Sources(Protocol):
    """How splits of the Hub are fetched: part of the settings of items and of questions."""

    @property
    def offline(self) -> bool: ...  # noqa: D102
    @property
    def hub_cache(self) -> Path: ...  # noqa: D102
    @property
    def hub_mirror(self) -> Path | None: ...  # noqa: D102


def find_paths(pattern: str, sources: Sources) -> tuple[Path, ...]:
    """The files of a pattern in which only ``*`` is left open; a split of the Hub is fetched.

    Raises:
        ConfigError, DataError, ResourceError: as :func:`fetch_split`.
    """
    if pattern.startswith(PREFIX):
        return (
            fetch_split(
                HubSplit.parse(pattern),
                sources.hub_cache.expanduser(),
                offline=sources.offline,
                mirror=sources.hub_mirror and sources.hub_mirror.expanduser(),
            ),
        )
    path = Path(pattern)
    if path.is_file():
        return (path,)
    anchor = Path(path.anchor) if path.is_absolute() else Path()
    relative = path.relative_to(path.anchor) if path.is_absolute() else path
    return tuple(sorted(item for item in anchor.glob(str(relative)) if item.is_file()))


def load_items(config: ItemsConfig) -> pa.Table:
    """Read, limit and check the items.

    Returns:
        A table of :data:`ITEMS_SCHEMA`: train, then dev, then test; languages as configured; rows
        as in the files. ``item`` is the file's own item column where it has one, else split and
        row number, which pair the languages as XNLI's files do.

    Raises:
        ConfigError, DataError: as :func:`item_files`, :func:`read_nli` and :func:`check_items`.
    """
    parts = []
    for name, paths in item_files(config).items():
        split, language = name.split("/", 1)
        rows = [row for path in paths for row in read_nli(path, language)]
        parts.append(_table(rows, split, language))
    # Checked before limiting, or a file cut short in one language would only show as other items.
    everything = pa.concat_tables(parts)
    check_items(everything)
    limited = [_limit(part, getattr(config, f"{part['split'][0].as_py()}_limit")) for part in parts]
    return pa.concat_tables(limited).combine_chunks()


def check_items(items: pa.Table) -> None:
    """Refuse items that would give wrong or incomparable accuracies.

    Raises:
        DataError: other columns than :data:`ITEMS_SCHEMA`; a label outside 0, 1, 2; in dev or
            test an item twice in a language, or languages with unequal item counts, other items,
            or another gold label for the same item.
    """
    if not items.schema.equals(ITEMS_SCHEMA):
        raise DataError(f"items have the columns {items.schema}, not {ITEMS_SCHEMA}")
    labels = items["label"].to_numpy()
    wrong = np.flatnonzero((labels < 0) | (labels >= len(LABELS)))
    if len(wrong):
        row = items.slice(int(wrong[0]), 1).to_pylist()[0]
        raise DataError(
            f"label {row['label']} is none of 0, 1, 2", place=f"{row['language']} {row['item']}"
        )
    # Nothing is told apart by a training item's name, so those need be neither unique nor parallel.
    for split in ("dev", "test"):
        of_split = items.filter(pc.equal(items["split"], split))
        golds = {
            language: _gold_by_item(of_split, split, language)
            for language in of_split["language"].unique().to_pylist()
        }
        _check_parallel(golds, split)


def items_facts(items: pa.Table) -> dict[str, Any]:
    """Counts of items and label shares by ``split/language``, for the record."""
    facts: dict[str, Any] = {}
    keys = items.select(["split", "language"]).group_by(["split", "language"]).aggregate([])
    for key in keys.to_pylist():
        labels = _where(items, key["split"], key["language"])["label"].to_numpy()
        shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
        facts[f"{key['split']}/{key['language']}"] = {
            "items": len(labels),
            "label_shares": [round(float(share), 4) for share in shares],
        }
    return facts


def hash_order(names: Sequence[str], salt: str) -> np.ndarray:
    """Row numbers in the order of a salted hash of each name: the same whatever the row order."""
    keys = [hashlib.blake2b(f"{salt}\0{name}".encode(), digest_size=8).digest() for name in names]
    return np.asarray(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _table(rows: Sequence[NliRow], split: str, language: str) -> pa.Table:
    width = len(str(len(rows)))
    return pa.table(
        {
            "item": [
                f"{split}-{number:0{width}d}" if row.item is None else row.item
                for number, row in enumerate(rows)
            ],
            "split": [split] * len(rows),
            "language": [language] * len(rows),
            "premise": [row.premise for row in rows],
            "hypothesis": [row.hypothesis for row in rows],
            "label": [row.label for row in rows],
        },
        schema=ITEMS_SCHEMA,
    )


def _limit(part: pa.Table, limit: int | None) -> pa.Table:
    if limit is None or limit >= len(part):
        return part
    chosen = hash_order(part["item"].to_pylist(), "limit")[:limit]
    return part.take(np.sort(chosen))


def _where(items: pa.Table, split: str, language: str) -> pa.Table:
    return items.filter(
        pc.and_(pc.equal(items["split"], split), pc.equal(items["language"], language))
    )


def _gold_by_item(of_split: pa.Table, split: str, language: str) -> dict[str, int]:
    rows = of_split.filter(pc.equal(of_split["language"], language))
    golds: dict[str, int] = {}
    for item, label in zip(rows["item"].to_pylist(), rows["label"].to_pylist(), strict=True):
        if item in golds:
            raise DataError(
                f"item {item!r} is there twice", place=f"{split} items of language {language}"
            )
        golds[item] = label
    return golds


def _check_parallel(golds: dict[str, dict[str, int]], split: str) -> None:
    if len({len(labels) for labels in golds.values()}) > 1:
        counts = ", ".join(f"{language} {len(labels)}" for language, labels in golds.items())
        raise DataError(
            f"languages have unequal numbers of items ({counts})",
            place=f"{split} items",
            cure="Every language must have the same items, or paired comparisons mean nothing.",
        )
    languages = list(golds)
    for language in languages[1:]:
        first, other = golds[languages[0]], golds[language]
        if first == other:
            continue
        for item, label in first.items():
            if other.get(item) != label:
                has = f"label {LABELS[other[item]]}" if item in other else "no such item"
                raise DataError(
                    f"item {item!r} has label {LABELS[label]} in {languages[0]} but {has} in"
                    f" {language}",
                    place=f"{split} items",
                    cure="Check that the files are in the same row order and use the same labels.",
                )
