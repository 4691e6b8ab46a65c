"""EM over Ray actors: each owns some target word types; one number a source word travels.

What travels, counted in :class:`Traffic`:

- once: the source side, to each node that has workers (objects are shared inside a node); a
  worker's own records, sorted, 6 bytes a target word; back from it, which source words it meets.
- per iteration: down, one float64 for each source word that the worker meets; up, one int64 for
  each. Expected counts, the bulk of EM, never travel.
- at the end: 2 bytes a target word up, 8 more where scores are wanted.

A worker that dies is replaced: its counts follow from its records, which the driver's node holds,
and from the parameters of the iterations so far, which are replayed. Links are the same bit for
bit, since totals are integers and a shard's counts depend on nothing but these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from weam_ray.alignment import em, memory
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.kernels import Occurrences
from weam_ray.alignment.shard import Entries, Parameters, Partial, Shard, Told
from weam_ray.alignment.text import Ground, Records, Text, cells_by_type, sorted_in_runs
from weam_ray.errors import AlignerError, ResourceError

_LOST = (RayActorError, ObjectLostError)
TRIES = 3
"""A worker that dies so often in a row without an answer is not replaced again."""
_LOOK_SECONDS = 5.0


@dataclass(kw_only=True)
class Traffic:
    """Bytes of arrays sent between the coordinator and the workers of one direction."""

    pairs: int
    workers: int
    source_types: int
    met: list[int] = field(default_factory=list)
    """Source words that each worker meets."""
    ground: int = 0
    """The source side, once to each node with workers."""
    nodes: int = 0
    records: int = 0
    """Down, once: all workers' own target words."""
    words: int = 0
    """Up, once: which source words each worker meets, and their counts where wanted."""
    down: list[int] = field(default_factory=list)
    """Parameters, one entry an iteration."""
    up: list[int] = field(default_factory=list)
    """Totals, one entry an iteration."""
    links: int = 0
    """Up, once."""
    replayed: int = 0
    """Down again, to replacements."""
    replaced: int = 0
    """Workers that died and were replaced."""

    @property
    def per_iteration_and_pair(self) -> float:
        """Bytes in both directions, mean over iterations."""
        return (sum(self.down) + sum(self.up)) / max(1, len(self.up)) / max(1, self.pairs)


class _Worker:
    """The process that owns a shard. Source words travel as those that it meets, ascending."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def where(self) -> tuple[int, str]:
        """Process id and node, once it runs."""
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def take(
        self,
        ground: Ground,
        records: Records,
        config: AlignmentConfig,
        past: Sequence[tuple[float, NDArray[np.float64]]],
    ) -> NDArray[np.int32]:
        """Begin a shard, and bring it to where its predecessor was."""
        self._types = ground.types
        self._shard = Shard(ground, [records], config, threads=self._threads)
        self._words = self._shard.source_words()
        for parameters in past:
            self._shard.step(self._all(*parameters))
        return self._words

    def discover(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As the shard's, of source words that it meets."""
        of_sources, of_targets = self._shard.discover()
        return of_sources[self._words], of_targets

    def step(self, tension: float, inverse: NDArray[np.float64]) -> Partial:
        """As the shard's, likewise."""
        partial = self._shard.step(self._all(tension, inverse))
        return Partial(partial.totals[self._words], partial.sums)

    def links(
        self, tension: float, inverse: NDArray[np.float64], scores: bool
    ) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
        """As the shard's."""
        return self._shard.links(self._all(tension, inverse), scores=scores)

    def entries(self, tension: float, inverse: NDArray[np.float64]) -> list[Entries]:
        """As the shard's."""
        return list(self._shard.entries(self._all(tension, inverse)))

    def _all(self, tension: float, inverse: NDArray[np.float64]) -> Parameters:
        # A word that the shard does not meet takes part in nothing it does.
        whole = np.zeros(self._types + 1)
        whole[self._words] = inverse
        return Parameters(tension, whole)


@dataclass(eq=False)
class _Post:
    """A shard's place: whoever works there now."""

    number: int
    actor: Any = None
    pid: int = 0
    node: str = ""
    records: Any = None
    words: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))


