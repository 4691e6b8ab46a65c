"""What tests of jobs play with: a watcher that remembers, and a store that needs no makers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from weam_ray.artifacts import Artifact, Maker, Report, Resources, Step, Store, silent
from weam_ray.on_ray.jobs import Job
from weam_ray.progress import Progress


@dataclass
class Heard:
    """A watcher that remembers."""

    said: list[tuple[str, str]] = field(default_factory=list)
    """(job, what became of it) in order: started, retried, finished, stopped, or why it failed."""
    refused: set[str] = field(default_factory=set)
    """Jobs that failed by bad input."""
    stages: set[str] = field(default_factory=set)
    """That reported."""

    def started(self, job: Job) -> None:
        self.said.append((job.name, "started"))

    def progressed(self, job: Job, progress: Progress) -> None:
        self.stages.add(progress.stage)

    def finished(self, job: Job) -> None:
        self.said.append((job.name, "finished"))

    def failed(self, job: Job, message: str, *, bad_input: bool) -> None:
        self.said.append((job.name, message))
        if bad_input:
            self.refused.add(job.name)

    def retried(self, job: Job, message: str) -> None:
        self.said.append((job.name, "retried"))

    def stopped(self, job: Job) -> None:
        self.said.append((job.name, "stopped"))

    @property
    def ended(self) -> dict[str, str]:
        """How each job ended."""
        return {name: what for name, what in self.said if what not in ("started", "retried")}

    @property
    def retries(self) -> Counter[str]:
        """How often each job was started again."""
        return Counter(name for name, what in self.said if what == "retried")


class Played(Store):
    """Makes whatever is asked for, after :meth:`play`; of this module's pickles workers know
    nothing, so they are to be sent by value.
    """

    def play(self, name: str) -> None:
        """What happens in the worker that makes the step of this name."""

    def make(
        self,
        step: Step,
        maker: Maker,
        upstream: Mapping[str, Artifact],
        report: Report = silent,
        resources: Resources | None = None,
    ) -> Artifact:
        self.play(step.inputs["name"])
        return super().make(step, lambda work: (work.out / "x").touch(), {})
