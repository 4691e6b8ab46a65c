"""What dies, and that it changes no result: a worker in a cell, in an alignment, and the head.

Three hosts: a head that runs no cells, and two workers of one CPU. The study is the demo cut to
four cells of a few steps over two language pairs.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from by_hand import EVERYTHING, ByHand, drafts, ended, forget, kill, wait_for
from hosts import SHARED, Lan, why_not
from launched import hosts_at_work, predictions
from measured import note
from numpy.typing import NDArray
from safetensors.numpy import load_file

from weam_ray.alignment import AlignmentConfig, align_table
from weam_ray.artifacts import Store

pytestmark = [pytest.mark.cluster, pytest.mark.thorough, pytest.mark.slow, pytest.mark.timeout(600)]

FloatArray = NDArray[np.float32]
CELLS = 4
TINY = (
    "base.steps=20",
    "pretraining.steps=10",
    "transfer.steps=10",
    "grid.pair=[en-qaa,en-qab]",
    "grid.size=[250]",
    "grid.seed=[0,1]",
    "grid.method=[weam]",
    "extra=[]",
)
LONG = 600
"""Steps of a cell that can be told to go while it trains."""
TOLERANCE = 1e-3
"""How far two workers end from one, of the way that training went: they sum the same gradients in
another order. Not of each weight by itself: a key's bias has no gradient but rounding, and Adam
makes steps of it as long as any."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    if reason := why_not():
        pytest.skip(reason)
    with Lan(folder=tmp_path_factory.mktemp("faults") / "hosts", servers=3) as lan:
        by_hand = ByHand(lan=lan)
        by_hand.start()
        yield by_hand


