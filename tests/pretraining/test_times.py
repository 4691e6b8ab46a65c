"""What a run says of its time: training alone, over saves, deaths and resumes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_corpus import Corpus, pair_set
from test_pretraining_runs import Killed, curve, run

from weam_ray.pretraining import Checkpoints, loop, window
from weam_ray.pretraining.feed import Feed


class Clock:
    """Time that passes where a test says so."""

    now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A step takes a second, a quarter of it waiting for the batch."""
    clock = Clock()
    for module in (loop, window):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock.perf_counter))

    def taking(seconds: float, work: Any) -> Any:
        def done(*arguments: Any) -> Any:
            clock.now += seconds
            return work(*arguments)

        return done

    monkeypatch.setattr(Feed, "step", taking(0.25, Feed.step))
    monkeypatch.setattr(loop._Run, "_step", taking(0.75, loop._Run._step))
    return clock


@pytest.mark.parametrize("every", [5, 10, 3])
def test_saving_is_no_training_and_training_before_a_save_is(
    every: int, clock: Clock, base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    def saving(path: Path, step: int) -> None:
        clock.now += 100.0

    checkpoints = Checkpoints(folder=tmp_path / "kept", every=every, saved=saving)
    facts = run(base_dir, [pair_set(corpus)], tmp_path / "out", log_every=10,
                checkpoints=checkpoints)  # fmt: skip
    assert (facts["seconds"], facts["wait_share"]) == (20.0, 0.25)
    assert facts["tokens_per_second"] == pytest.approx(facts["tokens"] / 20, abs=0.1)
    assert curve(tmp_path / "out", "wait_share") == [0.25, 0.25]
    rates = curve(tmp_path / "out", "tokens_per_second")
    assert sum(10 * rate for rate in rates) == pytest.approx(facts["tokens"])


def test_a_resumed_run_has_the_times_of_an_undisturbed_one(
    clock: Clock, base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    def die(path: Path, step: int) -> None:
        clock.now += 100.0
        if step == 15 and not died:
            died.append(step)
            raise Killed

    died: list[int] = []
    checkpoints = Checkpoints(folder=tmp_path / "kept", every=5, saved=die)
    with pytest.raises(Killed):
        run(base_dir, [pair_set(corpus)], tmp_path / "out", log_every=10, checkpoints=checkpoints)
    clock.now += 10_000.0
    facts = run(base_dir, [pair_set(corpus)], tmp_path / "out", log_every=10,
                checkpoints=checkpoints)  # fmt: skip
    assert (facts["seconds"], facts["wait_share"]) == (20.0, 0.25)
    assert curve(tmp_path / "out", "wait_share") == [0.25, 0.25]
    rates = curve(tmp_path / "out", "tokens_per_second")
    assert sum(10 * rate for rate in rates) == pytest.approx(facts["tokens"])
