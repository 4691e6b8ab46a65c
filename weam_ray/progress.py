"""How a running stage tells whoever listens what it is doing; it never knows who that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report of a running stage.

    ``metrics`` are values of this moment (``loss``, ``accuracy/qaa``), by the names MLflow shows.
    A stage may report as often as is cheap for it; who listens leaves out what is too often.
    """

    stage: str
    done: int
    total: int
    share: float = 0.0
    """Of the unit that follows the ``done`` ones; at least 0 and less than 1."""
    metrics: Mapping[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The listener of a stage that nobody watches."""
