"""An encoder's own vectors, before any fine-tuning, of sentences and of words, at every layer.

Shapes: N texts, B a batch of them, L subwords of the longest, D width, M layers counted with the
embeddings as layer 0, T real subwords of a text without special tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel

from weam_ray.artifacts import Resources
from weam_ray.transfer.loading import load_model, most_subwords
from weam_ray.transfer.machine import machine
from weam_ray.transfer.tokenised import open_tokenizer

Array = NDArray[np.float32]

_BATCH_TOKENS = 8192


@dataclass(frozen=True, eq=False)
class _Batch:
    places: list[int]
    states: torch.Tensor
    """(M, B, L, D)"""
    real_BL: torch.Tensor
    """True where a subword is of the text: no padding, no special token."""
    offsets: list[list[tuple[int, int]]]


class Vectors:
    """The vectors of one encoder folder.

    Raises:
        DataError: no encoder or no tokenizer there.
    """

    def __init__(
        self, encoder_dir: Path, resources: Resources | None = None, max_length: int = 128
    ) -> None:
        self._resources = resources or Resources()
        self._device = torch.device(self._resources.device)
        self._model = load_model(AutoModel, encoder_dir, self._device).eval()
        self._tokenizer = open_tokenizer(encoder_dir)
        most = most_subwords(self._model.config)
        bounds = [max_length, self._tokenizer.model_max_length, most or max_length]
        self._max_length = int(min(bounds))

    @property
    def layers(self) -> int:
        """Layers of the encoder, the embeddings not counted."""
        return int(self._model.config.num_hidden_layers)

    def sentences(self, texts: Sequence[str], layer: int | None = None) -> Array:
        """Mean of each text's subword vectors, special tokens left out: (M, N, D).

        Args:
            layer: give only this one, (1, N, D).
        """
        pooled: list[Array | None] = [None] * len(texts)
        for batch in self._batches(texts):
            weight = batch.real_BL.float()
            weight /= weight.sum(dim=1, keepdim=True).clamp(min=1)
            states = batch.states if layer is None else batch.states[layer : layer + 1]
            means_MBD = torch.einsum("mbld,bl->mbd", states, weight).cpu().numpy()
            for row, place in enumerate(batch.places):
                pooled[place] = means_MBD[:, row]
        return np.stack([one for one in pooled if one is not None], axis=1)

    def subwords(self, texts: Sequence[str]) -> list[tuple[Array, list[tuple[int, int]]]]:
        """Of each text, its subwords' vectors (M, T, D) and their character offsets."""
        found: list[tuple[Array, list[tuple[int, int]]]] = [(np.empty(0, np.float32), [])] * len(
            texts
        )
        for batch in self._batches(texts):
            for row, place in enumerate(batch.places):
                real_L = batch.real_BL[row]
                states = batch.states[:, row, real_L].cpu().numpy()
                offsets = [
                    one for one, real in zip(batch.offsets[row], real_L, strict=False) if real
                ]
                found[place] = states, offsets
        return found

    def subword_sets(self, texts: Sequence[str]) -> list[set[int]]:
        """The distinct subwords of each text."""
        encoded: Any = self._tokenizer(
            list(texts), add_special_tokens=False, truncation=True, max_length=self._max_length
        )
        return [set(ids) for ids in encoded["input_ids"]]

    def _batches(self, texts: Sequence[str]) -> Iterator[_Batch]:
        encoded: Any = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self._max_length,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lambda place: -lengths[place])
        start = 0
        while start < len(order):
            size = max(1, _BATCH_TOKENS // max(1, lengths[order[start]]))
            yield self._run(encoded, order[start : start + size])
            start += size

    @torch.inference_mode()
    def _run(self, encoded: Any, places: list[int]) -> _Batch:
        real_BL = self._padded([encoded["attention_mask"][place] for place in places], 0)
        inputs = {
            "input_ids": self._padded(
                [encoded["input_ids"][place] for place in places], self._tokenizer.pad_token_id
            ),
            "attention_mask": real_BL,
        }
        if "token_type_ids" in encoded:
            inputs["token_type_ids"] = torch.zeros_like(real_BL)
        special_BL = self._padded([encoded["special_tokens_mask"][place] for place in places], 1)
        with machine(self._resources):
            states = self._model(**inputs, output_hidden_states=True).hidden_states
        return _Batch(
            places=places,
            states=torch.stack(states),
            real_BL=(special_BL == 0) & (real_BL == 1),
            offsets=[encoded["offset_mapping"][place] for place in places],
        )

    def _padded(self, rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        padded = pad_sequence(tensors, batch_first=True, padding_value=value)
        return padded.to(self._device)
