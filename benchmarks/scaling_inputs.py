"""Per-pair, per-byte and per-cell figures of this code on a CPU, for the scaling model.

    python -P benchmarks/scaling_inputs.py --source a.en.gz --target a.es.gz --languages en-es

CPU seconds of one process with one thread, memory as the kernel counts its peak. The result goes to
``benchmarks/scaling_inputs.json``, with where and when.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.alignment import AlignmentConfig, align_table
from weam_ray.artifacts import package_versions
from weam_ray.corpus import build_corpus, read_corpus, write_corpus
from weam_ray.corpus.config import CorpusConfig

INPUTS = Path(__file__).with_name("scaling_inputs.json")
_CELLS = 20


def measure(config: CorpusConfig) -> tuple[dict[str, float], int]:
    """The fields of the model's ``Measured``, and how many pairs are left after cleaning."""
    raw = sum(_plain_bytes(path) for path in config.files.values())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.process_time()
        facts = write_corpus(build_corpus(config), folder)
        clean = time.process_time() - begun
        read, kept = int(facts["rows_read"]), int(facts["rows_kept"])
        pairs = read_corpus(folder)
        align_table(pairs.slice(0, 100), AlignmentConfig(), threads=1)  # loads the kernels
        before = _peak_bytes()
        begun = time.process_time()
        links, _ = align_table(pairs, AlignmentConfig(), threads=1)
        align = time.process_time() - begun
        peak = _peak_bytes() - before
        pq.write_table(links, folder / "links.parquet", compression="zstd")
        words = facts["source_words"] + facts["target_words"]
        figures = dict(
            clean_seconds=clean / read,
            align_seconds=align / kept,
            raw_bytes=raw / read,
            corpus_bytes=(folder / "pairs.parquet").stat().st_size / kept,
            links_bytes=(folder / "links.parquet").stat().st_size / kept,
            corpus_memory=pairs.nbytes / kept,
            align_memory=(peak + pairs.nbytes) / kept,
            vocabulary=facts["source_vocabulary"] / kept**0.5,
            words=words / kept,
            tracking_seconds=_tracking_seconds(folder),
        )
    return figures, kept


def _plain_bytes(path: Path) -> int:
    with pa.input_stream(str(path)) as stream:  # unpacks .gz by its name
        return len(stream.read())


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tracking_seconds(folder: Path) -> float:
    """Of the driver, for a cell in MLflow's SQLite: two curves of 40 points, scores, two files."""
    from weam_ray.on_ray.mlflow_runs import CellFacts, CellOutcome, CurvePoint, StudyRuns

    files = [folder / "predictions.parquet", folder / "record.json"]
    for file in files:
        file.write_bytes(bytes(50_000))
    curves = [
        CurvePoint(f"{stage}/loss", 1.0, step)
        for stage in ("pretraining", "finetuning")
        for step in range(40)
    ]
    scores = {f"accuracy/{language}": 0.5 for language in "abcdefghijklmno"}
    outcome = CellOutcome(curves=curves, scores=scores, files=files)
    place = f"sqlite:///{folder / 'mlflow.db'}"
    runs = StudyRuns.open(place, "cells", {}, folder / "mlflow")
    runs.begin()
    begun = time.monotonic()
    for number in range(_CELLS):
        factors = {"size": number, "method": "weam", "seed": 0}
        cell = CellFacts(address=f"transfer/{number}", name=f"cell {number}", factors=factors)
        runs.start_cell(cell)
        runs.finish_cell(cell, outcome)
    taken = time.monotonic() - begun
    runs.end("FINISHED")
    return taken / _CELLS


def main() -> None:
    """Measure, and write the inputs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--languages", required=True, help="as en-es")
    parsed = parser.parse_args()
    source, _, target = parsed.languages.partition("-")
    figures, pairs = measure(
        CorpusConfig(
            domain="measured",
            source_language=source,
            target_language=target,
            source=parsed.source,
            target=parsed.target,
        )
    )
    versions = package_versions()
    where = f"{os.cpu_count()} cores, {platform.machine()}, Python {versions['python']}"
    said = {
        "command": f"python -P benchmarks/scaling_inputs.py --languages {parsed.languages}"
        f" --source {parsed.source.name} --target {parsed.target.name}",
        "pairs": pairs,
        "machine": f"{where}, numpy {versions['numpy']}, numba {versions['numba']}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "figures": figures,
    }
    INPUTS.write_text(json.dumps(said, indent=1) + "\n", encoding="utf8")
    print(INPUTS.read_text(encoding="utf8"))


if __name__ == "__main__":
    main()
