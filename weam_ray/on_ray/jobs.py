"""What a plan lacks, as jobs: first what cells share, then the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weam_ray.artifacts import Step
from weam_ray.study.config import ResourcesConfig
from weam_ray.study.grid import Cell
from weam_ray.study.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Job:
    """Steps that one worker makes one after the other."""

    name: str
    """Unique in its run; names the log file."""
    steps: tuple[Step, ...]
    threads: int = 1
    """CPU threads; of each worker where there are several."""
    gpus: float = 0.0
    """Of each worker."""
    workers: int = 1
    """Above one, the encoder is trained by so many Ray Train workers."""

    @property
    def shape(self) -> tuple[int, int, float]:
        """Jobs of one shape are placed alike."""
        return self.workers, self.threads, self.gpus


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """Cells that one worker runs one after the other, because they share an encoder."""

    job: Job
    cells: tuple[Cell, ...]


def shared_jobs(plan: Plan, resources: ResourcesConfig) -> list[Job]:
    """Base encoders with their vocabularies and tokenised items, and the sanity rows."""
    missing = [plan.steps[address] for address in plan.missing]
    jobs = [
        Job(
            name=f"shared.base.{_tail(base)}",
            steps=(base, *(step for step in missing if _tokens_of(step, base))),
            threads=resources.base_threads,
        )
        for base in missing
        if base.stage == "base"
    ]
    taken = {step.address for job in jobs for step in job.steps}
    jobs += [
        Job(name=f"shared.{step.stage}.{_tail(step)}", steps=(step,))
        for step in missing
        if step.stage in ("tokens", "sanity") and step.address not in taken
    ]
    return sorted(jobs, key=lambda job: job.name)


def _tokens_of(step: Step, base: Step) -> bool:
    # Without a vocabulary of its own the base brings the tokenizer.
    return step.stage == "tokens" and step.upstream["tokenizer"].address == base.address


def _tail(step: Step) -> str:
    return step.address.rpartition("/")[2][:8]


def cell_jobs(plan: Plan, resources: ResourcesConfig) -> list[CellJob]:
    """The cells that are not done, those with one pre-trained encoder together.

    Two workers that wanted the same encoder would only wait for each other. Cells that fine-tune
    the shared base itself wait for nothing and go each on its own.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in plan.cells_to_run:
        experiment = cell.experiment
        own = experiment.encoder is experiment.base
        alone = experiment.transfer if own else experiment.encoder
        groups.setdefault(alone.address, []).append(cell)
    return [_cell_job(cells, resources) for cells in groups.values()]


def _cell_job(cells: Sequence[Cell], resources: ResourcesConfig) -> CellJob:
    steps = {step.address: step for cell in cells for step in cell.experiment.ends()}
    job = Job(
        name=cells[0].key.label,
        steps=tuple(steps.values()),
        threads=resources.cell_threads,
        gpus=resources.cell_gpus,
        workers=resources.cell_workers,
    )
    return CellJob(job=job, cells=tuple(cells))
