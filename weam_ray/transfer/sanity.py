"""Accuracies that need no encoder, one row beside every result.

A real but tiny run had 33.5 % in German where seven numbers about shared words reached 42.5 %, and
hypotheses alone reached 51.6 % in English: without these rows an accuracy near 50 looks like
inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from weam_ray.transfer.bags import fit_bags, fit_dense, unigrams_and_bigrams, words
from weam_ray.transfer.config import TransferConfig
from weam_ray.transfer.items import hash_order
from weam_ray.transfer.reading import LABELS
from weam_ray.transfer.scores import NO_SELECTION, SCORES_SCHEMA

_FOLDS = 5

Rows = NDArray[np.int64]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]


def sanity_rows(items: pa.Table, config: TransferConfig) -> pa.Table:
    """Scores of the four systems in every language and evaluated split.

    - majority: the label most frequent among the evaluated items, for all of them.
    - hypothesis-only, premise-only: softmax regression on words and word pairs of that side. It
      learns from the language's own training items; where it has none, from its evaluated items by
      five-fold cross-validation. Items of one premise share a fold: XNLI gives a premise each label
      once, so a premise seen under two labels would give the third away.
    - word-overlap-only: softmax regression on :func:`overlap_features`, learnt from the training
      items of ``config.train_language`` and applied to every language.

    Returns:
        A table in scores.parquet's schema; ``selection`` is ``none``.
    """
    of = _Items(items, config)
    predicted = _predictions(of, config.train_language)
    rows = []
    for split, language, evaluated in of.groups():
        gold = of.labels[evaluated]
        by_system = {"majority": np.full(len(gold), np.bincount(gold).argmax())}
        by_system |= {system: labels[evaluated] for system, labels in predicted.items()}
        for system, answers in by_system.items():
            shares = np.bincount(answers, minlength=len(LABELS)) / len(gold)
            row = {"task": config.task, "language": language, "split": split}
            rows.append(
                row
                | {"selection": NO_SELECTION, "system": system, "metric": "accuracy"}
                | {"value": float((answers == gold).mean()), "n": len(gold)}
                | {f"share_{code}": float(share) for code, share in enumerate(shares)}
            )
    return pa.Table.from_pylist(rows, schema=SCORES_SCHEMA)


def overlap_features(
    premises: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> NDArray[np.float32]:
    """Eight numbers an item that know which words are shared, and no word: (N, 8).

    Share of the hypothesis' words in the premise and the other way round, shared word pairs, words
    of the hypothesis that are new, logarithms of both lengths and their difference, and whether
    the sides are identical.
    """
    values = np.zeros((len(premises), 8), dtype=np.float32)
    for place, (premise, hypothesis) in enumerate(zip(premises, hypotheses, strict=True)):
        left, right = set(premise), set(hypothesis)
        pairs = set(zip(hypothesis, hypothesis[1:], strict=False))
        shared_pairs = pairs & set(zip(premise, premise[1:], strict=False))
        lengths = np.log1p(len(premise)), np.log1p(len(hypothesis))
        values[place] = (
            len(left & right) / max(1, len(right)),
            len(left & right) / max(1, len(left)),
            len(shared_pairs) / max(1, len(pairs)),
            len(right - left),
            *lengths,
            lengths[1] - lengths[0],
            premise == hypothesis,
        )
    return values


class _Items:
    """Items by column, and which of them are learnt from or evaluated."""

    def __init__(self, items: pa.Table, config: TransferConfig) -> None:
        self._splits = np.asarray(items["split"].to_pylist(), dtype=object)
        self._languages = np.asarray(items["language"].to_pylist(), dtype=object)
        self.premises: list[str] = items["premise"].to_pylist()
        self.premise_words = [words(text) for text in self.premises]
        self.hypothesis_words = [words(text) for text in items["hypothesis"].to_pylist()]
        self.labels: Labels = items["label"].to_numpy().astype(np.int64)
        self._evaluated = self._splits != "train"
        if config.target_languages is not None:
            names = sorted({*config.target_languages, *config.source_languages})
            self._evaluated &= np.isin(self._languages, np.asarray(names, object))

    def groups(self) -> Iterator[tuple[str, str, Rows]]:
        """Split, language and rows of everything evaluated."""
        for split in ("dev", "test"):
            of_split = self._evaluated & (self._splits == split)
            for language in dict.fromkeys(self._languages[of_split]):
                yield split, str(language), np.flatnonzero(of_split & (self._languages == language))

    def evaluated(self, language: str | None = None) -> Rows:
        """Evaluated rows, of all languages or one."""
        if language is None:
            return np.flatnonzero(self._evaluated)
        return np.flatnonzero(self._evaluated & (self._languages == language))

    def train(self, language: str) -> Rows:
        """Training rows of a language."""
        return np.flatnonzero((self._splits == "train") & (self._languages == language))


def _predictions(items: _Items, source: str) -> dict[str, Labels]:
    """Predicted labels of all rows by system; -1 where a row is not evaluated."""
    systems = {"hypothesis-only": items.hypothesis_words, "premise-only": items.premise_words}
    found = {name: np.full(len(items.labels), -1) for name in systems}
    for language in dict.fromkeys(language for _, language, _ in items.groups()):
        train, evaluated = items.train(language), items.evaluated(language)
        for name, texts in systems.items():
            found[name][evaluated] = _one_side(items, texts, train, evaluated)
    train, evaluated = items.train(source), items.evaluated()
    if len(train):
        found["word-overlap-only"] = np.full(len(items.labels), -1)
        found["word-overlap-only"][evaluated] = _overlap(items, train, evaluated)
    return found


def _one_side(
    items: _Items, texts: Sequence[Sequence[str]], train: Rows, evaluated: Rows
) -> Labels:
    rows = np.concatenate([train, evaluated])
    if len(train):
        fit_on = (np.arange(len(rows)) < len(train))[None, :]
        fold = np.zeros(len(evaluated), dtype=np.int64)
    else:
        fold = _folds([items.premises[row] for row in evaluated])
        fit_on = fold[None, :] != np.arange(_FOLDS)[:, None]
    learnt: Mask = np.asarray(fit_on.any(axis=0))
    bags = unigrams_and_bigrams([texts[row] for row in rows], learnt)
    predicted = fit_bags(bags, items.labels[rows], fit_on)[:, len(train) :]
    return np.asarray(predicted[fold, np.arange(len(evaluated))])


def _folds(premises: Sequence[str]) -> Labels:
    """A fold for each item, the same for all items of a premise, of about equal sizes."""
    distinct = list(dict.fromkeys(premises))
    fold = {
        distinct[place]: rank % _FOLDS for rank, place in enumerate(hash_order(distinct, "folds"))
    }
    return np.asarray([fold[premise] for premise in premises], dtype=np.int64)


def _overlap(items: _Items, train: Rows, evaluated: Rows) -> Labels:
    rows = np.concatenate([train, evaluated])
    values = overlap_features(
        [items.premise_words[row] for row in rows], [items.hypothesis_words[row] for row in rows]
    )
    fit_on = (np.arange(len(rows)) < len(train))[None, :]
    return np.asarray(fit_dense(values, items.labels[rows], fit_on)[0, len(train) :])
