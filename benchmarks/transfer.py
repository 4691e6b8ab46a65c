"""Fine-tuning and evaluation against a run_xnli-style loop: same model, data, epochs, threads.

    python benchmarks/transfer.py --data ../shared/data/nli --write docs/transfer.md

The peer does what Hugging Face's ``run_xnli.py`` does with its defaults: every input padded to 128,
a shuffled DataLoader, fused AdamW, linear warm-up and decay, clipping at 1; and one run per test
language, each loading the model and tokenising its own items. It is written out here because
``Trainer`` needs ``accelerate``, which this project doesn't; the loop under it is this one.

Both sides start from the same weights, head included, and take turns in one process, so that a
busy machine slows both.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from tokenizers import BertWordPieceTokenizer
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging as transformers_logging

from weam_ray.artifacts import Resources
from weam_ray.transfer import (
    ItemsConfig,
    TokenisedItems,
    TransferConfig,
    fine_tune,
    load_items,
    tokenise_items,
)
from weam_ray.transfer.classifier import load_classifier

LANGUAGES = tuple("en fr es de el bg ru tr ar vi th zh hi sw ur".split())
CPU = torch.device("cpu")
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"

Result = TypeVar("Result")


@dataclass
class Side:
    """Seconds and accuracies of one contestant, a value a seed."""

    training: list[float] = field(default_factory=list)
    evaluating: list[float] = field(default_factory=list)
    english: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    transformers_logging.disable_progress_bar()
    items = load_items(
        ItemsConfig(
            train=f"{arguments.data}/linginloop.train.{{language}}.jsonl",
            dev=f"{arguments.data}/xnli.dev.{{language}}.jsonl",
            languages=LANGUAGES,
            train_limit=arguments.train_items,
            dev_limit=arguments.dev_items,
        )
    )
    peer, ours = Side(), Side()
    with tempfile.TemporaryDirectory() as scratch:
        encoder = arguments.encoder or make_encoder(items, Path(scratch) / "encoder")
        tokens = tokenise_items(items, encoder, 128)
        for seed in range(arguments.seeds):
            print(f"seed {seed}: peer")
            run_peer(peer, encoder, items, seed, arguments, Path(scratch) / "peer")
            print(f"seed {seed}: ours")
            run_ours(ours, encoder, items, tokens, seed, arguments, Path(scratch))
    text = table(peer, ours, items, tokens, arguments)
    print(text)
    if arguments.write:
        write(arguments.write, text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the NLI files")
    parser.add_argument("--encoder", type=Path, help="encoder folder; default: 4 x 256, untrained")
    parser.add_argument("--train-items", type=int, help="default: all")
    parser.add_argument("--dev-items", type=int, help="a language; default: all")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--write", type=Path, help="put the table between this file's markers")
    return parser.parse_args()


def make_encoder(items: pa.Table, folder: Path) -> Path:
    """An untrained BERT (4 layers, 256 wide) with a 16k vocabulary of these items' texts."""
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
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=128,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


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
    train = padded(tokenizer, items.filter(pc.equal(items["split"], "train")))
    model = load_classifier(encoder, seed, CPU)
    _, seconds = timed(lambda: train_padded(model, train, seed, arguments))
    side.training.append(seconds)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    dev = items.filter(pc.equal(items["split"], "dev"))

    def evaluate_all() -> dict[str, float]:
        return {
            language: evaluate_padded(folder, dev.filter(pc.equal(dev["language"], language)))
            for language in LANGUAGES
        }

    accuracies, seconds = timed(evaluate_all)
    side.evaluating.append(seconds)
    side.english.append(accuracies["en"])
    side.others.append(float(np.mean([accuracies[language] for language in LANGUAGES[1:]])))


def padded(tokenizer: BertTokenizerFast, items: pa.Table) -> TensorDataset:
    encoded = tokenizer(
        items["premise"].to_pylist(),
        items["hypothesis"].to_pylist(),
        padding="max_length",
        max_length=128,
        truncation=True,
        return_tensors="pt",
    )
    names = ("input_ids", "attention_mask", "token_type_ids")
    labels = torch.tensor(items["label"].to_pylist())
    return TensorDataset(*(encoded[name] for name in names), labels)


