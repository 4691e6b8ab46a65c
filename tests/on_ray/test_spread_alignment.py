"""EM over Ray actors gives the bits of one process, whoever dies meanwhile."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_study import small_study

from weam_ray.alignment import Alignment, AlignmentConfig, align_encoded
from weam_ray.alignment.encoding import Side, encode_words
from weam_ray.artifacts import Artifact, Store, ensure
from weam_ray.errors import AlignerError, ResourceError
from weam_ray.experiment import MAKERS
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.progress import Progress
from weam_ray.study.data import find_data
from weam_ray.study.grid import expand

if TYPE_CHECKING:
    from weam_ray.on_ray.alignment import Crew

pytestmark = [pytest.mark.ray, pytest.mark.slow]
CONFIG = AlignmentConfig(casefold=False, symmetrisation="grow-diag-final-and")
STEPS = CONFIG.iterations


@pytest.fixture(scope="module")
def ray_here() -> Iterator[dict[str, float]]:
    """One Ray for all; more CPUs than there are, since its workers hardly work."""
    with ray_runtime(cpus=16) as resources:
        yield resources


@pytest.fixture(scope="module")
def crew(ray_here) -> Iterator[Crew]:
    """Eight actors for all: starting one takes longer than what it does here."""
    from weam_ray.on_ray.alignment import Crew

    with Crew(8) as eight:
        yield eight


@pytest.fixture(scope="module")
def sides() -> tuple[Side, Side]:
    rng = random.Random(6)
    source = [[f"s{int(rng.paretovariate(0.7)) % 70}" for _ in range(9)] for _ in range(400)]
    target = [["t" + word[1:] for word in words if rng.random() < 0.8] for words in source]
    return encode_words(source)[0], encode_words(target)[0]


@pytest.fixture(scope="module")
def alone(sides: tuple[Side, Side]) -> Alignment:
    return align_encoded(*sides, CONFIG, scores=True, models=True)


def assert_same(one: Alignment, other: Alignment) -> None:
    assert one.forward == other.forward
    assert one.reverse == other.reverse
    assert one.links == other.links
    assert one.history == other.history
    assert np.array_equal(one.scores, other.scores)


def spread(crew: Crew, workers: int, sides: tuple[Side, Side], **options: Any) -> Alignment:
    crew.workers = workers
    crew.traffic = []
    return align_encoded(*sides, CONFIG, hire=crew, scores=True, **options)


@pytest.mark.parametrize("workers", [8, 3, 2, 1])
def test_links_are_the_same_bit_for_bit_on_any_number_of_actors(crew, sides, alone, workers):
    crew.workers = 8  # all are there before some rest
    made = spread(crew, workers, sides, models=workers == 3)
    assert_same(made, alone)
    if workers == 3:
        for one, other in zip(made.models, alone.models, strict=True):
            for name, array in vars(one).items():
                assert np.array_equal(array, getattr(other, name)), name


def test_what_travels_is_counted(crew, sides):
    spread(crew, 2, sides)
    forward, reverse = crew.traffic
    for traffic, (given, explained) in ((forward, sides), (reverse, sides[::-1])):
        assert traffic.down == [8 * (sum(traffic.met) + 2)] * (STEPS - 2)
        assert traffic.up == [8 * (sum(traffic.met) + 2 * 3)] * (STEPS - 2)
        assert max(traffic.met) <= given.types + 1
        assert traffic.links == (2 + 8) * len(explained.tokens)
        assert traffic.records == 6 * len(explained.tokens) + 8 * (2 * explained.types + 2)
        assert given.tokens.nbytes < traffic.ground < 20 * given.tokens.nbytes
        assert (traffic.replaced, traffic.replayed) == (0, 0)
    assert crew.facts()["traffic"][0]["per_iteration_and_pair"] == pytest.approx(
        (forward.down[0] + forward.up[0]) / 400
    )


@pytest.mark.parametrize("when", [1, 3, STEPS, STEPS + 2])
def test_an_actor_killed_in_mid_em_costs_time_and_no_link(crew, sides, alone, when):
    before = []

    def kill(progress: Progress) -> None:
        if progress.done == when:
            before.append(crew.pids[1])
            os.kill(crew.pids[1], signal.SIGKILL)

    made = spread(crew, 2, sides, report=kill)
    assert crew.pids[1] != before[0]
    assert_same(made, alone)
    assert crew.facts()["replaced"] == 1


def test_workers_that_no_cluster_of_this_size_holds_are_refused_with_both_figures(ray_here, sides):
    from weam_ray.on_ray.alignment import Crew

    with (
        Crew(5, threads=4) as crew,
        pytest.raises(ResourceError, match=r"5 workers of 4 CPU .* room for 4 \(16 CPU"),
    ):
        align_encoded(*sides, CONFIG, hire=crew)


def test_two_crews_that_need_most_cpus_take_turns(crew, sides, alone):
    from weam_ray.on_ray.alignment import Crew

    def run(_: int) -> Alignment:
        with Crew(1, threads=5) as large:
            return spread(large, 1, sides)

    assert crew.pids  # holds 8 of 16 CPUs
    with ThreadPoolExecutor(2) as pool:
        for made in pool.map(run, range(2), timeout=120):
            assert_same(made, alone)


def test_an_actor_that_dies_again_and_again_is_given_up(crew, sides, monkeypatch):
    from weam_ray.on_ray import alignment

    replace = crew.replace

    def cursed(post) -> None:
        replace(post)
        os.kill(post.pid, signal.SIGKILL)

    def kill(progress: Progress) -> None:
        os.kill(crew.pids[0], signal.SIGKILL)

    monkeypatch.setattr(alignment, "TRIES", 1)
    monkeypatch.setattr(crew, "replace", cursed)
    with pytest.raises(AlignerError, match="worker 1 of 1 died 2 times in a row"):
        spread(crew, 1, sides, report=kill)


def test_a_large_corpus_is_spread_and_its_links_are_those_of_one_cpu(ray_here, tmp_path: Path):
    from weam_ray.on_ray.data import align_corpora

    def links(storage: Path, pairs_per_worker: int | None) -> Artifact:
        study = small_study(storage)
        store = Store(storage / "store")
        grid = expand(study, find_data(study, store))
        experiment = next(cell.experiment for cell in grid.cells if cell.experiment.links)
        (step,) = experiment.links
        ensure(step.upstream["corpus"], store, MAKERS)
        if pairs_per_worker is None:
            return ensure(step, store, MAKERS)
        align_corpora([step], store, pairs_per_worker=pairs_per_worker)
        found = store.find(step)
        assert found is not None
        return found

    alone = links(tmp_path / "one", None)
    spread = links(tmp_path / "many", (alone.facts["pairs"] + 1) // 2)
    assert spread.facts["workers"]["count"] == 2
    assert spread.address == alone.address
    files = [each.path / "links.parquet" for each in (alone, spread)]
    assert files[0].read_bytes() == files[1].read_bytes()
