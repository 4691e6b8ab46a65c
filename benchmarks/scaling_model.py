"""What a study would take on 1 to 256 GPUs with 1 million to 1 billion pairs: a model, not a run.

    python benchmarks/scaling_model.py --hosts /tmp/measured --write docs/scaling.md

It starts from what ``scaling_inputs.py`` measured on a machine without a GPU (:class:`Measured`).
What could not be measured, a GPU's step, prices, networks, is in :class:`Assumed`, each figure with
its source or formula. Cells are put on GPUs one by one, longest first; what comes before and beside
them is added. ``--hosts`` is what ``benchmarks/cluster.py speed`` kept: the model is checked
against it. It needs nothing of the package.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

INPUTS = Path(__file__).with_name("scaling_inputs.json")
MODEL = ("<!-- model -->", "<!-- end of model -->")
CHECK = ("<!-- check -->", "<!-- end of check -->")
GPUS = (1, 4, 16, 64, 256)
PAIRS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of this code on a CPU; a core is one of the machine that measured."""

    clean_seconds: float
    """Core-seconds to read, clean and order a pair."""
    align_seconds: float
    """Core-seconds to align a pair in both directions and join them."""
    raw_bytes: float
    """Bytes of a pair as text, both sides."""
    corpus_bytes: float
    """Bytes of a pair in pairs.parquet."""
    links_bytes: float
    """Bytes of a pair in links.parquet."""
    corpus_memory: float
    """Bytes of a pair in memory, as a worker that reads a corpus holds it."""
    align_memory: float
    """Bytes of a pair in memory while it is aligned, at the peak."""
    vocabulary: float
    """Word types of one side per square root of pairs: what machines exchange while aligning."""
    words: float
    """Words of a pair, both sides."""
    tracking_seconds: float
    """Seconds of the driver for a cell, in MLflow's SQLite."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Figures that were not measured; each says where it is from."""

    subwords: float = 1.4
    """Of a word, in a vocabulary for many languages: the usual range is 1.2 to 2."""
    cell_overhead: float = 0.2
    """Seconds between one cell and the next on one worker: 0.1 to 0.2 when it was looked at."""
    alignment_machines: int = 1
    """Machines that align one corpus together."""
    peak_flops: float = 121e12
    """A second, bf16 without sparsity: NVIDIA's data sheet of the L4."""
    utilisation: float = 0.35
    """Share of the peak that training reaches. Assumed; NVIDIA and others report 0.3 to 0.5 for
    encoders of this size. A GPU's step time is FLOPs / (peak_flops * utilisation)."""
    gpu_price: float = 0.98
    """Dollars an hour of one machine with one L4 and 8 vCPUs (AWS g6.2xlarge, Virginia, on
    demand, 2025). Spot is a half to a third of it."""
    head_price: float = 0.40
    """Dollars an hour of the head (m7i.2xlarge, 8 vCPUs)."""
    head_cores: int = 8
    """Cores that clean and align."""
    head_memory: float = 32 * 2.0**30
    worker_memory: float = 32 * 2.0**30
    """Bytes of a GPU machine's own memory (g6.2xlarge)."""
    storage_bandwidth: float = 1e9
    """Bytes a second that all machines together read and write: a shared file system with
    provisioned throughput. A bucket gives this to each machine."""
    network_bandwidth: float = 1.25e9
    """Bytes a second between two machines: 10 Gbit/s."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study of the paper's kind: methods and seeds at sizes up to all pairs."""

    pairs: int
    methods: int = 3
    """Of which each reads bilingual text at every size."""
    seeds: int = 3
    smallest: int = 1_000
    factor: int = 10
    """Between one size and the next."""
    epochs: float = 1.0
    """Passes over a cell's pairs."""
    layer_weights: float = 85e6
    """BERT-base: 12 layers of 768."""
    embedding_weights: float = 92e6
    """119,547 subwords of mBERT by 768."""
    vocabulary: int = 119_547
    masked: float = 0.15
    """Share of tokens whose word is predicted."""
    finetune_tokens: float = 393_000 * 2 * 45
    """XNLI's training items, two passes of 45 subwords."""
    evaluation_tokens: float = 15 * 7_500 * 45
    """Fifteen languages, development and test items."""
    batch_tokens: float = 32 * 128.0
    gpus_a_cell: int = 1
    """GPUs that train one encoder together."""

    @property
    def sizes(self) -> list[int]:
        """1k, 10k, … and all pairs."""
        sizes, size = [], self.smallest
        while size < self.pairs:
            sizes.append(size)
            size *= self.factor
        return [*sizes, self.pairs]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the model says of one study on one cluster."""

    gpus: int
    pairs: int
    cells: int
    seconds: Mapping[str, float]
    """Wall time of each part; they follow one another."""
    bounds: Mapping[str, float]
    """The least time that each resource alone would need, whatever the others do."""
    refused: tuple[str, ...]
    """What does not fit into a machine's memory."""
    dollars: float

    @property
    def hours(self) -> float:
        """Wall time of the whole study."""
        return sum(self.seconds.values()) / 3600

    @property
    def bottlenecks(self) -> tuple[str, str]:
        """The resource that takes longest, and the next."""
        ranked = sorted(self.bounds, key=lambda name: -self.bounds[name])
        return ranked[0], ranked[1]


