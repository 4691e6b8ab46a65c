"""Every loss with dictionaries and loops, a pair at a time: the fast path is held against it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weam_ray.pretraining import PretrainingConfig
from weam_ray.pretraining.batches import Batch
from weam_ray.pretraining.encoder import MaskedLM


def words_of_tokens(row: dict[str, Any], tokenizer: Any, max_length: int) -> list[Any]:
    """For each token of the framed pair: (side, word) or None."""
    sides = []
    for name in ("source", "target"):
        offsets = tokenizer(row[name], add_special_tokens=False, return_offsets_mapping=True)
        bounds = row[f"{name}_spans"]
        words = []
        for _, end in offsets["offset_mapping"]:
            inside = [
                word
                for word in range(len(bounds) // 2)
                if bounds[2 * word] < end <= bounds[2 * word + 1]
            ]
            words.append((name, inside[0]) if inside else None)
        sides.append(words)
    source, target = sides
    while len(source) + len(target) > max_length - 3:
        (source if len(source) > len(target) else target).pop()
    return [None, *source, None, *target, None]


def partner_tokens(
    place: int, words: list[Any], links: list[int], config: PretrainingConfig
) -> list[tuple[int, float]]:
    """(token, weight) of what takes the place of the token at `place`; empty if unaligned."""
    if words[place] is None:
        return []
    side, word = words[place]
    pairs = list(zip(links[::2], links[1::2], strict=True))
    other = "target" if side == "source" else "source"
    linked = sorted({j if side == "source" else i for i, j in pairs
                     if (i if side == "source" else j) == word})  # fmt: skip
    spelled = [[p for p, w in enumerate(words) if w == (other, k)] for k in linked]
    spelled = [tokens for tokens in spelled if tokens]
    if config.one_to_many == "drop" and len(spelled) > 1:
        return []
    if config.one_to_many == "first":
        spelled = spelled[:1]
    result = []
    for tokens in spelled:
        own = [p for p, w in enumerate(words) if w == (side, word)].index(place)
        chosen = {
            "mean": tokens,
            "first": tokens[:1],
            "last": tokens[-1:],
            "same-index": [tokens[min(own, len(tokens) - 1)]],
        }[config.pooling]
        result += [(p, 1 / len(spelled) / len(chosen)) for p in chosen]
    return result


def partners_of(part: Batch) -> dict[int, list[tuple[int, float]]]:
    """(place, weight) of the partners of each aligned masked token."""
    found = {}
    for token, row in zip(part.aligned_A.tolist(), part.row_A.tolist(), strict=True):
        if row < len(part.places_M):
            found[token] = [(int(part.places_M[row]), 1.0)]
            continue
        own = part.owner_K == row - len(part.places_M)
        found[token] = list(
            zip(part.partners_K[own].tolist(), part.weights_K[own].tolist(), strict=True)
        )
    return found


def masked_losses(
    lm: MaskedLM,
    batch: Batch,
    rows: list[dict[str, Any]],
    tokenizer: Any,
    config: PretrainingConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """L, L_mp and L_cp (without λ) of a batch whose rows are these pairs with their links."""
    own: list[Tensor] = []
    crossed: list[Tensor] = []
    aligned: list[Tensor] = []
    width = batch.ids_BL.shape[1]
    answers = dict(zip(batch.places_M.tolist(), batch.targets_M.tolist(), strict=True))
    for number, row in enumerate(rows):
        words = words_of_tokens(row, tokenizer, config.max_length)
        length = len(words)
        hidden = lm.encoder(
            input_ids=batch.ids_BL[number : number + 1, :length],
            token_type_ids=batch.segments_BL[number : number + 1, :length],
        )[0][0]
        for place in range(length):
            answer = answers.pop(number * width + place, None)
            if answer is None:
                continue
            nll = _nll(lm, hidden[place], answer)
            own.append(nll)
            partners = partner_tokens(place, words, row["links"], config)
            if partners:
                swapped = sum(weight * hidden[p] for p, weight in partners)
                if config.stop_gradient:
                    swapped = swapped.detach()
                aligned.append(_nll(lm, swapped, answer))
            crossed.append(aligned[-1] if partners else nll)
    assert not answers, "a masked token outside every row"
    loss_mp = torch.stack(own).mean()
    loss_cp = torch.stack(aligned if config.objective == "weam-aligned-only" else crossed).mean()
    weight = config.cross_lingual_weight
    if config.objective == "tlm":
        return loss_mp, loss_mp, loss_mp * 0
    if config.objective == "tlm-doubled":
        return loss_mp + weight * loss_mp, loss_mp, loss_mp
    return loss_mp + weight * loss_cp, loss_mp, loss_cp


def word_aligned_losses(
    lm: MaskedLM, original: MaskedLM, rows: list[dict[str, Any]], tokenizer: Any
) -> tuple[Tensor, Tensor]:
    """Cao et al. 2020, section 3.2: of linked words, and of source words from the original."""
    distances: list[Tensor] = []
    drifts: list[Tensor] = []
    for row in rows:
        vectors, lasts = {}, {}
        for name in ("source", "target"):
            encoded = tokenizer(row[name], return_offsets_mapping=True)
            ids = torch.tensor([encoded["input_ids"]])
            vectors[name] = lm.encoder(input_ids=ids)[0][0]
            ends = [end for _, end in encoded["offset_mapping"]]
            lasts[name] = {end: place for place, end in enumerate(ends)}
            if name == "source":
                kept = original.encoder(input_ids=ids)[0][0].detach()
                drifts += list((vectors[name] - kept).square().mean(1))
        source, target = vectors["source"], vectors["target"]
        distances += [(source[0] - target[0]).square().mean()]
        distances += [(source[-1] - target[-1]).square().mean()]
        for i, j in zip(row["links"][::2], row["links"][1::2], strict=True):
            one = source[lasts["source"][row["source_spans"][2 * i + 1]]]
            other = target[lasts["target"][row["target_spans"][2 * j + 1]]]
            distances.append((one - other).square().mean())
    return torch.stack(distances).mean(), torch.stack(drifts).mean()


def _nll(lm: MaskedLM, vector: Tensor, answer: int) -> Tensor:
    logits = lm.decoder(lm.transform(vector[None]))[0]
    return torch.logsumexp(logits, 0) - logits[answer]
