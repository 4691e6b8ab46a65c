"""Where the aligner's CPU time goes, stage by stage, in one process with one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from alignment_peers import METHOD

from weam_ray.alignment import AlignmentConfig, align, command, em, shard, text
from weam_ray.alignment.diagonal import Shapes
from weam_ray.alignment.shard import Shard

STAGES: tuple[tuple[str, Any, str], ...] = (
    ("read, number words", command, "_read"),
    ("shapes, diagonal prior", align, "make_text"),
    ("shapes, diagonal prior", Shapes, "prior"),
    ("sort words by type", em, "cells_by_type"),
    ("sort words by type", text, "sort_records"),
    ("who meets whom", Shard, "discover"),
    ("iteration 1: totals", text.Text, "first_totals"),
    ("iterations 1 and 2: counts", Shard, "_begin"),
    ("iterations 3 and 4: counts", Shard, "_count"),
    ("counts to weights", shard, "_weights"),
    ("tension", em.Coordinator, "_optimise_tension"),
    ("iteration 5: links", Shard, "links"),
    ("back in the order of text", em, "in_order_of_text"),
    ("join, write", command, "_write"),
)
"""A stage, and what does it; what is called inside another one counts for itself only."""

CELL_STAGES = {
    "who meets whom": 1,
    "iterations 1 and 2: counts": 2,
    "iterations 3 and 4: counts": 4,
    "iteration 5: links": 2,
}
"""Stages whose time grows with cells (pairs of a source and a target word of one line), and how
often a run goes through them: the second direction has the first one's word on who meets whom."""


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            begun = time.process_time()
            try:
                return function(*given, **options)
            finally:
                took = time.process_time() - begun
                own = took - self._inner.pop()
                self._inner[-1] += took
                self.seconds[stage] = self.seconds.get(stage, 0.0) + own

        return run


def profile_rows(folder: Path, cells: int) -> Iterator[str]:
    """A row a stage, the longest first; of one run, after one that warms up."""
    clock, total = _Clock(), 0.0
    for _ in range(2):
        clock = _Clock()
        with ExitStack() as stack:
            for stage, owner, name in STAGES:
                run = clock.timed(stage, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, run))
            begun = time.process_time()
            command.run_align(
                source=folder / "source",
                target=folder / "target",
                output=folder / "profiled",
                config=AlignmentConfig.model_validate(
                    {"casefold": False, "symmetrisation": METHOD}
                ),
                say=lambda _: None,
            )
            total = time.process_time() - begun
    clock.seconds["all else"] = total - sum(clock.seconds.values())
    yield "| stage | CPU s | share | ns a cell |"
    yield "|---|---|---|---|"
    for stage, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        times = CELL_STAGES.get(stage)
        each = f"{seconds / cells / times * 1e9:.1f}" if times else ""
        yield f"| {stage} | {seconds:.2f} | {seconds / total:.0%} | {each} |"
    yield f"| in all | {total:.2f} | | |"