class Crew:
    """Actors that work on one direction after the other: ``with Crew(8) as crew: align_encoded(...,
    hire=crew)``. All CPUs and memory are reserved together or not at all, so two crews never hold
    half of what each needs.

    Args:
        workers: actors, each with a shard.
        threads: CPUs of each.
        patience: seconds to wait for a dead worker's CPUs to come back, on its node or another one;
            after that its replacement runs beside other work.

    Raises:
        ResourceError: the cluster can't hold so many workers; with both figures.
        AlignerError: a worker dies again and again.
    """

    def __init__(self, workers: int, *, threads: int = 1, patience: float = 30.0) -> None:
        self.workers = workers
        """How many have a shard; between directions it may be lowered."""
        self.threads = threads
        self.patience = patience
        self.traffic: list[Traffic] = []
        """One entry a direction."""
        self._group: Any = None
        self._posts: list[_Post] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for post in self._posts:
            if post.actor is not None:
                ray.kill(post.actor)
        self._posts = []
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    @contextmanager
    def __call__(self, text: Text, config: AlignmentConfig) -> Iterator[em.Team]:
        """The team of one direction."""
        if not self._posts:
            self.assemble(memory.of_shard(text, config, self.workers, self.threads))
        traffic = Traffic(
            pairs=len(text.source), workers=self.workers, source_types=text.source.types
        )
        self.traffic.append(traffic)
        yield _Team(self, text, config, traffic)

    def facts(self) -> dict[str, Any]:
        """What the crew was and sent, as JSON values."""
        return {
            "count": self.workers,
            "threads": self.threads,
            "replaced": sum(traffic.replaced for traffic in self.traffic),
            "traffic": [
                {**asdict(traffic), "per_iteration_and_pair": traffic.per_iteration_and_pair}
                for traffic in self.traffic
            ],
        }

    @property
    def pids(self) -> list[int]:
        """Process ids, on their own nodes."""
        return [post.pid for post in self.posts]

    def assemble(self, memory_each: int) -> None:
        """Reserve and start everyone; done at the first direction, if not before."""
        bundle = {"CPU": float(self.threads)}
        if memory_each:
            bundle["memory"] = float(memory_each)
        _refuse_impossible(bundle, self.workers)
        self._group = placement_group([bundle] * self.workers, strategy="PACK")
        ready = self._group.ready()
        while not ray.wait([ready], timeout=_LOOK_SECONDS)[0]:
            # Others' work is waited for; a cluster that has shrunk meanwhile is not.
            _refuse_impossible(bundle, self.workers)
        self._posts = [_Post(number) for number in range(self.workers)]
        for post in self._posts:
            self._start(post)
        for post in self._posts:
            post.pid, post.node = ray.get(post.actor.where.remote())

    def _start(self, post: _Post, node: str | None = None) -> None:
        # In the reserved CPUs, or beside other work on a node.
        options: dict[str, Any] = {"num_cpus": 0 if node else self.threads, "max_restarts": 0}
        options["scheduling_strategy"] = (
            NodeAffinitySchedulingStrategy(node, soft=True)
            if node
            else PlacementGroupSchedulingStrategy(self._group, post.number)
        )
        post.actor = ray.remote(_Worker).options(**options).remote(self.threads)

    def _node_beside(self, post: _Post) -> str:
        # Not where it died, as long as others work elsewhere: Ray may still take a lost machine for
        # one that lives, and wait for it for a minute.
        others = sorted(each.node for each in self._posts if each.node not in ("", post.node))
        own: str = ray.get_runtime_context().get_node_id()
        return min(others, key=others.count, default=own)

    def replace(self, post: _Post) -> None:
        """Someone new at a post: with the reserved CPUs if they are there, else without."""
        ray.kill(post.actor)
        self._start(post)
        where = post.actor.where.remote()
        if not ray.wait([where], timeout=self.patience)[0]:
            ray.kill(post.actor)
            self._start(post, self._node_beside(post))
            where = post.actor.where.remote()
        # Should it have died already, whoever asks it next will see.
        with suppress(RayActorError):
            post.pid, post.node = ray.get(where)

    @property
    def posts(self) -> Sequence[_Post]:
        """All places that have a shard, in the order of types."""
        return self._posts[: self.workers]


