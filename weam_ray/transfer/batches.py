"""Which items go together, decided by length and seed alone, and how they become tensors.

Shapes: B items a batch, L subwords of the longest of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Rows = NDArray[np.int64]

_POOL = 64
"""Batches whose items are sorted by length together: large enough that little is padded, small
enough that an epoch's order stays random."""


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that follows from its parts alone."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def training_batches(
    rows: Rows, lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[Rows]:
    """One epoch: every row once, in batches of like length, in an order drawn from the seed.

    Args:
        rows: item numbers to train on.
        lengths: subwords of each of those rows, in the same order.
    """
    draw = np.random.default_rng(derived_seed("batches", seed, epoch))
    order = draw.permutation(len(rows))
    batches: list[Rows] = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = order[start : start + batch_size * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [rows[pool[at : at + batch_size]] for at in range(0, len(pool), batch_size)]
    return [batches[place] for place in draw.permutation(len(batches))]


def evaluation_batches(rows: Rows, lengths: NDArray[np.int64], tokens: int) -> Iterator[Rows]:
    """All rows, longest first whatever their language, at most ``tokens`` padded subwords a batch.

    Longest first, so that a batch which doesn't fit into memory fails at once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        yield rows[order[start : start + size]]
        start += size


class Subwords(Protocol):
    """N inputs of subwords as ``TokenisedItems`` holds them."""

    @property
    def ids(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def types(self) -> NDArray[np.uint8] | None: ...  # noqa: D102
    @property
    def offsets(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def lengths(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def pad(self) -> int: ...  # noqa: D102


class Collator:
    """Turns item numbers into padded tensors, from arrays that lie on the device.

    Args:
        items: N inputs.
        targets: what is learnt of each, (N, ...).
    """

    def __init__(
        self, items: Subwords, targets: NDArray[np.integer[Any]], device: torch.device
    ) -> None:
        self._ids = torch.from_numpy(items.ids).to(device)
        self._types = None if items.types is None else torch.from_numpy(items.types).to(device)
        self._targets = torch.from_numpy(targets.astype(np.int64)).to(device)
        self._starts = torch.from_numpy(items.offsets[:-1].copy()).to(device)
        self._lengths = torch.from_numpy(items.lengths).to(device)
        self._host_lengths = items.lengths
        self._last = max(0, len(items.ids) - 1)
        self._pad = items.pad
        self._device = device

    def inputs(self, rows: Rows, padded_length: int | None = None) -> dict[str, torch.Tensor]:
        """``input_ids``, ``token_type_ids`` and, where a row is shorter than L, ``attention_mask``.

        Args:
            padded_length: pad to this length and not to the longest row's.
        """
        lengths = self._host_lengths[rows]
        width = padded_length or int(lengths.max())
        at = torch.from_numpy(rows).to(self._device)
        place = torch.arange(width, device=self._device)
        index_BL = (self._starts[at].unsqueeze(1) + place).clamp_(max=self._last)
        if int(lengths.min()) == width:
            # No mask at all: attention then takes its fastest path.
            inputs = {"input_ids": self._ids[index_BL].long()}
            mask_BL = None
        else:
            mask_BL = place < self._lengths[at].unsqueeze(1)
            inputs = {
                "input_ids": self._ids[index_BL].masked_fill_(~mask_BL, self._pad).long(),
                "attention_mask": mask_BL.long(),
            }
        if self._types is not None:
            types_BL = self._types[index_BL]
            if mask_BL is not None:
                types_BL.masked_fill_(~mask_BL, 0)
            inputs["token_type_ids"] = types_BL.long()
        return inputs

    def targets(self, rows: Rows) -> torch.Tensor:
        """What is learnt of these rows: (B, ...)."""
        return self._targets[torch.from_numpy(rows).to(self._device)]
