"""Word alignment from an encoder's own vectors, and its error rate against gold links.

Both sides of a pair are encoded apart, so nothing but the encoder brings them together. A link
between subwords is a link between their words. Two ways to link subwords, at every layer:

- ``softmax`` (Dou and Neubig 2021, awesome-align): dot products, softmax over each side; linked
  where both probabilities are above 0.001.
- ``argmax`` (Jalili Sabet et al. 2020, SimAlign): cosines; linked where each is the other's best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.alignment import Gold, Links, aer
from weam_ray.artifacts import Resources
from weam_ray.errors import DataError
from weam_ray.transfer.retrieval import reported_layer
from weam_ray.transfer.vectors import Array, Vectors

Extraction = Literal["softmax", "argmax"]

ENCODER_AER_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("pair", pa.string()),
        ("n", pa.int64()),
        ("layer", pa.int64()),
        ("reported", pa.bool_()),
        ("way", pa.string()),
        ("precision", pa.float64()),
        ("recall", pa.float64()),
        ("aer", pa.float64()),
    ]
)
"""A row for each set of gold links, layer and way of linking; ``reported`` marks the layer that
stands for the encoder."""

_THRESHOLD = 1e-3
_PAIRS = 64
"""Pairs whose vectors are in memory at once."""


def encoder_aer(
    encoder_dir: Path,
    pairs: pa.Table,
    gold: Gold | Links | None = None,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Alignment error rates of an encoder, by way of linking and by layer.

    Args:
        pairs: rows of pairs.parquet: texts and word spans.
        gold: links by word, pair by pair in the order of ``pairs``; None takes the ``gold`` column.

    Returns:
        ``pairs``, ``layer`` (two thirds up, 8 of mBERT's 12), ``aer`` (softmax at that layer), and
        ``softmax`` and ``argmax``: for each layer precision, recall and aer.

    Raises:
        DataError: no pairs, or no gold links.
    """
    if gold is None:
        if "gold" not in pairs.column_names or pairs["gold"].null_count or not len(pairs):
            raise DataError(
                "these pairs have no gold links",
                cure="Give gold, or pairs that have a gold column.",
            )
        gold = Links.from_arrow(pairs["gold"])
    found = encoder_links(encoder_dir, pairs, resources)
    by_way = {way: [aer(links, gold).facts() for links in layers] for way, layers in found.items()}
    layer = reported_layer(len(by_way["softmax"]) - 1)
    return {
        "pairs": len(pairs),
        "layer": layer,
        "aer": by_way["softmax"][layer]["aer"],
        **{
            way: [{name: row[name] for name in ("precision", "recall", "aer")} for row in rows]
            for way, rows in by_way.items()
        },
    }


def aer_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What :func:`encoder_aer` returns, as rows of :data:`ENCODER_AER_SCHEMA` without the names."""
    return [
        {
            "n": found["pairs"],
            "layer": layer,
            "reported": layer == found["layer"],
            "way": way,
            **row,
        }
        for way in ("softmax", "argmax")
        for layer, row in enumerate(found[way])
    ]


def encoder_links(
    encoder_dir: Path, pairs: pa.Table, resources: Resources | None = None
) -> dict[Extraction, list[Links]]:
    """The links of each pair by way of linking and layer, layer 0 being the embeddings.

    Raises:
        DataError: there are no pairs.
    """
    if not len(pairs):
        raise DataError("there are no pairs to align")
    vectors = Vectors(encoder_dir, resources)
    ways: tuple[Extraction, ...] = ("softmax", "argmax")
    rows: dict[Extraction, list[list[set[tuple[int, int]]]]] = {way: [] for way in ways}
    for start in range(0, len(pairs), _PAIRS):
        part = pairs.slice(start, _PAIRS)
        sources = _words(vectors, part, "source")
        targets = _words(vectors, part, "target")
        for (left_MTD, left), (right_MTD, right) in zip(sources, targets, strict=True):
            for way in ways:
                rows[way].append(
                    [
                        {(int(left[i]), int(right[j])) for i, j in link_subwords(*layer, way)}
                        for layer in zip(left_MTD, right_MTD, strict=True)
                    ]
                )
    return {
        way: [Links.from_pairs(layer) for layer in zip(*of_way, strict=True)]
        for way, of_way in rows.items()
    }


def link_subwords(left_TD: Array, right_TD: Array, way: Extraction) -> NDArray[np.int64]:
    """Linked places of two sentences' subwords: (K, 2)."""
    if not len(left_TD) or not len(right_TD):
        return np.zeros((0, 2), np.int64)
    if way == "softmax":
        similarity = left_TD @ right_TD.T
        linked = (_softmax(similarity, 1) > _THRESHOLD) & (_softmax(similarity, 0) > _THRESHOLD)
    else:
        lengths = [np.linalg.norm(side, axis=1, keepdims=True) for side in (left_TD, right_TD)]
        similarity = (left_TD / lengths[0]) @ (right_TD / lengths[1]).T
        linked = np.zeros(similarity.shape, dtype=bool)
        best = similarity.argmax(axis=1)
        mutual = similarity.argmax(axis=0)[best] == np.arange(len(best))
        linked[np.flatnonzero(mutual), best[mutual]] = True
    return np.argwhere(linked)


def _words(vectors: Vectors, pairs: pa.Table, side: str) -> list[tuple[Array, NDArray[np.int64]]]:
    """Vectors (M, T, D) of the subwords that lie in a word, and the word of each: (T,)."""
    found = []
    texts = pairs[side].to_pylist()
    spans = pairs[f"{side}_spans"].to_pylist()
    for (states_MTD, offsets), flat in zip(vectors.subwords(texts), spans, strict=True):
        word = word_of_offsets(offsets, flat)
        found.append((states_MTD[:, word >= 0], word[word >= 0]))
    return found


def word_of_offsets(offsets: Sequence[tuple[int, int]], spans: Sequence[int]) -> NDArray[np.int64]:
    """The word of each subword, by its last character (its first may be a blank); -1 for none."""
    starts, ends = np.asarray(spans[::2], np.int64), np.asarray(spans[1::2], np.int64)
    last = np.asarray([end - 1 for _, end in offsets], np.int64)
    word = np.searchsorted(starts, last, side="right") - 1
    if not len(starts):
        return np.full(len(last), -1, np.int64)
    inside = (word >= 0) & (last < ends[np.maximum(word, 0)])
    return np.where(inside, word, -1)


def _softmax(values: Array, axis: int) -> Array:
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True), np.float32)
