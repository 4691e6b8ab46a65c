"""The head and its cross-entropy at chosen vectors only, never holding all logits at once.

Legend: R vectors, D width, E the head's inner width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weam_ray.pretraining.encoder import MaskedLM

_LOGITS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 27}


def predict(
    lm: MaskedLM, vectors_RD: Tensor, targets_R: Tensor, weights_R: Tensor
) -> tuple[Tensor, Tensor]:
    """Σ_r weight_r · nll_r, differentiable, and nll_R, not differentiable.

    Args:
        lm: whose head reads the vectors.
        vectors_RD: outputs of the encoder, own or exchanged.
        targets_R: the token each is to predict.
        weights_R: fp32; what each counts in the loss.
    """
    inner_RE = lm.transform(vectors_RD)
    bias: Tensor | None = lm.decoder.bias
    if bias is None:
        bias = inner_RE.new_zeros(lm.decoder.out_features)
    out: tuple[Tensor, Tensor] = _WeightedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        inner_RE, lm.decoder.weight, bias, targets_R, weights_R
    )
    return out


class _WeightedCrossEntropy(torch.autograd.Function):
    """A linear layer and cross-entropy in one, whose gradient is made in the forward pass.

    The weights are known beforehand, so a chunk's softmax can become its gradient at once and be
    forgotten: neither logits nor probabilities of other chunks are kept. What autograd would hold
    is R·V numbers several times over, 120k·R for mBERT.
    """

    @staticmethod
    def forward(
        ctx: Any, inner_RE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_R: Tensor,
        weights_R: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        device = inner_RE.device.type
        low = inner_RE.dtype
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return _forward(ctx, inner_RE, weight_VE, bias_V, targets_R, weights_R, low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inner, weight, bias = ctx.saved_tensors
        scale = grads[0]
        return inner * scale, weight * scale, bias * scale, None, None


def _forward(
    ctx: Any,
    inner_RE: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor,
    targets_R: Tensor,
    weights_R: Tensor,
    low: torch.dtype,
) -> tuple[Tensor, Tensor]:
    size = weight_VE.shape[0]
    chunk = max(_LOGITS_AT_ONCE.get(inner_RE.device.type, 1 << 23) // size, 16)
    decoder_VE, bias_low, inner_low = weight_VE.to(low), bias_V.to(low), inner_RE.to(low)
    wants = any(ctx.needs_input_grad)
    d_inner = torch.empty_like(inner_RE) if wants else inner_RE.new_empty(0)
    d_weight = torch.zeros_like(weight_VE) if wants else inner_RE.new_empty(0)
    d_bias = torch.zeros_like(bias_V) if wants else inner_RE.new_empty(0)
    nll_R = torch.empty(len(targets_R), device=inner_RE.device, dtype=weights_R.dtype)
    for begin in range(0, len(targets_R), chunk):
        part = slice(begin, begin + chunk)
        target = targets_R[part, None]
        logits = torch.nn.functional.linear(inner_low[part], decoder_VE, bias_low)
        logits = logits.to(weights_R.dtype)
        # log Σ exp(logits) by way of the likeliest token: one kernel instead of two.
        p = torch.softmax(logits, -1)
        log_sum = logits.amax(1) - p.amax(1).log_()
        nll_R[part] = log_sum - logits.gather(1, target).squeeze(1)
        if not wants:
            continue
        # d nll / d logits = p − onehot; the row's weight joins the thinner operand.
        p.scatter_add_(1, target, p.new_full(target.shape, -1.0))
        p_low = p.to(low)
        w = weights_R[part, None]
        d_inner[part] = ((p_low @ decoder_VE) * w).to(d_inner.dtype)
        d_bias.add_(weights_R[part] @ p)
        weighted = (inner_RE[part] * w).to(low)
        if low == d_weight.dtype:
            d_weight.addmm_(p_low.t(), weighted)
        else:
            d_weight.add_(p_low.t() @ weighted)
    ctx.save_for_backward(d_inner, d_weight, d_bias)
    ctx.mark_non_differentiable(nll_R)
    return torch.dot(nll_R, weights_R), nll_R
