"""The encoder that every cell starts from: fetched, or small and from scratch."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weam_ray.artifacts import Resources
from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining.batches import Batches
from weam_ray.pretraining.card import write_card
from weam_ray.pretraining.checkpoints import Checkpoints
from weam_ray.pretraining.config import BaseConfig
from weam_ray.pretraining.distributed import DistributedContext
from weam_ray.pretraining.encoder import (
    MaskedLM,
    encoder_and_head,
    load_model,
    load_tokenizer,
    longest_row,
    new_model,
    recompute_activations,
    refuse_more_tokens,
    untrained_model,
    without_bars,
)
from weam_ray.pretraining.examples import Examples, build_sentences, concatenate
from weam_ray.pretraining.feed import Feed
from weam_ray.pretraining.loop import fit
from weam_ray.pretraining.masking import U64, WEIGHTS, mix, seed_word
from weam_ray.pretraining.objectives import METRICS, MaskedTokens, Terms
from weam_ray.pretraining.sides import special_tokens, token_table
from weam_ray.pretraining.vocabulary import language_shares, text_lines
from weam_ray.progress import Report, silent


def train_base(
    tokenizer_dir: Path,
    texts: Mapping[str, Path],
    config: BaseConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
    *,
    distributed: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """A small masked language model from scratch, trained on monolingual lines.

    Args:
        tokenizer_dir: from :func:`train_vocabulary`.
        texts: monolingual lines by language, plain or .gz; unread when `steps` is 0.
        config: architecture and training.
        out: filled with a `save_pretrained` folder and `curve.parquet`.
        report: told of progress.
        resources: threads and device.
        distributed: this worker's place among several.
        checkpoints: where to save and resume.

    Returns:
        parameters, rows by language, epochs by language, and the facts of training.

    Raises:
        DataError: a missing, empty or undecodable file.
    """
    tokenizer = load_tokenizer(tokenizer_dir)
    lm = _untrained(config, tokenizer)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in lm.model.parameters())}
    if config.steps == 0:
        facts["steps"] = 0
    else:
        examples = read_sentences(texts, tokenizer, config)
        batches = _batches(examples, tokenizer, config, distributed)
        steps = config.planned_steps(examples.rows, config.batch_size)
        if config.gradient_checkpointing:
            recompute_activations(lm)
        facts |= examples.facts
        facts |= fit(
            MaskedTokens(lm, Terms()),
            Feed(batches),
            steps,
            config,
            METRICS[:2],
            out=out,
            stage="base",
            report=report,
            resources=resources,
            distributed=distributed,
            checkpoints=checkpoints,
        )
        facts["rows_by_set"] = dict(zip(examples.names, batches.order.whole.tolist(), strict=True))
        facts["epochs_by_set"] = epochs_by_set(batches, steps)
    if distributed is None or distributed.leads:
        save(lm.model, tokenizer, out)
        write_card(out, "base", config, facts, sorted(texts))
    return facts


def _untrained(config: BaseConfig, tokenizer: Any) -> MaskedLM:
    with _drawn_by(config):
        return encoder_and_head(new_model(config, tokenizer))


@contextmanager
def _drawn_by(config: BaseConfig) -> Iterator[None]:
    """Draws initial weights from the seed, and leaves the global generator as it was."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_word(config.seed, WEIGHTS))
        yield


def _batches(
    examples: Examples, tokenizer: Any, config: BaseConfig, distributed: DistributedContext | None
) -> Batches:
    rank, world = (distributed.rank, distributed.world) if distributed else (0, 1)
    table, padding = token_table(tokenizer), tokenizer.pad_token_id
    return Batches(examples, config, table, padding, rank=rank, world=world)


def fetch_base(config: BaseConfig, out: Path) -> dict[str, Any]:
    """Copies a Hugging Face masked language model and its tokenizer into `out`; with `steps` 0 its
    tokenizer and its shape, under random weights.

    Raises:
        ConfigError: `model` isn't set, or its head is of an unknown family.
        DataError: it can't be opened, or its tokenizer is another model's.
    """
    if config.model is None:
        raise ConfigError("base.model is not set", cure="Name a hub model or a local folder.")
    tokenizer = load_tokenizer(config.model, config.revision)
    if config.steps == 0:
        with _drawn_by(config):
            model = untrained_model(config.model, config.revision)
    else:
        model = load_model(config.model, config.revision)
    encoder_and_head(model)
    special_tokens(tokenizer)
    refuse_more_tokens(model, tokenizer, config.model)
    save(model, tokenizer, out)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": 0,
        "longest_row": longest_row(model.config),
        "commit": getattr(model.config, "_commit_hash", None),
    }
    write_card(out, "base", config, facts, [])
    return facts


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """A folder that `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` open."""
    with without_bars():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def read_sentences(texts: Mapping[str, Path], tokenizer: Any, config: BaseConfig) -> Examples:
    """Monolingual lines of all languages as rows, no more of them than the budget can use."""
    if not texts:
        raise DataError("no monolingual text", cure="Give the base encoder text to train on.")
    counts = {name: sum(1 for _ in text_lines(path)) for name, path in sorted(texts.items())}
    for name, count in counts.items():
        if not count:
            raise DataError("no text in this file", place=str(texts[name]), cure="Give it lines.")
    shares = language_shares(counts, config.temperature)
    lines_a_row = 2 if config.two_sentences else 1
    parts: list[Examples] = []
    whole: list[int] = []
    for name, share in shares.items():
        # A file needn't be read beyond what its language's share of the steps can use.
        rows = None if config.steps is None else math.ceil(config.steps * config.batch_size * share)
        stop = None if rows is None else (rows + 1) * lines_a_row
        lines = list(itertools.islice(text_lines(texts[name]), stop))
        parts.append(sentences_of(name, lines, tokenizer, config.max_length, config.two_sentences))
        whole.append(whole_rows(parts[-1], len(lines), counts[name]))
    return replace(
        concatenate(parts, sorted(texts)),
        shares=np.array(list(shares.values()), np.float64),
        whole=np.array(whole, np.int64),
    )


def sentences_of(
    language: str, lines: list[str], tokenizer: Any, max_length: int, two: bool = False
) -> Examples:
    """Rows of one language's lines; masks follow the language and the line's number."""
    name = hashlib.blake2b(language.encode(), digest_size=8).digest()
    keys: U64 = mix(np.arange(len(lines), dtype=np.uint64) ^ np.uint64(int.from_bytes(name)))
    if not two or len(lines) < 2:
        return build_sentences(lines, keys, tokenizer, max_length)
    half = len(lines) // 2 * 2
    return build_sentences(lines[0:half:2], keys[0:half:2], tokenizer, max_length, lines[1:half:2])


def whole_rows(part: Examples, read: int, lines: int) -> int:
    """Rows that all lines of a file make, taking those not read to be as long as the read ones."""
    return part.rows * lines // max(read, 1)


def epochs_by_set(batches: Batches, steps: int) -> dict[str, float]:
    """Passes over each set in so many of its batches."""
    seen = batches.order.taken(steps).round(4).tolist()
    return dict(zip(batches.names, seen, strict=True))
