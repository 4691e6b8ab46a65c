"""The finished corpus: each pair once, in an order that no file order or worker count changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.corpus.config import CorpusConfig
from weam_ray.corpus.words import spans_to_words
from weam_ray.errors import DataError

_FLAT = pa.list_(pa.int32())

PAIRS_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.uint64()),
        pa.field("source", pa.string()),
        pa.field("target", pa.string()),
        pa.field("source_spans", _FLAT),
        pa.field("target_spans", _FLAT),
        pa.field("gold", _FLAT),
    ]
)
"""``pairs.parquet``, described in docs/design.md."""

PAIRS_FILE = "pairs.parquet"
_BUCKET_ROWS = 500_000


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Clean pairs (:data:`PAIRS_SCHEMA`), each once, sorted by ``pair_id``, and the account."""

    table: pa.Table
    dropped: Mapping[str, int]
    """Pairs dropped, by reason; ``rows_read`` is these and the rows of the table."""
    rows_read: int


def finish_corpus(
    blocks: Iterable[pa.Table], dropped: Mapping[str, int], config: CorpusConfig
) -> Corpus:
    """The blocks' pairs, each once and sorted, whatever the blocks' order and sizes.

    Args:
        blocks: what :func:`weam_ray.corpus.cleaning.clean_block` returned for every block.
        dropped: its counts, summed over the blocks.
        config: names the corpus if it is empty.

    Raises:
        DataError: no pair is left; the counts are named.
    """
    ordered = [block.take(np.argsort(block["pair_id"].to_numpy())) for block in blocks]
    rows = sum(len(block) for block in ordered)
    counts = Counter(dropped)
    if rows == 0:
        raise _empty(config, counts)
    table = pa.concat_tables(_merged(ordered, rows))
    if duplicates := rows - len(table):
        counts["duplicate"] += duplicates
    return Corpus(table=table, dropped=dict(counts), rows_read=len(table) + counts.total())


def _merged(ordered: list[pa.Table], rows: int) -> list[pa.Table]:
    """Sorted blocks merged range by range: no array grows past what its 32-bit offsets can say."""
    hashes = [block["pair_id"].to_numpy() for block in ordered]
    buckets = -(-rows // _BUCKET_ROWS)
    # Hashes are uniform, so equal ranges of them hold about equally many pairs.
    edges = [(2**64 * bucket) // buckets for bucket in range(1, buckets)]
    cuts = [
        [0, *np.searchsorted(ids, np.array(edges, dtype=np.uint64)).tolist(), len(ids)]
        for ids in hashes
    ]
    return [
        _each_once(
            pa.concat_tables(
                block.slice(cut[bucket], cut[bucket + 1] - cut[bucket])
                for block, cut in zip(ordered, cuts, strict=True)
            ).combine_chunks()
        )
        for bucket in range(buckets)
    ]


def _each_once(table: pa.Table) -> pa.Table:
    ids = table["pair_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    first = np.ones(len(ids), bool)
    first[1:] = ids[1:] != ids[:-1]
    starts = np.flatnonzero(first)
    if len(starts) < len(ids) and table["gold"].null_count < len(table):
        _settle_gold(table["gold"].to_pylist(), order, starts)
    return table.take(order[starts])


def _settle_gold(
    gold: list[list[int] | None], order: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
) -> None:
    # Copies of a pair may disagree about its links. Which copy came first depends on the order of
    # blocks, so the one with the most links wins, and among these the smallest.
    ends = [*starts[1:].tolist(), len(order)]
    for start, end in zip(starts.tolist(), ends, strict=True):
        if end - start > 1:
            order[start] = min(
                order[start:end].tolist(),
                key=lambda row: (-len(gold[row] or ()), gold[row] or []),
            )


def _empty(config: CorpusConfig, counts: Counter[str]) -> DataError:
    place = " and ".join(str(path) for path in (config.source, config.target) if path)
    if not counts:
        return DataError("there are no lines.", place=place, cure="Check the file.")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
    return DataError(
        f"no pair is left of {counts.total():,} after cleaning ({reasons}).",
        place=place,
        cure="Check that both sides are in the languages named, or relax the cleaning rules.",
    )


def write_corpus(corpus: Corpus, out: Path) -> dict[str, Any]:
    """Write ``pairs.parquet`` into ``out`` and return the facts for its record."""
    pq.write_table(corpus.table, out / PAIRS_FILE, compression="zstd", row_group_size=100_000)
    facts: dict[str, Any] = {
        "rows_read": corpus.rows_read,
        "rows_kept": len(corpus.table),
        "dropped": dict(sorted(corpus.dropped.items(), key=lambda item: (-item[1], item[0]))),
    }
    for side in ("source", "target"):
        words, distinct = _count_words(corpus.table, side)
        facts[f"{side}_words"] = words
        facts[f"{side}_words_mean"] = round(words / len(corpus.table), 3)
        facts[f"{side}_vocabulary"] = distinct
    return facts


def _count_words(table: pa.Table, side: str) -> tuple[int, int]:
    total = 0
    distinct: set[str] = set()
    for batch in table.select([side, f"{side}_spans"]).to_batches(max_chunksize=10_000):
        texts, spans = (column.to_pylist() for column in batch.columns)
        for text, cut in zip(texts, spans, strict=True):
            total += len(cut) // 2
            distinct.update(spans_to_words(text, cut))
    return total, len(distinct)


def read_corpus(folder: Path) -> pa.Table:
    """The pairs that :func:`write_corpus` wrote."""
    return pq.read_table(folder / PAIRS_FILE, schema=PAIRS_SCHEMA)
