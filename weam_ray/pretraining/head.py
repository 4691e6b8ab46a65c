"""The head and its cross-entropy at chosen vectors only, never holding all logits at once.

Legend: R vectors, N predictions from them, D width, E the head's inner width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weam_ray.pretraining.encoder import MaskedLM
from weam_ray.pretraining.masking import I64

_LOGITS_AT_ONCE = {"cpu": 1 << 26, "cuda": 1 << 27}
"""Each piece reads the whole matrix twice and writes its gradient once, which on a CPU takes longer
than a small piece's arithmetic."""

_LEAST_SURE = 1e-30
"""A probability whose logarithm is surely as good as that of its logit: no denormal number."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Which vector each of N predictions reads, where a vector may have several.

    Attributes:
        row_N: increasing.
        start: [R+1], on the CPU: where each vector's predictions begin.
    """

    row_N: Tensor
    start: I64


def predict(
    lm: MaskedLM,
    vectors_RD: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    rows: Rows | None = None,
) -> tuple[Tensor, Tensor]:
    """Σ_n weight_n · nll_n, differentiable, and nll_N, not differentiable.

    Args:
        lm: whose head reads the vectors.
        vectors_RD: outputs of the encoder, own or exchanged.
        targets_N: the tokens to predict.
        weights_N: fp32; what each counts in the loss.
        rows: the vector each is predicted from; None: one of each, in order.
    """
    inner_RE = lm.transform(vectors_RD)
    bias: Tensor | None = lm.decoder.bias
    if bias is None:
        bias = inner_RE.new_zeros(lm.decoder.out_features)
    matrix_VE: Tensor = lm.decoder.weight
    if not torch.is_grad_enabled():  # the function below can't see that: it makes the gradient
        inner_RE, matrix_VE, bias = inner_RE.detach(), matrix_VE.detach(), bias.detach()
    out: tuple[Tensor, Tensor] = _WeightedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        inner_RE, matrix_VE, bias, targets_N, weights_N, rows
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
        ctx: Any, inner_RE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor,
        weights_N: Tensor, rows: Rows | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        device = inner_RE.device.type
        low = inner_RE.dtype
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return _forward(ctx, inner_RE, weight_VE, bias_V, targets_N, weights_N, rows, low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # In place: the matrix' gradient is as large as the matrix. A second call is refused.
        return *(grad.mul_(grads[0]) for grad in ctx.saved_tensors), None, None, None


def _forward(
    ctx: Any,
    inner_RE: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    rows: Rows | None,
    low: torch.dtype,
) -> tuple[Tensor, Tensor]:
    size = weight_VE.shape[0]
    most = max(_LOGITS_AT_ONCE.get(inner_RE.device.type, 1 << 23) // size, 16)
    pieces = max(math.ceil(len(inner_RE) / most), 1)
    chunk = max(math.ceil(len(inner_RE) / pieces), 1)
    decoder_VE, bias_low, inner_low = weight_VE.to(low), bias_V.to(low), inner_RE.to(low)
    wants = any(ctx.needs_input_grad)
    d_inner = torch.empty_like(inner_RE) if wants else inner_RE.new_empty(0)
    d_weight = torch.empty_like(weight_VE) if wants else inner_RE.new_empty(0)
    if wants and not len(inner_RE):
        d_weight.zero_()
    d_bias = torch.zeros_like(bias_V) if wants else inner_RE.new_empty(0)
    nll_N = torch.empty(len(targets_N), device=inner_RE.device, dtype=weights_N.dtype)
    for begin in range(0, len(inner_RE), chunk):
        part = slice(begin, min(begin + chunk, len(inner_RE)))
        logits = torch.nn.functional.linear(inner_low[part], decoder_VE, bias_low)
        logits = logits.to(weights_N.dtype)
        p = torch.softmax(logits, -1)
        told, row = _predictions(part, rows, inner_RE.device)
        target, weight = targets_N[told], weights_N[told]
        p_target = p[row, target]
        nll_N[told] = _nll(logits, p, p_target, row, target)
        if not wants:
            continue
        # d Σ w·nll / d logits = W·p − Σ w·onehot with W the sum of a row's weights, which joins
        # the thinner operand: what stands in p is p − Σ w/W·onehot.
        w = weight.new_zeros(len(p)).index_add_(0, row, weight)[:, None]
        share = weight / w[row, 0].where(w[row, 0] != 0, 1.0)
        p.view(-1).index_add_(0, row * size + target, share, alpha=-1)
        p_low = p.to(low)
        d_inner[part] = ((p_low @ decoder_VE) * w).to(d_inner.dtype)
        d_bias.add_(w[:, 0] @ p)
        weighted = (inner_RE[part] * w).to(low)
        if low == d_weight.dtype:
            d_weight.addmm_(p_low.t(), weighted, beta=float(begin > 0))
        elif begin:
            d_weight.add_(p_low.t() @ weighted)
        else:
            d_weight.copy_(p_low.t() @ weighted)
    ctx.save_for_backward(d_inner, d_weight, d_bias)
    ctx.mark_non_differentiable(nll_N)
    return torch.dot(nll_N, weights_N), nll_N


def _predictions(part: slice, rows: Rows | None, device: torch.device) -> tuple[slice, Tensor]:
    """Which predictions read these vectors, and which of the part each reads."""
    if rows is None:
        return part, torch.arange(part.stop - part.start, device=device)
    told = slice(int(rows.start[part.start]), int(rows.start[part.stop]))
    return told, rows.row_N[told] - part.start


def _nll(logits: Tensor, p: Tensor, p_target: Tensor, row: Tensor, target: Tensor) -> Tensor:
    """−log p of the targets. A GPU isn't asked how small they are: asking is waiting for it."""
    if p.device.type == "cpu" and bool((p_target > _LEAST_SURE).all()):
        return -p_target.log()
    # log Σ exp(logits) by way of the likeliest token.
    log_sum = logits.amax(1) - p.amax(1).log()
    return log_sum[row] - logits[row, target]
