"""Whole runs: the golden curve, resuming, several workers and sets, replay, what is written."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.multiprocessing as mp
import transformers
from one_of_several import one_of
from small_corpus import TINY, Corpus, make_corpus, pair_set
from transformers.models.bert.modeling_bert import BertSelfAttention

from weam_ray import notice
from weam_ray.corpus import shuffle_pairs
from weam_ray.errors import ConfigError, DataError, WeamError
from weam_ray.pretraining import (
    Checkpoints,
    PairSet,
    PretrainingConfig,
    VocabularyConfig,
    load_model,
    pretrain,
    train_base,
    train_vocabulary,
)
from weam_ray.pretraining.optimiser import learning_rate
from weam_ray.progress import Progress

CONFIG = PretrainingConfig(
    objective="weam", steps=20, batch_size=16, max_length=48, learning_rate=3e-3, log_every=1
)


def curve(folder: Path, metric: str = "loss") -> list[float]:
    table = pq.read_table(folder / "curve.parquet").to_pylist()
    return [row["value"] for row in table if row["metric"] == metric]


def run(base_dir: Path, sets: list[PairSet], out: Path, **changes: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    extra = {name: changes.pop(name) for name in list(changes) if name in EXTRA}
    return pretrain(base_dir, sets, CONFIG.model_copy(update=changes), out, **extra)


EXTRA = {"report", "resources", "replay_texts", "distributed", "checkpoints"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).state_dict()


def test_the_golden_curve(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    """Twenty steps of WEAM. Tolerance 2e-3: sums in another order on another machine drift."""
    run(base_dir, [pair_set(corpus)], tmp_path)
    assert curve(tmp_path) == pytest.approx(GOLDEN, abs=2e-3)
    both = zip(curve(tmp_path, "loss_mp"), curve(tmp_path, "loss_cp"), strict=True)
    assert [mp + cp for mp, cp in both] == pytest.approx(curve(tmp_path), abs=1e-5)


GOLDEN = [
    8.9844,
    8.9946,
    8.9507,
    8.8905,
    8.9226,
    8.7687,
    8.7664,
    8.7386,
    8.7051,
    8.7532,
    8.6438,
    8.6921,
    8.6782,
    8.5282,
    8.5712,
    8.6868,
    8.6125,
    8.5986,
    8.5249,
    8.5932,
]


def test_the_same_run_twice_is_the_same_to_the_bit(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        torch.manual_seed(hash(name))  # the caller's generator is neither read nor moved
        before = torch.random.get_rng_state()
        run(base_dir, [pair_set(corpus)], tmp_path / name, dropout=0.2, steps=6)
        assert torch.equal(torch.random.get_rng_state(), before)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    run(base_dir, [pair_set(corpus)], tmp_path / "three", dropout=0.2, steps=6, seed=1)
    three = weights(tmp_path / "three")
    assert not all(torch.equal(one[name], three[name]) for name in one)


class Killed(Exception):
    pass


def test_a_killed_run_resumes_and_ends_where_an_undisturbed_one_does(
    base_dir: Path, corpus: Corpus, texts: dict[str, Path], tmp_path: Path
) -> None:
    settings = dict(dropout=0.1, replay_share=0.25, replay_texts=texts)
    run(base_dir, [pair_set(corpus)], tmp_path / "whole", **settings)

    def die(progress: Progress) -> None:
        if progress.done == 13:
            raise Killed

    checkpoints = Checkpoints(folder=tmp_path / "checkpoints", every=5)
    with pytest.raises(Killed):
        run(base_dir, [pair_set(corpus)], tmp_path / "killed", **settings,
            report=die, checkpoints=checkpoints)  # fmt: skip
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000000010.pt"]
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    seen: list[int] = []
    run(base_dir, [pair_set(corpus)], tmp_path / "killed", **settings, checkpoints=checkpoints,
        report=lambda progress: seen.append(progress.done))  # fmt: skip
    assert seen[0] == 11
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")


def test_a_notice_between_two_points_of_the_curve_is_saved_and_loses_nothing(
    base_dir: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(dropout=0.1, log_every=10)
    run(base_dir, [pair_set(corpus)], tmp_path / "whole", **settings)
    checkpoints = Checkpoints(folder=tmp_path / "checkpoints", every=None)
    looks = iter([False] * 12 + [True])
    with monkeypatch.context() as patched:
        patched.setattr(notice, "given", lambda: next(looks))
        with pytest.raises(notice.Preempted, match="encoder was saved at step 13"):
            run(base_dir, [pair_set(corpus)], tmp_path / "moved", **settings,
                checkpoints=checkpoints)  # fmt: skip
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000000013.pt"]
    run(base_dir, [pair_set(corpus)], tmp_path / "moved", **settings, checkpoints=checkpoints)
    whole, moved = weights(tmp_path / "whole"), weights(tmp_path / "moved")
    assert all(torch.equal(whole[name], moved[name]) for name in whole)
    assert curve(tmp_path / "moved") == curve(tmp_path / "whole")


def test_a_run_is_saved_by_time_when_it_is_not_by_steps(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    saved: list[int] = []
    checkpoints = Checkpoints(
        folder=tmp_path / "kept", every=None, seconds=0.0, saved=lambda _, step: saved.append(step)
    )
    run(base_dir, [pair_set(corpus)], tmp_path / "out", steps=4, checkpoints=checkpoints)
    assert saved == [1, 2, 3]


def test_a_damaged_checkpoint_is_named(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "step-000000010.pt").write_bytes(b"half a chec")
    with pytest.raises(DataError, match=r"step-000000010\.pt: this checkpoint is damaged"):
        run(base_dir, [pair_set(corpus)], tmp_path / "out",
            checkpoints=Checkpoints(folder=tmp_path))  # fmt: skip


def test_micro_batches_and_gradient_checkpointing_change_no_loss(
    base_dir: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    attend = BertSelfAttention.forward

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return attend(*given, **named)

    monkeypatch.setattr(BertSelfAttention, "forward", counted)
    run(base_dir, [pair_set(corpus)], tmp_path / "whole", steps=8)
    once, calls = calls, 0
    run(base_dir, [pair_set(corpus)], tmp_path / "again", steps=8, gradient_checkpointing=True)
    assert calls == 2 * once > 0, "every layer is computed again in the backward pass"
    run(base_dir, [pair_set(corpus)], tmp_path / "parts", steps=8, micro_batch=5)
    assert curve(tmp_path / "parts") == pytest.approx(curve(tmp_path / "whole"), abs=1e-4)
    assert curve(tmp_path / "again") == pytest.approx(curve(tmp_path / "whole"), abs=1e-4)


OBJECTIVES = ("weam", "word-aligned")


def _worker(rank: int, world: int, meet: str, base_dir: Path, out: Path) -> None:
    with one_of(rank, world, meet) as context:
        for objective in OBJECTIVES:
            config = CONFIG.model_copy(update={"objective": objective, "micro_batch": 5})
            pretrain(base_dir, [pair_set(make_corpus(200))], config, out / objective,
                     distributed=context)  # fmt: skip


@pytest.mark.slow
def test_two_workers_see_the_losses_of_one(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    """Tolerance 1e-3 over 20 steps: the same sums in another order, through Adam."""
    for objective in OBJECTIVES:
        (tmp_path / "two" / objective).mkdir(parents=True)
    mp.spawn(_worker, (2, str(tmp_path / "meet"), base_dir, tmp_path / "two"), nprocs=2)
    for objective in OBJECTIVES:
        run(base_dir, [pair_set(corpus)], tmp_path / objective, objective=objective)
        both = [curve(folder / objective) for folder in (tmp_path, tmp_path / "two")]
        assert len(both[0]) == 20
        assert both[1] == pytest.approx(both[0], abs=1e-3)


def test_several_sets_are_mixed_and_their_epochs_recorded(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    sets = [pair_set(corpus, "aa-bb/large"), pair_set(make_corpus(50, 1, prefix=1), "aa-bb/small")]
    facts = run(base_dir, sets, tmp_path, steps=None, epochs=2.0)
    assert facts["steps"] == 32  # 2 · 250 / 16, rounded up
    # Whole passes but for the last batches, which are of one length and so mostly of one set.
    epochs = facts["epochs_by_set"]
    assert epochs == pytest.approx({"aa-bb/large": 2.05, "aa-bb/small": 2.05}, abs=0.25)
    assert 200 * epochs["aa-bb/large"] + 50 * epochs["aa-bb/small"] == pytest.approx(32 * 16)


@pytest.mark.parametrize("objective", ["tlm", "weam", "word-aligned"])
def test_replay_is_plain_mlm_and_keeps_the_budget_of_pairs(
    objective: str, base_dir: Path, corpus: Corpus, texts: dict[str, Path], tmp_path: Path
) -> None:
    facts = run(base_dir, [pair_set(corpus)], tmp_path, objective=objective, steps=None, epochs=1.0,
                replay_share=0.5, replay_texts=texts)  # fmt: skip
    assert facts["steps"] == 25  # 200 / 16 = 12.5 steps of pairs
    assert facts["replay_steps"] == 12
    assert facts["epochs_by_set"]["aa-bb"] == pytest.approx(1.04, abs=0.01)
    assert len(curve(tmp_path, "loss_replay")) == 12
    assert len(curve(tmp_path, "loss")) == 13


def test_replay_without_text_is_refused(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replay_share is 0.5 and there is no text to replay"):
        run(base_dir, [pair_set(corpus)], tmp_path, replay_share=0.5)


@pytest.mark.slow
def test_tlm_reads_the_other_sentence_and_mlm_does_not(tmp_path: Path) -> None:
    """25 equally likely words, copied on the other side: MLM can't do better than ln 25 = 3.22
    plus a little memory, TLM can; without their partners the pairs are as good as none."""
    rng = random.Random(0)
    words = [a + b for a in "bdfgk" for b in "aeiou"]
    source = [" ".join(rng.choices(words, k=6)) for _ in range(1000)]
    target = [line.upper() for line in source]
    texts = {"aa": tmp_path / "aa.txt", "bb": tmp_path / "bb.txt"}
    for path, lines in zip(texts.values(), (source, target), strict=True):
        path.write_text("\n".join(lines))
    (tmp_path / "vocabulary").mkdir()
    train_vocabulary(texts, VocabularyConfig(size=200), tmp_path / "vocabulary")
    base = TINY.model_copy(update={"architecture": "roformer"})
    train_base(tmp_path / "vocabulary", {}, base, tmp_path / "base")
    ids = pa.array(range(1000), pa.uint64())
    spans = pa.array([[0, 2]] * 1000, pa.list_(pa.int32()))  # TLM reads no words
    pairs = pa.table(
        {
            "pair_id": ids,
            "source": source,
            "target": target,
            "source_spans": spans,
            "target_spans": spans,
        }
    )
    losses = {}
    for objective in ("mlm", "tlm", "tlm-shuffled-pairs"):
        read = shuffle_pairs(pairs, seed=0) if "shuffled" in objective else pairs
        run(tmp_path / "base", [PairSet(name="x", source="aa", target="bb", pairs=read)],
            tmp_path / objective, objective=objective, steps=400, learning_rate=4e-3,
            log_every=50, masking_rate=0.15)  # fmt: skip
        losses[objective] = curve(tmp_path / objective)[-1]
    assert losses["tlm"] < losses["mlm"] - 0.4
    assert losses["tlm"] < losses["tlm-shuffled-pairs"] - 0.4
    assert losses["mlm"] > 3.0


_ALONE = """
import sys
from pathlib import Path
absent = "ray mlflow optuna datasets numba scipy sklearn accelerate matplotlib"
sys.modules.update(dict.fromkeys(absent.split()))
from small_corpus import make_corpus, pair_set
from weam_ray.pretraining import PretrainingConfig, pretrain
config = PretrainingConfig(objective="weam", steps=2, max_length=48)
print(pretrain(Path(sys.argv[1]), [pair_set(make_corpus(50))], config, Path(sys.argv[2]))["steps"])
"""


def test_it_runs_where_ray_and_its_kin_are_absent(base_dir: Path, tmp_path: Path) -> None:
    """A GPU machine may have torch and transformers, with what they need, and no more."""
    found = subprocess.run(
        [sys.executable, "-c", _ALONE, str(base_dir), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert found.stdout.strip() == "2", found.stderr


def test_doubling_the_loss_doubles_it(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    run(base_dir, [pair_set(corpus)], tmp_path / "once", objective="tlm", steps=1)
    run(base_dir, [pair_set(corpus)], tmp_path / "twice", objective="tlm-doubled", steps=1)
    assert curve(tmp_path / "twice") == pytest.approx([2 * curve(tmp_path / "once")[0]], abs=1e-5)


def test_no_pretraining_hands_the_base_on(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    facts = run(base_dir, [pair_set(corpus)], tmp_path, objective="none")
    assert facts["steps"] == 0
    base, out = weights(base_dir), weights(tmp_path)
    assert all(torch.equal(base[name], out[name]) for name in base)


def test_the_encoder_opens_keeps_its_dropout_and_carries_a_card(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    facts = run(base_dir, [pair_set(corpus)], tmp_path, dropout=0.3, steps=2)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.hidden_dropout_prob == TINY.dropout
    assert (tmp_path / "model.safetensors").is_file()
    transformers.AutoTokenizer.from_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf8")
    assert "- aa\n- bb" in card
    assert f"| aligned_share | {facts['aligned_share']}" in card
    assert '"objective": "weam"' in card
    assert "yang2021weam" in card


def test_links_that_reach_no_masked_token_are_told_of(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    none = pa.array([[]] * corpus.links.num_rows, corpus.links["links"].type)
    unlinked = Corpus(corpus.pairs, corpus.links.set_column(1, "links", none))
    facts = run(base_dir, [pair_set(unlinked)], tmp_path, steps=2)
    assert facts["aligned_share"] == 0.0
    assert curve(tmp_path, "aligned_share") == [0.0, 0.0]
    assert "| aligned_share | 0.0 |" in (tmp_path / "README.md").read_text(encoding="utf8")


@pytest.mark.parametrize("objective", ["tlm", "mlm", "word-aligned"])
def test_objectives_that_exchange_nothing_have_no_aligned_share(
    objective: str, base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    facts = run(base_dir, [pair_set(corpus)], tmp_path, steps=2, objective=objective)
    assert "aligned_share" not in facts
    assert not curve(tmp_path, "aligned_share")


def test_a_loss_that_is_no_number_stops_the_run(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(WeamError, match="the loss is nan at step"):
        run(base_dir, [pair_set(corpus)], tmp_path, learning_rate=1e30, clip=None)


def test_progress_names_what_mlflow_shows(base_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(base_dir, [pair_set(corpus)], tmp_path, report=seen.append, log_every=8)
    assert [(report.done, report.total) for report in seen] == [(8, 20), (16, 20), (20, 20)]
    assert set(seen[0].metrics) == {
        "loss", "loss_mp", "loss_cp", "aligned_share", "learning_rate", "tokens_per_second",
        "wait_share",
    }  # fmt: skip
    assert 0.8 < seen[0].metrics["aligned_share"] <= 1.0


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1.0, "warmup_share": 0.2})
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates[:2] == pytest.approx([1 / 3, 2 / 3])
    assert rates[2:] == pytest.approx([1 - n / 8 for n in range(8)])
    flat = config.model_copy(update={"decay": "constant"})
    assert [learning_rate(flat, step, 10) for step in range(2, 10)] == [1.0] * 8


def test_bf16_autocast_stays_near_fp32(
    base_dir: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Emulated where the processor hasn't got it, which takes long only for larger models.
    monkeypatch.setattr("weam_ray.pretraining.precision.has_bf16", lambda _: True)
    run(base_dir, [pair_set(corpus)], tmp_path / "fp32")
    run(base_dir, [pair_set(corpus)], tmp_path / "bf16", precision="bf16")
    assert curve(tmp_path / "bf16") == pytest.approx(curve(tmp_path / "fp32"), abs=0.05)
    assert curve(tmp_path / "bf16") != curve(tmp_path / "fp32")
