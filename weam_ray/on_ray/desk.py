"""Where jobs are handed out and come back; what runs them, Ray Tune, is :mod:`.tune`'s."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from weam_ray.on_ray.growth import Growth
from weam_ray.on_ray.jobs import Job, JobSource, Shape
from weam_ray.progress import Progress


class Watcher(Protocol):
    """Who is told, in the driver's process, what the jobs do."""

    def started(self, job: Job) -> None:
        """The job has a worker."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """The job's running stage reported."""

    def finished(self, job: Job) -> None:
        """All steps of the job are in the store."""

    def failed(self, job: Job, message: str, *, bad_input: bool) -> None:
        """The job ended without its steps; other jobs go on.

        Args:
            bad_input: a step refused what it was given, as it would every time.
        """

    def retried(self, job: Job, message: str) -> None:
        """The job failed and is started again."""

    def stopped(self, job: Job) -> None:
        """The time is up, or all is given up, and the job was ended with it."""


@dataclass(kw_only=True)
class Desk:
    """Where jobs are handed out and come back: who runs, and what is left of the machine."""

    source: JobSource
    watcher: Watcher
    free: dict[str, float]
    running: dict[str, Job] = field(default_factory=dict)
    shape: Shape | None = None
    """Of the jobs of this Tuner. A worker that is kept for the next job holds its CPUs and GPUs, so
    that one of another shape might wait for ever: each shape has a Tuner of its own."""
    lost: dict[str, str] = field(default_factory=dict)
    """Jobs that are to start again, and why."""
    _again: list[Job] = field(default_factory=list)
    _tries: Counter[str] = field(default_factory=Counter)
    growth: Growth | None = None
    """None where what there is stays as it is."""
    _next: Job | None = None

    def look(self) -> None:
        """See whether machines have come or gone, and ask for such as could be used."""
        if self.growth is not None:
            waiting = self.source.waiting()
            ahead = [] if self._next is None else [self._next]
            gained = self.growth.look([*self.running.values()], [*ahead, *waiting])
            for kind, amount in gained.items():
                self.free[kind] = round(self.free.get(kind, 0.0) + amount, 6)

    def admit(self) -> Job | None:
        """The next job of this shape, if all that it wants is free."""
        if self._next is None and self._again:
            self._next = self._again.pop(0)
        if self._next is None:
            self._next = self.source.take(self.shape)
        if self._next is None and not self.running:
            self._next = self.source.take(None)
        job = self._next
        for lost, message in self.source.hopeless(job is None and not self.running):
            self.watcher.failed(lost, message, bad_input=False)
        if job is None or self.shape not in (None, job.shape) or not self._fits(job):
            return None
        self._next = None
        self.shape = job.shape
        self._take(job, 1)
        self.running[job.name] = job
        return job

    def _fits(self, job: Job) -> bool:
        # The rest runs whether or not this one can, so what it keeps back is never waited for.
        free = {**self.free, "CPU": self.free.get("CPU", 0.0) - self.source.kept_back()}
        return all(free.get(kind, 0.0) >= wanted for kind, wanted in job.wanted.items())

    def shape_is_over(self) -> bool:
        """Whether this Tuner has nothing more to run, as far as is known."""
        other = self._next is not None and self.shape not in (None, self._next.shape)
        return not self.running and (other or self.all_over())

    def all_over(self) -> bool:
        """Whether no job is left to be handed out."""
        return self._next is None and not self._again and self.source.exhausted()

    def over(self, job: Job, error: str | None, *, bad_input: bool = False) -> None:
        """A job came back."""
        self._release(job)
        self.source.ended(job, error)
        if error is None:
            self.watcher.finished(job)
        else:
            self.watcher.failed(job, error, bad_input=bad_input)

    def crashed(self, message: str, retries: int) -> None:
        """Tune stopped in the middle: what ran starts again, ``retries`` times at most."""
        for job in list(self.running.values()):
            self._tries[job.name] += 1
            if self._tries[job.name] > retries:
                self.over(job, message)
                continue
            self._release(job)
            self._again.append(job)
            self.lost[job.name] = message

    def give_up(self, job: Job) -> None:
        """A job was ended with all the others."""
        self._release(job)
        self.watcher.stopped(job)

    def _release(self, job: Job) -> None:
        del self.running[job.name]
        self._take(job, -1)

    def _take(self, job: Job, sign: int) -> None:
        for kind, wanted in job.wanted.items():
            # Rounded, so that ten tenths of a GPU are a whole one again.
            self.free[kind] = round(self.free.get(kind, 0.0) - sign * wanted, 6)
