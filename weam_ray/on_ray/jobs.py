"""What a plan lacks, as jobs, and the queue that hands them out in an order that waits for no one.

A job holds its CPUs and GPUs from start to end, so it is handed out only when what it builds on is
in the store: nothing that runs ever waits for something that could not start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from weam_ray.artifacts import Step, Store
from weam_ray.study.config import ResourcesConfig
from weam_ray.study.grid import Cell
from weam_ray.study.plan import Plan
from weam_ray.transfer.steps import SHARED, TOKENISED

_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True, kw_only=True)
class Job:
    """Steps that one worker makes one after the other."""

    name: str
    """Unique in its run; names the log file."""
    steps: tuple[Step, ...]
    threads: int = 1
    """CPU threads; of each worker where there are several."""
    gpus: float = 0.0
    """Of each worker; the work then runs on a GPU."""
    workers: int = 1
    """Above one, the encoder is trained by so many Ray Train workers."""
    helpers: int = 0
    """Ray tasks that may take part in the evaluation of fine-tuned cells."""
    needs: frozenset[str] = frozenset()
    """Addresses of steps that others make; the job waits until they are in the store."""

    @property
    def shape(self) -> Shape:
        """Jobs of one shape are placed alike, and can follow each other in one worker process."""
        return self.workers, self.threads, self.gpus

    @property
    def wanted(self) -> dict[str, float]:
        """CPUs and GPUs that the job holds while it runs, over all its workers."""
        return {"CPU": float(self.threads * self.workers), "GPU": self.gpus * self.workers}


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """Cells that one worker runs one after the other, because they share an encoder."""

    job: Job
    cells: tuple[Cell, ...]


Shape = tuple[int, int, float]
"""Workers, threads and GPUs of each: see :attr:`Job.shape`."""


class JobSource(Protocol):
    """Where a run gets its jobs from, one at a time. Asked and told by one thread."""

    def take(self, shape: Shape | None) -> Job | None:
        """The next job that can start now, of one shape or (None) of any; None when none can."""

    def waiting(self) -> Sequence[Job]:
        """Jobs that could start now if there were room, as far as they are known."""

    def kept_back(self) -> float:
        """CPUs that are needed now by what runs beside the jobs."""

    def exhausted(self) -> bool:
        """Whether no job will come any more, whatever those that run end with."""

    def ended(self, job: Job, error: str | None) -> None:
        """A job that was taken is over: its steps are in the store, or the error says why not."""

    def hopeless(self, idle: bool) -> Iterable[tuple[Job, str]]:
        """Jobs that can never start, each once, and why: what they build on has failed.

        Args:
            idle: no job runs, so that what is missing now comes from none.
        """

    def halted(self) -> bool:
        """Whether those that run are to be ended too."""


class PlannedJobs:
    """Jobs known beforehand, in their order; others may be added while they run.

    Args:
        jobs: in the order in which they are to start, as far as what they need allows.
        store: where what they need appears.
        beside: CPUs for what makes further jobs and the things they need, in another thread, and
            calls :meth:`close` when it has.
    """

    def __init__(self, jobs: Sequence[Job], store: Store, *, beside: float | None = None) -> None:
        self._store = store
        self._waiting = list(jobs)
        self._beside = beside
        self._halted = False
        self._made: set[str] = set()
        self._lost: dict[str, str] = {}
        self._looked = 0.0
        self._lock = threading.Lock()

    def add(self, items: Sequence[CellJob]) -> None:
        """Put jobs behind those that wait."""
        with self._lock:
            self._waiting += [item.job for item in items]

    def close(self) -> None:
        """No more will be added, and nothing runs beside the jobs any more."""
        self._beside = None

    def halt(self) -> None:
        """Hand out no more and end what runs: something they all wait for will never come."""
        with self._lock:
            self._waiting.clear()
        self._halted = True
        self.close()

    def halted(self) -> bool:
        """Whether :meth:`halt` was called."""
        return self._halted

    def take(self, shape: Shape | None) -> Job | None:
        """The first job (of a shape) whose needs are in the store."""
        with self._lock:
            self._look()
            for place, job in enumerate(self._waiting):
                if shape in (None, job.shape) and job.needs <= self._made:
                    return self._waiting.pop(place)
        return None

    def waiting(self) -> Sequence[Job]:
        """Those whose needs are in the store."""
        with self._lock:
            return [job for job in self._waiting if job.needs <= self._made]

    def kept_back(self) -> float:
        """What was said at the start, until :meth:`close`."""
        return self._beside or 0.0

    def exhausted(self) -> bool:
        """Whether all have been handed out and none will be added."""
        return self._beside is None and not self._waiting

    def ended(self, job: Job, error: str | None) -> None:
        """Note what the job made, or that what waits for it waits in vain."""
        if error is None:
            self._made |= {step.address for step in job.steps}
            return
        for last in job.steps:
            for address in last.chain():
                if address not in self._made and self._store.find(address) is None:
                    self._lost[address] = f"{job.name} failed, which it builds on: {error}"

    def hopeless(self, idle: bool) -> Iterator[tuple[Job, str]]:
        """Take out and return what needs something that failed, or that nobody will make."""
        with self._lock:
            if idle and self._beside is None:
                self._looked = 0.0
                self._look()
                for need in self._wanted() - self._made:
                    self._lost.setdefault(need, f"it builds on {need}, which was not made")
            lost = [job for job in self._waiting if not job.needs.isdisjoint(self._lost)]
            for job in lost:
                self._waiting.remove(job)
        for job in lost:
            yield job, self._reason(job)

    def _reason(self, job: Job) -> str:
        return next(self._lost[need] for need in sorted(job.needs) if need in self._lost)

    def _look(self) -> None:
        # Corpora and links are made beside the jobs, and the store is where they are seen.
        if time.monotonic() - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        wanted = self._wanted() - self._made
        self._made |= {need for need in wanted if self._store.find(need) is not None}

    def _wanted(self) -> set[str]:
        return {need for job in self._waiting for need in job.needs}


def shared_jobs(plan: Plan, resources: ResourcesConfig) -> list[Job]:
    """Base encoders, tokenised items, sanity rows, divergences; what takes longest comes first."""
    missing = [plan.steps[address] for address in plan.missing]
    bases = [step for step in missing if step.stage == "base"]
    rest = [step for step in missing if step.stage in SHARED]
    jobs = [
        Job(
            name=f"shared.base.{_tail(base)}",
            steps=(base, *(step for step in rest if _tokens_of(step, base))),
            threads=resources.base_threads,
            gpus=resources.base_gpus,
        )
        for base in bases
    ]
    jobs.sort(key=lambda job: (-_training_steps(job.steps[0]), job.name))
    # Bases of one vocabulary: the first makes it, and the others wait for it without a core.
    made: set[str] = set()
    for place, job in enumerate(jobs):
        own = _needs([job.steps[0]], plan)
        jobs[place] = replace(job, needs=own & made)
        made |= own
    taken = {step.address for job in jobs for step in job.steps}
    jobs += [
        Job(name=f"shared.{step.stage}.{_tail(step)}", steps=(step,), needs=_needs([step], plan))
        for step in sorted(rest, key=lambda step: step.address)
        if step.address not in taken
    ]
    return jobs


def _training_steps(base: Step) -> float:
    settings = base.config.model_dump()["base"]
    # Without a number of steps it is passes over all of the text, which is more than none.
    return float("inf") if settings["steps"] is None else float(settings["steps"])


def _tokens_of(step: Step, base: Step) -> bool:
    # Without a vocabulary of its own the base brings the tokenizer.
    return step.stage in TOKENISED and step.upstream["tokenizer"].address == base.address


def _tail(step: Step) -> str:
    return step.address.rpartition("/")[2][:8]


def cell_jobs(plan: Plan, resources: ResourcesConfig) -> list[CellJob]:
    """The cells that are not done, those with one pre-trained encoder together.

    Two workers that wanted the same encoder would only wait for each other. Cells that fine-tune
    the shared base itself wait for nothing and go each on its own. An encoder that several workers
    train is a job of its own, and its cells follow on one worker.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in plan.cells_to_run:
        experiment = cell.experiment
        own = experiment.encoder is experiment.base
        alone = experiment.transfer if own else experiment.encoder
        groups.setdefault(alone.address, []).append(cell)
    jobs = []
    for cells in groups.values():
        encoder = cells[0].experiment.encoder
        apart = resources.cell_workers > 1 and encoder.address in plan.missing
        if apart and encoder.stage == "encoder":
            jobs.append(_encoder_job(cells[0], plan, resources))
        jobs.append(_cell_job(cells, plan, resources))
    return jobs


