"""A diagnostic beside fine-tuning: what a regression reads off the encoder's own vectors.

The encoder stays as it is, so this shows what pre-training put into it; and a variant subtracts
each language's mean vector, which shows how much of a gap is only that languages lie apart. In a
tiny run the variant alone moved German from 33 to 37 %, and French, without bilingual text, alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from weam_ray.artifacts import Resources
from weam_ray.errors import DataError
from weam_ray.transfer.bags import fit_dense
from weam_ray.transfer.items import hash_order
from weam_ray.transfer.reading import LABELS
from weam_ray.transfer.retrieval import reported_layer
from weam_ray.transfer.scores import NO_SELECTION, SCORES_SCHEMA
from weam_ray.transfer.vectors import Array, Vectors

PLAIN, CENTRED = "frozen-probe", "frozen-probe-centred"


def frozen_probe(
    encoder_dir: Path,
    items: pa.Table,
    language: str = "en",
    resources: Resources | None = None,
    train_limit: int = 10_000,
    task: str = "xnli",
    limit: int | None = None,
) -> pa.Table:
    """Scores of a softmax regression on frozen sentence vectors, learnt in one language.

    Premise p and hypothesis h are each the mean of their subwords' vectors at the layer two thirds
    up; the regression reads |p - h| and p * h, the parts of InferSent's features (Conneau et al.
    2017, section 3.1) that compare the sides.

    Args:
        items: rows of items.parquet.
        train_limit: training items learnt from, the first in the order of a hash.
        limit: score so many dev items a language, the same in each, and no test items; None scores
            all of both.

    Returns:
        A table in scores.parquet's schema with systems ``frozen-probe`` and
        ``frozen-probe-centred``; ``selection`` is ``none``.

    Raises:
        DataError: no training items in ``language``.
    """
    train = items.filter(
        pc.and_(pc.equal(items["split"], "train"), pc.equal(items["language"], language))
    )
    if not len(train):
        raise DataError(f"no training items in {language!r} for the frozen probe")
    chosen = hash_order(train["item"].to_pylist(), "probe")[:train_limit]
    used = pa.concat_tables([train.take(np.sort(chosen)), _scored(items, limit)])
    premises, hypotheses = _sides(encoder_dir, used, resources)
    languages = np.asarray(used["language"].to_pylist(), dtype=object)
    labels = used["label"].to_numpy().astype(np.int64)
    fit_on = (np.arange(len(used)) < len(chosen))[None, :]
    rows = []
    for system in (PLAIN, CENTRED):
        if system == CENTRED:
            premises, hypotheses = _centre(premises, hypotheses, languages)
        features = np.concatenate(
            [np.abs(premises - hypotheses), premises * hypotheses], axis=1, dtype=np.float32
        )
        predicted = fit_dense(features, labels, fit_on)[0]
        rows += _scores(used.slice(len(chosen)), predicted[len(chosen) :], system, task)
    return pa.Table.from_pylist(rows, schema=SCORES_SCHEMA)


def _scored(items: pa.Table, limit: int | None) -> pa.Table:
    if limit is None:
        return items.filter(pc.not_equal(items["split"], "train"))
    dev = items.filter(pc.equal(items["split"], "dev"))
    names = dev["item"].unique().to_pylist()
    kept = [names[place] for place in hash_order(names, "probe")[:limit]]
    return dev.filter(pc.is_in(dev["item"], pa.array(kept)))


def _sides(encoder_dir: Path, items: pa.Table, resources: Resources | None) -> tuple[Array, Array]:
    """Vectors of premises and hypotheses: (N, D) each; a text that comes twice is encoded once."""
    texts = items["premise"].to_pylist() + items["hypothesis"].to_pylist()
    distinct = list(dict.fromkeys(texts))
    place = {text: number for number, text in enumerate(distinct)}
    vectors = Vectors(encoder_dir, resources)
    states = vectors.sentences(distinct, layer=reported_layer(vectors.layers))[0]
    rows = states[[place[text] for text in texts]]
    return rows[: len(items)], rows[len(items) :]


def _centre(
    premises: Array, hypotheses: Array, languages: NDArray[np.object_]
) -> tuple[Array, Array]:
    premises, hypotheses = premises.copy(), hypotheses.copy()
    for language in dict.fromkeys(languages):
        here = languages == language
        mean = (premises[here].mean(axis=0) + hypotheses[here].mean(axis=0)) / 2
        premises[here] -= mean
        hypotheses[here] -= mean
    return premises, hypotheses


def _scores(
    items: pa.Table, predicted: NDArray[np.int64], system: str, task: str
) -> list[dict[str, object]]:
    splits = np.asarray(items["split"].to_pylist(), dtype=object)
    languages = np.asarray(items["language"].to_pylist(), dtype=object)
    gold = items["label"].to_numpy()
    rows: list[dict[str, object]] = []
    for split, language in dict.fromkeys(zip(splits, languages, strict=True)):
        here = (splits == split) & (languages == language)
        shares = np.bincount(predicted[here], minlength=len(LABELS)) / here.sum()
        rows.append(
            {"task": task, "language": language, "split": split, "selection": NO_SELECTION}
            | {"system": system, "metric": "accuracy", "n": int(here.sum())}
            | {"value": float((predicted[here] == gold[here]).mean())}
            | {f"share_{code}": float(share) for code, share in enumerate(shares)}
        )
    return rows
