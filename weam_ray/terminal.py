"""What a person sees of running work: on a terminal what is live, without one plain lines.

Of a sweep, a table of its cells (:class:`Board`); of one long stage, a line (:class:`Line`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from weam_ray.progress import Progress


@dataclass(slots=True, kw_only=True)
class _Row:
    started: float
    stage: str = "starting"
    done: int = 0
    total: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


class _Shown(ABC):
    """What stands below the lines that are said, as long as ``with shown.live():`` lasts."""

    def __init__(self, file: IO[str] | None) -> None:
        self.console = Console(file=file, highlight=False)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show it for the length of the block; a pipe or file gets lines alone."""
        if not self.console.is_terminal:
            yield
            return
        with Live(
            self, console=self.console, refresh_per_second=4, transient=True, redirect_stdout=False
        ):
            yield

    def say(self, line: str) -> None:
        """Print a line above it, for good."""
        # A file or pipe gets whole lines, however long: they are searched, not looked at.
        self.console.print(Text(line), soft_wrap=True)

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """What it looks like now."""


class Board(_Shown):
    """The live table of running jobs. ``with board.live():`` shows it.

    Args:
        total: cells that this run is to finish.
    """

    def __init__(self, *, total: int = 0, file: IO[str] | None = None) -> None:
        super().__init__(file)
        self.total = total
        self.done = 0
        self.failed = 0
        self._rows: dict[str, _Row] = {}
        self._latest: dict[str, str] = {}
        self._cells_started: float | None = None

    def expect(self, cells: int) -> None:
        """So many cells are to be finished; time left is estimated from those that end from now."""
        self.total += cells
        self._cells_started = self._cells_started or time.monotonic()

    def start(self, name: str) -> None:
        """A job has a worker."""
        self._rows[name] = _Row(started=time.monotonic())

    def progress(self, name: str, progress: Progress) -> None:
        """A job reported."""
        row = self._rows.setdefault(name, _Row(started=time.monotonic()))
        row.stage, row.done, row.total = progress.stage, progress.done, progress.total
        row.metrics = {**row.metrics, **progress.metrics}

    def end(self, name: str, line: str, *, cells: int, failed: bool = False) -> None:
        """A job ended; ``line`` says how."""
        row = self._rows.pop(name, None)
        seconds = f" ({time.monotonic() - row.started:.0f} s)" if row else ""
        self.done += 0 if failed else cells
        self.failed += cells if failed else 0
        mark = "✗" if failed else "✓"
        count = f"[{self.done + self.failed}/{self.total}] " if cells and self.total else ""
        self.say(f"{mark} {count}{name}{seconds} {line}")

    def drop(self, name: str) -> None:
        """A job was ended with all others; nothing is said of each."""
        self._rows.pop(name, None)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for title in ("cell", "stage", "progress", "so far", "time"):
            table.add_column(title, no_wrap=True)
        for name, row in self._rows.items():
            table.add_row(
                name,
                row.stage,
                f"{row.done:,}/{row.total:,}" if row.total else "",
                so_far(row.metrics),
                f"{time.monotonic() - row.started:.0f} s",
            )
        return Group(table, Text(self._footer(), style="dim"))

    def _footer(self) -> str:
        parts = [f"{self.done} of {self.total} cells done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if (left := self._seconds_left()) is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def _seconds_left(self) -> float | None:
        ended = self.done + self.failed
        if self._cells_started is None or not ended:
            return None
        return (time.monotonic() - self._cells_started) / ended * (self.total - ended)


class Line(_Shown):
    """How far one long stage is. ``with line.live():`` shows it below what is said.

    A pipe or file gets a line now and then, and the last one.

    Args:
        units: what the stage counts: ``iterations``.
        seconds: between two lines of a pipe, at least.
    """

    def __init__(
        self,
        units: str,
        *,
        file: IO[str],
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(file)
        self._units = units
        self._seconds = seconds
        self._clock = clock
        self._started = self._said = clock()
        self._progress: Progress | None = None

    def report(self, progress: Progress) -> None:
        """The stage reported."""
        over = progress.done == progress.total
        self._progress = None if over else progress
        due = not self.console.is_terminal and self._clock() - self._said >= self._seconds
        if over or due:
            self._said = self._clock()
            self.say(self._text(progress))

    def __rich__(self) -> Text:
        return Text(self._text(self._progress) if self._progress else "", style="dim")

    def _text(self, progress: Progress) -> str:
        part = f", {progress.share:.0%} of the next" if progress.share else ""
        took = duration(self._clock() - self._started)
        return f"{progress.stage}: {progress.done} of {progress.total} {self._units}{part} ({took})"


def so_far(metrics: Mapping[str, float]) -> str:
    """The accuracies (of readers F1) of a running cell if it has any yet, else its loss."""
    accuracies = {
        name.partition("/")[2]: value
        for name, value in metrics.items()
        if name.startswith(("accuracy/", "f1/"))
    }
    if accuracies:
        return " ".join(f"{name} {value:.3f}" for name, value in list(accuracies.items())[:5])
    return f"loss {metrics['loss']:.3f}" if "loss" in metrics else ""


def duration(seconds: float) -> str:
    """``95`` → ``1 min 35 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
