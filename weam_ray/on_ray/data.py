"""Corpora in parallel with Ray Data: read, clean and align, once each, before the grid.

The outputs stand at the addresses that the plain functions of ``weam_ray.experiment`` would give
them, with the same content: how many blocks or workers there were is seen in neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from weam_ray.artifacts import Artifact, Resources, Step, Store, Work, ensure
from weam_ray.corpus import clean_block, finish_corpus, read_blocks, write_corpus
from weam_ray.corpus.config import CorpusConfig
from weam_ray.experiment import MAKERS, contamination_index
from weam_ray.progress import Progress, Report, silent

_BLOCK_ROWS = 5_000


def build_corpora(steps: Sequence[Step], store: Store, report: Report = silent) -> list[Artifact]:
    """Read and clean bitexts, in blocks over all workers; what is in the store is left alone.

    Every step's items must be in the store.

    Raises:
        DataError: a file is malformed, or nothing of a corpus is left after cleaning.
    """
    missing = [step for step in steps if store.find(step) is None]
    if missing:
        cleaned = _cleaned_blocks(missing, store)
        for done, (step, (blocks, counts)) in enumerate(zip(missing, cleaned, strict=True), 1):
            _store_corpus(step, store, blocks, counts)
            report(Progress(stage="corpus", done=done, total=len(missing)))
    return [artifact for step in steps if (artifact := store.find(step)) is not None]


Blocks = tuple[list[pa.Table], Counter[str]]


def _cleaned_blocks(steps: Sequence[Step], store: Store) -> list[Blocks]:
    dataset = (
        ray.data.from_items([{"corpus": place} for place in range(len(steps))])
        .repartition(len(steps))
        # Half a CPU each: readers of several files at once, and not fused into the cleaning, so
        # that one long file is cleaned by all workers.
        .map_batches(
            _read, batch_size=1, batch_format="pyarrow", fn_args=(list(steps),), num_cpus=0.5
        )
        .map_batches(
            _clean, batch_size=1, batch_format="pyarrow", fn_args=(list(steps), store.root)
        )
    )
    found: dict[int, Blocks] = defaultdict(lambda: ([], Counter()))
    for row in dataset.iter_rows():
        tables, counts = found[row["corpus"]]
        tables.append(_from_bytes(row["block"]))
        counts.update(dict(zip(row["reasons"], row["dropped"], strict=True)))
    return [found[place] for place in range(len(steps))]


def _read(batch: pa.Table, steps: list[Step]) -> Iterator[pa.Table]:
    for place in batch["corpus"].to_pylist():
        for block in read_blocks(_config(steps[place]), block_rows=_BLOCK_ROWS):
            yield pa.table({"corpus": [place], "block": [_to_bytes(block)]})


def _clean(batch: pa.Table, steps: list[Step], root: Path) -> pa.Table:
    (place,), (data,) = batch["corpus"].to_pylist(), batch["block"].to_pylist()
    config = _config(steps[place])
    items = steps[place].upstream.get("items")
    index = contamination_index(config, None if items is None else Store(root).find(items))
    table, dropped = clean_block(_from_bytes(data), config, index)
    return pa.table(
        {
            "corpus": [place],
            "block": [_to_bytes(table)],
            "reasons": pa.array([list(dropped)], pa.list_(pa.string())),
            "dropped": pa.array([list(dropped.values())], pa.list_(pa.int64())),
        }
    )


def _config(step: Step) -> CorpusConfig:
    assert isinstance(step.config, CorpusConfig)
    return step.config


def _store_corpus(step: Step, store: Store, blocks: list[pa.Table], dropped: Counter[str]) -> None:
    def finish(work: Work) -> None:
        corpus = finish_corpus(blocks, dropped, _config(step))
        work.facts.update(write_corpus(corpus, work.out))

    upstream = {
        name: artifact
        for name, needed in step.upstream.items()
        if (artifact := store.find(needed)) is not None
    }
    store.make(step, finish, upstream)


def align_corpora(steps: Sequence[Step], store: Store, report: Report = silent) -> None:
    """Word-align corpora that are in the store, one CPU a corpus, all CPUs at once.

    Raises:
        WeamError: what :func:`weam_ray.alignment.align_table` raises.
    """
    missing = [step for step in steps if store.find(step) is None]
    if not missing:
        return
    dataset = (
        ray.data.from_items([{"links": place} for place in range(len(missing))])
        .repartition(len(missing))
        .map_batches(_align, batch_size=1, fn_args=(missing, store.root))
    )
    for done, _ in enumerate(dataset.iter_rows(), 1):
        report(Progress(stage="links", done=done, total=len(missing)))


def _align(batch: dict[str, Any], steps: list[Step], root: Path) -> dict[str, Any]:
    for place in batch["links"]:
        ensure(steps[int(place)], Store(root), MAKERS, resources=Resources(threads=1))
    return batch


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
