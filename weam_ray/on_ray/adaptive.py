"""The cells of an adaptive study as a source of jobs: each is chosen when there is room for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import pandas as pd

from weam_ray.artifacts import Store
from weam_ray.on_ray.jobs import CellJob, Job, PlannedJobs, Shape
from weam_ray.study.adaptive import (
    AdaptiveConfig,
    Candidate,
    Curve,
    Observation,
    Point,
    Slope,
    observe,
    point_of,
    rank,
    slopes,
)
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell, CellKey
from weam_ray.study.ledger import result_rows, study_view
from weam_ray.study.plan import Plan
from weam_ray.study.results import BASELINE, tidy_rows
from weam_ray.study.tasks import source_language


class AdaptiveJobs(PlannedJobs):
    """What cells share and the cells without bitext first, then one cell with bitext at a time.

    Args:
        study: with an ``adaptive``.
        plan: as the store stands.
        jobs: what cells share.
        store: where cells are, or will be.
        beside: as for :class:`PlannedJobs`.
    """

    def __init__(
        self,
        study: StudyConfig,
        plan: Plan,
        jobs: Sequence[Job],
        store: Store,
        *,
        beside: float | None = None,
    ) -> None:
        super().__init__(jobs, store, beside=beside)
        assert study.adaptive is not None
        self._config: AdaptiveConfig = study.adaptive
        self._study = study
        self._view = study_view(study)
        waiting = {cell.key for cell in plan.cells_to_run}
        self._rows = _rows([cell for cell in plan.cells if cell.key not in waiting], store)
        self._curves = sorted({_point(cell).curve for cell in plan.cells if cell.key.pair})
        self._candidates: dict[Candidate, CellJob] = {}
        self._cells: dict[str, CellJob] = {}
        self._pending: dict[str, Candidate] = {}

    def add(self, items: Sequence[CellJob]) -> None:
        """Cells without bitext are run in any case; the others may be chosen."""
        self._cells |= {item.job.name: item for item in items}
        chosen = [item for item in items if any(cell.key.pair for cell in item.cells)]
        with self._lock:
            self._candidates |= {tuple(map(_point, item.cells)): item for item in chosen}
        super().add([item for item in items if item not in chosen])

    def take(self, shape: Shape | None) -> Job | None:
        """What all build on, then the cell that tells most."""
        job = super().take(shape)
        # Gains need the cells without bitext: what those say of the noise decides what is next.
        if job is not None or self._waiting or self.budget_is_spent():
            return job
        pending = [point for one in self._pending.values() for point in one]
        with self._lock:
            ready = [
                candidate
                for candidate, item in self._candidates.items()
                if item.job.needs <= self._made and shape in (None, item.job.shape)
            ]
            if not ready:
                return None
            best = rank(self.observations(), pending, ready, self._config)[0].candidate
            item = self._candidates.pop(best)
        self._pending[item.job.name] = best
        return item.job

    def exhausted(self) -> bool:
        """Whether the budget is spent, or nothing is left to choose."""
        return super().exhausted() and (not self._candidates or self.budget_is_spent())

    def ended(self, job: Job, error: str | None) -> None:
        """Note what a cell said; one that failed is not chosen again."""
        super().ended(job, error)
        self._pending.pop(job.name, None)
        if error is None and job.name in self._cells:
            rows = _rows(self._cells[job.name].cells, self._store)
            self._rows = pd.concat([self._rows, rows], ignore_index=True)

    def hopeless(self, idle: bool) -> Iterator[tuple[Job, str]]:
        """Take out and return what needs something that failed, candidates too."""
        yield from super().hopeless(idle)
        with self._lock:
            lost = {
                candidate: item.job
                for candidate, item in self._candidates.items()
                if not item.job.needs.isdisjoint(self._lost)
            }
            for candidate in lost:
                del self._candidates[candidate]
        for job in lost.values():
            yield job, self._reason(job)

    def _wanted(self) -> set[str]:
        return super()._wanted() | {
            need for item in self._candidates.values() for need in item.job.needs
        }

    def budget_is_spent(self) -> bool:
        """Whether no further cell is to be chosen, those that run counted in."""
        config, done = self._config, self._rows
        running = sum(len(one) for one in self._pending.values())
        bitext = done[done["pair"] != ""].drop_duplicates("cell")
        if config.cells is not None and len(bitext) + running >= config.cells:
            return True
        if config.hours is not None and float(bitext["seconds"].sum()) >= config.hours * 3600:
            return True
        if config.half_width is None or not len(bitext):
            return False
        return all(one.half_width <= config.half_width for one in self.slopes().values())

    def observations(self) -> list[Observation]:
        """Gains of the finished cells."""
        rows = self._view.of(self._rows)
        source = source_language(self._study, self._view.task)
        return observe(rows, BASELINE, source)

    def slopes(self) -> dict[Curve, Slope]:
        """Every curve's slope so far."""
        return slopes(self.observations(), self._curves, self._config)

    def summary(self) -> str:
        """How many cells were chosen, and how well the slopes are known by them."""
        done = self._rows[self._rows["pair"] != ""].drop_duplicates("cell")
        lines = [f"adaptive: {len(done)} cells with bitext have been run"]
        for curve, one in self.slopes().items():
            name = " ".join(filter(None, (curve.domain, curve.pair, curve.method, curve.rest)))
            lines.append(
                f"  {name}: {100 * one.value:+.2f} points a doubling, ± {100 * one.half_width:.2f}"
            )
        return "\n".join(lines)


def is_settled(study: StudyConfig, plan: Plan, store: Store) -> bool:
    """Whether nothing of a plan is to be run, though cells may be missing: the budget is spent."""
    if study.adaptive is None or not plan.missing:
        return not plan.missing
    if any(not cell.key.pair for cell in plan.cells_to_run):
        return False
    return not plan.cells_to_run or AdaptiveJobs(study, plan, (), store).budget_is_spent()


def only_chosen(plan: Plan, failed: Collection[CellKey]) -> Plan:
    """The plan without the cells that nobody chose."""
    waiting = {cell.key for cell in plan.cells_to_run if cell.key.pair and cell.key not in failed}
    return replace(plan, cells=tuple(cell for cell in plan.cells if cell.key not in waiting))


def _rows(cells: Sequence[Cell], store: Store) -> pd.DataFrame:
    return tidy_rows(result_rows(cells, store))


def _point(cell: Cell) -> Point:
    return point_of({**cell.key.factors(), "method": cell.key.reported_method})
