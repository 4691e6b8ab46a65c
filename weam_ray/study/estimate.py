"""What a plan will cost: time from like work in the store, else from a calibration; disk; money."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from weam_ray.artifacts import Artifact, Step, Store
from weam_ray.errors import DataError, ResourceError
from weam_ray.study.config import ResourcesConfig
from weam_ray.study.plan import Plan
from weam_ray.study.workload import TRAINING, Shape, Workbook, Workload

Number = TypeVar("Number", int, float)

_RECORDS_READ = 300
"""Of one stage; addresses are hashes, so the first ones are a random sample."""
_OPTIMISER_BYTES = 16
"""A weight in training: itself, its gradient and Adam's two moments, four bytes each."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to run on."""

    cpus: int
    gpus: float = 0.0
    memory: int | None = None
    """Bytes; None: not known."""
    disk_free: int | None = None
    """Bytes where the store lies."""
    flops: float | None = None
    """Training arithmetic a second of one worker, as :func:`weam_ray.study.calibration.measure`
    finds it; None where it was not measured."""
    base_flops: float | None = None
    """That of the job that trains a base encoder, where it was measured apart: it has threads, GPUs
    and a precision of its own."""


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """The steps of one stage that will run."""

    stage: str
    total: int
    to_run: int
    working: int
    """Those of them that take any time: a random encoder is a base of no optimiser steps."""
    optimiser_steps: int | None
    """Together, over the steps that will run; None for stages without any."""
    tokens: int | None
    """At most."""
    seconds: float | None
    """Of one worker, together; None when nothing like it is known."""
    basis: str
    """Where the seconds come from: ``recorded``, ``calibrated``, ``not known``."""
    bytes: int | None
    reasons: Mapping[str, int]
    """Why, and how many steps run for it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is left of a study, in time, disk and money."""

    stages: tuple[StageEstimate, ...]
    at_once: int
    """Cells that run side by side."""
    wall_seconds: float
    unknown: tuple[str, ...]
    """Stages whose time is not in it."""
    bytes: int
    cost: float | None
    """For the wall time, in the currency of the price; None without a price."""
    problems: tuple[str, ...]
    """Why this can't be run as it is."""

    def refuse_what_cannot_fit(self) -> None:
        """Raise when there are problems.

        Raises:
            ResourceError: with all of them.
        """
        if self.problems:
            raise ResourceError(
                "; ".join(self.problems),
                cure="Lower resources or the grid in the study file, or run on a larger machine.",
            )


def estimate(
    plan: Plan,
    store: Store,
    resources: ResourcesConfig,
    machine: Machine,
    *,
    price_per_hour: float | None = None,
) -> Estimate:
    """Estimate what a plan lacks; reads the store and runs nothing."""
    book = Workbook(plan.steps, store)
    known = _Past(store, book, {stage for stage, _, missing in plan.stages() if missing})
    speed = {stage: _speed(stage, resources, machine) for stage in TRAINING}
    stages = tuple(
        _stage(stage, total, plan, book, known, speed.get(stage))
        for stage, total, _ in plan.stages()
    )
    at_once = _at_once(resources, machine)
    wall = sum(
        (one.seconds or 0.0) / _side_by_side(one, resources, machine, at_once) for one in stages
    )
    size = sum(one.bytes or 0 for one in stages)
    return Estimate(
        stages=stages,
        at_once=at_once,
        wall_seconds=wall,
        unknown=tuple(one.stage for one in stages if one.to_run and one.seconds is None),
        bytes=size,
        cost=None if price_per_hour is None else wall / 3600 * price_per_hour,
        problems=tuple(_problems(plan, book, resources, machine, at_once, size)),
    )


def _speed(stage: str, resources: ResourcesConfig, machine: Machine) -> float | None:
    if stage == "base":
        return machine.base_flops or machine.flops
    if machine.flops is None:
        return None
    return machine.flops * (resources.cell_workers if stage == "encoder" else 1)


def _stage(
    stage: str, total: int, plan: Plan, book: Workbook, known: _Past, flops: float | None
) -> StageEstimate:
    steps = plan.missing_of(stage)
    loads = [book.workload(step.address) for step in steps]
    times = [known.seconds(stage, load, flops) for load in loads]
    sizes = [known.bytes(stage, load) for load in loads]
    bases = Counter(basis for _, basis in times)
    return StageEstimate(
        stage=stage,
        total=total,
        to_run=len(steps),
        working=sum(seconds != 0.0 for seconds, _ in times),
        optimiser_steps=_sum(load.optimiser_steps for load in loads),
        tokens=_sum(load.tokens for load in loads),
        seconds=_sum(seconds for seconds, _ in times),
        basis=", ".join(sorted(bases)),
        bytes=_sum(sizes),
        reasons=Counter(plan.why(step) for step in steps),
    )


