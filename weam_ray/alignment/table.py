"""The links step of a study: pairs.parquet in, links.parquet and facts out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weam_ray.alignment import memory
from weam_ray.alignment.align import Alignment, align_encoded
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.em import Hire, threads_of
from weam_ray.alignment.encoding import Side
from weam_ray.alignment.links import Links
from weam_ray.alignment.quality import aer
from weam_ray.alignment.spans import encode_spans
from weam_ray.alignment.spilling import shelf_of
from weam_ray.errors import DataError
from weam_ray.progress import Report, silent

LINKS_SCHEMA = pa.schema([("pair_id", pa.uint64()), ("links", pa.list_(pa.int32()))])


def align_table(
    pairs: pa.Table,
    config: AlignmentConfig,
    *,
    threads: int = 1,
    hire: Hire | None = None,
    report: Report = silent,
) -> tuple[pa.Table, dict[str, Any]]:
    """Align the words of a table of pairs.

    Args:
        pairs: columns of ``pairs.parquet``; of ``gold``, where there is one, an error rate is made.
        hire: another team than ``threads`` of this process; the links are the same.

    Returns:
        The table of ``links.parquet``, row by row as ``pairs``, and facts as JSON values: pairs,
        words and how many of them are linked, links per word, tensions, perplexities, pairs that
        could not be aligned by reason, and ``aer`` (None without gold).

    Raises:
        DataError: columns are missing, or spans that don't fit the text.
        ResourceError: not enough memory, and not enough disk for work files instead.
    """
    needed = ("pair_id", "source", "target", "source_spans", "target_spans")
    if missing := [name for name in needed if name not in pairs.column_names]:
        raise DataError(f"a table of pairs without {', '.join(missing)}")
    source, target = (
        encode_spans(pairs[side], pairs[f"{side}_spans"], config.casefold, side)
        for side in ("source", "target")
    )
    folder = Path(tempfile.gettempdir())
    options = memory.layouts(source, target, config, threads=threads)
    layout = memory.choose(options, memory.available(), folder)
    with shelf_of(not layout.on_disk, folder) as shelf:
        hire = hire or threads_of(threads=threads, shelf=shelf)
        alignment = align_encoded(source, target, config, hire=hire, report=report)
    table = pa.table(
        [pairs["pair_id"].combine_chunks(), alignment.links.to_arrow()], schema=LINKS_SCHEMA
    )
    return table, {**_facts(alignment, source, target), "aer": _aer(alignment.links, pairs)}


def _facts(alignment: Alignment, source: Side, target: Side) -> dict[str, Any]:
    links = alignment.links
    words = {"source": len(source.tokens), "target": len(target.tokens)}
    pair = np.repeat(np.arange(len(links)), links.counts)
    linked = {
        "source": len(np.unique(source.starts[pair] + links.source)),
        "target": len(np.unique(target.starts[pair] + links.target)),
    }
    return {
        "pairs": len(links),
        "words": words,
        "types": {"source": source.types, "target": target.types},
        "links": len(links.source),
        "linked_share": {side: linked[side] / max(1, words[side]) for side in words},
        "links_per_target_word": len(links.source) / max(1, words["target"]),
        "unlinked_pairs": {
            **alignment.unlinked,
            "none_found": int((links.counts == 0).sum()) - sum(alignment.unlinked.values()),
        },
        "tension": alignment.tensions,
        "perplexity": {
            name: [step.perplexity for step in steps] for name, steps in alignment.history.items()
        },
    }


def _aer(links: Links, pairs: pa.Table) -> dict[str, float] | None:
    if "gold" not in pairs.column_names:
        return None
    column = pairs["gold"].combine_chunks()
    known = np.flatnonzero(np.asarray(column.is_valid()))
    if not len(known):
        return None
    gold = Links.from_arrow(column.take(pa.array(known)))
    return aer(links.select(known), _sorted(gold)).facts()


def _sorted(links: Links) -> Links:
    pair = np.repeat(np.arange(len(links)), links.counts)
    order = np.lexsort((links.target, links.source, pair))
    return Links(links.offsets, links.source[order], links.target[order])