def _encoder_job(cell: Cell, plan: Plan, resources: ResourcesConfig) -> CellJob:
    encoder = cell.experiment.encoder
    job = Job(
        name=f"{cell.key.label}.encoder",
        steps=(encoder,),
        threads=resources.cell_threads,
        gpus=resources.cell_gpus,
        workers=resources.cell_workers,
        needs=_needs([encoder], plan),
    )
    return CellJob(job=job, cells=())


def _cell_job(cells: Sequence[Cell], plan: Plan, resources: ResourcesConfig) -> CellJob:
    steps = {step.address: step for cell in cells for step in cell.experiment.ends()}
    encoder = cells[0].experiment.encoder
    made_here = [encoder] if encoder.stage == "encoder" and resources.cell_workers == 1 else []
    job = Job(
        name=cells[0].key.label,
        steps=tuple(steps.values()),
        threads=resources.cell_threads,
        gpus=resources.cell_gpus,
        helpers=resources.evaluation_helpers,
        needs=_needs([*steps.values(), *made_here], plan),
    )
    return CellJob(job=job, cells=tuple(cells))


def _needs(steps: Sequence[Step], plan: Plan) -> frozenset[str]:
    """What the missing ones of these steps build on, is missing too, and is not among them."""
    upstream = {
        needed.address
        for step in steps
        if step.address in plan.missing
        for needed in step.upstream.values()
    }
    return frozenset(upstream & plan.missing) - {step.address for step in steps}
