"""Every objective as an equation, once.

Legend: B rows, L places, D width, V vocabulary, M masked tokens of the batch, A ⊆ M those with an
aligned partner, K partner tokens, N = M + A predictions, R ≤ N vectors the head reads.

With outputs h of the encoder, originals x, and h'_i = Σ_k weight_ik · h_k over i's partner tokens:

    nll(i, v) = −log softmax(head(v))_{x_i}
    L_mp = 1/|M| · Σ_{i∈M} nll(i, h_i)
    L_cp = 1/|M| · [ Σ_{i∈A} nll(i, h'_i) + Σ_{i∈M∖A} nll(i, h_i) ]

    mlm, tlm, tlm-shuffled-pairs   L = L_mp           (they differ in the rows they read)
    tlm-doubled                    L = L_mp + λ·L_mp
    weam, weam-shuffled-links      L = L_mp + λ·L_cp
    weam-aligned-only              L = L_mp + λ·1/|A| · Σ_{i∈A} nll(i, h'_i)

WEAM: Yang et al. 2021, Figure 1. TLM: Conneau & Lample 2019. Both WEAM losses share one pass of the
head: it reads the M own vectors and those exchanged ones that are none of them, each once however
many tokens it is to predict; a masked token without a partner brings its own loss into L_cp.

    word-aligned   L = mean_{(i,j)∈links} mse(f_i, g_j) + mean_{i∈anchored rows} mse(f_i, f⁰_i)

where f, g are the two sides' vectors, read apart, last subwords, with [CLS] and [SEP] linked, and
f⁰ is the frozen original (Cao, Kitaev & Klein 2020, section 3.2). mse is the mean over D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weam_ray.pretraining.batches import Batch
from weam_ray.pretraining.config import Objective, PretrainingConfig
from weam_ray.pretraining.encoder import MaskedLM, hidden_states
from weam_ray.pretraining.head import Rows, predict

METRICS = ("loss", "loss_mp", "loss_cp")
"""What a masked-token objective measures: L, L_mp, L_cp (0 where there is none)."""

WORD_ALIGNED_METRICS = ("loss", "loss_links", "loss_anchor")
"""What word-aligned measures: L and its two means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Which terms an objective is made of.

    Attributes:
        exchanged: L_cp has Σ_A nll(i, h'_i).
        kept: L_cp has Σ_{M∖A} nll(i, h_i).
        doubled: L_cp is a second L_mp.
        weight: λ, of L_cp in L.
        over_aligned: L_cp is a mean over A, not M.
        stop_gradient: h' is a constant.
    """

    exchanged: bool = False
    kept: bool = False
    doubled: bool = False
    weight: float = 0.0
    over_aligned: bool = False
    stop_gradient: bool = False


def terms_of(objective: Objective, weight: float = 1.0, stop_gradient: bool = False) -> Terms:
    """The table above, for objectives on masked tokens. `weight` is λ."""
    if objective in ("weam", "weam-shuffled-links"):
        return Terms(exchanged=True, kept=True, weight=weight, stop_gradient=stop_gradient)
    if objective == "weam-aligned-only":
        return Terms(exchanged=True, over_aligned=True, weight=weight, stop_gradient=stop_gradient)
    if objective == "tlm-doubled":
        return Terms(doubled=True, weight=weight)
    return Terms()


class MaskedTokens(nn.Module):
    """L_mp, and L_cp where the terms have it."""

    def __init__(self, lm: MaskedLM, terms: Terms) -> None:
        super().__init__()
        self.model = lm.model
        self._lm, self._terms = lm, terms

    def forward(self, batch: Batch, scale: float, replay: bool = False) -> tuple[Tensor, Tensor]:
        """This share's part of the batch's loss times `scale`, and METRICS as a tensor [3].

        Parts of a batch (workers, micro-batches) add up to the batch's values. A `replay` batch is
        plain MLM: L = L_mp whatever the objective.
        """
        terms = Terms() if replay else self._terms
        hidden_BLD = hidden_states(
            self._lm, batch.ids_BL, batch.real_BL, batch.segments_BL, padded=batch.padded
        )
        flat_TD = hidden_BLD.flatten(0, 1)
        vectors_RD = flat_TD[batch.places_M]
        targets_N, rows = batch.targets_M, None
        # With λ = 0 L_cp is measured all the same, and weighs nothing.
        weight = terms.weight or 1.0
        dtype = torch.promote_types(vectors_RD.dtype, torch.float32)
        mp_N, cp_N = _weights(terms, weight, batch, dtype)
        if len(mp_N) > len(targets_N):
            targets_N = torch.cat([targets_N, batch.targets_M[batch.aligned_A]])
            vectors_RD = torch.cat([vectors_RD, exchanged(flat_TD, batch)])
            if terms.stop_gradient:  # a vector's two uses differ in their gradients
                own_MD, swapped_AD = vectors_RD[: len(batch.places_M)], vectors_RD[batch.row_A]
                vectors_RD = torch.cat([own_MD, swapped_AD.detach()])
            else:
                rows = _rows(batch)
                targets_N, mp_N, cp_N = (x[batch.order_N] for x in (targets_N, mp_N, cp_N))
        weights_N = mp_N + cp_N if terms.weight else mp_N
        loss, nll_N = predict(self._lm, vectors_RD, targets_N, weights_N * scale, rows)
        loss_mp, loss_cp = torch.dot(nll_N, mp_N), torch.dot(nll_N, cp_N)
        whole = loss_mp + loss_cp if terms.weight else loss_mp
        return loss, torch.stack([whole, loss_mp, loss_cp / weight])


def exchanged(flat_TD: Tensor, batch: Batch) -> Tensor:
    """The batch's U exchanged vectors h': weighted sums of their partners' vectors [U, D]."""
    parts_KD = flat_TD[batch.partners_K] * batch.weights_K[:, None].to(flat_TD.dtype)
    further = len(batch.row_start) - 1 - len(batch.places_M)
    return parts_KD.new_zeros(further, flat_TD.shape[1]).index_add(0, batch.owner_K, parts_KD)


def _rows(batch: Batch) -> Rows:
    """Which vector each prediction reads, own and exchanged ones sorted by their vectors."""
    own_M = torch.arange(len(batch.places_M), device=batch.row_A.device)
    return Rows(torch.cat([own_M, batch.row_A])[batch.order_N], batch.row_start)


def _weights(
    terms: Terms, weight: float, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What each prediction's nll counts in L_mp and in `weight`·L_cp: own ones, then exchanged ones
    where the terms have them.
    """
    masked, aligned = len(batch.targets_M), len(batch.aligned_A) if terms.exchanged else 0
    mp_N = torch.zeros(masked + aligned, device=batch.targets_M.device, dtype=dtype)
    mp_N[:masked] = 1.0 / max(batch.all_masked, 1)
    cp_N = mp_N * (weight if terms.kept or terms.doubled else 0.0)
    if aligned:
        cp_N[batch.aligned_A] = 0.0
        whole = batch.all_aligned if terms.over_aligned else batch.all_masked
        cp_N[masked:] = weight / max(whole, 1)
    return mp_N, cp_N


class WordAligned(nn.Module):
    """Cao et al.'s distance between linked words and to the frozen original.

    Attributes:
        leaves_some_unused: whether some steps read the head, which replay does, and others don't.
    """

    def __init__(self, lm: MaskedLM, original: MaskedLM, config: PretrainingConfig) -> None:
        super().__init__()
        self.model = lm.model
        self._lm = lm
        # In a tuple, so that the frozen original is no submodule: it is neither trained nor saved.
        self._original = (original,)
        self._weight = config.anchor_weight
        self._replay = MaskedTokens(lm, Terms()) if config.replay_share else None
        self.leaves_some_unused = self._replay is not None
        if self._replay is None:
            # The head isn't read, and DDP wants to know. A tied matrix is the encoder's too.
            read = {id(parameter) for parameter in lm.encoder.parameters()}
            for parameter in lm.model.parameters():
                if id(parameter) not in read:
                    parameter.requires_grad_(False)

    def forward(self, batch: Batch, scale: float, replay: bool = False) -> tuple[Tensor, Tensor]:
        """This share's part of the loss times `scale`, and WORD_ALIGNED_METRICS as a tensor [3]."""
        if replay and self._replay is not None:
            out: tuple[Tensor, Tensor] = self._replay(batch, scale, replay=True)
            return out
        hidden_BLD = hidden_states(
            self._lm, batch.ids_BL, batch.real_BL, batch.segments_BL, padded=batch.padded
        )
        flat_TD = hidden_BLD.flatten(0, 1)
        apart_KD = flat_TD[batch.left_K] - flat_TD[batch.right_K]
        # By numbers made on the CPU: choosing by a mask would wait for the device at each choice.
        rows = batch.anchored_S
        with torch.no_grad():
            original_SLD = hidden_states(
                self._original[0],
                batch.ids_BL[rows],
                batch.real_BL[rows],
                batch.segments_BL[rows],
                padded=batch.padded,
            )
        moved_ND = flat_TD[batch.moved_N] - original_SLD.flatten(0, 1)[batch.held_N]
        distance = apart_KD.float().square().mean(1).sum() / max(batch.all_links, 1)
        drift = moved_ND.float().square().mean(1).sum() / max(batch.all_anchored, 1)
        loss = distance + self._weight * drift
        return loss * scale, torch.stack([loss, distance, drift]).detach()
