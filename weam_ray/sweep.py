"""The main job: ``python -m weam_ray.sweep [FILE] [--set key.path=value …]``.

Read top to bottom, it is what happens: find or make the data, plan, run what cells share and the
cells, report. The same command resumes after any interruption, and runs only what is new after the
file grew; when everything is there it recomputes nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from weam_ray.artifacts import Store, ensure, storage_errors
from weam_ray.errors import DataError, WeamError
from weam_ray.experiment import MAKERS
from weam_ray.on_ray.adaptive import AdaptiveJobs, is_settled, only_chosen
from weam_ray.on_ray.cluster import cluster_address, ray_runtime
from weam_ray.on_ray.jobs import JobSource, PlannedJobs, cell_jobs, shared_jobs
from weam_ray.on_ray.mlflow_runs import cells_address
from weam_ray.on_ray.search import SearchJobs, search_of
from weam_ray.on_ray.watching import SweepWatcher, study_page, watch
from weam_ray.study.calibration import this_machine
from weam_ray.study.config import StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.estimate import estimate
from weam_ray.study.guard_text import guard_lines
from weam_ray.study.ledger import STUDY_FILE, Invocation, keep_study_file, report_input
from weam_ray.study.plan import Plan, make_plan, refuse_empty, renewed, with_cells
from weam_ray.study.search import write_trials
from weam_ray.terminal import Board, duration
from weam_ray.transfer.steps import SOURCES

INTERRUPTED = 130
"""The shell's status for a process ended by Ctrl-C."""


