"""What a study needs, what of it the store holds, and why each of the rest will run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from weam_ray.artifacts import Step, Store
from weam_ray.collecting import uncollected
from weam_ray.corpus.config import CorpusConfig
from weam_ray.corpus.counting import rows_at_most
from weam_ray.errors import ConfigError
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell, CellKey, Grid, Hole, Rows, expand, without_oversized


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a grid, each once, what comes first first."""

    cells: tuple[Cell, ...]
    holes: tuple[Hole, ...]
    steps: dict[str, Step]
    """By address."""
    missing: frozenset[str]
    """Addresses of the steps that will run."""
    excluded: tuple[int, ...] = ()
    """Points that each pattern of ``exclude`` left out."""

    @cached_property
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
        """What there is to do, in one line, and the holes of each reason in one more."""
        run = len(self.cells_to_run)
        cells = _count(len(self.cells), "cell")
        parts = [f"{cells}: {len(self.cells) - run} done, {run} to run"]
        if self.holes:
            parts.append(_count(len(self.holes), "hole"))
        if sum(self.excluded):
            parts.append(f"{sum(self.excluded)} excluded")
        stages = [f"{missing} {stage}" for stage, _, missing in self.stages() if missing]
        if stages:
            parts.append(f"stages to run: {', '.join(stages)}")
        return "\n".join(["; ".join(parts), *_hole_lines(self.holes)])

    def why(self, step: Step) -> str:
        """The reason a missing step runs."""
        first = {
            needed.stage for needed in step.upstream.values() if needed.address in self.missing
        }
        if first:
            return f"it builds on {', '.join(sorted(first))}, which will run"
        return "no output with these settings and inputs is in the store"


@uncollected()
def make_plan(study: StudyConfig, data_dir: Path | None, store: Store) -> Plan:
    """Look up every step of every cell; nothing is computed and nothing is written.

    Sizes beyond the rows of a corpus' files are holes, and so, as soon as it was cleaned, are those
    beyond the pairs it kept. A step that a finished cell was built on is not asked for again, even
    if it was cleared away.

    Raises:
        ConfigError, DataError: the study's files or settings can't be, or two of its cells are the
            same work under two names.
    """
    return _planned(expand(study, data_dir), store)


def renewed(plan: Plan, store: Store) -> Plan:
    """The same plan as the store stands now; the study's files are not read again.

    Raises:
        DataError: something in the store isn't what was written.
    """
    grid = Grid(cells=plan.cells, holes=plan.holes, excluded=plan.excluded)
    return _planned(grid, store)


def with_cells(plan: Plan, cells: Sequence[Cell], store: Store) -> Plan:
    """The plan with further cells behind its own; those it has already, by their work, stay out."""
    own = {cell.experiment.transfer.address for cell in plan.cells}
    new = [cell for cell in cells if cell.experiment.transfer.address not in own]
    grid = Grid(cells=(*plan.cells, *new), holes=plan.holes, excluded=plan.excluded)
    return _planned(grid, store) if new else plan


def _planned(grid: Grid, store: Store) -> Plan:
    with store.snapshot():
        return _look_up(grid, store)


def _look_up(grid: Grid, store: Store) -> Plan:
    known = _Known(store)
    grid = without_oversized(grid, _rows(grid, store))
    owners: dict[str, CellKey] = {}
    for cell in grid.cells:
        experiment = cell.experiment
        same = owners.setdefault(experiment.transfer.address, cell.key)
        if same != cell.key:
            raise ConfigError(
                f"cells {same.label} and {cell.key.label} are the same work under two names",
                place="methods",
                cure="Give the methods different settings, or keep one of them.",
            )
        for step in (*experiment.shared(), *experiment.ends()):
            known.add(step)
            known.need(step)
    return Plan(
        cells=grid.cells,
        holes=grid.holes,
        steps=known.steps,
        missing=frozenset(known.missing),
        excluded=grid.excluded,
    )


def refuse_empty(plan: Plan) -> None:
    """Raise when every cell is a hole.

    Raises:
        ConfigError: with the reason of the first.
    """
    if not plan.cells:
        reason = plan.holes[0].reason if plan.holes else "all are excluded"
        raise ConfigError(
            f"no cell of this study can be run: {reason}", cure="Check data_dir and the grid."
        )


class _Known:
    """Steps by address, each looked up in the store once however many cells share it."""

    def __init__(self, store: Store) -> None:
        self.steps: dict[str, Step] = {}
        self.missing: set[str] = set()
        self._store = store
        self._needed: set[str] = set()

    def add(self, step: Step) -> None:
        """Note a step and all it builds on, what comes first first."""
        if step.address not in self.steps:
            for needed in step.upstream.values():
                self.add(needed)
            self.steps[step.address] = step

    def need(self, step: Step) -> None:
        """Find out whether a step will run, and what of its upstream has to for it."""
        if step.address in self._needed:
            return
        self._needed.add(step.address)
        if self._store.find(step) is None:
            self.missing.add(step.address)
            for needed in step.upstream.values():
                self.need(needed)


def _rows(grid: Grid, store: Store) -> dict[str, Rows]:
    """Pairs of each corpus; of one that isn't cleaned yet, counted up to the largest size."""
    largest = max((cell.key.size for cell in grid.cells), default=0)
    known: dict[str, Rows] = {}
    corpora = {step.address: step for cell in grid.cells for step in cell.experiment.corpora}
    for address, step in corpora.items():
        if done := store.find(address):
            known[address] = Rows(count=int(done.facts["rows_kept"]), cleaned=True)
            continue
        assert isinstance(step.config, CorpusConfig)
        if (count := rows_at_most(step.config, largest)) is not None:
            known[address] = Rows(count=count, cleaned=False)
    return known


def _hole_lines(holes: tuple[Hole, ...]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for hole in holes:
        by_reason.setdefault(hole.reason, []).append(hole.key.label)
    return [
        f"hole: {labels[0]}{f' and {len(labels) - 1:,} more' if labels[1:] else ''}: {reason}"
        for reason, labels in by_reason.items()
    ]


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _ends(cell: Cell) -> set[str]:
    return {step.address for step in cell.experiment.ends()}