def train_padded(
    model: torch.nn.Module, data: TensorDataset, seed: int, arguments: argparse.Namespace
) -> None:
    torch.manual_seed(seed)
    loader = DataLoader(data, batch_size=32, shuffle=True)
    steps = arguments.epochs * len(loader)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=arguments.learning_rate, weight_decay=0.01, fused=True
    )
    schedule = get_linear_schedule_with_warmup(optimiser, int(0.1 * steps), steps)
    model.train()
    for _ in range(arguments.epochs):
        for ids, mask, types, labels in loader:
            loss = model(
                input_ids=ids, attention_mask=mask, token_type_ids=types, labels=labels
            ).loss
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()


@torch.no_grad()
def evaluate_padded(folder: Path, items: pa.Table) -> float:
    """One language, one run: load, tokenise, predict in batches of 8 (run_xnli's default)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    data = padded(AutoTokenizer.from_pretrained(folder), items)
    right = 0
    for ids, mask, types, labels in DataLoader(data, batch_size=8):
        logits = model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        right += int((logits.argmax(dim=-1) == labels).sum())
    return right / len(data)


def run_ours(
    side: Side,
    encoder: Path,
    items: pa.Table,
    tokens: TokenisedItems,
    seed: int,
    arguments: argparse.Namespace,
    folder: Path,
) -> None:
    config = TransferConfig(
        seed=seed,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        selection=("last",),
    )
    facts = fine_tune(
        encoder, tokens, config, folder, resources=Resources(threads=arguments.threads)
    )
    side.training.append(facts["training_seconds"])
    # The peer's evaluation pays for loading and tokenising, so this one does too.
    dev = items.filter(pc.equal(items["split"], "dev"))
    _, tokenising = timed(lambda: tokenise_items(dev, encoder, 128))
    _, loading = timed(lambda: load_classifier(encoder, seed, CPU))
    side.evaluating.append(facts["prediction_seconds"] + loading + tokenising)
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    accuracies = {row["language"]: row["value"] for row in rows}
    side.english.append(accuracies["en"])
    side.others.append(float(np.mean([accuracies[language] for language in LANGUAGES[1:]])))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.monotonic()
    result = work()
    return result, time.monotonic() - started


def table(
    peer: Side,
    ours: Side,
    items: pa.Table,
    tokens: TokenisedItems,
    arguments: argparse.Namespace,
) -> str:
    train = int(pc.sum(pc.equal(items["split"], "train")).as_py())
    share = float(tokens.lengths.mean()) / 128
    lines = [
        f"{train:,} training items, {len(tokens) - train:,} evaluated in {len(LANGUAGES)}"
        " languages,",
        f"{arguments.epochs} epoch(s), {arguments.threads} threads, {arguments.seeds} seeds;",
        f"{platform.machine()}, torch {torch.__version__}."
        f" Inputs fill {share:.0%} of 128 subwords.",
        "Both evaluation times hold tokenising the evaluated items and loading the model.",
        "",
        "| | run_xnli-style | weam_ray | ratio |",
        "|---|---|---|---|",
        row("fine-tuning, s", peer.training, ours.training, ratio=True),
        row(f"evaluating {len(LANGUAGES)} languages, s", peer.evaluating, ours.evaluating, True),
        row("English dev accuracy", peer.english, ours.english),
        row("mean accuracy, other languages", peer.others, ours.others),
    ]
    return "\n".join(lines)


def row(name: str, peer: Sequence[float], ours: Sequence[float], ratio: bool = False) -> str:
    digits = 1 if ratio else 3
    cells = [
        f"{np.mean(values):.{digits}f}"
        + (f" ± {np.std(values, ddof=1):.{digits}f}" if values[1:] else "")
        for values in (peer, ours)
    ]
    last = f"{np.mean(peer) / np.mean(ours):.2f}×" if ratio else ""
    return f"| {name} | {cells[0]} | {cells[1]} | {last} |"


def write(path: Path, text: str) -> None:
    page = path.read_text(encoding="utf8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf8")


if __name__ == "__main__":
    main()
