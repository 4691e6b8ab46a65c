"""The frozen probe reads what vectors hold; centring brings back what a shift hid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from weam_ray.errors import DataError
from weam_ray.transfer import ITEMS_SCHEMA, SCORES_SCHEMA, frozen_probe
from weam_ray.transfer.vectors import Vectors


def identity_items(count: int = 150) -> pa.Table:
    """Entailment repeats the premise, contradiction is unrelated, neutral repeats half of it."""
    draw = np.random.default_rng(0)
    rows = []
    for split, languages in (("train", ["en"]), ("dev", ["en", "qaa"])):
        for number in range(count):
            label = number % 3
            premise = list(draw.integers(0, 40, 8))
            other = list(draw.integers(0, 40, 8))
            hypothesis = (premise, premise[:4] + other[4:], other)[label]
            sides = [" ".join(f"w{word}" for word in side) for side in (premise, hypothesis)]
            for language in languages:
                name = f"{split}-{number}"
                rows.append([name, split, language, *sides, label])
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(columns, schema=ITEMS_SCHEMA)


def values(table: pa.Table) -> dict[tuple[str, str], float]:
    assert table.schema.equals(SCORES_SCHEMA)
    return {(row["system"], row["language"]): row["value"] for row in table.to_pylist()}


def test_a_regression_reads_similarity_off_the_vectors(encoder: Path) -> None:
    found = values(frozen_probe(encoder, identity_items()))
    assert found["frozen-probe", "en"] > 0.55
    assert found["frozen-probe", "en"] == found["frozen-probe", "qaa"]


def test_centring_brings_back_what_a_shift_hid(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second language's vectors lie apart by a constant, as languages' vectors do."""
    shifted = identity_items()
    plain = Vectors.sentences

    def with_shift(self: Vectors, texts: list[str], layer: int | None = None) -> np.ndarray:
        states = plain(self, [text.removeprefix("[UNK] ") for text in texts], layer)
        far = np.asarray([text.startswith("[UNK] ") for text in texts])
        return np.where(far[None, :, None], states + np.linspace(-3, 3, states.shape[-1]), states)

    marked = [
        [f"[UNK] {text}" if language == "qaa" else text
         for text, language in zip(shifted[name].to_pylist(), shifted["language"].to_pylist(),
                                   strict=True)]
        for name in ("premise", "hypothesis")
    ]  # fmt: skip
    for place, texts in zip((3, 4), marked, strict=True):
        shifted = shifted.set_column(place, ITEMS_SCHEMA.field(place), pa.array(texts))
    monkeypatch.setattr(Vectors, "sentences", with_shift)
    found = values(frozen_probe(encoder, shifted))
    assert found["frozen-probe", "qaa"] < 0.45
    assert found["frozen-probe-centred", "qaa"] > 0.55


def test_without_training_items_there_is_no_probe(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    with pytest.raises(DataError, match="no training items in 'de'"):
        frozen_probe(encoder, world(train=6, dev=6, test=6), "de")
