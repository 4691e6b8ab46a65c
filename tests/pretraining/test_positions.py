"""Positions of the encoder from scratch: RoFormer's own, or none."""

from __future__ import annotations

from pathlib import Path


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
