"""Result rows of a study and, beside them, which items each cell got right.

A row is one cell x task x language x split x selection x system. Everything the report says is
computed from these rows and from the predictions files they point at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from weam_ray.corpus.languages import primary_language
from weam_ray.errors import DataError

BASELINE = "none"
"""The method without bitext: the base encoder fine-tuned as it is."""
REFERENCE_METHODS = frozenset({"random"})
"""Methods shown as reference lines (an untrained encoder), never as competitors."""
NOT_APPLICABLE = -1
"""A seed that a cell does not have: ``none`` has no subset seed."""

FACTORS = ("domain", "pair", "size", "method", "regime")
SEEDS = ("subset_seed", "pretraining_seed", "finetuning_seed")

ROW_COLUMNS: Mapping[str, str] = {
    "cell": "str",  # address of the cell's transfer artifact, unique per cell
    "domain": "str",  # "" where no bitext is used
    "pair": "str",  # "en-qaa"; "" where no bitext is used
    "size": "int64",  # sentence pairs; 0 = no bitext
    "method": "str",  # none, tlm, weam, weam-shuffled-links, random, ...
    "regime": "str",  # what the aligner learnt from: "subset", "pool"; "" where no links are used
    "budget": "str",  # "8000 steps", "1 epoch"; "" = the study's own; the method names it too
    "subset_seed": "int64",
    "pretraining_seed": "int64",
    "finetuning_seed": "int64",
    "task": "str",  # "xnli", "mlqa", "xquad", ...
    "setting": "str",  # "zero-shot", "translate-train"
    "language": "str",  # of an answer's context; "de-en": asked in English
    "split": "str",  # "dev", "test"
    "selection": "str",  # checkpoint rule: "last", "source-dev", "target-dev-oracle"
    "system": "str",  # "encoder"; diagnostics may add others ("encoder-centred")
    "metric": "str",  # "accuracy"; of answers "exact_match" and "f1"
    "value": "float64",  # mean over items, 0-1
    "n": "int64",  # items
    "share_0": "float64",  # predicted share of each class, 0-1
    "share_1": "float64",
    "share_2": "float64",
    "steps": "int64",  # pre-training steps the cell saw
    "epochs": "float64",  # passes over its bitext
    "seconds": "float64",  # the cell's own wall time
    "predictions": "str",  # path of predictions.parquet, relative to the store's root
}
_OPTIONAL: Mapping[str, str | int | float] = {
    "regime": "",
    "budget": "",
    "setting": "zero-shot",
    "system": "encoder",
    "metric": "accuracy",
    "share_0": float("nan"),
    "share_1": float("nan"),
    "share_2": float("nan"),
    "steps": 0,
    "epochs": 0.0,
    "seconds": 0.0,
    "predictions": "",
}


def tidy_rows(rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows with exactly the columns of :data:`ROW_COLUMNS`, typed; optional ones filled in.

    Raises:
        DataError: a required column is missing, a value has the wrong type, or two rows claim
            to be the same measurement.
    """
    frame = pd.DataFrame(rows) if not isinstance(rows, pd.DataFrame) else rows.copy()
    if frame.empty:
        frame = pd.DataFrame(columns=list(ROW_COLUMNS))
    for column, default in _OPTIONAL.items():
        if column not in frame:
            frame[column] = default
    missing = [column for column in ROW_COLUMNS if column not in frame]
    if missing:
        raise DataError(
            f"result rows lack {', '.join(missing)}", cure="See ROW_COLUMNS in study/results.py."
        )
    try:
        frame = frame[list(ROW_COLUMNS)].astype(dict(ROW_COLUMNS)).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"a result row has a value of the wrong type: {error}") from None
    key = ["cell", "task", "setting", "language", "split", "selection", "system", "metric"]
    double = frame[frame.duplicated(key)]
    if len(double):
        first = double.iloc[0]
        raise DataError(
            f"two result rows for {first['language']} {first['split']} {first['selection']}",
            place=str(first["cell"]),
            cure="A cell is counted once: remove the double before analysing.",
        )
    return frame


