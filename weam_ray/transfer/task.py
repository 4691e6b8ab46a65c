"""A task as fine-tuning sees it: rows of subwords, what is learnt of them, how they are answered.

A row is an item (a sentence pair), or one window of a question's context; several rows may belong
to one item. Shapes: N rows, B rows of a batch, K numbers a row that predictions are made from.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from weam_ray.transfer.batches import Rows, Subwords

Outputs = NDArray[np.float32]


class Examples(Subwords, Protocol):
    """N rows with what they are: ``TokenisedItems`` or ``Windows``."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> NDArray[np.object_]:
        """``item``, ``split``, ``language`` or ``passage`` of each row: (N,)."""

    def among(self, languages: Collection[str]) -> NDArray[np.bool_]:
        """True where all languages of a row are among these: (N,)."""

    @property
    def units(self) -> NDArray[np.int64]:
        """Number of the item that each row belongs to: (N,)."""


class Task(Protocol):
    """What a run needs to know of its task."""

    place: str
    """Where its settings stand in a study file, and its stage in reports of progress."""
    metric: str
    """What dev evaluations are compared by."""
    width: int
    """K."""

    @property
    def examples(self) -> Examples: ...  # noqa: D102

    @property
    def targets(self) -> NDArray[np.integer[Any]]:
        """What is learnt of each row: (N, ...)."""

    def load(self, encoder_dir: Path, seed: int, device: torch.device) -> PreTrainedModel:
        """The encoder with the task's head, drawn from the seed."""

    def loss(
        self, found: Any, targets: torch.Tensor, inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Mean loss of a batch, from what the model gave for it."""

    def outputs(self, found: Any, rows: Rows) -> Outputs:
        """What predictions are made from, of a batch: (B, K), without NaN."""

    def score(self, rows: Rows, outputs: Outputs) -> float:
        """:attr:`metric` over these rows, 0 to 1."""

    def predictions(self, selection: str, rows: Rows, outputs: Outputs) -> pa.Table:
        """Rows of predictions.parquet, one an item."""
