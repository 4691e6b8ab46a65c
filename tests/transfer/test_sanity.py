"""Sanity rows find the shortcut that is there, and only that one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from weam_ray.transfer import ITEMS_SCHEMA, SCORES_SCHEMA, TransferConfig, sanity_rows
from weam_ray.transfer.bags import fit_bags, fit_dense, unigrams_and_bigrams, words
from weam_ray.transfer.sanity import overlap_features

WORDS = np.asarray([f"w{number}" for number in range(60)], dtype=object)


def world(shortcut: str, languages: tuple[str, ...] = ("en", "qaa"), count: int = 600) -> pa.Table:
    """Items whose labels follow from the hypothesis, the premise, the overlap, or from nothing."""
    draw = np.random.default_rng(0)
    rows = []
    for split, size in (("train", count), ("dev", count), ("test", count)):
        for number in range(size):
            label = int(draw.integers(3))
            premise, hypothesis = draw.choice(WORDS, 8), draw.choice(WORDS, 6)
            if shortcut == "hypothesis":
                hypothesis[0] = f"cue{label}"
            if shortcut == "premise":
                premise[0] = f"cue{label}"
            if shortcut == "overlap":
                hypothesis[: 2 * label] = premise[: 2 * label]
            for language in languages if split != "train" else ("en",):
                sides = [
                    " ".join(f"{word}{language}" for word in side) for side in (premise, hypothesis)
                ]
                name = f"{split}{number}"
                rows.append(
                    dict(
                        zip(ITEMS_SCHEMA.names, [name, split, language, *sides, label], strict=True)
                    )
                )
    return pa.Table.from_pylist(rows, schema=ITEMS_SCHEMA)


def accuracies(items: pa.Table) -> dict[tuple[str, str, str], float]:
    rows = sanity_rows(items, TransferConfig())
    assert rows.schema.equals(SCORES_SCHEMA)
    return {
        (row["system"], row["language"], row["split"]): row["value"] for row in rows.to_pylist()
    }


@pytest.mark.parametrize(
    ("shortcut", "system"),
    [
        ("hypothesis", "hypothesis-only"),
        ("premise", "premise-only"),
        ("overlap", "word-overlap-only"),
        ("none", ""),
    ],
)
def test_a_planted_shortcut_shows_in_its_own_row_and_language(shortcut: str, system: str) -> None:
    found = accuracies(world(shortcut))
    assert len(found) == 4 * 2 * 2
    for (name, language, split), value in found.items():
        if name == system:
            assert value > 0.85, (name, language, split)
        else:
            assert value < 0.42, (name, language, split)


def test_a_premise_under_all_three_labels_gives_nothing_away() -> None:
    """As in XNLI: folds by item would put premise-only far below chance, by elimination."""
    draw = np.random.default_rng(0)
    rows: list[list[Any]] = []
    for number in range(200):
        premise = f"p{number} " + " ".join(draw.choice(WORDS, 5))
        for label in range(3):
            hypothesis = " ".join(draw.choice(WORDS, 5))
            rows.append([f"dev{number}{label}", "dev", "qaa", premise, hypothesis, label])
    columns = [list(column) for column in zip(*rows, strict=True)]
    found = accuracies(pa.table(columns, schema=ITEMS_SCHEMA))
    assert found["premise-only", "qaa", "dev"] == pytest.approx(1 / 3, abs=0.001)
    assert ("word-overlap-only", "qaa", "dev") not in found  # nothing to learn it from


def test_the_same_items_give_the_same_rows() -> None:
    items = world("hypothesis", count=60)
    assert sanity_rows(items, TransferConfig()).equals(sanity_rows(items, TransferConfig()))


def test_majority_is_the_most_frequent_label() -> None:
    items = world("none", count=90)
    dev = items.filter(pa.compute.equal(items["split"], "dev"))
    shares = np.bincount(dev["label"].to_numpy()) / len(dev)
    assert accuracies(items)["majority", "en", "dev"] == pytest.approx(shares.max())


def test_folds_side_by_side_equal_each_fold_by_itself() -> None:
    draw = np.random.default_rng(1)
    texts = [list(draw.choice(WORDS, 4)) for _ in range(90)]
    labels = draw.integers(0, 3, 90)
    fit_on = draw.random((4, 90)) < 0.7
    bags = unigrams_and_bigrams(texts, np.ones(90, dtype=bool))
    together = fit_bags(bags, labels, fit_on)
    for row in range(4):
        alone = fit_bags(bags, labels, fit_on[row : row + 1])[0]
        assert (together[row] == alone).mean() > 0.98  # sums may round differently


def test_the_regression_agrees_with_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(2)
    values = draw.normal(size=(900, 5)).astype(np.float32)
    labels = (values @ draw.normal(size=(5, 3)) + draw.gumbel(size=(900, 3))).argmax(axis=1)
    fit_on = (np.arange(900) < 600)[None]
    ours = fit_dense(values, labels, fit_on)[0, 600:]
    theirs = LogisticRegression().fit(values[:600], labels[:600]).predict(values[600:])
    assert (ours == theirs).mean() > 0.95


def test_bags_hold_what_occurs_twice_in_what_is_learnt_from() -> None:
    texts = [["a", "b"], ["a", "b"], ["c", "c"], ["b", "c"]]
    bags = unigrams_and_bigrams(texts, np.array([True, True, True, False]))
    dense = bags.times(torch.eye(len(bags.feature_starts)))
    assert dense.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0]]  # a, b, "a b"
    values = torch.arange(8.0).view(4, 2)
    assert torch.equal(bags.transposed_times(values), dense.T @ values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He didn't, did HE?", ["he", "didn", "t", "did", "he"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("我在家，妈妈", ["我", "在", "家", "妈", "妈"]),
        ("", []),
    ],
)
def test_words_of_several_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_overlap_features_of_a_worked_example() -> None:
    premise, hypothesis = ["a", "b", "c", "d"], ["a", "b", "x"]
    values = overlap_features([premise, premise], [hypothesis, premise])
    expected = [2 / 3, 2 / 4, 1 / 2, 1, np.log(5), np.log(4), np.log(4) - np.log(5), 0]
    np.testing.assert_allclose(values[0], expected, rtol=1e-6)
    np.testing.assert_allclose(values[1], [1, 1, 1, 0, np.log(5), np.log(5), 0, 1], rtol=1e-6)