@dataclass(frozen=True, kw_only=True, order=True)
class View:
    """Which measurement of a cell is looked at: everything but factors and language."""

    task: str = "nli"
    setting: str = "zero-shot"
    split: str = "test"
    selection: str = "source-dev"
    system: str = "encoder"
    metric: str = "accuracy"

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of this view."""
        kept = np.ones(len(rows), bool)
        for column in ("task", "setting", "split", "selection", "system", "metric"):
            kept &= (rows[column] == getattr(self, column)).to_numpy(bool)
        return rows[kept]


Key = tuple[str, str, str, str, str]
"""(cell, task, language, split, selection)."""


@dataclass(kw_only=True)
class Correctness:
    """Right (1), wrong (0) or not asked (-1) per item, one int8 array a cell and language.

    Items keep one position per (task, split) in every array, whatever the order in their file:
    that is what pairs two systems, and what lets languages share an item.
    """

    arrays: dict[Key, NDArray[np.int8]] = field(default_factory=dict)
    positions: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    _layouts: dict[bytes, _Layout] = field(default_factory=dict, repr=False)
    """By what the files hold, and by their bytes."""

    def add(self, cell: str, path: Path) -> None:
        """Read one predictions.parquet.

        Raises:
            DataError: the file is missing or is not a predictions file, or an item is there twice.
        """
        try:
            with _opened(path) as (file, pages):
                layout = self._layout(file, pages, path)
                right = _right(file)
        except FileNotFoundError:
            raise DataError(
                "no such predictions file",
                place=str(path),
                cure="Run the same sweep again: it makes what is missing.",
            ) from None
        except (pa.ArrowInvalid, KeyError) as error:
            raise DataError(f"not a predictions file: {error}", place=str(path)) from None
        for (task, language, split, selection), rows, places in layout:
            array = np.full(len(self.positions[task, split]), -1, np.int8)
            array[places] = right[rows]
            self.arrays[cell, task, language, split, selection] = array

    def _layout(self, file: pq.ParquetFile, pages: memoryview, path: Path) -> _Layout:
        # Cells of a study list the same items in the same order, and mostly in the same bytes. So
        # the expensive part, decoding strings and sorting out what they say, is done once per
        # distinct file, and the latter once per distinct order, not once per cell.
        mark = _mark(file, pages, _CODED)
        if mark not in self._layouts:
            table = file.read(columns=list(_CODED), use_threads=False)
            self._layouts[mark] = self._sorted_out(table, path)
        return self._layouts[mark]

    def _sorted_out(self, table: pa.Table, path: Path) -> _Layout:
        codes = {name: _codes(table[name]) for name in _CODED}
        mark = hashlib.blake2b(digest_size=16)
        for values, indices in codes.values():
            mark.update("\0".join(values).encode())
            mark.update(indices.tobytes())
        if (known := self._layouts.get(mark.digest())) is not None:
            return known
        items, item_codes = codes["item"]
        layout = []
        stacked = np.stack([codes[name][1] for name in _GROUP])  # (group columns, rows)
        groups, which = np.unique(stacked, axis=1, return_inverse=True)
        for number, group in enumerate(groups.T):
            rows = np.flatnonzero(which.reshape(-1) == number)
            task, language, split, selection = (
                codes[name][0][code] for name, code in zip(_GROUP, group, strict=True)
            )
            known_items = self.positions.setdefault((task, split), {})
            places = np.array(
                [known_items.setdefault(items[c], len(known_items)) for c in item_codes[rows]],
                np.int64,
            )
            if len(np.unique(places)) < len(places):
                raise DataError(
                    f"an item of {language} {split} is predicted twice under {selection}",
                    place=str(path),
                )
            layout.append(((task, language, split, selection), rows, places))
        self._layouts[mark.digest()] = layout
        return layout

    def get(self, cell: str, language: str, view: View) -> NDArray[np.int8] | None:
        """The array of shape (items of the view's task and split,), or None."""
        array = self.arrays.get((cell, view.task, language, view.split, view.selection))
        if array is None:
            return None
        total = len(self.positions.get((view.task, view.split), ())) or len(array)
        if len(array) < total:  # a later file brought items that this cell was never asked
            array = np.concatenate([array, np.full(total - len(array), -1, np.int8)])
        return array


def small_table(path: Path) -> pa.Table:
    """A small parquet file, one of thousands.

    Much quicker than read_table. From memory, for Arrow hands the reading of a file to another
    thread, and waiting for that takes longer than all else on a machine that is busy.
    """
    with pq.ParquetFile(pa.BufferReader(path.read_bytes())) as file:
        return file.read(use_threads=False)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pq.ParquetFile, memoryview]]:
    """A parquet file and its bytes, of which only what is looked at is read."""
    with pa.memory_map(str(path)) as mapped:
        data = mapped.read_buffer()
        with pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(_CODED)) as file:
            yield file, memoryview(data)


