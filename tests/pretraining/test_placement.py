"""A model cut over two workers (FSDP) learns, resumes and is saved as a whole one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
import transformers
from one_of_several import one_of
from small_corpus import Corpus, make_corpus, pair_set
from test_pretraining_runs import CONFIG, Killed, curve, run, weights

from weam_ray.errors import ResourceError
from weam_ray.pretraining import Checkpoints, HeldOutConfig, pretrain
from weam_ray.pretraining.placement import Alone
from weam_ray.progress import Progress

pytestmark = pytest.mark.slow

HELD_OUT = HeldOutConfig(share=0.2, every=5, patience=2, least_gain=100.0)
RUNS = {
    "weam": CONFIG.model_copy(update={"micro_batch": 5}),
    "word-aligned": CONFIG.model_copy(update={"objective": "word-aligned", "replay_share": 0.25}),
    "early": CONFIG.model_copy(update={"held_out": HELD_OUT}),
}


def _worker(
    rank: int, world: int, meet: str, base_dir: Path, texts: dict[str, Path], out: Path
) -> None:
    with one_of(rank, world, meet) as context:

        def train(name: str, **extra: object) -> None:
            config = RUNS[name].model_copy(update={"sharding": "fsdp"})
            pretrain(base_dir, [pair_set(make_corpus(200))], config, out / name,
                     replay_texts=texts, distributed=context, **extra)  # fmt: skip

        for name in ("word-aligned", "early"):
            train(name)

        def die(progress: Progress) -> None:
            if progress.done == 13:
                raise Killed

        checkpoints = Checkpoints(folder=out / "checkpoints", every=5)
        # Both end at once, as Ray Train ends a group whose worker is gone.
        with pytest.raises((Killed, StopIteration)):
            train("weam", checkpoints=checkpoints, report=die if rank == 0 else _stop_at(13))
        torch.distributed.barrier()
        train("weam", checkpoints=checkpoints)


def _stop_at(step: int):  # noqa: ANN202
    """Only the leading worker reports, so the other one is stopped by its feed."""
    from weam_ray.pretraining.feed import Feed

    whole = Feed.step

    def step_or_end(self: Feed, number: int):  # noqa: ANN202
        if number >= step:
            Feed.step = whole  # type: ignore[method-assign]
            raise Killed
        return whole(self, number)

    Feed.step = step_or_end  # type: ignore[method-assign]
    return lambda progress: None


def test_a_model_cut_over_two_workers_is_the_whole_one(
    base_dir: Path, corpus: Corpus, texts: dict[str, Path], tmp_path: Path
) -> None:
    """Tolerance 1e-3 over 20 steps: the same sums in another order, through Adam."""
    for name in RUNS:
        (tmp_path / "cut" / name).mkdir(parents=True)
    mp.spawn(_worker, (2, str(tmp_path / "meet"), base_dir, texts, tmp_path / "cut"), nprocs=2)
    for name, config in RUNS.items():
        changes = config.model_dump(exclude_unset=True)
        changes |= {"held_out": config.held_out}
        run(base_dir, [pair_set(corpus)], tmp_path / name, **changes, replay_texts=texts)
        cut, whole = tmp_path / "cut" / name, tmp_path / name
        for metric in ("loss", "held_out_loss", "loss_replay"):
            assert curve(cut, metric) == pytest.approx(curve(whole, metric), abs=1e-3), name
        one, other = weights(whole), weights(cut)
        assert one.keys() == other.keys()
        for key in one:
            torch.testing.assert_close(other[key], one[key], atol=2e-3, rtol=0)
    assert len(curve(tmp_path / "cut" / "early")) == 15
    model = transformers.AutoModel.from_pretrained(tmp_path / "cut" / "weam")
    assert model.get_input_embeddings().weight.shape[1] == 32


def test_a_run_saved_in_shards_does_not_go_on_whole() -> None:
    module = torch.nn.Linear(2, 2)
    alone = Alone(module, torch.device("cpu"))
    optimiser = torch.optim.AdamW(module.parameters())
    with pytest.raises(ResourceError, match="was saved on shards and is to go on on one worker"):
        alone.restore({"kind": "shards"}, optimiser)
