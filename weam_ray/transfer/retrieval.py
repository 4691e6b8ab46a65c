"""How often a sentence's nearest neighbour in the other language is its translation.

Shapes: N pairs, D width, M layers counted with the embeddings as layer 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from weam_ray.artifacts import Resources
from weam_ray.errors import DataError
from weam_ray.transfer.items import hash_order
from weam_ray.transfer.vectors import Array, Vectors

RETRIEVAL_SCHEMA = pa.schema(
    [
        ("language", pa.string()),
        ("n", pa.int64()),
        ("accuracy", pa.float64()),
        ("layer", pa.int64()),
        ("shared_subwords", pa.float64()),
        ("to_target", pa.list_(pa.float64())),
        ("to_source", pa.list_(pa.float64())),
        ("centred_to_target", pa.list_(pa.float64())),
        ("centred_to_source", pa.list_(pa.float64())),
    ]
)
"""``accuracy`` is the mean of both directions at ``layer``, not centred; ``shared_subwords`` is
what counting subwords in common reaches; the lists have a number for each layer."""


def reported_layer(layers: int) -> int:
    """The layer whose accuracy stands for the encoder: two thirds up, 8 of mBERT's 12.

    Fixed beforehand, as choosing the best layer by its accuracy would flatter every encoder.
    """
    return round(layers * 2 / 3)


def premise_retrieval(
    encoder_dir: Path,
    items: pa.Table,
    language: str = "en",
    resources: Resources | None = None,
    limit: int = 1000,
) -> pa.Table:
    """Retrieval between the dev premises of ``language`` and those of every other language.

    Args:
        items: rows of items.parquet; a premise that several items share counts once.
        limit: at most so many premises, the first in the order of a hash of their item.

    Returns:
        :data:`RETRIEVAL_SCHEMA`, a row for each other language; none where dev has no ``language``.
    """
    dev = items.filter(pc.equal(items["split"], "dev"))
    premises = {
        str(name): _premises(dev, str(name)) for name in dev["language"].unique().to_pylist()
    }
    first: dict[str, str] = {}
    for item, text in premises.get(language, {}).items():
        first.setdefault(text, item)
    names = list(first.values())
    chosen = [names[place] for place in hash_order(names, "retrieval")[:limit]]
    others = [name for name in premises if name != language]
    if not chosen or not others:
        return pa.table({name: [] for name in RETRIEVAL_SCHEMA.names}, schema=RETRIEVAL_SCHEMA)
    vectors = Vectors(encoder_dir, resources)
    texts = {name: [premises[name][item] for item in chosen] for name in (language, *others)}
    flat = [text for name in texts for text in texts[name]]
    states_MND = vectors.sentences(flat)
    subwords = vectors.subword_sets(flat)
    count = len(chosen)
    rows = []
    for place, name in enumerate(others, 1):
        here = slice(place * count, (place + 1) * count)
        row = measures(states_MND[:, :count], states_MND[:, here])
        shared = _shared_subwords(subwords[:count], subwords[here])
        rows.append({"language": name, "shared_subwords": shared, **row})
    return pa.Table.from_pylist(rows, schema=RETRIEVAL_SCHEMA)


def sentence_retrieval(
    encoder_dir: Path,
    sources: Sequence[str],
    targets: Sequence[str],
    resources: Resources | None = None,
) -> dict[str, Any]:
    """The same for any held-out pairs: :data:`RETRIEVAL_SCHEMA` without language, as a dictionary.

    Raises:
        DataError: no pairs, or sides of unequal length.
    """
    if len(sources) != len(targets) or not sources:
        raise DataError(f"{len(sources)} source and {len(targets)} target sentences are no pairs")
    vectors = Vectors(encoder_dir, resources)
    count = len(sources)
    flat = [*sources, *targets]
    states_MND = vectors.sentences(flat)
    subwords = vectors.subword_sets(flat)
    return {
        "shared_subwords": _shared_subwords(subwords[:count], subwords[count:]),
        **measures(states_MND[:, :count], states_MND[:, count:]),
    }


def retrieval_accuracy(left_ND: Array, right_ND: Array) -> tuple[float, float]:
    """Share of pairs whose right side is nearest to the left by cosine, and the other way round.

    Of equally near ones the first counts, so vectors that are all alike give 1/N and not 1.
    """
    similarity_NN = _unit(left_ND) @ _unit(right_ND).T
    own = np.arange(len(left_ND))
    return (
        float((similarity_NN.argmax(axis=1) == own).mean()),
        float((similarity_NN.argmax(axis=0) == own).mean()),
    )


def _premises(dev: pa.Table, language: str) -> dict[str, str]:
    rows = dev.filter(pc.equal(dev["language"], language))
    return dict(zip(rows["item"].to_pylist(), rows["premise"].to_pylist(), strict=True))


def measures(left_MND: Array, right_MND: Array) -> dict[str, Any]:
    """Retrieval at every layer, plain and with each language's mean vector subtracted."""
    plain = [retrieval_accuracy(*sides) for sides in zip(left_MND, right_MND, strict=True)]
    centred = [
        retrieval_accuracy(left - left.mean(axis=0), right - right.mean(axis=0))
        for left, right in zip(left_MND, right_MND, strict=True)
    ]
    layer = reported_layer(len(plain) - 1)
    return {
        "n": left_MND.shape[1],
        "accuracy": sum(plain[layer]) / 2,
        "layer": layer,
        "to_target": [forward for forward, _ in plain],
        "to_source": [backward for _, backward in plain],
        "centred_to_target": [forward for forward, _ in centred],
        "centred_to_source": [backward for _, backward in centred],
    }


def _shared_subwords(left: Sequence[set[int]], right: Sequence[set[int]]) -> float:
    """Retrieval by the cosine of sets of subwords: names, numbers and punctuation in common."""
    shared = sorted(set().union(*left) & set().union(*right))
    column = {subword: place for place, subword in enumerate(shared)}
    sides = []
    for sets in (left, right):
        matrix: NDArray[np.float32] = np.zeros((len(sets), len(shared)), np.float32)
        for row, subwords in enumerate(sets):
            matrix[row, [column[one] for one in subwords if one in column]] = 1
        # Subwords of one side only count in the length of its vector, not in any product.
        sides.append(matrix / np.sqrt([[max(1, len(subwords))] for subwords in sets]))
    similarity_NN = sides[0] @ sides[1].T
    own = np.arange(len(left))
    forward, backward = (similarity_NN.argmax(axis=axis) == own for axis in (1, 0))
    return float((forward.mean() + backward.mean()) / 2)


def _unit(vectors_ND: Array) -> Array:
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.asarray(vectors_ND / np.maximum(lengths, 1e-12), dtype=np.float32)
