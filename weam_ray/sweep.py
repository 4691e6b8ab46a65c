"""The main job: ``python -m weam_ray.sweep [FILE] [--set key.path=value …]``.

Read top to bottom, it is what happens: find or make the data, plan, prepare what the cells share,
run the cells, report. The same command resumes after any interruption, and runs only what is new
after the file grew; when everything is there it recomputes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weam_ray.artifacts import Store, ensure
from weam_ray.experiment import MAKERS
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.on_ray.jobs import Job, cell_jobs, shared_jobs
from weam_ray.on_ray.tracking import Tracker
from weam_ray.on_ray.watching import SweepWatcher
from weam_ray.progress import Progress
from weam_ray.study.config import StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.ledger import Invocation, report_input, study_view, write_rows
from weam_ray.study.plan import Plan, make_plan
from weam_ray.terminal import Board, duration

INTERRUPTED = 130
"""The shell's status for a process ended by Ctrl-C."""


def sweep(study: StudyConfig, command: str, board: Board) -> int:
    """Run a study, or what is left of it.

    Args:
        command: the command line, for the report's provenance.

    Returns:
        The exit status: 0, or 1 when a cell failed.

    Raises:
        WeamError: the input or the machine can't do what the study asks.
    """
    started = time.time()
    store = Store(study.storage / "store")
    data_dir = find_data(study, store)
    plan = make_plan(study, data_dir, store)
    board.say(plan.summary())
    tags = {"weam_ray.title": study.title}
    tracker = Tracker.open(study.tracking_uri, study.storage, study.name, tags)
    view = study_view(study)
    watcher = SweepWatcher(
        board=board,
        tracker=tracker,
        store=store,
        logs=study.folder / "logs",
        split=view.split,
        selection=view.selection,
    )
    status = "KILLED"
    try:
        if plan.missing:
            plan = run(study, data_dir, store, watcher)
        invocation = Invocation(
            command=command,
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            wall_seconds=time.time() - started,
        )
        report(study, plan, watcher, invocation)
        status = "FAILED" if watcher.failures else "FINISHED"
    finally:
        tracker.end(status)
    return 1 if watcher.failures else 0


def run(study: StudyConfig, data_dir: Path | None, store: Store, watcher: SweepWatcher) -> Plan:
    """Make what the plan lacks, shared things first, and return the plan as it stands then."""
    board = watcher.board

    def say(progress: Progress) -> None:
        board.say(f"✓ {progress.stage} {progress.done}/{progress.total}")

    with ray_runtime() as resources, board.live():
        # Loaded late: Ray reads its environment when it is imported, and a sweep that has nothing
        # to compute never waits for it.
        from weam_ray.on_ray.data import align_corpora, build_corpora
        from weam_ray.on_ray.tune import run_jobs

        def run_all(jobs: Sequence[Job]) -> None:
            retries = study.resources.retries
            run_jobs(jobs, store, watcher, resources=resources, logs=watcher.logs, retries=retries)

        plan = make_plan(study, data_dir, store)
        for step in plan.missing_of("items"):
            ensure(step, store, MAKERS)
        build_corpora(plan.missing_of("corpus"), store, say)
        # Now that the corpora are counted, sizes that they don't reach are holes.
        known = set(plan.holes)
        plan = make_plan(study, data_dir, store)
        for hole in plan.holes:
            if hole not in known:
                board.say(f"hole: {hole.key.label}: {hole.reason}")
        # The base encoder waits for no links, so a core that trains it leaves the others to them.
        with ThreadPoolExecutor(max_workers=1) as beside:
            aligned = beside.submit(align_corpora, plan.missing_of("links"), store, say)
            run_all(shared_jobs(plan, study.resources))
            aligned.result()
        cells = cell_jobs(plan, study.resources)
        board.total = sum(len(item.cells) for item in cells)
        board.begin_cells()
        watcher.expect(cells)
        run_all([item.job for item in cells])
    return make_plan(study, data_dir, store)


def report(study: StudyConfig, plan: Plan, watcher: SweepWatcher, invocation: Invocation) -> None:
    """Write tables and page from the store, attach them to the run, and say where they are."""
    from weam_ray.study.report import write_report

    facts = report_input(study, plan, watcher.store, watcher.failures, invocation)
    page = write_report(facts, study.folder / "report.html")
    watcher.tracker.files(None, [page, *write_rows(facts.results, study.folder)])
    board = watcher.board
    board.say("")
    done = len(plan.cells) - len(plan.cells_to_run)
    board.say(f"{done} of {len(plan.cells)} cells done in {duration(invocation.wall_seconds)}")
    for failure in watcher.failures.values():
        board.say(f"failed: {failure.factors}: {failure.error} (log: {failure.log})")
    if watcher.tracker.problem:
        board.say(f"MLflow was not written to: {watcher.tracker.problem}")
    board.say(f"report: {page}")
    board.say("MLflow: make ui")


def main(arguments: Sequence[str] | None = None) -> int:
    """``weam-ray sweep`` under its own name."""
    from weam_ray.__main__ import main as weam_ray

    return weam_ray(["sweep", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
