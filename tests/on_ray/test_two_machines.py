"""Two machines, both there or one lost in mid-EM: the links are those of one process."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from weam_ray.alignment import AlignmentConfig, align_encoded
from weam_ray.alignment.encoding import Side, encode_words
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.progress import Progress

if TYPE_CHECKING:
    from weam_ray.on_ray.alignment import Crew

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture
def machines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head and a second machine, as far as Ray knows, of so many CPUs each; of one, if unsaid."""
    cpus = getattr(request, "param", 1)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # A dead machine is noticed within a second, not within half a minute.
    noticing = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 200,
        "health_check_timeout_ms": 1000,
        "health_check_failure_threshold": 3,
    }
    head = {"num_cpus": cpus, "include_dashboard": False, "_system_config": noticing}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=cpus)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def bitext() -> tuple[Side, Side]:
    rng = random.Random(1)
    source = [[f"s{int(rng.paretovariate(0.7)) % 70}" for _ in range(9)] for _ in range(300)]
    target = [["t" + word[1:] for word in words if rng.random() < 0.8] for words in source]
    return encode_words(source)[0], encode_words(target)[0]


@pytest.mark.parametrize("machines", [4], indirect=True)
def test_workers_on_two_machines_give_the_bits_of_one_process(machines: Cluster) -> None:
    sides = bitext()
    config = AlignmentConfig(symmetrisation="grow-diag-final-and")
    alone = align_encoded(*sides, config, scores=True)
    with ray_runtime():
        from weam_ray.on_ray.alignment import Crew

        with Crew(8) as crew:
            for workers in (8, 3, 2, 1):
                crew.workers = workers
                spread = align_encoded(*sides, config, hire=crew, scores=True)
                assert spread.links == alone.links
                assert spread.history == alone.history
                assert np.array_equal(spread.scores, alone.scores)
                assert crew.traffic[-1].nodes == min(workers, 2)
                if workers == 8:
                    # Of the two machines by turns, so that fewer workers are still on both.
                    here, there = by_node(crew)
                    crew._posts = [post for both in zip(here, there, strict=True) for post in both]


def by_node(crew: Crew) -> list[list[Any]]:
    found: dict[str, list[Any]] = {}
    for post in crew.posts:
        found.setdefault(post.node, []).append(post)
    return list(found.values())


def test_a_machine_lost_in_mid_em_costs_time_and_no_link(machines: Cluster) -> None:
    sides = bitext()
    config = AlignmentConfig(symmetrisation="grow-diag-final-and")
    alone = align_encoded(*sides, config)
    with ray_runtime():
        from weam_ray.on_ray.alignment import Crew

        with Crew(2, patience=1.0) as crew:

            def lose(progress: Progress) -> None:
                if progress.done == config.iterations + 2:
                    (second,) = machines.worker_nodes
                    here = ray.get_runtime_context().get_node_id()
                    lost = [post.pid for post in crew.posts if post.node != here]
                    machines.remove_node(second, allow_graceful=False)
                    # A lost machine's processes are lost with it; these would work on for a while.
                    for pid in lost:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)

            spread = align_encoded(*sides, config, hire=crew, report=lose)
    forward, reverse = crew.traffic
    assert (forward.nodes, forward.replaced) == (2, 0)
    # More than once if the first replacement went to the machine before its loss was known.
    assert reverse.replaced >= 1
    assert spread.links == alone.links
    assert spread.forward == alone.forward
    assert spread.reverse == alone.reverse
    assert spread.history == alone.history