def training_seconds(
    study: Study, tokens: float, predicted: float, assumed: Assumed, gpus: int
) -> float:
    """Time of forward and backward passes on ``gpus`` GPUs that share each batch.

    6 FLOPs a weight and token (Kaplan et al. 2020, section 2.1), the head's at predicted positions
    alone; then every step sums the gradients, fp32, in a ring.
    """
    flops = 6.0 * (tokens * study.layer_weights + predicted * study.embedding_weights)
    compute = flops / (assumed.peak_flops * assumed.utilisation * gpus)
    if gpus == 1:
        return compute
    steps = tokens / study.batch_tokens
    gradients = 4.0 * (study.layer_weights + study.embedding_weights)
    ring = 2.0 * gradients * (gpus - 1) / gpus / assumed.network_bandwidth
    return compute + steps * ring


def cell_seconds(study: Study, size: int, measured: Measured, assumed: Assumed) -> float:
    """Time of one cell on its GPUs: pre-training, fine-tuning, evaluation."""
    tokens = size * study.epochs * measured.words * assumed.subwords
    gpus = study.gpus_a_cell
    pretraining = training_seconds(study, tokens, tokens * study.masked, assumed, gpus)
    # Fine-tuning has no head over the vocabulary, and evaluation no backward pass: a third.
    transfer = study.finetune_tokens + study.evaluation_tokens / 3
    return assumed.cell_overhead + pretraining + training_seconds(study, transfer, 0.0, assumed, 1)


def schedule(jobs: Sequence[float], slots: int) -> float:
    """When the last job ends if each free slot takes the longest that is left."""
    free = [0.0] * slots
    end = 0.0
    for job in sorted(jobs, reverse=True):
        begun = heapq.heappop(free)
        heapq.heappush(free, begun + job)
        end = max(end, begun + job)
    return end


