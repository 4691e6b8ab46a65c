"""A notice that this machine is to be taken away: SIGTERM, some seconds before the power is cut.

Spot machines, Slurm's time limit and Kubernetes all say it so. Work that can save its state says
that it heeds notices; everything else ends at once, as it would without this.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from weam_ray.errors import WeamError

GRACE = 20.0
"""Seconds after which the process ends in any case. Kubernetes gives 30, Google's spot too."""
EXIT_STATUS = 128 + signal.SIGTERM
"""What a shell calls a process that SIGTERM ended."""

_given = threading.Event()
_lock = threading.Lock()
_heeding = 0


class Preempted(WeamError):
    """The machine is to be taken away; what was done is saved, and goes on elsewhere."""


def given() -> bool:
    """Whether the notice has come."""
    return _given.is_set()


@contextmanager
def heeded() -> Iterator[None]:
    """Within it the notice doesn't end the process: the block looks at :func:`given` and saves."""
    global _heeding
    with _lock:
        _heeding += 1
    try:
        yield
    finally:
        with _lock:
            _heeding -= 1


def listen(grace: float = GRACE) -> None:
    """Take SIGTERM as the notice from here on; to be called by the process's main thread."""
    before = signal.getsignal(signal.SIGTERM)

    def notice(number: int, frame: FrameType | None) -> None:
        if _given.is_set():
            return  # said again: the state is being saved
        if _heeding:
            _given.set()
            last = threading.Timer(grace, os._exit, (EXIT_STATUS,))
            last.daemon = True
            last.start()
        elif callable(before):
            before(number, frame)
        else:
            os._exit(EXIT_STATUS)

    if getattr(before, "__qualname__", "") != notice.__qualname__:
        signal.signal(signal.SIGTERM, notice)
