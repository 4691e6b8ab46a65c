"""A cluster that grows and shrinks under a sweep: what it has now, and what the sweep could use.

A sweep hands out no more jobs than there is room for, so an autoscaler would see no demand and
never start a machine. It is told of the jobs that wait; and machines that join late, or are lost,
change what the sweep takes for room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from weam_ray.on_ray.cluster import cluster_address
from weam_ray.on_ray.jobs import Job

Resources = Mapping[str, float]
_SECONDS = 2.0
_MOST = 256
"""Jobs that are asked room for at a time; the cluster file says how many machines there may be."""


class Growth:
    """Looks at the cluster now and then.

    Args:
        resources: what there was when the sweep joined.
        now: what there is.
        ask: told what the sweep could use, a bundle for each worker; none at the end.
    """

    def __init__(
        self,
        resources: Resources,
        now: Callable[[], Resources],
        ask: Callable[[list[dict[str, float]]], None],
    ) -> None:
        self._known = dict(resources)
        self._now = now
        self._ask = ask
        self._asked: list[dict[str, float]] = []
        self._looked = time.monotonic()

    def look(self, running: Sequence[Job], waiting: Sequence[Job]) -> dict[str, float]:
        """Ask for what these jobs want; returns what the cluster gained (or, below 0, lost)."""
        if time.monotonic() - self._looked < _SECONDS:
            return {}
        self._looked = time.monotonic()
        self._tell([*running, *waiting][:_MOST])
        now = self._now()
        gained = {kind: now.get(kind, 0.0) - self._known.get(kind, 0.0) for kind in ("CPU", "GPU")}
        self._known = dict(now)
        return {kind: amount for kind, amount in gained.items() if amount}

    def close(self) -> None:
        """Nothing more is wanted: idle machines may go."""
        self._tell([])

    def _tell(self, jobs: Sequence[Job]) -> None:
        bundles = [
            {"CPU": float(job.threads), **({"GPU": job.gpus} if job.gpus else {})}
            for job in jobs
            for _ in range(job.workers)
        ]
        if bundles != self._asked:
            self._ask(bundles)
            self._asked = bundles


def of_this_cluster(resources: Resources) -> Growth:
    """The joined cluster's; a Ray of this process alone stays as it is, and is not asked."""
    import ray
    from ray.autoscaler.sdk import request_resources

    if cluster_address() is None:
        return Growth(resources, now=lambda: resources, ask=lambda bundles: None)
    return Growth(
        resources,
        now=ray.cluster_resources,
        ask=lambda bundles: request_resources(bundles=bundles),
    )
