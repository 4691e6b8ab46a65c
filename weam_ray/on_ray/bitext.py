"""Corpora and links, made beside the jobs that wait for neither."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from weam_ray.on_ray.data import align_corpora, build_corpora
from weam_ray.on_ray.jobs import PlannedJobs, cell_jobs
from weam_ray.on_ray.watching import SweepWatcher
from weam_ray.on_ray.working import kept_fresh
from weam_ray.progress import Progress
from weam_ray.study.config import ResourcesConfig
from weam_ray.study.plan import Plan, refuse_empty, renewed


class Bitext(threading.Thread):
    """Makes corpora and links, and adds the cells' jobs once the pairs are counted.

    Args:
        plan: what there is to make.
        resources: of the jobs.
        watcher: told of the cells.
        jobs: where they are added. Closed at the end; halted, when something failed.
        cpus: what the jobs keep free meanwhile. No more is asked for, so neither waits for the
            other.
    """

    plan: Plan
    """As it stands after the corpora were counted: sizes that they don't reach are holes."""

    def __init__(
        self,
        plan: Plan,
        resources: ResourcesConfig,
        watcher: SweepWatcher,
        jobs: PlannedJobs,
        *,
        cpus: int,
    ) -> None:
        # A daemon: Ctrl-C does not wait for it.
        super().__init__(name="bitext", daemon=True)
        self.plan = plan
        self._resources = resources
        self._watcher = watcher
        self._jobs = jobs
        self._cpus = cpus
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """The thread's own."""
        try:
            self._make()
        except BaseException as error:  # raised again by `join`, in the thread that waits
            self._error = error
            self._jobs.halt()
        self._jobs.close()

    def join(self, timeout: float | None = None) -> None:
        """Wait, and raise what was raised here."""
        super().join(timeout)
        if self._error is not None:
            raise self._error

    def _make(self) -> None:
        log = self._watcher.logs / "shared.bitext.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        _note(log, "corpora and links")
        with kept_fresh(log):
            self._make_all(log)
        _note(log, "corpora and links done")

    def _make_all(self, log: Path) -> None:
        store, board = self._watcher.store, self._watcher.board

        def say(progress: Progress) -> None:
            board.say(f"✓ {progress.stage} {progress.done}/{progress.total}")
            _note(log, f"{progress.stage} {progress.done}/{progress.total} {{}}")

        build_corpora(self.plan.missing_of("corpus"), store, say)
        known = set(self.plan.holes)
        # Now that the corpora are counted, sizes that they don't reach are holes.
        self.plan = renewed(self.plan, store)
        for hole in self.plan.holes:
            if hole not in known:
                board.say(f"hole: {hole.key.label}: {hole.reason}")
        refuse_empty(self.plan)
        cells = cell_jobs(self.plan, self._resources)
        self._watcher.expect(cells)
        self._jobs.add(cells)
        align_corpora(
            self.plan.missing_of("links"),
            store,
            say,
            pairs_per_worker=self._resources.align_pairs,
            cpus=self._cpus,
        )


def _note(log: Path, message: str) -> None:
    # As workers write theirs: `weam-ray status` reads both.
    with open(log, "a", encoding="utf8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')},000 INFO weam_ray.job {message}\n")
