"""``weam-ray export FILE --mlflow URI``: the store's cells, to a server that lacks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from weam_ray.on_ray.watching import study_page, watch
from weam_ray.study.analysis import analyse
from weam_ray.study.answer import answer
from weam_ray.study.config import StudyConfig
from weam_ray.study.data import find_data
from weam_ray.study.ledger import Invocation, report_input
from weam_ray.study.plan import make_plan
from weam_ray.terminal import Board


def push_study(study: StudyConfig, uri: str, say: Callable[[str], None]) -> int:
    """Write a study's finished cells, and its report if there is one, to an MLflow server.

    A cell is known by its address, which follows from all that decides its result: one that the
    server shows as finished is not written again, so the command may be repeated.

    Returns:
        The exit status: 0, or 1 when the server did not take everything.

    Raises:
        WeamError: the study's files can't be read.
    """
    store = study.open_store()
    plan = make_plan(study, find_data(study, store), store)
    watcher = watch(study, store, Board(), uri)
    watcher.catch_up(plan.cells)
    nothing = Invocation(command="", started="", wall_seconds=0.0)
    facts = report_input(study, plan, store, {}, nothing)
    names = ("report.html", "results.csv", "results.parquet")
    files: list[Path] = [path for name in names if (path := study.folder / name).exists()]
    watcher.tracker.report(files, study_page(study, answer(facts, analyse(facts)), plan.cells))
    watcher.tracker.end("FINISHED")
    if watcher.tracker.problem:
        say(f"{uri} did not take everything: {watcher.tracker.problem}")
        say("run the same command again once it answers")
        return 1
    done = len(plan.cells) - len(plan.cells_to_run)
    say(f"{watcher.tracker.pushed} of {done} finished cells pushed, the others were there")
    return 0
