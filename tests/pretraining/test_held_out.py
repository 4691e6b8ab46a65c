"""Held-out pairs are never trained on, and end a run when nothing is gained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_corpus import Corpus, make_corpus, pair_set
from test_pretraining_runs import CONFIG, Killed, curve, run, weights

from weam_ray.artifacts import Resources
from weam_ray.errors import ConfigError, DataError
from weam_ray.experiment.encoder import unpaired
from weam_ray.pretraining import (
    Checkpoints,
    HeldOutConfig,
    PretrainingConfig,
    encoder_and_head,
    load_model,
    load_tokenizer,
)
from weam_ray.pretraining.batches import Batches
from weam_ray.pretraining.bilingual import objective
from weam_ray.pretraining.distributed import DistributedContext
from weam_ray.pretraining.held_out import (
    HeldOut,
    Patience,
    is_held_out,
    split_pairs,
    without_repeats,
)
from weam_ray.pretraining.prepared import prepare
from weam_ray.progress import Progress

FIFTH = HeldOutConfig(share=0.2, every=5)


def test_the_same_pairs_are_held_out_of_every_subset(corpus: Corpus) -> None:
    trained, measured = split_pairs(corpus.pairs, FIFTH)
    ids = {name: set(part["pair_id"].to_pylist()) for name, part in
           (("trained", trained), ("measured", measured))}  # fmt: skip
    assert ids["trained"] | ids["measured"] == set(corpus.pairs["pair_id"].to_pylist())
    assert not ids["trained"] & ids["measured"]
    assert measured.num_rows == pytest.approx(40, abs=15)
    small = split_pairs(corpus.pairs.slice(50, 70), FIFTH)
    assert set(small[0]["pair_id"].to_pylist()) < ids["trained"]
    assert set(small[1]["pair_id"].to_pylist()) < ids["measured"]
    other = split_pairs(corpus.pairs, FIFTH.model_copy(update={"seed": 1}))[1]
    assert set(other["pair_id"].to_pylist()) != ids["measured"]


def test_pairs_beyond_at_most_are_neither_measured_nor_trained_on(corpus: Corpus) -> None:
    few = FIFTH.model_copy(update={"at_most": 7})
    trained, measured = split_pairs(corpus.pairs, few)
    assert measured.num_rows == 7
    assert trained.equals(split_pairs(corpus.pairs, FIFTH)[0])


def test_rows_trained_on_hold_no_held_out_pair(
    base_dir: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    draw = Batches._draw

    def watched(self: Batches, rows: Any, epochs: Any) -> Any:
        seen.append(self._examples.keys[rows])
        return draw(self, rows, epochs)

    monkeypatch.setattr(Batches, "_draw", watched)
    facts = run(base_dir, [pair_set(corpus)], tmp_path, steps=None, epochs=3.0, held_out=FIFTH)
    trained, measured = split_pairs(corpus.pairs, FIFTH)
    sets = [set(keys.tolist()) for keys in seen]
    assert set(measured["pair_id"].to_pylist()) in sets
    assert set().union(*(keys for keys in sets if keys != set(measured["pair_id"].to_pylist()))) \
        == set(trained["pair_id"].to_pylist())  # fmt: skip
    assert facts["held_out_pairs"] == measured.num_rows
    assert facts["planned_steps"] == -(-3 * trained.num_rows // 16)


def test_shuffled_pairs_take_no_text_from_a_held_out_pair(corpus: Corpus) -> None:
    from weam_ray.corpus.pairs import PAIRS_SCHEMA

    rows = corpus.pairs.append_column("gold", [[None] * 200]).cast(PAIRS_SCHEMA)
    config = PretrainingConfig(objective="tlm-shuffled-pairs", held_out=FIFTH)
    real, shuffled = split_pairs(rows, FIFTH), split_pairs(unpaired(rows, config), FIFTH)
    for before, after in zip(real, shuffled, strict=True):
        assert sorted(after["target"].to_pylist()) == sorted(before["target"].to_pylist())
        assert after.num_rows == before.num_rows
    assert shuffled[0]["target"].to_pylist() != real[0]["target"].to_pylist()


def measured(
    base_dir: Path, corpus: Corpus, worker: DistributedContext | None = None, **changes: Any
) -> list[float]:
    config = CONFIG.model_copy(update={"held_out": FIFTH, **changes})
    lm = encoder_and_head(load_model(base_dir).double())
    module = objective(lm, base_dir, config, Resources()).double()
    held = prepare(load_tokenizer(base_dir), [pair_set(corpus)], config).measured(config, worker)
    assert held is not None
    return held.measure(module, torch.device("cpu"), shared=False)


@pytest.mark.parametrize("name", ["weam", "weam-aligned-only", "tlm", "mlm", "word-aligned"])
def test_the_loss_is_that_of_all_held_out_pairs_as_one_batch(
    name: str, base_dir: Path, corpus: Corpus
) -> None:
    whole = measured(base_dir, corpus, objective=name, batch_size=200)
    assert whole[0] > 0
    assert measured(base_dir, corpus, objective=name, batch_size=7) == pytest.approx(whole)
    assert measured(base_dir, corpus, objective=name, micro_batch=3) == pytest.approx(whole)
    shares = [
        measured(base_dir, corpus, DistributedContext(rank=rank, world=3), objective=name)
        for rank in range(3)
    ]
    assert np.sum(shares, axis=0).tolist() == pytest.approx(whole)
    # The seed of a run has no part in it.
    assert measured(base_dir, corpus, objective=name, seed=5) == pytest.approx(whole)


def test_measuring_changes_nothing_in_the_training(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    for every in (1, 7):
        held_out = HeldOutConfig(share=0.2, every=every, patience=None, keep="last")
        run(base_dir, [pair_set(corpus)], tmp_path / str(every), dropout=0.1, held_out=held_out)
    often, seldom = weights(tmp_path / "1"), weights(tmp_path / "7")
    assert all(torch.equal(often[name], seldom[name]) for name in often)
    assert curve(tmp_path / "1") == curve(tmp_path / "7")
    assert len(curve(tmp_path / "1", "held_out_loss_mp")) == 20
    # Steps 7, 14 and the last.
    assert curve(tmp_path / "7", "held_out_loss") == [
        curve(tmp_path / "1", "held_out_loss")[step - 1] for step in (7, 14, 20)
    ]


@pytest.fixture
def rising(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A held-out loss that rises with every step: how far the weights are from the base's."""
    base = load_model(base_dir).state_dict()

    def measure(_: HeldOut, module: torch.nn.Module, *__: Any, **___: Any) -> list[float]:
        now = {name.removeprefix("model."): value for name, value in module.state_dict().items()}
        return [sum(float((now[name] - base[name]).abs().sum()) for name in base)] * 3

    monkeypatch.setattr(HeldOut, "measure", measure)


