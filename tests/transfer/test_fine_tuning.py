"""Fine-tuning stories: it learns, it is the same twice, and what it writes adds up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from weam_ray.errors import ConfigError, DataError
from weam_ray.progress import Progress
from weam_ray.transfer import (
    PREDICTIONS_SCHEMA,
    SCORES_SCHEMA,
    TransferConfig,
    fine_tune,
    tokenise_items,
)
from weam_ray.transfer.batches import Collator
from weam_ray.transfer.classifier import load_classifier
from weam_ray.transfer.fine_tuning import predict

QUICK = TransferConfig(learning_rate=3e-3, steps=60, batch_size=16, max_length=64)


def run(encoder: Path, items: pa.Table, config: TransferConfig, out: Path) -> dict[str, pa.Table]:
    out.mkdir(exist_ok=True)
    fine_tune(encoder, items, config, out)
    return {
        name: pq.read_table(out / f"{name}.parquet") for name in ("predictions", "scores", "curve")
    }


def values(scores: pa.Table, **wanted: str) -> list[float]:
    return [
        row["value"]
        for row in scores.to_pylist()
        if all(row[name] == value for name, value in wanted.items())
    ]


def test_learns_a_solvable_task_and_only_in_the_language_it_read(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"steps": 150})
    scores = run(encoder, items, config, tmp_path)["scores"]
    english = values(scores, language="en", split="test", selection="source-dev")
    german = values(scores, language="de", split="test", selection="source-dev")
    assert english == [1.0]
    assert german[0] < 0.7  # its cue words were never seen


def test_two_runs_of_one_seed_are_identical_and_another_seed_is_not(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"steps": 12})
    first = run(encoder, items, config, tmp_path / "a")
    torch.manual_seed(99)  # the caller's random state must not matter
    second = run(encoder, items, config, tmp_path / "b")
    other = run(encoder, items, config.model_copy(update={"seed": 1}), tmp_path / "c")
    for name, table in first.items():
        assert table.equals(second[name])
    assert not first["curve"].equals(other["curve"])


def test_the_callers_random_state_and_threads_are_left_alone(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fine_tune(encoder, items, QUICK.model_copy(update={"steps": 2}), tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1


def test_scores_are_what_a_dictionary_counts_from_the_predictions(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    tables = run(encoder, items, QUICK.model_copy(update={"steps": 8}), tmp_path)
    assert tables["predictions"].schema.equals(PREDICTIONS_SCHEMA)
    assert tables["scores"].schema.equals(SCORES_SCHEMA)
    right: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    classes: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    gold = {(row["split"], row["language"], row["item"]): row["label"] for row in items.to_pylist()}
    for row in tables["predictions"].to_pylist():
        key = (row["split"], row["selection"], row["language"])
        assert row["gold"] == gold[row["split"], row["language"], row["item"]]
        assert row["predicted"] == int(np.argmax(row["log_probabilities"]))
        assert sum(np.exp(row["log_probabilities"])) == pytest.approx(1, abs=1e-5)
        right[key].append(row["predicted"] == row["gold"])
        classes[key][row["predicted"]] += 1
    assert len(right) == 2 * 3 * 3  # splits, selection rules, languages
    scores = tables["scores"].to_pylist()
    assert len(scores) == len(right)
    for row in scores:
        key = (row["split"], row["selection"], row["language"])
        assert row["n"] == len(right[key]) == (60 if row["split"] == "dev" else 30)
        assert row["value"] == pytest.approx(sum(right[key]) / len(right[key]))
        for code in range(3):
            assert row[f"share_{code}"] == pytest.approx(classes[key][code] / row["n"])


def test_selection_rules_report_what_the_curve_says(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"steps": 24, "evaluations": 6, "learning_rate": 1e-3})
    tables = run(encoder, items, config, tmp_path)
    dev: dict[str, dict[int, float]] = defaultdict(dict)
    for row in tables["curve"].to_pylist():
        if row["metric"].startswith("accuracy/dev/"):
            dev[row["metric"].removeprefix("accuracy/dev/")][row["step"]] = row["value"]
    assert list(dev["en"]) == [4, 8, 12, 16, 20, 24]
    best = max(dev["en"], key=lambda step: (dev["en"][step], -step))
    for language, by_step in dev.items():
        reported = {
            rule: values(tables["scores"], language=language, split="dev", selection=rule)[0]
            for rule in config.selection
        }
        assert reported["last"] == pytest.approx(by_step[24])
        assert reported["source-dev"] == pytest.approx(by_step[best])
        assert reported["target-dev-oracle"] == pytest.approx(max(by_step.values()))


def test_the_last_step_alone_needs_no_dev(
    encoder: Path, world: Callable[..., pa.Table], tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"steps": 4, "selection": ("last",)})
    tables = run(encoder, world(dev=0), config, tmp_path)
    assert set(tables["scores"]["split"].to_pylist()) == {"test"}
    with pytest.raises(DataError, match="source-dev needs dev items in en"):
        fine_tune(encoder, world(dev=0), QUICK, tmp_path)


def test_evaluation_does_not_depend_on_batch_size_or_padding(
    encoder: Path, world: Callable[..., pa.Table]
) -> None:
    tokens = tokenise_items(world(train=0, dev=40, test=20), encoder, 128)
    model = load_classifier(encoder, 0, torch.device("cpu")).eval()
    expected = np.empty((len(tokens), 3), np.float32)
    collator = Collator(tokens, tokens.labels, torch.device("cpu"))
    with torch.inference_mode():
        for row in range(len(tokens)):
            inputs = collator.inputs(np.array([row]), padded_length=128)
            expected[row] = model(**inputs).logits.log_softmax(-1).numpy()
    for budget in (256, 4096, 65536):
        np.testing.assert_allclose(predict(model, tokens, budget), expected, atol=1e-4)


def test_the_head_is_the_same_on_every_encoder_and_differs_by_seed(
    encoder: Path, new_encoder: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    other = new_encoder(tmp_path, 7)
    cpu = torch.device("cpu")
    first, second = load_classifier(encoder, 3, cpu), load_classifier(other, 3, cpu)
    third = load_classifier(encoder, 4, cpu)
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert torch.equal(first.bert.pooler.dense.weight, second.bert.pooler.dense.weight)
    assert not torch.equal(first.classifier.weight, third.classifier.weight)
    assert not torch.equal(
        first.bert.embeddings.word_embeddings.weight, second.bert.embeddings.word_embeddings.weight
    )


def test_frozen_parts_do_not_move(encoder: Path, items: pa.Table, tmp_path: Path) -> None:
    from weam_ray.transfer.classifier import freeze

    model = load_classifier(encoder, 0, torch.device("cpu"))
    freeze(model, embeddings=True, layers=1)
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert not any(name.startswith("bert.embeddings") for name in trained)
    assert not any(".layer.0." in name for name in trained)
    assert any(".layer.1." in name for name in trained)
    with pytest.raises(ConfigError, match="can't freeze 9 layers: there are 2"):
        freeze(model, embeddings=False, layers=9)
    config = QUICK.model_copy(update={"steps": 3, "freeze_embeddings": True, "freeze_layers": 1})
    assert run(encoder, items, config, tmp_path)["scores"].num_rows == 18


def test_progress_and_facts_tell_what_was_spent(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    config = TransferConfig(epochs=2, batch_size=32, learning_rate=1e-3)
    facts = fine_tune(encoder, items, config, tmp_path, report=seen.append)
    train = tokenise_items(items.slice(0, 240), encoder, 128)
    assert facts["steps"] == 16
    assert facts["epochs"] == 2.0
    assert facts["tokens"] == 2 * len(train.ids)
    assert seen[-1].done == seen[-1].total == 16
    assert any("accuracy/dev/de" in one.metrics for one in seen)


def test_a_loss_that_explodes_is_named(encoder: Path, items: pa.Table, tmp_path: Path) -> None:
    from weam_ray.transfer.run import Run

    config = QUICK.model_copy(update={"steps": 3})
    with (
        pytest.raises(ConfigError, match="loss is nan at step 1"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(Run, "_step", lambda *_: torch.tensor(float("nan")))
        fine_tune(encoder, items, config, tmp_path)


def test_a_model_that_gives_no_numbers_loses_no_item_in_silence(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    from weam_ray.transfer.fine_tuning import PairTask

    answer = PairTask.outputs

    def broken(task: PairTask, found: object, rows: np.ndarray) -> np.ndarray:
        outputs = answer(task, found, rows)
        outputs[0, 1] = np.nan
        return outputs

    config = QUICK.model_copy(update={"steps": 2})
    with (
        pytest.raises(ConfigError, match="gives no number for .* rows at step"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(PairTask, "outputs", broken)
        fine_tune(encoder, items, config, tmp_path)


def test_an_encoder_without_some_weights_is_refused(encoder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(encoder, tmp_path / "cut")
    weights = load_file(tmp_path / "cut" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layer.1." not in name}
    save_file(kept, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="weights of the encoder are missing"):
        load_classifier(tmp_path / "cut", 0, torch.device("cpu"))
    with pytest.raises(
        DataError, match="no encoder here that AutoModelForSequenceClassification opens"
    ):
        load_classifier(tmp_path, 0, torch.device("cpu"))
