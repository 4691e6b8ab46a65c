"""Guard stories: what looks like a mistake is flagged, and gates say what may be claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from weam_ray.transfer import Gate, default_gates, evaluate_gates, flags
from weam_ray.transfer.scores import predictions_table, scores_from_predictions

GOLD = np.arange(600) % 3


def predictions(predicted: Sequence[int] | np.ndarray, language: str = "de") -> pa.Table:
    rows = pa.table(
        {
            "item": [f"test-{number}" for number in range(600)],
            "split": ["test"] * 600,
            "language": [language] * 600,
            "label": pa.array(GOLD.astype(np.int8)),
        }
    )
    log_probabilities = np.log(np.eye(3, dtype=np.float32)[np.asarray(predicted)] * 0.98 + 0.01)
    return predictions_table("xnli", "source-dev", rows, log_probabilities)


def kinds(predicted: np.ndarray) -> set[str]:
    return {flag.kind for flag in flags(predictions(predicted))}


def right(share: float) -> np.ndarray:
    """Predictions of which ``share`` are right and the others evenly wrong."""
    draw = np.random.default_rng(0)
    wrong = (GOLD + draw.integers(1, 3, 600)) % 3
    return np.where(draw.random(600) < share, GOLD, wrong)


def test_a_good_result_raises_no_flag() -> None:
    assert kinds(right(0.6)) == set()


def test_one_class_for_everything_is_flagged() -> None:
    assert kinds(np.full(600, 1)) == {"one-class", "near-chance"}
    found = flags(predictions(np.where(np.arange(600) < 592, 1, 0)))
    assert found[0].message == "98.7% of 600 predictions are neutral"
    one = found[0]
    assert (one.task, one.language, one.split) == ("xnli", "de", "test")
    assert one.selection == "source-dev"


def test_a_class_that_vanished_is_flagged() -> None:
    assert kinds(np.where(GOLD == 1, 2, GOLD)) == {"lost-class"}


def test_chance_is_flagged_and_a_little_more_is_not() -> None:
    assert kinds(right(0.34)) == {"near-chance"}
    assert kinds(right(0.42)) == set()


def test_a_confused_label_order_is_flagged_with_the_order_that_would_fit() -> None:
    swapped = np.array([0, 2, 1])[right(0.8)]
    (flag,) = [flag for flag in flags(predictions(swapped)) if flag.kind == "label-order"]
    assert "neutral as contradiction, contradiction as neutral" in flag.message
    turned = np.array([1, 2, 0])[right(0.6)]
    assert "label-order" in kinds(turned)


def rows(**values: float) -> list[dict[str, Any]]:
    """Score rows from ``system_language=accuracy`` on 2,490 dev items."""
    found = []
    for name, value in values.items():
        system, language = name.rsplit("_", 1)
        sanity = system in ("hypothesis_only", "majority")
        found.append(
            {
                "system": system.replace("_", "-"),
                "language": language,
                "split": "dev",
                "selection": "none" if sanity else "source-dev",
                "metric": "accuracy",
                "value": value,
                "n": 2490,
            }
        )
    return found


GOOD = {
    "base_en": 0.70, "base_de": 0.55, "base_fr": 0.36,
    "random_encoder_en": 0.52, "random_encoder_de": 0.38, "random_encoder_fr": 0.39,
    "hypothesis_only_en": 0.516,
}  # fmt: skip


def test_a_base_that_is_better_passes_all_gates() -> None:
    results = evaluate_gates(rows(**GOOD), default_gates("en", ("de", "fr")))
    assert [result.passed for result in results] == [True, True, True]
    assert "base 70.0%, random-encoder 52.0%, needs +2.7%" in results[0].sentence()


def test_the_tiny_run_of_the_evidence_fails_where_it_must() -> None:
    tiny = {
        "base_en": 0.477, "base_de": 0.335, "random_encoder_en": 0.45,
        "random_encoder_de": 0.396, "hypothesis_only_en": 0.516,
    }  # fmt: skip
    results = evaluate_gates(rows(**tiny), default_gates("en", ("de",)))
    assert [result.passed for result in results] == [False, False, False]
    assert results[1].sentence().startswith("FAILED: fine-tuned accuracy in the source language")


def test_a_difference_within_chance_does_not_pass() -> None:
    gate = Gate(name="better")
    close = rows(base_en=0.53, random_encoder_en=0.52)
    assert not evaluate_gates(close, [gate])[0].passed
    clear = rows(base_en=0.56, random_encoder_en=0.52)
    assert evaluate_gates(clear, [gate])[0].passed
    assert not evaluate_gates(clear, [gate.model_copy(update={"margin": 0.05})])[0].passed


def test_what_was_not_measured_has_not_passed() -> None:
    result = evaluate_gates(rows(base_en=0.9), [Gate(name="better")])[0]
    assert not result.passed
    assert "en: no dev row of random-encoder" in result.sentence()


def test_every_language_or_any_of_them() -> None:
    both = {"name": "x", "languages": ("de", "fr")}
    every, any_of = Gate(**both), Gate(**both, hold_in="any")
    results = evaluate_gates(rows(**GOOD), [every, any_of])
    assert [result.passed for result in results] == [False, True]


def test_seeds_are_averaged() -> None:
    several = rows(base_en=0.9) + rows(base_en=0.5) + rows(random_encoder_en=0.6)
    result = evaluate_gates(several, [Gate(name="better")])[0]
    assert result.comparisons[0].value == pytest.approx(0.7)


def test_scores_feed_the_gates() -> None:
    scores = scores_from_predictions(predictions(right(0.7), "en"), system="base")
    gate = Gate(name="better", split="test", above="random-encoder")
    others = [row | {"split": "test"} for row in rows(random_encoder_en=0.4)]
    assert evaluate_gates(scores.to_pylist() + others, [gate])[0].passed
