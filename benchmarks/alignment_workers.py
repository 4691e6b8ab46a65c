"""What travels between the aligner's workers, what two gain, and a model of many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from weam_ray.alignment import AlignmentConfig, align_encoded, em
from weam_ray.alignment.encoding import Side, by_frequency
from weam_ray.alignment.files import read_side
from weam_ray.alignment.interning import Vocabulary
from weam_ray.alignment.shard import Shard
from weam_ray.alignment.text import Text, cells_by_type, make_text, sorted_in_runs
from weam_ray.on_ray.cluster import ray_runtime

CONFIG = AlignmentConfig.model_validate(
    {"casefold": False, "symmetrisation": "grow-diag-final-and"}
)
NETWORK = 1e9 / 8
"""Bytes a second between machines, in the model."""


def _sides(folder: Path) -> tuple[Side, Side]:
    source, target = (
        by_frequency(read_side(folder / name, Vocabulary()))[0] for name in ("source", "target")
    )
    return source, target


def traffic_rows(folders: dict[int, Path]) -> Iterator[str]:
    """Bytes counted with two Ray actors; both directions together."""
    yield (
        "| pairs | source types, both directions | down, bytes an iteration and pair | up |"
        " once, source side to a node, bytes a pair | once, records | once, links back |"
    )
    yield "|---" * 7 + "|"
    with ray_runtime(cpus=2):
        from weam_ray.on_ray.alignment import Crew

        for size, folder in folders.items():
            with Crew(2) as crew:
                align_encoded(*_sides(folder), CONFIG, hire=crew)
            ways = crew.traffic
            down = sum(np.mean(way.down) for way in ways) / size
            up = sum(np.mean(way.up) for way in ways) / size
            once = [
                sum(getattr(way, name) for way in ways) / size
                for name in ("ground", "records", "links")
            ]
            yield (
                f"| {size:,} | {', '.join(f'{way.source_types:,}' for way in ways)} | {down:.1f} |"
                f" {up:.1f} | " + " | ".join(f"{value:.0f}" for value in once) + " |"
            )


def speed_rows(folder: Path, repeats: int) -> Iterator[str]:
    """Wall time of EM alone, one and two workers by turns."""
    sides = _sides(folder)
    seconds: dict[tuple[str, int], list[float]] = {}
    with ray_runtime(cpus=2):
        from weam_ray.on_ray.alignment import Crew

        for _ in range(repeats):
            for workers in (1, 2):
                began = time.monotonic()
                align_encoded(*sides, CONFIG, threads=workers)
                seconds.setdefault(("threads", workers), []).append(time.monotonic() - began)
                with Crew(workers) as crew:
                    crew.assemble(0)
                    began = time.monotonic()
                    align_encoded(*sides, CONFIG, hire=crew)
                    seconds.setdefault(("Ray actors", workers), []).append(time.monotonic() - began)
    yield f"EM and joining of {len(sides[0]):,} pairs, medians of {repeats}; actors started before."
    yield ""
    yield "| workers | wall s with 1 | with 2 | speed-up | efficiency |"
    yield "|---|---|---|---|---|"
    for kind in ("threads", "Ray actors"):
        one, two = (np.median(seconds[kind, workers]) for workers in (1, 2))
        yield f"| {kind} | {one:.2f} | {two:.2f} | {one / two:.2f} | {one / two / 2:.0%} |"


class _Timed:
    """A team whose work is timed, which in a cluster is what workers share."""

    def __init__(self, team: em.Team) -> None:
        self._team = team
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._team, name)

        def timed(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            answer = method(*given, **named)
            self.seconds += time.process_time() - began
            return answer

        return timed


def model_rows(folder: Path, counts: tuple[int, ...] = (2, 16, 128)) -> Iterator[str]:
    """From one process' times, the split of cells and the words that each shard meets."""
    sides = _sides(folder)
    timed: list[_Timed] = []

    @contextmanager
    def hire(text: Text, config: AlignmentConfig) -> Iterator[Any]:
        timed.append(_Timed(em.Threads(text, config)))
        yield timed[-1]

    began = time.process_time()
    align_encoded(*sides, CONFIG, hire=hire)
    whole = time.process_time() - began
    shared = sum(team.seconds for team in timed)
    yield (
        f"**A model, not a measurement**: {len(sides[0]):,} pairs, {whole:.1f} s CPU in one"
        f" process, of which {shared:.1f} s are the workers' part and the rest is the"
        " coordinator's. Workers take their largest shard's share of cells; what travels takes"
        " its bytes at 1 Gbit/s through the coordinator, a machine a worker, the source"
        " side sent on by receivers (log2 of the workers' number rounds)."
    )
    yield ""
    yield (
        "| workers | largest shard, times the mean | words met, mean share |"
        " bytes an iteration and pair | modelled s | of which network | speed-up | efficiency |"
    )
    yield "|---" * 8 + "|"
    alone = None
    for count in (1, *counts):
        ways = [_split(*pair, count) for pair in (sides, sides[::-1])]
        largest = float(np.mean([way["largest"] for way in ways]))
        met = float(np.mean([way["met"] for way in ways]))
        per_iteration = sum(way["bytes"] for way in ways)
        rounds = np.ceil(np.log2(count)) if count > 1 else 0
        network = 0.0
        if count > 1:
            once = sum(way["ground"] * rounds + way["records"] + way["links"] for way in ways)
            network = (once + (CONFIG.iterations - 2) * per_iteration) / NETWORK
        seconds = whole - shared + shared * largest / count + network
        alone = alone or seconds
        yield (
            f"| {count} | {largest:.2f} | {met:.0%} | {per_iteration / len(sides[0]):.1f} |"
            f" {seconds:.1f} | {network:.1f} | {alone / seconds:.1f} |"
            f" {alone / seconds / count:.0%} |"
        )


def _split(source: Side, target: Side, count: int) -> dict[str, float]:
    text, _ = make_text(source, target, CONFIG.max_words)
    cells = cells_by_type(text)
    met, shares, records = [], [], 0
    for first, last in em.split_types(cells, count):
        runs = list(sorted_in_runs(text, cells, first, last, len(target.tokens) + 1))
        met.append(len(Shard(text.ground, runs, CONFIG).source_words()))
        shares.append(float(cells[first:last].sum() / cells.sum()))
        records += sum(run.nbytes for run in runs)
    return {
        "largest": max(shares) * count,
        "met": float(np.mean(met)) / (source.types + 1),
        "bytes": 16.0 * sum(met),
        "ground": float(text.ground.nbytes),
        "records": float(records),
        "links": 2.0 * len(target.tokens),
    }
