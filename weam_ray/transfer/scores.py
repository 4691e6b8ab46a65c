"""Predictions, one row an item, and the scores that are computed from them and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.errors import DataError
from weam_ray.transfer.reading import LABELS

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("language", pa.string()),
        ("split", pa.string()),
        ("selection", pa.string()),
        ("item", pa.string()),
        ("gold", pa.int8()),
        ("predicted", pa.int8()),
        ("log_probabilities", pa.list_(pa.float32())),
    ]
)

SCORES_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("language", pa.string()),
        ("split", pa.string()),
        ("selection", pa.string()),
        ("system", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        *((f"share_{code}", pa.float64()) for code in range(len(LABELS))),
    ]
)

ENCODER = "encoder"
"""``system`` of rows that a fine-tuned encoder made."""

NO_SELECTION = "none"
"""``selection`` of rows that no moment of a training run was chosen for."""

_GROUP = ["task", "split", "selection", "language"]


def predictions_table(
    task: str, selection: str, rows: pa.Table, log_probabilities: NDArray[np.float32]
) -> pa.Table:
    """Predictions of N items under one selection rule.

    Args:
        rows: item, split, language and label of each: (N,).
        log_probabilities: natural logarithms, (N, 3). The largest is the prediction, the first of
            equal ones.
    """
    count, classes = log_probabilities.shape
    offsets = np.arange(count + 1, dtype=np.int32) * classes
    return pa.table(
        {
            "task": pa.array([task] * count, pa.string()),
            "language": rows["language"],
            "split": rows["split"],
            "selection": pa.array([selection] * count, pa.string()),
            "item": rows["item"],
            "gold": rows["label"],
            "predicted": pa.array(log_probabilities.argmax(axis=1).astype(np.int8)),
            "log_probabilities": pa.ListArray.from_arrays(
                pa.array(offsets), pa.array(log_probabilities.reshape(-1))
            ),
        },
        schema=PREDICTIONS_SCHEMA,
    )


def scores_from_predictions(predictions: pa.Table, system: str = ENCODER) -> pa.Table:
    """Accuracy and predicted class shares by task, split, selection and language.

    Args:
        predictions: rows with at least task, language, split, selection, gold, predicted.

    Returns:
        A table of :data:`SCORES_SCHEMA` in the order in which the groups first come.

    Raises:
        DataError: there are no predictions, or an item is predicted twice in a group.
    """
    if predictions.num_rows == 0:
        raise DataError("there are no predictions to score")
    gold = predictions["gold"].to_numpy()
    predicted = predictions["predicted"].to_numpy()
    items = predictions["item"].to_numpy(zero_copy_only=False)
    rows = []
    for key, group in group_rows(predictions, _GROUP).items():
        if len(set(items[group])) != len(group):
            raise DataError("an item is predicted twice", place=" ".join(key))
        shares = np.bincount(predicted[group], minlength=len(LABELS)) / len(group)
        row: dict[str, object] = dict(zip(_GROUP, key, strict=True))
        row |= {"system": system, "metric": "accuracy", "n": len(group)}
        row["value"] = float((gold[group] == predicted[group]).mean())
        rows.append(row | {f"share_{code}": float(share) for code, share in enumerate(shares)})
    return pa.Table.from_pylist(rows, schema=SCORES_SCHEMA)


def group_rows(table: pa.Table, columns: Sequence[str]) -> dict[tuple[str, ...], NDArray[np.int64]]:
    """Row numbers by the values of some string columns, first come first."""
    codes = [table[name].combine_chunks().dictionary_encode() for name in columns]
    indices = np.stack([code.indices.to_numpy(zero_copy_only=False) for code in codes], axis=1)
    unique, first, inverse = np.unique(indices, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    inverse = inverse.reshape(-1)
    return {
        tuple(
            str(code.dictionary[int(place)].as_py())
            for code, place in zip(codes, unique[group], strict=True)
        ): np.flatnonzero(inverse == group)
        for group in order
    }
