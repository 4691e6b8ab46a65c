"""No item can be solved from one side of it: measured with a classifier, beside chance."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from small_study import DEMO

from weam_ray.demo import WorldConfig, write_world
from weam_ray.study.reading import read_study

LABELS = ("entailment", "neutral", "contradiction")
Item = dict[str, str]


SHIPPED = read_study(DEMO).world or WorldConfig()


@pytest.fixture(scope="module", params=[WorldConfig(), SHIPPED], ids=["default", "shipped"])
def splits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Item], list[Item]]:
    out = tmp_path_factory.mktemp("world")
    sizes = {"mono_sentences": 1, "pairs": 1, "train_items": 6000, "test_items": 6000}
    write_world(request.param.model_copy(update=sizes), out)
    train, test = (
        [
            json.loads(line)
            for line in (out / "nli" / f"nli.{split}.en.jsonl").read_text("utf8").splitlines()
        ]
        for split in ("train", "test")
    )
    return train, test


def naive_bayes(
    train: list[Item], test: list[Item], features: Callable[[Item], list[str]]
) -> float:
    """Test accuracy of a multinomial naive Bayes classifier with add-one smoothing."""
    index: dict[str, int] = {}
    for item in train:
        for feature in features(item):
            index.setdefault(feature, len(index))
    counts = np.ones((3, len(index)))
    for item in train:
        for feature in features(item):
            counts[LABELS.index(item["label"]), index[feature]] += 1
    weights = np.log(counts / counts.sum(axis=1, keepdims=True))
    right = 0
    for item in test:
        known = [index[feature] for feature in features(item) if feature in index]
        right += LABELS[int(weights[:, known].sum(axis=1).argmax())] == item["label"]
    return right / len(test)


def side(name: str) -> Callable[[Item], list[str]]:
    def features(item: Item) -> list[str]:
        words = item[name].split()
        return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]

    return features


def overlap(item: Item) -> list[str]:
    premise, hypothesis = set(item["premise"].split()), set(item["hypothesis"].split())
    return [
        f"shared {len(premise & hypothesis)}",
        f"new {len(hypothesis - premise)}",
        f"lost {len(premise - hypothesis)}",
        f"share {len(premise & hypothesis) / len(hypothesis):.1f}",
    ]


@pytest.mark.parametrize("name", ["premise", "hypothesis"])
def test_one_side_alone_is_at_chance(splits: tuple[list[Item], list[Item]], name: str) -> None:
    assert abs(naive_bayes(*splits, side(name)) - 1 / 3) < 0.03


def test_word_overlap_alone_says_little(splits: tuple[list[Item], list[Item]]) -> None:
    assert naive_bayes(*splits, overlap) < 0.54


def test_the_classifier_would_see_a_leak(splits: tuple[list[Item], list[Item]]) -> None:
    leaky = [
        [{**item, "premise": item["premise"] + " " + item["label"][:1]} for item in split]
        for split in splits
    ]
    assert naive_bayes(leaky[0], leaky[1], side("premise")) > 0.5
