"""Batches of a run by step, made ahead of time in the background where that pays."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from weam_ray.pretraining.batches import Batch, Batches


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step's data on this worker.

    Attributes:
        replay: whether it is monolingual MLM, whatever the objective.
        parts: the worker's micro-batches.
    """

    replay: bool
    parts: list[Batch]


Source = Callable[[int, int], Iterator[Step]]
"""Steps from the first number to the one before the second, made by somebody else."""


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """Bilingual batches, and replay spread evenly among them; a step's are known by its number.

    Attributes:
        source: hands over the same steps, made elsewhere; None: they are made here.
    """

    batches: Batches
    replay: Batches | None = None
    replay_share: float = 0.0
    source: Source | None = None

    def step(self, number: int) -> Step:
        """The data of step `number`, from 0."""
        before = math.floor(number * self.replay_share)
        if self.replay is not None and math.floor((number + 1) * self.replay_share) > before:
            return Step(True, self.replay.batch(before))
        return Step(False, self.batches.batch(number - before))

    def own_steps(self, steps: int) -> int:
        """How many of the first `steps` are not replay."""
        return steps - math.floor(steps * self.replay_share)

    def steps(self, first: int, stop: int, ahead: int = 0) -> Generator[Step, None, None]:
        """Steps `first` to `stop` − 1, in order.

        Args:
            first: number of the first step.
            stop: number after the last.
            ahead: how many steps a background thread may be ahead of the reader. With 0 there is
                none: on a CPU it would only take turns with the training for the interpreter.
        """
        if self.source is not None:
            yield from self.source(first, stop)
        elif not ahead:
            yield from map(self.step, range(first, stop))
        else:
            with _Ahead(self, first, stop, ahead) as made:
                yield from made


class _Ahead:
    """A thread that makes steps and a queue that hands them over; an error is raised here."""

    def __init__(self, feed: Feed, first: int, stop: int, depth: int) -> None:
        self._feed, self._numbers = feed, range(first, stop)
        self._queue: queue.Queue[Step | BaseException] = queue.Queue(depth)
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._make, name="batches", daemon=True)

    def __enter__(self) -> Iterator[Step]:
        self._thread.start()
        return self._read()

    def __exit__(self, *_: object) -> None:
        self._given_up.set()
        self._thread.join()

    def _read(self) -> Iterator[Step]:
        for _ in self._numbers:
            made = self._queue.get()
            if isinstance(made, BaseException):
                raise made
            yield made

    def _make(self) -> None:
        try:
            for number in self._numbers:
                if not self._put(self._feed.step(number)):
                    return
        except BaseException as error:  # handed to the reader, who raises it
            self._put(error)

    def _put(self, made: Step | BaseException) -> bool:
        while not self._given_up.is_set():
            try:
                self._queue.put(made, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
