"""``transfer.py peer``: the same fine-tuning and evaluation by Trainer and by this project."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset
from transfer_items import CPU, LANGUAGES, nli
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

from weam_ray.artifacts import Resources
from weam_ray.transfer import TokenisedItems, TransferConfig, fine_tune, tokenise_items
from weam_ray.transfer.classifier import load_classifier

Result = TypeVar("Result")
Precision = Literal["fp32", "bf16"]


@dataclass
class Side:
    """Seconds and accuracies of one contestant, a value a seed."""

    training: list[float] = field(default_factory=list)
    evaluating: list[float] = field(default_factory=list)
    english: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def scored(self, accuracies: dict[str, float]) -> None:
        """Note one seed's accuracies."""
        self.english.append(accuracies["en"])
        self.others.append(float(np.mean([accuracies[one] for one in LANGUAGES[1:]])))


def peer_section(arguments: argparse.Namespace, scratch: Path) -> str:
    if importlib.util.find_spec("accelerate") is None:
        sys.exit("Trainer needs accelerate, installed apart; see --help of the whole.")
    items = nli(arguments, test=False)
    encoder = arguments.encoder or untrained(items, scratch / "encoder", *arguments.shape)
    tokens = tokenise_items(items, encoder, 128)
    peer = Side()
    ours: dict[Precision, Side] = {precision: Side() for precision in arguments.precisions}
    for seed in range(arguments.seeds):
        print(f"seed {seed}: Trainer", flush=True)
        run_peer(peer, encoder, items, seed, arguments, scratch / "peer")
        for precision, side in ours.items():
            print(f"seed {seed}: weam_ray, {precision}", flush=True)
            run_ours(side, encoder, items, tokens, seed, precision, arguments, scratch)
    return peer_text(peer, ours, items, tokens, arguments)


def untrained(items: pa.Table, folder: Path, layers: int, width: int) -> Path:
    """An untrained BERT with a 16k vocabulary of these items' texts."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder.mkdir()
    trainer = BertWordPieceTokenizer(lowercase=False)
    texts = items["premise"].to_pylist() + items["hypothesis"].to_pylist()
    trainer.train_from_iterator(texts, vocab_size=16_000, show_progress=False)
    trainer.save_model(str(folder))
    tokenizer = BertTokenizerFast(
        vocab=str(folder / "vocab.txt"), do_lower_case=False, model_max_length=128
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=128,
        # At BERT's 0.02 an encoder this narrow gives one class to everything.
        initializer_range=width**-0.5,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


class Padded(Dataset):  # type: ignore[type-arg]
    """Items as run_xnli prepares them: every input padded to 128."""

    def __init__(self, tokenizer: Any, items: pa.Table) -> None:
        self.columns = dict(
            tokenizer(
                items["premise"].to_pylist(),
                items["hypothesis"].to_pylist(),
                padding="max_length",
                max_length=128,
                truncation=True,
            )
        )
        self.columns["labels"] = items["label"].to_pylist()

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}


def run_peer(
    side: Side,
    encoder: Path,
    items: pa.Table,
    seed: int,
    arguments: argparse.Namespace,
    folder: Path,
) -> None:
    """run_xnli: train once, then a run per language."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    train = Padded(tokenizer, items.filter(pc.equal(items["split"], "train")))
    model = load_classifier(encoder, seed, CPU)
    trainer = Trainer(model=model, args=trainer_arguments(arguments, seed, len(train), folder),
                      train_dataset=train)  # fmt: skip
    _, seconds = timed(trainer.train)
    side.training.append(seconds)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    dev = items.filter(pc.equal(items["split"], "dev"))

    def evaluate_all() -> dict[str, float]:
        return {
            language: evaluate_padded(
                folder, dev.filter(pc.equal(dev["language"], language)), arguments, seed
            )
            for language in LANGUAGES
        }

    accuracies, seconds = timed(evaluate_all)
    side.evaluating.append(seconds)
    side.scored(accuracies)


def trainer_arguments(
    arguments: argparse.Namespace, seed: int, rows: int, folder: Path
) -> TrainingArguments:
    steps = int(np.ceil(rows / 32) * arguments.epochs)
    return TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=32,
        learning_rate=arguments.learning_rate,
        weight_decay=0.01,
        warmup_steps=int(0.1 * steps),
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
    )


