"""The terminal: a table for people, lines for files, and never a wrong count."""

from __future__ import annotations

import io

from weam_ray.progress import Progress
from weam_ray.terminal import Board, duration, so_far


def board() -> tuple[Board, io.StringIO]:
    out = io.StringIO()
    return Board(total=3, file=out), out


def test_a_pipe_gets_one_line_a_cell_with_its_number() -> None:
    shown, out = board()
    with shown.live():
        shown.start("home.en-qaa.250.weam.s0")
        shown.end("home.en-qaa.250.weam.s0", "qaa 0.512", cells=1)
    assert out.getvalue().startswith("✓ [1/3] home.en-qaa.250.weam.s0 (0 s) qaa 0.512")


def test_a_failed_job_counts_its_cells_and_is_marked() -> None:
    shown, out = board()
    shown.end("cell", "boom — log: x.log", cells=2, failed=True)
    assert (shown.done, shown.failed) == (0, 2)
    assert out.getvalue().startswith("✗ [2/3] cell")


def test_a_shared_job_counts_no_cell() -> None:
    shown, out = board()
    shown.end("shared.base", "", cells=0)
    assert (shown.done, shown.failed) == (0, 0)
    assert "[" not in out.getvalue()


def test_the_table_shows_stage_progress_and_what_is_known_so_far() -> None:
    shown, out = board()
    shown.start("cell")
    shown.progress("cell", Progress(stage="encoder", done=20, total=200, metrics={"loss": 2.0}))
    shown.console.print(shown)
    text = out.getvalue()
    assert "encoder" in text and "20/200" in text and "loss 2.000" in text
    assert "0 of 3 cells done" in text


def test_accuracies_are_shown_before_a_loss() -> None:
    assert so_far({"loss": 1.0, "accuracy/qaa": 0.5, "accuracy/en": 0.9}) == "qaa 0.500 en 0.900"
    assert so_far({"loss": 1.0}) == "loss 1.000"
    assert so_far({}) == ""


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (5.4, 95, 3725)] == ["5 s", "1 min 35 s", "1 h 2 min"]