def _sum(values: Iterable[Number | None]) -> Number | None:
    """The sum; None when a part of it is not known, and for none at all."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known[1:], start=known[0]) if known and len(known) == len(found) else None


class _Past:
    """Seconds and bytes of recorded steps, by stage and by the encoder's shape."""

    def __init__(self, store: Store, book: Workbook, stages: Iterable[str]) -> None:
        self._rates: dict[tuple[str, Shape | None], list[tuple[float, float]]] = defaultdict(list)
        self._bytes: dict[tuple[str, Shape | None], list[int]] = defaultdict(list)
        for stage in stages:
            for found in _records(store, stage):
                self._note(stage, found, book.workload(found.address))

    def _note(self, stage: str, found: Artifact, load: Workload) -> None:
        key = (stage, load.shape)
        self._bytes[key].append(sum(found.record["files"].values()))
        if load.amount:
            self._rates[key].append((float(found.record["seconds"]), load.amount))

    def seconds(self, stage: str, load: Workload, flops: float | None) -> tuple[float | None, str]:
        """Seconds of a step and where they come from: like steps of the past come first."""
        rates = self._rates.get((stage, load.shape))
        if load.amount is not None and rates:
            seconds = sum(seconds for seconds, _ in rates)
            return load.amount * seconds / sum(amount for _, amount in rates), "recorded"
        if load.amount is not None and flops:
            return load.amount / flops, "calibrated"
        return None, "not known"

    def bytes(self, stage: str, load: Workload) -> int | None:
        """Disk that a step's output takes."""
        if found := self._bytes.get((stage, load.shape)):
            return round(statistics.mean(found))
        if stage in ("base", "encoder") and load.shape is not None:
            return 4 * load.shape.weights
        return None


def _records(store: Store, stage: str) -> list[Artifact]:
    found = []
    for address in store.addresses(stage)[:_RECORDS_READ]:
        try:
            artifact = store.find(address)
        except DataError:  # whoever needs it is told; an estimate does without
            continue
        if artifact is not None:
            found.append(artifact)
    return found


def _at_once(resources: ResourcesConfig, machine: Machine) -> int:
    """Cells side by side; one that trains on several workers takes the threads and GPUs of all."""
    workers, gpus = resources.cell_workers, resources.cell_gpus
    slots = machine.cpus // (resources.cell_threads * workers)
    if gpus > 0:
        # Below 1, cells share a GPU; they are never split over two.
        a_gpu = int(1 / gpus) if gpus < 1 else 1
        whole = int(machine.gpus) * a_gpu if gpus < 1 else int(machine.gpus // (gpus * workers))
        slots = min(slots, whole)
    return max(1, slots)


def _side_by_side(
    stage: StageEstimate, resources: ResourcesConfig, machine: Machine, at_once: int
) -> int:
    if stage.stage in ("corpus", "links"):
        slots = machine.cpus
    elif stage.stage in ("base", "vocabulary", "tokens"):
        slots = machine.cpus // resources.base_threads
    else:
        slots = at_once
    return max(1, min(slots, stage.working))


def _problems(
    plan: Plan,
    book: Workbook,
    resources: ResourcesConfig,
    machine: Machine,
    at_once: int,
    size: int,
) -> list[str]:
    found = []
    if not plan.cells:
        found.append("every cell is a hole: there is nothing to run (is data_dir right?)")
    if not plan.missing:
        return found
    workers = resources.cell_workers
    for name, wanted, there, kind in (
        ("base_threads", resources.base_threads, machine.cpus, "CPUs"),
        ("base_gpus", resources.base_gpus, machine.gpus, "GPUs"),
        ("cell_threads", resources.cell_threads * workers, machine.cpus, "CPUs"),
        ("cell_gpus", resources.cell_gpus * workers, machine.gpus, "GPUs"),
    ):
        if wanted > there:
            found.append(f"resources.{name} asks for {wanted:g} {kind}, and there are {there:g}")
    if machine.disk_free is not None and size > machine.disk_free:
        found.append(f"{in_bytes(size)} of output don't fit the {in_bytes(machine.disk_free)} free")
    memory = _training_memory(plan, book) * workers
    if machine.memory is not None and not resources.cell_gpus and memory > machine.memory:
        found.append(
            f"training needs at least {in_bytes(memory)} of memory a cell, and there are"
            f" {in_bytes(machine.memory)}"
        )
    elif (
        machine.memory is not None
        and not resources.cell_gpus
        and (memory * at_once > machine.memory)
    ):
        found.append(
            f"{at_once} cells at once need at least {in_bytes(memory * at_once)} of memory, and"
            f" there are {in_bytes(machine.memory)}: raise resources.cell_threads, so that fewer"
            " run at once"
        )
    return found


def _training_memory(plan: Plan, book: Workbook) -> int:
    """Bytes of weights, gradients and optimiser state of the largest encoder: a lower bound."""
    shapes = {
        load.shape
        for address in plan.missing
        if plan.steps[address].stage in TRAINING
        and (load := book.workload(address)).shape is not None
    }
    return max((_OPTIMISER_BYTES * shape.weights for shape in shapes if shape), default=0)


def in_bytes(size: float) -> str:
    """``1536`` → ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def largest_shape(plan: Plan, store: Store) -> Shape | None:
    """The encoder whose training a calibration should measure: the largest that will be trained."""
    book = Workbook(plan.steps, store)
    shapes = [
        shape
        for step in training_steps(plan)
        if (shape := book.workload(step.address).shape) is not None
    ]
    return max(shapes, key=lambda shape: shape.weights, default=None)


def training_steps(plan: Plan) -> list[Step]:
    """Those of the steps to run that train an encoder."""
    return [
        plan.steps[address] for address in plan.missing if plan.steps[address].stage in TRAINING
    ]
