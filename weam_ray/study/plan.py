"""What a study needs, what of it the store holds, and why each of the rest will run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from weam_ray.artifacts import Step, Store
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell, Grid, Hole, expand, without_oversized


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a grid, each once, what comes first first."""

    cells: tuple[Cell, ...]
    holes: tuple[Hole, ...]
    steps: dict[str, Step]
    """By address."""
    missing: frozenset[str]
    """Addresses of the steps that will run."""

    @property
    def cells_to_run(self) -> tuple[Cell, ...]:
        """The cells whose scores are not in the store, in the order of the grid."""
        return tuple(cell for cell in self.cells if not self.missing.isdisjoint(_ends(cell)))

    def stages(self) -> list[tuple[str, int, int]]:
        """(stage, steps, of these missing), in the order of first use."""
        total = Counter(step.stage for step in self.steps.values())
        missing = Counter(self.steps[address].stage for address in self.missing)
        return [(stage, count, missing[stage]) for stage, count in total.items()]

    def missing_of(self, stage: str) -> list[Step]:
        """The steps of one stage that will run."""
        return [
            step
            for address, step in self.steps.items()
            if address in self.missing and step.stage == stage
        ]

    def summary(self) -> str:
        """What there is to do, in one line, and each hole in one more."""
        run = len(self.cells_to_run)
        parts = [f"{len(self.cells)} cells: {len(self.cells) - run} done, {run} to run"]
        if self.holes:
            parts.append(f"{len(self.holes)} holes")
        stages = [f"{missing} {stage}" for stage, _, missing in self.stages() if missing]
        if stages:
            parts.append(f"stages to run: {', '.join(stages)}")
        holes = [f"hole: {hole.key.label}: {hole.reason}" for hole in self.holes]
        return "\n".join(["; ".join(parts), *holes])

    def why(self, step: Step) -> str:
        """The reason a missing step runs."""
        first = [
            needed.stage for needed in step.upstream.values() if needed.address in self.missing
        ]
        if first:
            return f"it builds on {', '.join(sorted(set(first)))}, which will run"
        return "no output with these settings and inputs is in the store"


def make_plan(study: StudyConfig, data_dir: Path | None, store: Store) -> Plan:
    """Look up every step of every cell; nothing is computed and nothing is written.

    Sizes that a corpus does not reach are holes as soon as the corpus has been counted. A step that
    a finished cell was built on is not asked for again, even if it was cleared away.

    Raises:
        ConfigError, DataError: the study's files or settings can't be.
    """
    grid = expand(study, data_dir)
    grid = without_oversized(grid, _pairs_kept(grid, store))
    steps: dict[str, Step] = {}
    missing: set[str] = set()
    for cell in grid.cells:
        for end in (*cell.experiment.ends(), *cell.experiment.shared()):
            for address, step in end.chain().items():
                steps.setdefault(address, step)
            missing.update(_unmade(end, store, missing))
    return Plan(cells=grid.cells, holes=grid.holes, steps=steps, missing=frozenset(missing))


def _pairs_kept(grid: Grid, store: Store) -> dict[str, int]:
    corpora = {step.address for cell in grid.cells for step in cell.experiment.corpora}
    found = {address: store.find(address) for address in corpora}
    return {address: int(done.facts["rows_kept"]) for address, done in found.items() if done}


def _ends(cell: Cell) -> set[str]:
    return {step.address for step in cell.experiment.ends()}


def _unmade(step: Step, store: Store, known: set[str]) -> set[str]:
    if step.address in known or store.find(step) is not None:
        return set()
    found = {step.address}
    for needed in step.upstream.values():
        found |= _unmade(needed, store, known)
    return found
