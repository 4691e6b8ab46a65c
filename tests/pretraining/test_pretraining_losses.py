"""The fast losses against slow ones: values, gradients, and what each setting changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from slow_losses import masked_losses, word_aligned_losses
from small_corpus import Corpus, pair_set

from weam_ray.artifacts import Resources
from weam_ray.pretraining import (
    PretrainingConfig,
    encoder_and_head,
    head,
    load_model,
    load_tokenizer,
)
from weam_ray.pretraining.batches import Batch
from weam_ray.pretraining.bilingual import objective
from weam_ray.pretraining.encoder import MaskedLM
from weam_ray.pretraining.prepared import prepare

DEFAULTS = dict(batch_size=6, max_length=32, masking_rate=0.4, seed=3)


class Setting:
    """One batch of one configuration, and the pairs that are in it."""

    def __init__(self, base_dir: Path, corpus: Corpus, **changes: Any) -> None:
        self.config = PretrainingConfig(**{**DEFAULTS, **changes})
        self.tokenizer = load_tokenizer(base_dir)
        self.lm: MaskedLM = encoder_and_head(load_model(base_dir).double())
        self.module = objective(self.lm, base_dir, self.config, Resources()).double()
        prepared = prepare(self.tokenizer, [pair_set(corpus)], self.config)
        assert prepared.examples is not None
        batches, group = prepared.feed(self.config).batches, prepared.examples.group
        [self.batch] = batches.batch(0)
        rows = batches.order.pool(0)[0][::group] // group
        merged = corpus.pairs.append_column("links", corpus.links["links"]).to_pylist()
        self.rows = [merged[row] for row in rows[: self.config.batch_size]]

    def fast(self) -> tuple[torch.Tensor, list[float]]:
        loss, values = self.module(self.batch, 1.0)
        return loss, values.tolist()

    def slow(self) -> tuple[torch.Tensor, ...]:
        return masked_losses(self.lm, self.batch, self.rows, self.tokenizer, self.config)

    def gradients(self, loss: torch.Tensor) -> list[torch.Tensor]:
        self.lm.model.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in self.lm.model.parameters() if p.grad is not None]


SETTINGS: list[dict[str, Any]] = [
    {"objective": "weam"},
    {"objective": "tlm"},
    {"objective": "tlm-doubled", "cross_lingual_weight": 0.5},
    {"objective": "weam-aligned-only"},
    {"objective": "weam", "cross_lingual_weight": 2.5},
    {"objective": "weam", "cross_lingual_weight": 0.0},
    {"objective": "weam", "pooling": "first"},
    {"objective": "weam", "pooling": "last"},
    {"objective": "weam", "pooling": "same-index"},
    {"objective": "weam", "one_to_many": "first"},
    {"objective": "weam", "one_to_many": "drop"},
    {"objective": "weam", "one_to_many": "first", "pooling": "same-index"},
    {"objective": "weam", "stop_gradient": True},
    {"objective": "weam", "corruption": "mask"},
    {"objective": "weam", "max_length": 16},
]


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda c: "-".join(map(str, c.values())))
def test_a_loss_and_its_gradient_are_those_of_the_loop(
    changes: dict[str, Any], base_dir: Path, corpus: Corpus
) -> None:
    setting = Setting(base_dir, corpus, **changes)
    fast, values = setting.fast()
    slow = setting.slow()
    assert values == pytest.approx([loss.item() for loss in slow], abs=1e-6)
    fast_gradients = setting.gradients(fast)
    slow_gradients = setting.gradients(slow[0])
    assert len(fast_gradients) == len(slow_gradients)
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"objective": "weam"}, {"objective": "tlm"}, {"objective": "weam", "stop_gradient": True}],
    ids=str,
)
def test_a_head_read_in_several_pieces_is_read_whole(
    changes: dict[str, Any], base_dir: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of 16 vectors, the last one shorter; usually a batch of this size is one piece."""
    monkeypatch.setattr(head, "_LOGITS_AT_ONCE", {"cpu": 1})
    setting = Setting(base_dir, corpus, **changes)
    assert len(setting.batch.places_M) > 32 and len(setting.batch.places_M) % 16
    fast, values = setting.fast()
    slow = setting.slow()
    assert values == pytest.approx([loss.item() for loss in slow], abs=1e-6)
    pairs = zip(setting.gradients(fast), setting.gradients(slow[0]), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def same_inputs(one: Batch, other: Batch) -> bool:
    return torch.equal(one.ids_BL, other.ids_BL) and torch.equal(one.places_M, other.places_M)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "first"},
        {"pooling": "last"},
        {"pooling": "same-index"},
        {"one_to_many": "first"},
        {"one_to_many": "drop"},
        {"cross_lingual_weight": 0.5},
        {"stop_gradient": True},
    ],
    ids=str,
)
def test_a_setting_of_the_exchange_changes_l_cp_and_nothing_else(
    changes: dict[str, Any], base_dir: Path, corpus: Corpus
) -> None:
    usual = Setting(base_dir, corpus, objective="weam")
    changed = Setting(base_dir, corpus, objective="weam", **changes)
    assert same_inputs(usual.batch, changed.batch)
    (loss, before), (other_loss, after) = usual.fast(), changed.fast()
    assert after[1] == before[1], "L_mp must not move"
    if "cross_lingual_weight" in changes:
        assert after[2] == pytest.approx(before[2])
        assert after[0] == pytest.approx(before[1] + 0.5 * before[2])
    elif "stop_gradient" in changes:
        assert after == before
        pairs = zip(usual.gradients(loss), changed.gradients(other_loss), strict=True)
        assert not all(torch.allclose(one, other) for one, other in pairs)
    else:
        assert after[2] != pytest.approx(before[2], abs=1e-9)


def test_masking_rate_and_corruption_change_what_is_seen(base_dir: Path, corpus: Corpus) -> None:
    few, many = (
        Setting(base_dir, corpus, objective="tlm", masking_rate=rate).batch for rate in (0.1, 0.6)
    )
    assert set(few.places_M.tolist()) < set(many.places_M.tolist())
    always = Setting(base_dir, corpus, objective="tlm", corruption="mask")
    mask = always.tokenizer.mask_token_id
    assert (always.batch.ids_BL.flatten()[always.batch.places_M] == mask).all()
    usual = Setting(base_dir, corpus, objective="tlm")
    assert torch.equal(usual.batch.places_M, always.batch.places_M)
    assert not (usual.batch.ids_BL.flatten()[usual.batch.places_M] == mask).all()


def test_word_aligned_is_the_distance_of_linked_words_and_to_the_original(
    base_dir: Path, corpus: Corpus
) -> None:
    """After a nudge, so that the anchor counts."""
    setting = Setting(base_dir, corpus, objective="word-aligned", anchor_weight=0.5, max_length=64)
    original = encoder_and_head(load_model(base_dir).double().eval())
    setting.module._original[0].model.double()
    with torch.no_grad():
        for parameter in setting.lm.encoder.parameters():
            parameter.add_(0.01 * torch.sin(torch.arange(parameter.numel()).view_as(parameter)))
    loss, values = setting.fast()
    distance, drift = word_aligned_losses(setting.lm, original, setting.rows, setting.tokenizer)
    slow = distance + 0.5 * drift
    assert drift.item() > 1e-4
    assert values == pytest.approx([slow.item(), distance.item(), drift.item()], abs=1e-6)
    fast_gradients, slow_gradients = setting.gradients(loss), setting.gradients(slow)
    assert len(fast_gradients) == len(slow_gradients)
    assert max(gradient.abs().max().item() for gradient in slow_gradients) > 1e-3
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
