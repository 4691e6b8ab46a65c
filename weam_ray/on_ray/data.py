"""Corpora in parallel with Ray Data: read, clean and align, once each, before the grid.

The outputs stand at the addresses that the plain functions of ``weam_ray.experiment`` would give
them, with the same content: how many blocks or workers there were is seen in no file but, for
corpora that are spread over workers, ``record.json``.
"""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray

from weam_ray.artifacts import Artifact, Resources, Step, Store, Work, ensure
from weam_ray.corpus import clean_block, finish_corpus, read_blocks, write_corpus
from weam_ray.corpus.config import CorpusConfig
from weam_ray.errors import WeamError
from weam_ray.experiment import MAKERS, LinksStep, contamination_index, make_links
from weam_ray.on_ray.alignment import Crew
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
        # A quarter of a CPU each: readers of several files at once, and not fused into the
        # cleaning, so that one long file is cleaned by all workers. Together one CPU: where no more
        # is free, a reader that holds its part while it waits for the cleaning leaves it enough.
        .map_batches(
            _read, batch_size=1, batch_format="pyarrow", fn_args=(list(steps), store), num_cpus=0.25
        )
        .map_batches(
            _clean,
            batch_size=1,
            batch_format="pyarrow",
            fn_args=(list(steps), store),
            num_cpus=0.75,
        )
    )
    found: dict[int, Blocks] = defaultdict(lambda: ([], Counter()))
    for row in _rows(dataset):
        tables, counts = found[row["corpus"]]
        tables.append(_from_bytes(row["block"]))
        counts.update(dict(zip(row["reasons"], row["dropped"], strict=True)))
    return [found[place] for place in range(len(steps))]


def _rows(dataset: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """What the workers made.

    What a worker refuses travels as a row: raised there, Ray Data would log its traceback.
    """
    for row in dataset.iter_rows():
        if row["refused"]:
            raise pickle.loads(row["refused"])
        yield row


def _read(batch: pa.Table, steps: list[Step], store: Store) -> Iterator[pa.Table]:
    for place in batch["corpus"].to_pylist():
        try:
            store.bring_inputs(steps[place].config)
            for block in read_blocks(_config(steps[place]), block_rows=_BLOCK_ROWS):
                yield _block_row(place, block=_to_bytes(block))
        except WeamError as error:
            yield _block_row(place, refused=pickle.dumps(error))


def _block_row(place: int, *, block: bytes = b"", refused: bytes = b"") -> pa.Table:
    return pa.table({"corpus": [place], "block": [block], "refused": [refused]})


def _clean(batch: pa.Table, steps: list[Step], store: Store) -> pa.Table:
    (row,) = batch.to_pylist()
    dropped: Counter[str] = Counter()
    if not row["refused"]:
        step = steps[row["corpus"]]
        try:
            index = contamination_index(_config(step), _finished(step, store))
            table, dropped = clean_block(_from_bytes(row["block"]), _config(step), index)
            row["block"] = _to_bytes(table)
        except WeamError as error:
            row["refused"] = pickle.dumps(error)
    return pa.table(
        {
            **{name: [value] for name, value in row.items()},
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

    store.make(step, finish, _finished(step, store))


def _finished(step: Step, store: Store) -> dict[str, Artifact]:
    found = {name: store.find(needed) for name, needed in step.upstream.items()}
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def align_corpora(
    steps: Sequence[Step],
    store: Store,
    report: Report = silent,
    *,
    pairs_per_worker: int = 1_000_000,
    cpus: int | None = None,
) -> None:
    """Word-align corpora that are in the store.

    Those of up to ``pairs_per_worker`` pairs take one CPU each, all CPUs at once. Larger ones
    follow, one after the other, each spread over as many workers as its pairs ask for, or as there
    are ``cpus`` (None: all of the cluster's); their facts also tell of the workers.

    Raises:
        WeamError: what :func:`weam_ray.alignment.align_table` and :class:`.alignment.Crew` raise.
    """
    missing = [step for step in steps if store.find(step) is None]
    wanted = {step.address: -(-_pairs(step, store) // pairs_per_worker) for step in missing}
    small = [step for step in missing if wanted[step.address] <= 1]
    done = 0
    if small:
        dataset = (
            ray.data.from_items([{"links": place} for place in range(len(small))])
            .repartition(len(small))
            .map_batches(_align, batch_size=1, fn_args=(small, store))
        )
        for done, _ in enumerate(_rows(dataset), 1):
            report(Progress(stage="links", done=done, total=len(missing)))
    for step in missing:
        if wanted[step.address] > 1:
            _align_spread(step, store, min(wanted[step.address], cpus or _all_cpus()))
            done += 1
            report(Progress(stage="links", done=done, total=len(missing)))


def _pairs(step: Step, store: Store) -> int:
    assert isinstance(step.config, LinksStep)
    corpus = store.find(step.upstream["corpus"])
    pairs = 0 if corpus is None else int(corpus.facts["rows_kept"])
    return pairs if step.config.size is None else min(pairs, step.config.size)


def _all_cpus() -> int:
    return int(sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))


def _align_spread(step: Step, store: Store, workers: int) -> None:
    with Crew(max(1, workers)) as crew:

        def make(work: Work) -> None:
            make_links(work, hire=crew)
            work.facts["workers"] = crew.facts()

        ensure(step, store, {**MAKERS, "links": make})


def _align(batch: dict[str, Any], steps: list[Step], store: Store) -> dict[str, Any]:
    (place,) = batch["links"]
    refused = b""
    try:
        ensure(steps[int(place)], store, MAKERS, resources=Resources(threads=1))
    except WeamError as error:
        refused = pickle.dumps(error)
    return {**batch, "refused": [refused]}


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
