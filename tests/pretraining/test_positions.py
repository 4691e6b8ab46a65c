"""Positions of the encoder from scratch: the family's own, or none."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_a_scale_of_one_keeps_roformers_own_positions_and_nought_takes_order_away(
    tmp_path: Path,
) -> None:
    """The saved encoder, opened by plain transformers, reads order as the setting says."""
    import torch
    from transformers import AutoModel, RoFormerConfig, RoFormerForMaskedLM

    from weam_ray.pretraining.encoder import _scale_positions

    torch.manual_seed(0)
    config = RoFormerConfig(
        vocab_size=30,
        embedding_size=16,
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.5,  # small weights would attend to all places alike
    )
    model = RoFormerForMaskedLM(config).eval()
    table = model.roformer.encoder.embed_positions.weight
    own = table.detach().clone()
    _scale_positions(model, 1.0)
    torch.testing.assert_close(table.detach(), own)
    forward, swapped = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[3, 2, 1, 4]])
    for scale, same in ((1.0, False), (0.0, True)):
        _scale_positions(model, scale)
        model.save_pretrained(tmp_path / str(scale))
        opened = AutoModel.from_pretrained(tmp_path / str(scale)).eval()
        with torch.no_grad():
            last = [opened(ids).last_hidden_state[0, 3] for ids in (forward, swapped)]
        assert torch.allclose(*last, atol=1e-5) is same


@pytest.mark.parametrize(("scale", "same"), [(1.0, False), (0.0, True)])
def test_bert_without_positions_never_learns_them(tmp_path: Path, scale: float, same: bool) -> None:
    """Neither in pre-training nor, loaded again, in fine-tuning."""
    import torch

    from weam_ray.pretraining.config import BaseConfig
    from weam_ray.pretraining.encoder import load_model, new_model
    from weam_ray.transfer.classifier import load_classifier

    class Tokens:
        pad_token_id = 0

        def __len__(self) -> int:
            return 30

    config = BaseConfig(
        layers=1, hidden=16, heads=2, intermediate=32, dropout=0.0, position_scale=scale,
        initial_deviation=0.5, max_positions=16, max_length=16,
    )  # fmt: skip
    torch.manual_seed(0)
    new_model(config, Tokens()).save_pretrained(tmp_path)
    ids = torch.tensor([[1, 2, 3, 4], [3, 2, 1, 4]])
    for model in (load_model(tmp_path), load_classifier(tmp_path, 0, torch.device("cpu"))):
        rate = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], lr=0.1)
        model(ids[:1]).logits.square().sum().backward()
        rate.step()
        with torch.no_grad():
            ends = model.base_model(ids).last_hidden_state[:, 3]
        assert torch.allclose(ends[0], ends[1], atol=1e-5) is same


@pytest.mark.parametrize(("family", "scale"), [("bert", 0.5), ("modernbert", 0.0)])
def test_a_scale_that_a_family_cannot_do_is_refused(family: str, scale: float) -> None:
    from pydantic import ValidationError

    from weam_ray.pretraining.config import BaseConfig

    with pytest.raises(ValidationError, match=f"position_scale {scale:g}: {family} takes"):
        BaseConfig.model_validate({"architecture": family, "position_scale": scale})
