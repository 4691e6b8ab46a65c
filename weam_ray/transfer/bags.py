"""Bags of words and softmax regression: the smallest classifier, for rows that need no encoder.

Shapes: N texts or items, F features, K regressions fitted side by side, 3 labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from weam_ray.transfer.reading import LABELS

# Scripts written without spaces: every character is a token (Kana, Han, Thai, Lao, Burmese, Khmer).
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])")

_STEPS, _RATE, _DECAY = 80, 0.05, 1e-4
"""Full-batch Adam: steps, rate and L2 penalty; stopping early regularises too."""


@cache
def _blanks() -> dict[int, str]:
    return {code: " " for code in range(0x10000) if unicodedata.category(chr(code))[0] in "PS"}


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; single characters in scripts without spaces.

    Combining marks stay with their letters, which the regular expression ``\\w`` would drop.
    """
    plain = unicodedata.normalize("NFKC", text).lower().translate(_blanks())
    return _UNSPACED.sub(r" \1 ", plain).split()


@dataclass(frozen=True, eq=False)
class Bags:
    """N bags of distinct features as a sparse matrix, by row and by column."""

    features: torch.Tensor
    """Features of item 0, then of item 1, …"""

    item_starts: torch.Tensor
    """Where each item begins in ``features``: (N,)."""

    items: torch.Tensor
    """Items that have feature 0, then feature 1, …"""

    feature_starts: torch.Tensor
    """Where each feature begins in ``items``: (F,)."""

    def times(self, weights_FK: torch.Tensor) -> torch.Tensor:
        """The matrix times weights: (N, K)."""
        return F.embedding_bag(self.features, weights_FK, self.item_starts, mode="sum")

    def transposed_times(self, values_NK: torch.Tensor) -> torch.Tensor:
        """The transposed matrix times one value an item: (F, K)."""
        return F.embedding_bag(self.items, values_NK, self.feature_starts, mode="sum")


def unigrams_and_bigrams(texts: Sequence[Sequence[str]], fit_on: NDArray[np.bool_]) -> Bags:
    """The distinct words and word pairs of each text that occur in two texts of ``fit_on``.

    Args:
        texts: words of N texts.
        fit_on: (N,) the texts that a regression may learn from; what occurs in none or one of
            them can teach nothing and is left out of all.
    """
    numbers: dict[str, int] = {}
    flat: list[int] = []
    lengths: list[int] = []
    for tokens in texts:
        pairs = [f"{left} {right}" for left, right in zip(tokens, tokens[1:], strict=False)]
        distinct = {numbers.setdefault(name, len(numbers)) for name in (*tokens, *pairs)}
        flat += sorted(distinct)
        lengths.append(len(distinct))
    features = np.asarray(flat, dtype=np.int64)
    owners = np.repeat(np.arange(len(texts)), lengths)
    counts = np.bincount(features[fit_on[owners]], minlength=len(numbers))
    kept = counts[features] >= 2
    features, owners = (np.cumsum(counts >= 2) - 1)[features[kept]], owners[kept]
    order = np.argsort(features, kind="stable")
    return Bags(
        features=torch.from_numpy(features),
        item_starts=torch.from_numpy(np.searchsorted(owners, np.arange(len(texts)))),
        items=torch.from_numpy(owners[order]),
        feature_starts=torch.from_numpy(
            np.searchsorted(features[order], np.arange(int((counts >= 2).sum())))
        ),
    )


def fit_bags(bags: Bags, labels: NDArray[np.int64], fit_on: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Predicted labels (K, N) of K regressions, the k-th fitted on the items ``fit_on[k]``: (K, N).

    Deterministic: weights start at 0 and every step reads all items.
    """
    width = len(bags.feature_starts)
    return _fit(bags.times, bags.transposed_times, width, labels, fit_on)


def fit_dense(
    values: NDArray[np.float32], labels: NDArray[np.int64], fit_on: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The same for F numbers an item (N, F), standardised on the items that are learnt from."""
    learnt = values[fit_on.any(axis=0)]
    scaled = (values - learnt.mean(axis=0)) / (learnt.std(axis=0) + 1e-6)
    inputs = torch.from_numpy(scaled.astype(np.float32))
    width = inputs.shape[1]
    return _fit(inputs.__matmul__, inputs.T.__matmul__, width, labels, fit_on)


def _fit(
    times: Callable[[torch.Tensor], torch.Tensor],
    transposed_times: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    labels: NDArray[np.int64],
    fit_on: NDArray[np.bool_],
) -> NDArray[np.int64]:
    runs, count = fit_on.shape
    shape = (count, runs, len(LABELS))
    weights = torch.zeros(width, runs * len(LABELS))
    bias = torch.zeros(runs * len(LABELS))
    gold = F.one_hot(torch.from_numpy(labels), len(LABELS)).unsqueeze(1)
    share = torch.from_numpy((fit_on / fit_on.sum(axis=1, keepdims=True)).astype(np.float32))
    # Adam works number by number, so regressions side by side don't touch each other.
    optimiser = torch.optim.Adam([weights, bias], lr=_RATE)
    for _ in range(_STEPS):
        probabilities = (times(weights) + bias).view(shape).softmax(dim=-1)
        # The gradient of cross-entropy, written out: autograd's for sparse bags is 20 times slower.
        slope = ((probabilities - gold) * share.T.unsqueeze(-1)).view(count, -1)
        weights.grad = transposed_times(slope) + _DECAY * weights
        bias.grad = slope.sum(dim=0)
        optimiser.step()
    return (times(weights) + bias).view(shape).argmax(dim=-1).T.numpy()