class Study:
    """The tiny study in the hosts' shared folder: its store as the machine outside sees it."""

    def __init__(self, cluster: ByHand, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.folder = cluster.lan.folder / "shared" / name
        self.store = self.folder / "store"
        self.seconds = 0.0

    def run(self, log: Path, *settings: str) -> str:
        """To its end; returns what it said."""
        started = time.monotonic()
        with self.cluster.sweep(log, f"{SHARED}/{self.name}", (*TINY, *settings)) as sweep:
            assert ended(sweep, log) == 0, log.read_text()
        self.seconds = time.monotonic() - started
        return log.read_text()

    def without(self, name: str, *stages: str) -> Study:
        """A copy in which these stages have yet to be made."""
        other = Study(self.cluster, name)
        shutil.copytree(self.folder, other.folder)
        forget(other.store, *stages)
        return other


@pytest.fixture(scope="module")
def undisturbed(cluster: ByHand, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study that nothing happened to."""
    study = Study(cluster, "undisturbed")
    folder = tmp_path_factory.mktemp("undisturbed")
    said = study.run(folder / "log")
    assert f"{CELLS} of {CELLS} cells done" in said
    assert len(predictions(study.store)) == CELLS
    return study


@pytest.fixture(scope="module")
def usual(undisturbed: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Seconds that the work takes which each fault is to disturb, on the same hosts."""
    taken, cells = {}, ("encoder", "transfer", "retrieval")
    for name, stages in (("cells", cells), ("links", ("links", *cells))):
        again = undisturbed.without(f"usual-{name}", *stages)
        again.run(tmp_path_factory.mktemp("usual") / "log")
        taken[name] = again.seconds
    return taken


def lost(what: str, when: str, study: Study, usual: float, equal: bool) -> None:
    note(
        f"fault: {what}",
        when=when,
        seconds=round(study.seconds, 1),
        lost=round(study.seconds - usual, 1),
        equal=equal,
    )


def test_a_worker_killed_in_mid_cell_changes_no_result(
    cluster: ByHand, undisturbed: Study, usual: dict[str, float], tmp_path: Path
) -> None:
    study = undisturbed.without("mid-cell", "encoder", "transfer", "retrieval")
    started, log = time.monotonic(), tmp_path / "log"
    with cluster.sweep(log, f"{SHARED}/{study.name}", TINY) as sweep:
        wait_for(lambda: drafts(study.store, "transfer", *cluster.workers), sweep, log)
        victim = drafts(study.store, "transfer", *cluster.workers)[0]
        kill(victim, *EVERYTHING)
        assert ended(sweep, log) == 0, log.read_text()
    study.seconds = time.monotonic() - started
    equal = predictions(study.store) == predictions(undisturbed.store)
    lost("a worker", "in fine-tuning a cell", study, usual["cells"], equal)
    assert equal
    cluster.join(victim)


def test_a_worker_killed_in_an_alignment_changes_no_link(
    cluster: ByHand, undisturbed: Study, usual: dict[str, float], tmp_path: Path
) -> None:
    study = undisturbed.without("mid-alignment", "links", "encoder", "transfer", "retrieval")
    started, log = time.monotonic(), tmp_path / "log"
    with cluster.sweep(log, f"{SHARED}/{study.name}", TINY) as sweep:
        wait_for(lambda: drafts(study.store, "links", *cluster.workers), sweep, log)
        victim = drafts(study.store, "links", *cluster.workers)[0]
        kill(victim, *EVERYTHING)
        assert ended(sweep, log) == 0, log.read_text()
    study.seconds = time.monotonic() - started
    equal = _links(study.store) == _links(undisturbed.store)
    equal = equal and predictions(study.store) == predictions(undisturbed.store)
    lost("a worker that aligns", "in EM", study, usual["links"], equal)
    assert equal
    cluster.join(victim)


def _links(store: Path) -> dict[str, bytes]:
    return {
        folder.name: (folder / "links.parquet").read_bytes()
        for folder in (store / "links").iterdir()
    }


def test_alignment_on_the_hosts_is_that_of_one_process_bit_for_bit(undisturbed: Study) -> None:
    store = Store(undisturbed.store)
    found = [store.find(address) for address in store.addresses("links")]
    assert len(found) == 2
    for links in found:
        assert links is not None
        corpus = store.find(links.record["upstream"]["corpus"])
        assert corpus is not None
        pairs = pq.read_table(corpus.path / "pairs.parquet")
        config = AlignmentConfig.model_validate(links.record["config"]["alignment"])
        here, _ = align_table(pairs, config, threads=1)
        assert here.equals(pq.read_table(links.path / "links.parquet"))


def test_a_machine_that_joins_late_is_used(
    cluster: ByHand, undisturbed: Study, tmp_path: Path
) -> None:
    study = undisturbed.without("late", "encoder", "transfer", "retrieval")
    early, late = cluster.workers
    kill(late, *EVERYTHING)
    log = tmp_path / "log"
    with hosts_at_work(study.store) as seen:
        with cluster.sweep(log, f"{SHARED}/{study.name}", TINY) as sweep:
            wait_for(lambda: drafts(study.store, "encoder", early), sweep, log)
            cluster.join(late)
            assert ended(sweep, log) == 0, log.read_text()
    assert {"node2", "node3"} <= seen["encoder"] | seen["transfer"]
    assert predictions(study.store) == predictions(undisturbed.store)


def test_a_machine_told_to_go_saves_its_cell_which_goes_on_elsewhere(
    cluster: ByHand, undisturbed: Study, tmp_path: Path
) -> None:
    long = ("grid.pair=[en-qaa]", "grid.seed=[0]", f"pretraining.steps={LONG}")
    study = undisturbed.without("told", "encoder", "transfer", "retrieval")
    log, job = tmp_path / "log", study.folder / "studies" / "demo" / "logs"
    started = time.monotonic()
    with cluster.sweep(log, f"{SHARED}/{study.name}", (*TINY, *long)) as sweep:
        wait_for(lambda: _steps(job), sweep, log)
        (victim,) = drafts(study.store, "encoder", *cluster.workers)
        told = victim.run("python -m weam_ray.on_ray.spot --now", **cluster.environment).stdout
        assert "told " in told and "told 0 " not in told
        assert ended(sweep, log) == 0, log.read_text()
    study.seconds = time.monotonic() - started
    said = "\n".join(path.read_text() for path in job.glob("*.log"))
    (saved,) = {int(step) for step in re.findall(r"encoder was saved at step (\d+)", said)}
    assert 0 < saved < LONG
    assert not any(0 < step < saved for step in _steps(job, after="was saved"))
    assert not list((study.store / "tmp").glob("kept-*")), "a checkpoint outlived its cell"

    quiet = undisturbed.without("not-told", "encoder", "transfer", "retrieval")
    quiet.run(tmp_path / "quiet", *long)
    equal = predictions(study.store) == predictions(quiet.store)
    lost("a machine with notice", f"step {saved} of {LONG}", study, quiet.seconds, equal)
    assert equal
    kill(victim, *EVERYTHING)
    cluster.join(victim)


def _steps(logs: Path, after: str = "") -> list[int]:
    """Steps of pre-training that were reported; ``after`` a line that has these words."""
    text = "".join(path.read_text() for path in logs.glob("*.log")).rpartition(after or "\0")[2]
    return [int(step) for step in re.findall(rf"encoder (\d+)/{LONG}", text)]


def test_two_machines_that_train_one_encoder_together_end_where_one_does(
    cluster: ByHand, undisturbed: Study, tmp_path: Path
) -> None:
    study = undisturbed.without("together", "encoder", "transfer", "retrieval")
    one_cell = ("grid.pair=[en-qaa]", "grid.seed=[0]", "resources.cell_workers=2")
    study.run(tmp_path / "log", *one_cell)
    (together,) = (study.store / "encoder").iterdir()
    alone = undisturbed.store / "encoder" / together.name
    (base,) = (study.store / "base").iterdir()
    start, one, two = (
        load_file(folder / "model.safetensors") for folder in (base, alone, together)
    )
    assert one.keys() == two.keys()
    apart = _distance(one, two) / _distance(one, start)
    note("two workers on two hosts against one", apart=apart, steps=10)
    assert apart < TOLERANCE


def _distance(one: Mapping[str, FloatArray], two: Mapping[str, FloatArray]) -> float:
    squares = (float(((one[name] - two[name]) ** 2).sum()) for name in one)
    return float(np.sqrt(sum(squares)))


def test_after_the_head_was_killed_the_same_command_goes_on(
    cluster: ByHand, undisturbed: Study, usual: dict[str, float], tmp_path: Path
) -> None:
    study = undisturbed.without("head", "encoder", "transfer", "retrieval")
    log = tmp_path / "first"
    with cluster.sweep(log, f"{SHARED}/{study.name}", TINY) as sweep:
        wait_for(lambda: predictions(study.store), sweep, log)
        kill(cluster.head, *EVERYTHING)
        assert ended(sweep, log) != 0, log.read_text()
    done = predictions(study.store)
    assert 0 < len(done) < CELLS
    cluster.stop()
    cluster.start()
    study.run(tmp_path / "again")
    equal = predictions(study.store) == predictions(undisturbed.store)
    note(
        "fault: the head",
        when=f"{len(done)} of {CELLS} cells done",
        seconds=round(study.seconds, 1),
        equal=equal,
    )
    assert equal
