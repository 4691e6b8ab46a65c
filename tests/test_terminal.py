"""The terminal: a table for people, lines for files, and never a wrong count."""

from __future__ import annotations

import io

import pytest

from weam_ray.progress import Progress
from weam_ray.terminal import Board, Line, duration, so_far


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


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def at(place: float) -> Progress:
    return Progress(stage="align", done=int(place), total=10, share=place % 1)


def test_a_pipe_gets_a_line_of_a_long_stage_every_ten_seconds_and_the_last_one() -> None:
    out, clock = io.StringIO(), Clock()
    line = Line("iterations", file=out, clock=clock)
    with line.live():
        line.say("reading a.en")
        for second in range(31):
            clock.now = float(second)
            line.report(at(second / 8))
        clock.now += 1
        line.report(at(10))
    assert out.getvalue().splitlines() == [
        "reading a.en",
        "align: 1 of 10 iterations, 25% of the next (10 s)",
        "align: 2 of 10 iterations, 50% of the next (20 s)",
        "align: 3 of 10 iterations, 75% of the next (30 s)",
        "align: 10 of 10 iterations (31 s)",
    ]


def test_a_quick_stage_says_only_that_it_is_done() -> None:
    out = io.StringIO()
    line = Line("iterations", file=out, clock=Clock())
    for place in range(1, 11):
        line.report(at(place))
    assert out.getvalue() == "align: 10 of 10 iterations (0 s)\n"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_changes_and_keeps_what_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, clock = Screen(), Clock()
    line = Line("iterations", file=out, clock=clock)
    with line.live() as _:
        for second in range(100):
            clock.now = float(second)
            line.report(at(second / 10))
        assert "\n" not in out.getvalue()
        line.say("said")
        shown = out.getvalue()
    assert "said\n" in shown
    assert "align: 9 of 10 iterations, 90% of the next (1 min 39 s)" in shown
    assert shown.count("of 10 iterations") < 20
