"""Items as subwords, made once per vocabulary and read by every fine-tuning run that shares it.

Shapes: N items, T subwords of all items together. Storage is by column (offsets into one array),
so a million items are two arrays and not a million objects.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.items import check_items

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokens.parquet"
_CHUNK = 8192
_PAD = b"weam.pad"
_KEPT = ["item", "split", "language", "label"]


@dataclass(frozen=True, eq=False)
class TokenisedItems:
    """N items with their subwords; rows keep the order of the items they were made from."""

    rows: pa.Table
    """item, split, language (strings), passage (int32: which premise) and label (int8): (N,)."""

    ids: NDArray[np.int32]
    """Subwords with special tokens, item after item: (T,)."""

    types: NDArray[np.uint8] | None
    """Segment of each subword, (T,); None where the tokenizer has no segments (XLM-R)."""

    offsets: NDArray[np.int64]
    """Item n is ``ids[offsets[n]:offsets[n + 1]]``: (N + 1,)."""

    pad: int
    """The padding subword."""

    truncated: int
    """Items that lost subwords to ``max_length``."""

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Subwords of each item: (N,)."""
        return np.diff(self.offsets)

    @property
    def labels(self) -> NDArray[np.int8]:
        """Gold labels: (N,)."""
        return np.asarray(self.rows["label"].to_numpy(), dtype=np.int8)

    def column(self, name: str) -> NDArray[np.object_]:
        """``item``, ``split``, ``language`` or ``passage`` of each item: (N,)."""
        return np.asarray(self.rows[name].to_pylist(), dtype=object)

    def among(self, languages: Collection[str]) -> NDArray[np.bool_]:
        """True where an item's language is one of these: (N,)."""
        return np.isin(self.column("language"), np.asarray(sorted(languages), object))

    @property
    def units(self) -> NDArray[np.int64]:
        """The item of each row, which is the row itself: (N,)."""
        return np.arange(len(self))

    def write(self, folder: Path) -> None:
        """Write ``tokens.parquet``, from which :meth:`read` makes the same object."""
        table = self.rows.append_column("ids", _lists(self.offsets, self.ids))
        if self.types is not None:
            table = table.append_column("types", _lists(self.offsets, self.types))
        metadata = {_PAD: str(self.pad), b"weam.truncated": str(self.truncated)}
        pq.write_table(table.replace_schema_metadata(metadata), folder / FILE, compression="zstd")

    @classmethod
    def read(cls, folder: Path) -> TokenisedItems:
        """Read what :meth:`write` wrote.

        Raises:
            DataError: the file is missing or was written by something else.
        """
        path = folder / FILE
        if not path.is_file():
            raise DataError("no tokenised items here", place=str(path))
        table = pq.read_table(path).combine_chunks()
        metadata = table.schema.metadata or {}
        if _PAD not in metadata:
            raise DataError("these are no tokenised items", place=str(path))
        # Copies, because arrow's buffers are read-only and torch takes none of those.
        offsets, ids = (array.copy() for array in _flat(table["ids"], np.int32))
        types = _flat(table["types"], np.uint8)[1].copy() if "types" in table.column_names else None
        rows = table.select([*_KEPT, "passage"]).replace_schema_metadata(None)
        return cls(
            rows=rows,
            ids=ids.astype(np.int32, copy=False),
            types=None if types is None else types.astype(np.uint8, copy=False),
            offsets=offsets,
            pad=int(metadata[_PAD]),
            truncated=int(metadata[b"weam.truncated"]),
        )


def tokenise_items(items: pa.Table, tokenizer_dir: Path, max_length: int) -> TokenisedItems:
    """Tokenise premise and hypothesis of each item as one input, as the encoder's tokenizer does.

    Args:
        items: rows of items.parquet.
        tokenizer_dir: a folder that ``AutoTokenizer`` opens.
        max_length: longest input in subwords; the longer side gives way first.

    Raises:
        DataError: no tokenizer there, or items that :func:`check_items` refuses.
        ConfigError: ``max_length`` is above what the tokenizer says the encoder can take.
    """
    check_items(items)
    tokenizer = open_tokenizer(tokenizer_dir)
    if max_length > tokenizer.model_max_length:
        raise ConfigError(
            f"max_length {max_length} is above the encoder's {tokenizer.model_max_length}",
            place="transfer.max_length",
            cure=f"Set it to {tokenizer.model_max_length} or less.",
        )
    premises, hypotheses = items["premise"].to_pylist(), items["hypothesis"].to_pylist()
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.uint8]] = []
    lengths: list[int] = []
    truncated = 0
    for start in range(0, len(premises), _CHUNK):
        stop = start + _CHUNK
        chunk = _encode(tokenizer, premises[start:stop], hypotheses[start:stop], max_length)
        ids += chunk.ids
        types += chunk.types
        lengths += [len(one) for one in chunk.ids]
        truncated += chunk.truncated
    return TokenisedItems(
        rows=with_passages(items.select(_KEPT), items["premise"]),
        ids=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        types=np.concatenate(types) if types else None,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        pad=int(tokenizer.pad_token_id),
        truncated=truncated,
    )


def with_passages(rows: pa.Table, texts: pa.ChunkedArray) -> pa.Table:
    """The rows with a column ``passage``: a number for each different text, int32.

    XNLI asks three hypotheses of each premise, MLQA several questions of each context: of such
    items one may not be trained on while another is tested.
    """
    numbers = texts.combine_chunks().dictionary_encode().indices
    return rows.combine_chunks().append_column("passage", numbers)


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of an encoder folder.

    Raises:
        DataError: nothing that ``AutoTokenizer`` opens, no fast tokenizer, or no padding token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"no tokenizer here ({error})", place=str(folder)) from error
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise DataError(
            "the tokenizer is not a fast one with a padding token",
            place=str(folder),
            cure="Save the encoder with a tokenizer.json that has a padding token.",
        )
    return tokenizer


@dataclass(frozen=True)
class _Chunk:
    ids: list[NDArray[np.int32]]
    types: list[NDArray[np.uint8]]
    truncated: int


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    premises: Sequence[str],
    hypotheses: Sequence[str],
    max_length: int,
) -> _Chunk:
    encoded: Any = tokenizer(
        list(premises), list(hypotheses), truncation="longest_first", max_length=max_length
    )
    return _Chunk(
        ids=[np.asarray(one, dtype=np.int32) for one in encoded["input_ids"]],
        types=[np.asarray(one, dtype=np.uint8) for one in encoded.get("token_type_ids", [])],
        truncated=sum(1 for one in encoded.encodings if one.overflowing),
    )


def _lists(offsets: NDArray[np.int64], values: NDArray[Any]) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _flat(column: pa.ChunkedArray, kind: type[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    array = pa.concat_arrays(column.chunks)
    offsets = np.asarray(array.offsets, dtype=np.int64)
    values = np.asarray(array.flatten(), dtype=kind)
    return offsets - offsets[0], values