class _Team:
    """A :class:`.em.Team` whose shards are actors. It tells of no blocks: an actor that counts
    answers nothing else, and all are done at about the same time.
    """

    def __init__(self, crew: Crew, text: Text, config: AlignmentConfig, traffic: Traffic) -> None:
        self._crew = crew
        self._config = config
        self._traffic = traffic
        self._types = text.source.types
        self._past: list[Parameters] = []
        self._ground = ray.put(text.ground)
        cells = cells_by_type(text)
        for post, (first, last) in zip(
            crew.posts, em.split_types(cells, crew.workers), strict=True
        ):
            runs = list(sorted_in_runs(text, cells, first, last, max(1, text.words)))
            records = runs[0] if runs else _no_records(first)
            traffic.records += records.nbytes
            post.records = ray.put(records)
        for post, words in zip(crew.posts, self._ask(self._take), strict=True):
            post.words = words
        nodes = {post.node for post in crew.posts}
        traffic.nodes = len(nodes)
        traffic.ground = text.ground.nbytes * len(nodes)
        traffic.met = [len(post.words) for post in crew.posts]
        traffic.words = sum(post.words.nbytes for post in crew.posts)

    def discover(self, told: Told) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who meets whom."""
        found = []
        for post, (of_sources, of_targets) in zip(
            self._crew.posts, self._ask(lambda post: post.actor.discover.remote()), strict=True
        ):
            self._traffic.words += of_sources.nbytes + of_targets.nbytes
            found.append((self._all(post, of_sources), of_targets))
        return em.together(found)

    def step(self, parameters: Parameters, told: Told) -> Sequence[Partial]:
        """One iteration on all workers at a time."""
        answers = self._ask(lambda post: post.actor.step.remote(*_for(post, parameters)))
        self._past.append(parameters)
        met = sum(len(post.words) for post in self._crew.posts)
        self._traffic.down.append(8 * (met + len(answers)))
        self._traffic.up.append(sum(part.totals.nbytes + part.sums.nbytes for part in answers))
        whole = Partial(np.zeros(self._types + 1, np.int64), np.zeros(3, np.int64))
        for post, partial in zip(self._crew.posts, answers, strict=True):
            whole.totals[post.words] += partial.totals
            whole.sums += partial.sums
        return [whole]

    def links(
        self, parameters: Parameters, *, scores: bool, told: Told
    ) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
        """Read off on all workers at a time."""
        found = self._ask(lambda post: post.actor.links.remote(*_for(post, parameters), scores))
        self._traffic.links = sum(
            links.nbytes + (0 if of_records is None else of_records.nbytes)
            for links, of_records in found
        )
        return em.end_to_end(found)

    def entries(self, parameters: Parameters) -> Iterator[Entries]:
        """From all workers, in the order of types."""
        found = self._ask(lambda post: post.actor.entries.remote(*_for(post, parameters)))
        return (part for parts in found for part in parts)

    def _take(self, post: _Post) -> Any:
        past = [_for(post, parameters) for parameters in self._past]
        return post.actor.take.remote(self._ground, post.records, self._config, past)

    def _ask(self, call: Callable[[_Post], Any]) -> list[Any]:
        # All workers' answers, in the order of posts; whoever dies before answering is replaced,
        # brought to the same iteration, and asked again.
        waiting = {call(post): post for post in self._crew.posts}
        answers: dict[int, Any] = {}
        lost = [0] * len(waiting)
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            post = waiting.pop(ready)
            try:
                answers[post.number] = ray.get(ready)
            except _LOST as error:
                lost[post.number] += 1
                if lost[post.number] > TRIES:
                    raise AlignerError(
                        f"worker {post.number + 1} of {len(lost)} died {TRIES + 1} times in a row",
                        place=f"node {post.node}",
                        cure="See its log (ray logs); if it ran out of memory, use more workers on"
                        " more machines.",
                    ) from error
                self._crew.replace(post)
                self._traffic.replaced += 1
                self._traffic.replayed += 8 * len(post.words) * len(self._past)
                if call != self._take:
                    self._take(post)
                waiting[call(post)] = post
        return [answers[post.number] for post in self._crew.posts]

    def _all(self, post: _Post, values: NDArray[np.int64]) -> NDArray[np.int64]:
        whole = np.zeros(self._types + 1, np.int64)
        whole[post.words] = values
        return whole


def _for(post: _Post, parameters: Parameters) -> tuple[float, NDArray[np.float64]]:
    return parameters.tension, parameters.inverse[post.words]


def _no_records(first: int) -> Records:
    none = Occurrences(np.empty(0, np.int32), np.empty(0, np.uint16), np.zeros(1, np.int64))
    return Records(first, none, np.zeros(0, np.int64))


def _refuse_impossible(bundle: dict[str, float], count: int) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        min(int(node.get(kind, 0.0) // wanted) for kind, wanted in bundle.items()) for node in nodes
    )
    if room < count:
        cpus = sum(node.get("CPU", 0.0) for node in nodes)
        there = sum(node.get("memory", 0.0) for node in nodes)
        raise ResourceError(
            f"{count} workers of {bundle['CPU']:g} CPU and {memory.size(bundle.get('memory', 0.0))}"
            " each,"
            f" and the cluster has room for {room}"
            f" ({cpus:g} CPU, {memory.size(there)} on {len(nodes)} machines)",
            cure="Ask for fewer workers or threads, or for more machines.",
        )