def evaluate_padded(
    folder: Path, items: pa.Table, arguments: argparse.Namespace, seed: int
) -> float:
    """One language, one run: load, tokenise, predict in batches of 8 (run_xnli's default)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    data = Padded(AutoTokenizer.from_pretrained(folder), items)
    trainer = Trainer(model=model, args=trainer_arguments(arguments, seed, len(data), folder))
    found = trainer.predict(data)
    return float((found.predictions.argmax(axis=1) == found.label_ids).mean())


def run_ours(
    side: Side,
    encoder: Path,
    items: pa.Table,
    tokens: TokenisedItems,
    seed: int,
    precision: Precision,
    arguments: argparse.Namespace,
    folder: Path,
) -> None:
    config = TransferConfig(
        seed=seed,
        precision=precision,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        selection=("last",),
    )
    resources = Resources(threads=arguments.threads)
    facts = fine_tune(encoder, tokens, config, folder, resources=resources)
    side.training.append(facts["training_seconds"])
    # The peer's evaluation pays for loading and tokenising, so this one does too.
    dev = items.filter(pc.equal(items["split"], "dev"))
    _, tokenising = timed(lambda: tokenise_items(dev, encoder, 128))
    _, loading = timed(lambda: load_classifier(encoder, seed, CPU))
    side.evaluating.append(facts["prediction_seconds"] + loading + tokenising)
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    side.scored({row["language"]: row["value"] for row in rows})


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.monotonic()
    result = work()
    return result, time.monotonic() - started


def peer_text(
    peer: Side,
    ours: dict[Precision, Side],
    items: pa.Table,
    tokens: TokenisedItems,
    arguments: argparse.Namespace,
) -> str:
    train = int(pc.sum(pc.equal(items["split"], "train")).as_py())
    share = float(tokens.lengths.mean()) / 128
    shape = " × ".join(map(str, arguments.shape))
    what = f"`{arguments.encoder.name}`" if arguments.encoder else f"{shape}, untrained"
    sides = [peer, *ours.values()]
    names = ["run_xnli-style, Trainer", *(f"weam_ray, {precision}" for precision in ours)]
    lines = [
        f"{train:,} training items, {len(tokens) - train:,} evaluated in {len(LANGUAGES)}"
        f" languages; {arguments.epochs:g} epoch(s); {arguments.seeds} seeds; encoder {what}."
        f" Inputs fill {share:.0%} of 128 subwords. All evaluation times hold tokenising the"
        " evaluated items and loading the model.",
        "",
        f"| | {' | '.join(names)} | ratios |",
        "|---" * (len(sides) + 2) + "|",
        row("fine-tuning, s", [side.training for side in sides], ratios=True),
        row(f"evaluating {len(LANGUAGES)} languages, s", [side.evaluating for side in sides], True),
        row("English dev accuracy, %", [percents(side.english) for side in sides]),
        row("mean of the others, %", [percents(side.others) for side in sides]),
        "",
        *(difference(f"English, {name}", peer.english, one.english) for name, one in ours.items()),
        *(difference(f"The others' mean, {name}", peer.others, one.others)
          for name, one in ours.items()),
        "\n",
    ]  # fmt: skip
    return "\n".join(lines)


def difference(name: str, peer: Sequence[float], ours: Sequence[float]) -> str:
    """The difference of means beside what seeds alone make of it."""
    gap = 100 * (np.mean(ours) - np.mean(peer))
    spread = 100 * np.sqrt((np.var(peer, ddof=1) + np.var(ours, ddof=1)) / len(peer))
    return (
        f"{name}: weam_ray − Trainer {gap:+.2f} points, standard error over seeds {spread:.2f}.  "
    )


def percents(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def row(name: str, sides: Sequence[Sequence[float]], ratios: bool = False) -> str:
    cells = [
        f"{np.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"
        for values in sides
    ]
    first, *others = (float(np.mean(values)) for values in sides)
    last = ", ".join(f"{first / one:.2f}×" for one in others) if ratios else ""
    return f"| {name} | {' | '.join(cells)} | {last} |"