def _mark(file: pq.ParquetFile, data: memoryview, names: Sequence[str]) -> bytes:
    """A hash of some columns by their types and their pages as the file has them: where it is the
    same the columns are.

    Raises:
        KeyError: there is no such column.
    """
    mark = hashlib.blake2b(digest_size=16)
    schema, metadata = file.schema, file.metadata
    places = {name: place for place, name in enumerate(schema.names)}
    for group in (metadata.row_group(place) for place in range(metadata.num_row_groups)):
        for name in names:
            column, levels = group.column(places[name]), schema.column(places[name])
            start = column.dictionary_page_offset or column.data_page_offset
            how = (levels.max_definition_level, column.physical_type, column.compression)
            mark.update(f"{name} {how} {column.num_values} {column.total_compressed_size}".encode())
            mark.update(data[start : start + column.total_compressed_size])
    return mark.digest()


def _right(file: pq.ParquetFile) -> NDArray[np.bool_]:
    """Whether each item's label is the gold one, or its answer one of the gold answers."""
    judged = ["exact_match"] if "exact_match" in file.schema_arrow.names else list(_LABELS)
    table = file.read(columns=judged, use_threads=False)
    if len(judged) == 1:
        return np.asarray(np.asarray(table["exact_match"]) > 0.5)
    return np.asarray(np.asarray(table["gold"]) == np.asarray(table["predicted"]))


_Index = NDArray[np.int64]
_Layout = list[tuple[tuple[str, str, str, str], _Index, _Index]]
"""(task, language, split, selection) with the rows of a file and their items' positions."""
_LABELS = ("gold", "predicted")
_GROUP = ("task", "language", "split", "selection")
_CODED = (*_GROUP, "item")


def _codes(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    return [str(v) for v in array.dictionary.to_pylist()], np.asarray(array.indices, np.int32)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The rows of a study and the items behind them."""

    rows: pd.DataFrame
    correct: Correctness = field(default_factory=Correctness)

    @classmethod
    def read(cls, rows: pd.DataFrame | Sequence[Mapping[str, object]], root: Path) -> Results:
        """Tidy ``rows`` and read every predictions file they name, relative to ``root``.

        Raises:
            DataError: see :func:`tidy_rows` and :meth:`Correctness.add`.
        """
        frame = tidy_rows(rows)
        correct = Correctness()
        files = frame[frame["predictions"] != ""][["cell", "predictions"]].drop_duplicates()
        for cell, path in files.itertuples(index=False):
            correct.add(str(cell), root / str(path))
        return cls(rows=frame, correct=correct)

    def view(self, view: View) -> pd.DataFrame:
        """The rows of one view."""
        return view.of(self.rows)


def target_languages(
    pair: str, source: str, scored: Collection[str] = frozenset()
) -> tuple[str, ...]:
    """The languages of a pair other than the source: ``("qaa",)`` of ``en-qaa``.

    Several pairs trained on together are written ``en-qaa+en-qab``; no pair ("") has none.

    Args:
        scored: languages as the results name them: corpora write ``zh_cn`` where items say ``zh``.
    """
    sides = (side for one in pair.split("+") for side in one.split("-"))
    others = dict.fromkeys(side for side in sides if side and side != source)
    return tuple(dict.fromkeys(_as_scored(side, scored) for side in others))


def _as_scored(language: str, scored: Collection[str]) -> str:
    if not scored or language in scored:
        return language
    primary = _primary(language)
    return primary if primary in scored else language


_primary = cache(primary_language)