def sweep(
    study: StudyConfig,
    command: str,
    board: Board,
    *,
    max_hours: float | None = None,
    file: Path | None = None,
) -> int:
    """Run a study, or what is left of it.

    Args:
        command: the command line, for the report's provenance.
        board: the terminal.
        max_hours: wall time after which what runs is ended, and the report written of the rest.
        file: the study file, of which a copy is kept beside the report.

    Returns:
        The exit status: 0, or 1 when a cell failed or the time was up before the last one.

    Raises:
        WeamError: the input or the machine can't do what the study asks.
    """
    started = time.time()
    deadline = None if max_hours is None else time.monotonic() + max_hours * 3600
    store = study.open_store()
    store.check()
    data_dir = find_data(study, store)
    plan = make_plan(study, data_dir, store)
    board.say(plan.summary())
    refuse_what_cannot_run(study, plan, store)
    if file is not None:
        keep_study_file(file, study.folder)
    # Read before anything is started, so that damaged evaluation data is refused within seconds.
    for step in (step for stage in SOURCES for step in plan.missing_of(stage)):
        ensure(step, store, MAKERS)
    # The report, the logs and the journal of a search lie outside the store, on the same disk.
    with storage_errors(study.home.absolute()), search_of(study, data_dir, store) as search:
        watcher = watch(study, store, board)
        status = "KILLED"
        try:
            plan = run(study, plan, search, watcher, deadline)
            invocation = Invocation(
                command=command,
                started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                wall_seconds=time.time() - started,
            )
            left = report(study, plan, search, watcher, invocation)
            status = "FINISHED" if not left else "FAILED" if watcher.failures else "KILLED"
        except WeamError:
            status = "FAILED"
            raise
        finally:
            watcher.tracker.end(status)
        say_where(study, watcher)
    return 1 if left else 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the block cleanly (workers, tracking); a second one ends the process at once.

    The store never holds anything half made, so that the same command goes on after either. Ray's
    workers notice by themselves that their driver is gone, but its agents take two minutes to;
    so what this process started is ended with it. On a cluster there is nothing to end: its
    processes are not this one's.

    Raises:
        SystemExit: with :data:`INTERRUPTED`, after the first.
    """

    def at_once(number: int, frame: FrameType | None) -> None:
        os.write(2, b"\nstopped at once; the same command goes on from here\n")
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(INTERRUPTED)

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, at_once)
        os.write(2, b"\nstopping (Ctrl-C again: at once)\n")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, before)


def refuse_what_cannot_run(study: StudyConfig, plan: Plan, store: Store) -> None:
    """Raise before anything is started when nothing can come of it.

    Raises:
        ConfigError: every cell is a hole.
        ResourceError: this machine can't hold what the study asks for.
    """
    refuse_empty(plan)
    if plan.missing and cluster_address() is None:  # a cluster is asked when it is joined
        machine = this_machine(study, plan, store, calibrate=False)
        estimate(plan, store, study.resources, machine).refuse_what_cannot_fit()


def run(
    study: StudyConfig,
    plan: Plan,
    search: SearchJobs | None,
    watcher: SweepWatcher,
    deadline: float | None,
) -> Plan:
    """Make what the plan and the search lack, and return the plan as it stands then."""
    searching = search is not None and not search.exhausted()
    gridding = bool(plan.missing) and not is_settled(study, plan, watcher.store)
    if not gridding and not searching:
        return plan
    try:
        with ray_runtime() as resources, watcher.board.live():
            from weam_ray.on_ray.machines import refuse_unfit_machines

            refuse_unfit_machines(study)
            if gridding:
                plan = run_grid(study, plan, watcher, resources, deadline)
            if search is not None and searching and not watcher.shared_failures:
                search.expect = watcher.expect
                run_source(search, study, watcher, resources, deadline)
    finally:
        # Workers that were ended with Ray, after bad input or when time was up, left theirs.
        watcher.store.clear_drafts(patience=5.0)
    return plan


def run_grid(
    study: StudyConfig,
    plan: Plan,
    watcher: SweepWatcher,
    resources: Mapping[str, float],
    deadline: float | None,
) -> Plan:
    """Run what cells share, and the cells."""
    # Loaded late: Ray reads its environment when it is imported, and a sweep that has nothing to
    # compute never waits for it.
    from weam_ray.on_ray.bitext import Bitext
    from weam_ray.on_ray.tune import refuse_what_cannot_start

    store = watcher.store
    shared = shared_jobs(plan, study.resources)
    for job in [*shared, *(item.job for item in cell_jobs(plan, study.resources))]:
        refuse_what_cannot_start(job, resources)
    # The base encoder waits for no bitext: while it trains, the other cores make the corpora and
    # their links, and whatever cell is ready by then.
    taken = sum(job.threads for job in shared if job.steps[0].stage == "base")
    beside = max(1.0, resources["CPU"] - taken) if resources["CPU"] > 1 else 0.0
    if study.adaptive is None:
        jobs = PlannedJobs(shared, store, beside=beside)
    else:
        jobs = AdaptiveJobs(study, plan, shared, store, beside=beside)
    bitext = Bitext(plan, study.resources, watcher, jobs, cpus=max(1, int(beside)))
    if not beside:
        bitext.join()
    watcher.on_refusal = jobs.halt
    run_source(jobs, study, watcher, resources, deadline)
    if watcher.refusals:
        raise DataError(watcher.refusals[0])
    if deadline is None or time.monotonic() < deadline:
        bitext.join()
    return renewed(bitext.plan, store)


def run_source(
    source: JobSource,
    study: StudyConfig,
    watcher: SweepWatcher,
    resources: Mapping[str, float],
    deadline: float | None,
) -> None:
    """Run a source's jobs under the study's settings."""
    from weam_ray.on_ray.tune import run_jobs

    run_jobs(
        source,
        watcher.store,
        watcher,
        resources=resources,
        logs=watcher.logs,
        retries=study.resources.retries,
        deadline=deadline,
    )


def report(
    study: StudyConfig,
    plan: Plan,
    search: SearchJobs | None,
    watcher: SweepWatcher,
    invocation: Invocation,
) -> int:
    """Write tables and page from the store, attach them to the run, and say what was done.

    Returns:
        How many cells and trials are left.
    """
    from weam_ray.study.answer import answer
    from weam_ray.study.publish import publish, remember

    board, files = watcher.board, []
    if search is not None:
        files += write_trials(search.results(), study.folder)
        plan = with_cells(plan, search.chosen_cells(), watcher.store)
    open_end = 0
    if study.adaptive is not None:
        open_end = int(not is_settled(study, plan, watcher.store))
        board.say(AdaptiveJobs(study, plan, (), watcher.store).summary())
        plan = only_chosen(plan, watcher.failures)
    remember(invocation, study.folder)
    facts = report_input(study, plan, watcher.store, watcher.failures, invocation)
    written = publish(facts, study.folder)
    files += [written.page, *written.rows, *study.folder.glob(STUDY_FILE)]
    watcher.store.keep(files, f"studies/{study.name}")
    watcher.catch_up(plan.cells)
    page_of_mlflow = study_page(study, answer(facts, written.analysis), plan.cells)
    watcher.tracker.report(files, page_of_mlflow)
    board.say("")
    left = len(plan.cells_to_run)
    done = len(plan.cells) - left
    board.say(f"{done} of {len(plan.cells)} cells done in {duration(invocation.wall_seconds)}")
    for name, message in watcher.shared_failures.items():
        board.say(f"failed: {name}: {message}")
    for line in guard_lines(facts):
        board.say(line)
    for failure in watcher.failures.values():
        log = f" (log: {failure.log})" if failure.log else ""
        board.say(f"failed: {failure.factors}: {failure.error}{log}")
    if stopped := left - len(watcher.failures):
        board.say(f"the time was up before {stopped} of them; the same command goes on from here")
    if search is not None:
        board.say(search.summary())
        left += search.left()
    return left + open_end


def say_where(study: StudyConfig, watcher: SweepWatcher) -> None:
    """The last lines: where to read what came out."""
    board, tracker = watcher.board, watcher.tracker
    if tracker.problem:
        board.say(f"MLflow was not written to: {tracker.problem}")
        board.say(f"once it answers: weam-ray export FILE --mlflow {tracker.uri}")
    elif tracker.pushed:
        board.say(f"MLflow: {tracker.pushed} cells of earlier runs were added")
    board.say(f"report: {study.folder / 'report.html'}")
    page = cells_address(tracker.experiment) if tracker.experiment else ""
    if study.tracking_uri is not None:
        board.say(f"MLflow: {study.tracking_uri.rstrip('/')}/{page}")
        return
    there = study.home.absolute() == Path("storage").absolute()
    serve = "make ui" if there else f"mlflow ui --backend-store-uri {tracker.uri}"
    board.say(f"MLflow: {serve}, then http://127.0.0.1:5000/{page}")


def main(arguments: Sequence[str] | None = None) -> int:
    """``weam-ray sweep`` under its own name."""
    from weam_ray.__main__ import main as weam_ray

    return weam_ray(["sweep", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