@pytest.mark.usefixtures("rising")
def test_a_run_without_gain_ends_early_with_the_best_weights(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    saved: dict[int, dict[str, torch.Tensor]] = {}

    def remember(path: Path, step: int) -> None:
        state = torch.load(path, weights_only=True)["model"]
        saved[step] = {name.removeprefix("model."): value for name, value in state.items()}

    held_out = HeldOutConfig(share=0.2, every=5, patience=2)
    checkpoints = Checkpoints(folder=tmp_path / "kept", every=5, saved=remember)
    facts = run(base_dir, [pair_set(corpus)], tmp_path / "best", held_out=held_out,
                checkpoints=checkpoints)  # fmt: skip
    assert (facts["steps"], facts["planned_steps"]) == (15, 20)
    assert facts["stopped_early"] is True
    losses = curve(tmp_path / "best", "held_out_loss")
    assert facts["kept_step"] == 5
    assert facts["lowest_held_out_loss"] == facts["kept_held_out_loss"] == min(losses)
    assert facts["final_held_out_loss"] == losses[-1] > min(losses)
    assert facts["epochs_by_set"]["aa-bb"] == pytest.approx(15 * 16 / facts["rows"], abs=1e-3)
    assert len(curve(tmp_path / "best")) == 15
    kept = weights(tmp_path / "best")
    assert all(torch.equal(kept[name], saved[5][name]) for name in kept)
    last = held_out.model_copy(update={"keep": "last"})
    facts = run(base_dir, [pair_set(corpus)], tmp_path / "last", held_out=last)
    assert (facts["steps"], facts["kept_step"]) == (15, 15)
    assert not all(torch.equal(kept[n], value) for n, value in weights(tmp_path / "last").items())


def test_a_run_of_no_steps_has_the_held_out_loss_of_its_base(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    facts = run(base_dir, [pair_set(corpus)], tmp_path, steps=0, held_out=FIFTH)
    assert (facts["steps"], facts["planned_steps"], facts["kept_step"]) == (0, 0, 0)
    assert facts["stopped_early"] is False
    assert facts["lowest_held_out_loss"] == pytest.approx(measured(base_dir, corpus)[0], rel=1e-5)
    assert all(torch.equal(weights(base_dir)[n], value) for n, value in weights(tmp_path).items())


def test_a_loss_that_keeps_falling_ends_nothing(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    held_out = HeldOutConfig(share=0.2, every=10, patience=1)
    facts = run(base_dir, [pair_set(corpus)], tmp_path, held_out=held_out)
    first, last = curve(tmp_path, "held_out_loss")
    assert last < first
    assert (facts["steps"], facts["stopped_early"], facts["kept_step"]) == (20, False, 20)


@pytest.mark.usefixtures("rising")
def test_a_killed_run_remembers_the_best_and_its_patience(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    held_out = HeldOutConfig(share=0.2, every=4, patience=3)
    whole = run(base_dir, [pair_set(corpus)], tmp_path / "whole", held_out=held_out)

    def die(progress: Progress) -> None:
        if progress.done == 14:
            raise Killed

    checkpoints = Checkpoints(folder=tmp_path / "checkpoints", every=5)
    with pytest.raises(Killed):
        run(base_dir, [pair_set(corpus)], tmp_path / "killed", held_out=held_out,
            report=die, checkpoints=checkpoints)  # fmt: skip
    resumed = run(base_dir, [pair_set(corpus)], tmp_path / "killed", held_out=held_out,
                  checkpoints=checkpoints)  # fmt: skip
    for name in ("steps", "kept_step", "lowest_held_out_loss", "epochs_by_set"):
        assert resumed[name] == whole[name], name
    assert (resumed["steps"], resumed["kept_step"]) == (16, 4)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    for metric in ("loss", "held_out_loss"):
        assert curve(tmp_path / "killed", metric) == curve(tmp_path / "whole", metric)


def test_the_lowest_loss_is_kept_though_it_gained_too_little() -> None:
    patience = Patience(HeldOutConfig(patience=2, least_gain=0.1))
    lower = [patience.lower(step, loss) for step, loss in enumerate((3.0, 2.95, 2.91), 1)]
    assert lower == [True, True, True] and patience.at_end
    assert (patience.loss, patience.step) == (2.91, 3)


def test_no_text_that_is_measured_is_trained_on_in_another_set_or_replayed(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    # The same English beside another language: other pair_ids, so other tickets.
    other = corpus.pairs.set_column(
        0, "pair_id", pa.array(corpus.pairs["pair_id"].to_numpy() ^ np.uint64(2**63 + 12345))
    ).set_column(
        corpus.pairs.column_names.index("target"),
        "target",
        [[f"{text} xx" for text in corpus.pairs["target"].to_pylist()]],
    )
    sets = [pair_set(corpus, "one"), replace(pair_set(corpus, "two"), pairs=other, links=None)]
    measured = [split_pairs(one.pairs, FIFTH)[1] for one in sets]
    english = {text for one in measured for text in one["source"].to_pylist()}
    found = without_repeats(sets, FIFTH)
    for one, before in zip(found, sets, strict=True):
        trained, kept = split_pairs(one.pairs, FIFTH)
        assert not english & set(trained["source"].to_pylist())
        assert kept.equals(split_pairs(before.pairs, FIFTH)[1])
        assert one.repeats == before.pairs.num_rows - one.pairs.num_rows > 0
    lines = tmp_path / "aa.txt"
    lines.write_text("\n".join(corpus.pairs["source"].to_pylist() * 2) + "\n")
    config = PretrainingConfig(objective="tlm", steps=20, replay_share=0.5, held_out=FIFTH)
    prepared = prepare(load_tokenizer(base_dir), sets, config, {"aa": lines})
    assert prepared.facts["held_out_repeats"] == sum(one.repeats for one in found)
    distinct = set(corpus.pairs["source"].to_pylist())
    assert prepared.replay is not None
    assert prepared.facts["held_out_replay_lines"] == 400 - prepared.replay.rows > 0
    assert prepared.replay.rows >= 2 * len(distinct - english)


def test_a_loss_that_is_no_number_is_never_the_lowest() -> None:
    patience = Patience(HeldOutConfig(patience=2))
    assert not patience.lower(1, float("nan"))
    assert patience.lower(2, 3.0)
    assert not patience.lower(3, float("nan")) and not patience.at_end
    assert not patience.lower(4, 3.0) and patience.at_end
    assert (patience.loss, patience.step) == (3.0, 2)


def test_a_share_that_holds_nothing_out_is_refused(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    tiny = HeldOutConfig(share=1e-9)
    with pytest.raises(DataError, match="aa-bb: a share of 1e-09 holds 0 of 200 pairs out"):
        run(base_dir, [pair_set(corpus)], tmp_path, held_out=tiny)


def test_every_set_is_held_out_of(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    sets = [pair_set(corpus, "large"), pair_set(make_corpus(50, 1, prefix=1), "small")]
    facts = run(base_dir, sets, tmp_path, held_out=FIFTH)
    held = sum(is_held_out(s.pairs["pair_id"].to_numpy(), FIFTH).sum() for s in sets)
    assert facts["held_out_pairs"] == held


def test_fewer_held_out_pairs_than_workers_are_refused(base_dir: Path, corpus: Corpus) -> None:
    few = PretrainingConfig(objective="tlm", held_out=FIFTH.model_copy(update={"at_most": 2}))
    held = prepare(load_tokenizer(base_dir), [pair_set(corpus)], few).measured(
        few, DistributedContext(rank=0, world=3)
    )
    assert held is not None
    with pytest.raises(ConfigError, match="held-out pairs 2 can't be split over 3 workers"):
        list(held.batches.every_row())


def test_a_setting_that_is_not_set_leaves_the_address_alone() -> None:
    assert "held_out" not in PretrainingConfig().identity()
    assert PretrainingConfig(held_out=FIFTH).identity()["held_out"]["share"] == 0.2
