"""Retrieval and word alignment from vectors: found where they are, at chance elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from weam_ray.alignment import Links
from weam_ray.errors import DataError
from weam_ray.transfer import encoder_aer, encoder_links, premise_retrieval, sentence_retrieval
from weam_ray.transfer.retrieval import (
    RETRIEVAL_SCHEMA,
    measures,
    reported_layer,
    retrieval_accuracy,
)
from weam_ray.transfer.vectors import Vectors
from weam_ray.transfer.word_alignment import link_subwords, word_of_offsets

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w3 w2 w1", "w12 w13"]


def test_sentence_vectors_are_means_without_special_tokens(encoder: Path) -> None:
    model = AutoModel.from_pretrained(encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    found = Vectors(encoder).sentences(TEXTS)
    assert found.shape == (3, len(TEXTS), 32)
    for place, text in enumerate(TEXTS):
        with torch.no_grad():
            encoded = tokenizer(text, return_tensors="pt")
            states = model(**encoded, output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            expected = state[0, 1:-1].mean(dim=0).numpy()
            np.testing.assert_allclose(found[layer, place], expected, atol=1e-5)


def test_identical_sides_are_found_and_unrelated_ones_are_not(encoder: Path) -> None:
    draw = np.random.default_rng(0)
    texts = [" ".join(f"w{one}" for one in draw.integers(0, 40, 8)) for _ in range(60)]
    same = sentence_retrieval(encoder, texts, texts)
    assert same["accuracy"] == same["shared_subwords"] == 1.0
    assert same["to_target"] == [1.0, 1.0, 1.0]
    turned = sentence_retrieval(encoder, texts, texts[1:] + texts[:1])
    assert turned["accuracy"] == 0.0
    with pytest.raises(DataError, match="2 source and 1 target sentences"):
        sentence_retrieval(encoder, ["a", "b"], ["a"])


def test_vectors_that_are_all_alike_score_chance_and_not_everything() -> None:
    alike = np.ones((50, 4), np.float32)
    assert retrieval_accuracy(alike, alike) == (0.02, 0.02)


def test_centring_undoes_a_shift_between_languages() -> None:
    draw = np.random.default_rng(0)
    left = draw.normal(size=(1, 80, 16)).astype(np.float32)
    away = np.linspace(-30, 30, 16, dtype=np.float32)
    right = left + away + draw.normal(size=left.shape).astype(np.float32) * 0.3
    found = measures(left, right)
    assert found["centred_to_target"][0] == found["centred_to_source"][0] == 1.0
    assert found["to_source"][0] < 0.2


def test_accuracy_in_both_directions_equals_a_loop() -> None:
    draw = np.random.default_rng(1)
    left = draw.normal(size=(30, 6)).astype(np.float32)
    right = left + draw.normal(size=(30, 6)).astype(np.float32)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    forward = [max(range(30), key=lambda j, i=i: cosine(left[i], right[j])) == i for i in range(30)]
    backward = [
        max(range(30), key=lambda i, j=j: cosine(left[i], right[j])) == j for j in range(30)
    ]
    assert retrieval_accuracy(left, right) == pytest.approx((np.mean(forward), np.mean(backward)))


def test_premises_are_counted_once_and_every_other_language_has_a_row(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    items = world(train=0, dev=60, test=0)
    table = premise_retrieval(encoder, items, "en", limit=40)
    assert table.schema.equals(RETRIEVAL_SCHEMA)
    assert table["language"].to_pylist() == ["de", "fr"]
    assert set(table["n"].to_pylist()) == {40}
    assert min(table["accuracy"].to_pylist()) > 0.9  # premises are the same text here
    one_premise = pa.array(["w1 w2"] * len(items))
    shared = items.set_column(items.schema.get_field_index("premise"), "premise", one_premise)
    assert premise_retrieval(encoder, shared, "en")["n"].to_pylist() == [1, 1]
    assert premise_retrieval(encoder, items, "xx").num_rows == 0


def test_the_reported_layer_is_mberts_eighth() -> None:
    assert [reported_layer(layers) for layers in (12, 6, 3, 2)] == [8, 4, 2, 1]


def pairs_of(sources: list[str], targets: list[str], gold: list[list[int]]) -> pa.Table:
    def spans(text: str) -> list[int]:
        found, at = [], 0
        for word in text.split():
            found += [at, at + len(word)]
            at += len(word) + 1
        return found

    return pa.table(
        {
            "source": sources,
            "target": targets,
            "source_spans": pa.array([spans(text) for text in sources], pa.list_(pa.int32())),
            "target_spans": pa.array([spans(text) for text in targets], pa.list_(pa.int32())),
            "gold": pa.array(gold, pa.list_(pa.int32())),
        }
    )


def test_copies_in_another_order_are_aligned_at_the_embeddings(encoder: Path) -> None:
    """Position and noise aside, a random encoder's input vectors still know equal words."""
    pairs = pairs_of(["w1 w2 w3", "w4 w5"], ["w2 w3 w1", "w4 w5"],
                     [[0, 2, 1, 0, 2, 1], [0, 0, 1, 1]])  # fmt: skip
    found = encoder_links(encoder, pairs)
    assert {way: len(layers) for way, layers in found.items()} == {"softmax": 3, "argmax": 3}
    facts = encoder_aer(encoder, pairs)
    assert facts["pairs"] == 2
    assert facts["layer"] == 1
    assert facts["argmax"][0]["aer"] < 0.35
    assert facts["aer"] == facts["softmax"][1]["aer"]
    wrong = Links.from_pairs([[(0, 0)], [(0, 1)]])
    assert encoder_aer(encoder, pairs, wrong)["argmax"][0]["aer"] > facts["argmax"][0]["aer"]
    with pytest.raises(DataError, match="no gold links"):
        encoder_aer(encoder, pairs.drop_columns(["gold"]))


def test_links_of_a_worked_example() -> None:
    left = np.array([[10, 0], [0, 10]], np.float32)
    right = np.array([[0, 1], [1, 0], [0.9, 0.1]], np.float32)
    assert link_subwords(left, right, "argmax").tolist() == [[0, 1], [1, 0]]
    softmax = link_subwords(left, right, "softmax").tolist()
    assert softmax == [[0, 1], [0, 2], [1, 0]]
    strict = link_subwords(left * 10, right, "softmax").tolist()
    assert strict == [[0, 1], [1, 0]]


def test_subwords_find_their_words_by_their_last_character() -> None:
    spans = [0, 5, 6, 9, 9, 10]  # "Hello you." cut into three words
    offsets = [(0, 2), (2, 5), (5, 9), (9, 10), (10, 11)]
    assert word_of_offsets(offsets, spans).tolist() == [0, 0, 1, 2, -1]
    assert word_of_offsets([(0, 1)], []).tolist() == [-1]