def simulate(study: Study, gpus: int, measured: Measured, assumed: Assumed) -> Outcome:
    """One study on one cluster."""
    cells = [
        cell_seconds(study, size, measured, assumed)
        for size in study.sizes
        for _ in range(study.methods * study.seeds)
    ]
    slots = max(1, gpus // study.gpus_a_cell)
    weights = 4.0 * (study.layer_weights + study.embedding_weights)
    a_pair = measured.corpus_bytes + measured.links_bytes
    # Each cell reads the base and its corpus, and writes an encoder.
    traffic = len(cells) * (2 * weights + study.pairs * a_pair)
    exchanged = 2 * 5 * 8.0 * measured.vocabulary * math.sqrt(study.pairs) * assumed.head_cores
    bounds = {
        "cleaning": study.pairs * measured.clean_seconds / assumed.head_cores,
        "alignment": study.pairs * measured.align_seconds / assumed.head_cores
        + exchanged / assumed.network_bandwidth,
        "GPUs": sum(cells) * study.gpus_a_cell / gpus,
        "the largest cell": max(cells),
        "storage": traffic / assumed.storage_bandwidth,
        "driver": len(cells) * measured.tracking_seconds,
    }
    grid = max(schedule(cells, slots), bounds["storage"], bounds["driver"])
    seconds = {"cleaning": bounds["cleaning"], "alignment": bounds["alignment"], "cells": grid}
    wall = sum(seconds.values()) / 3600
    return Outcome(
        gpus=gpus,
        pairs=study.pairs,
        cells=len(cells),
        seconds=seconds,
        bounds=bounds,
        refused=tuple(_refused(study, measured, assumed)),
        # Workers are started when cells wait for them, and end when none do.
        dollars=wall * assumed.head_price + grid / 3600 * gpus * assumed.gpu_price,
    )


def _refused(study: Study, measured: Measured, assumed: Assumed) -> Iterator[str]:
    wants = {
        "the head's memory (aligning)": (measured.align_memory, assumed.head_memory),
        "the head's memory (ordering the corpus)": (measured.corpus_memory, assumed.head_memory),
        "a worker's memory (reading the corpus)": (measured.corpus_memory, assumed.worker_memory),
    }
    for name, (a_pair, there) in wants.items():
        if study.pairs * a_pair > there:
            yield f"{name}: {study.pairs * a_pair / 2**30:,.0f} of {there / 2**30:,.0f} GiB"


def predicted_seconds(jobs: Sequence[float], slots: int, before: float) -> float:
    """The model's wall time of a sweep that was measured: what comes first, then its cells."""
    return before + schedule([job + Assumed().cell_overhead for job in jobs], slots)


def check(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """The model beside a sweep that was measured on one host and on two.

    What starts and ends a sweep is taken from the run on one host; the run on two is predicted.
    """
    one, two = hosts["hosts: 1"], hosts["hosts: 2"]
    shared, cells = sum(one["shared"].values()), one["cells"]
    around = one["seconds"] - predicted_seconds(cells, 1, shared)
    predicted = around + predicted_seconds(cells, 2, shared)
    off = predicted / two["seconds"] - 1
    return "\n".join(
        [
            "| | seconds |",
            "|---|---|",
            f"| one host, measured | {one['seconds']:.0f} |",
            f"| of these: what cells share, {len(cells)} cells | {shared:.0f}, {sum(cells):.0f} |",
            f"| start, end and all else | {around:.0f} |",
            f"| two hosts, predicted | {predicted:.0f} |",
            f"| two hosts, measured | {two['seconds']:.0f} (the model is off by {off:+.0%}) |",
        ]
    )


def load() -> tuple[Measured, dict[str, Any]]:
    """The measured inputs, and how they came about."""
    said = json.loads(INPUTS.read_text(encoding="utf8"))
    return Measured(**said["figures"]), said


def tables(measured: Measured, assumed: Assumed, said: Mapping[str, Any]) -> str:
    """The document's tables."""
    return "\n\n".join([_inputs(measured, assumed, said), _outcomes(measured, assumed)])


def _inputs(measured: Measured, assumed: Assumed, said: Mapping[str, Any]) -> str:
    rows = [
        f"Measured: `{said['command']}`, {said['pairs']:,} pairs,",
        f"{said['machine']}, {said['date']}.",
        "",
        "| measured | |",
        "|---|---|",
        f"| read and clean a pair | {measured.clean_seconds * 1e6:.0f} µs of a core |",
        f"| align a pair | {measured.align_seconds * 1e6:.0f} µs of a core |",
        f"| a pair as text | {measured.raw_bytes:.0f} bytes, {measured.words:.0f} words |",
        f"| in pairs.parquet | {measured.corpus_bytes:.0f} bytes |",
        f"| in links.parquet | {measured.links_bytes:.0f} bytes |",
        f"| in memory | {measured.corpus_memory:.0f} bytes |",
        f"| while it is aligned | {measured.align_memory:.0f} bytes |",
        f"| the driver, a cell, in MLflow | {measured.tracking_seconds:.2f} s |",
        "",
        "| assumed | |",
        "|---|---|",
    ]
    rows += [f"| `{one.name}` | {getattr(assumed, one.name):,g} |" for one in fields(assumed)]
    return "\n".join(rows)


def _outcomes(measured: Measured, assumed: Assumed) -> str:
    rows = [
        "| pairs | cells | GPUs | hours | dollars | first bottleneck | next | does not fit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pairs in PAIRS:
        for gpus in GPUS:
            found = simulate(Study(pairs=pairs), gpus, measured, assumed)
            first, second = found.bottlenecks
            refused = "; ".join(found.refused)
            rows.append(
                f"| {pairs:,} | {found.cells} | {gpus} | {found.hours:,.1f} | {found.dollars:,.0f}"
                f" | {first} | {second} | {refused} |"
            )
    return "\n".join(rows)


def between(document: str, marks: tuple[str, str], text: str) -> str:
    """The document with the text between its marks."""
    before, begin, rest = document.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise SystemExit(f"the document has no place for the tables: {marks[0]} … {marks[1]}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    """Put the tables between the marks of a document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, required=True)
    parser.add_argument("--hosts", type=Path, help="what benchmarks/cluster.py kept")
    parsed = parser.parse_args()
    measured, said = load()
    document = parsed.write.read_text(encoding="utf8")
    document = between(document, MODEL, tables(measured, Assumed(), said))
    if parsed.hosts is not None:
        lines = map(json.loads, parsed.hosts.read_text(encoding="utf8").splitlines())
        document = between(document, CHECK, check({line["name"]: line for line in lines}))
    parsed.write.write_text(document, encoding="utf8")


if __name__ == "__main__":
    main()
