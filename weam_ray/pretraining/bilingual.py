"""Bilingual pre-training of a base encoder: one call for every system and control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weam_ray.artifacts import Resources
from weam_ray.errors import ConfigError
from weam_ray.pretraining.base import epochs_by_set, save
from weam_ray.pretraining.card import Base, Origin, write_card
from weam_ray.pretraining.checkpoints import Checkpoints
from weam_ray.pretraining.config import PretrainingConfig
from weam_ray.pretraining.distributed import DistributedContext
from weam_ray.pretraining.encoder import (
    MaskedLM,
    dropout_of,
    encoder_and_head,
    load_model,
    load_tokenizer,
    longest_row,
    recompute_activations,
    refuse_more_tokens,
)
from weam_ray.pretraining.examples import Examples, PairSet
from weam_ray.pretraining.feed import Source
from weam_ray.pretraining.loop import fit
from weam_ray.pretraining.objectives import (
    METRICS,
    WORD_ALIGNED_METRICS,
    MaskedTokens,
    WordAligned,
    terms_of,
)
from weam_ray.pretraining.prepared import Prepared, prepare
from weam_ray.progress import Report, silent


def pretrain(
    base_dir: Path,
    corpora: Sequence[PairSet],
    config: PretrainingConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
    *,
    replay_texts: Mapping[str, Path] | None = None,
    distributed: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Continues a masked language model on bilingual text.

    Args:
        base_dir: a `save_pretrained` folder with its tokenizer.
        corpora: one set for each language pair and domain, mixed by size and temperature.
        config: objective and training.
        out: filled with a `save_pretrained` folder, `curve.parquet` and a model card.
        report: told of progress every `log_every` steps.
        resources: threads and device.
        replay_texts: monolingual lines by language, for `replay_share`.
        distributed: this worker's place among several.
        checkpoints: where to save and resume.

    Returns:
        objective, parameters, rows, pairs_by_set, tokens_by_set, links dropped by reason, steps,
        replay_steps, replay_rows_by_set, epochs_by_set, tokens, seconds, tokens_per_second,
        wait_share, aligned_share and final losses; with held-out pairs what
        :func:`weam_ray.pretraining.loop.fit` tells of them.

    Raises:
        ConfigError: rows longer than the base reads; replay without text.
        DataError: corpora or links that don't fit.
    """
    prepared = prepare(load_tokenizer(base_dir), corpora, config, replay_texts)
    return pretrain_on(
        prepared,
        base_dir,
        config,
        out,
        report,
        resources,
        distributed=distributed,
        checkpoints=checkpoints,
    )


def pretrain_on(
    prepared: Prepared,
    base_dir: Path,
    config: PretrainingConfig,
    out: Path,
    report: Report = silent,
    resources: Resources | None = None,
    *,
    distributed: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
    source: Source | None = None,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """:func:`pretrain` on rows that were read already, by one for all workers.

    Args:
        prepared: from :func:`weam_ray.pretraining.prepared.prepare`, with the same settings.
        source: makes this worker's share of every step; None: it is made in this process.
        origin: what the model card is to say of the base, the corpora and their licences.
    """
    lm = encoder_and_head(load_model(base_dir, dropout=config.dropout))
    tokenizer = load_tokenizer(base_dir)
    refuse_more_tokens(lm.model, tokenizer, str(base_dir))
    facts: dict[str, Any] = {
        "objective": config.objective,
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        # With dropout each worker and each micro-batch draws noise of its own.
        "workers": distributed.world if distributed else 1,
        "dropout": dropout_of(lm.model),
    }
    if prepared.examples is None:
        facts["steps"] = 0
    else:
        refuse_longer_rows(lm.model.config, config)
        feed = prepared.feed(config, distributed, source)
        facts |= prepared.facts
        facts |= _sizes(prepared)
        facts |= fit(
            objective(lm, base_dir, config, resources or Resources()),
            feed,
            prepared.planned_steps(config),
            config,
            metric_names(config),
            out=out,
            stage="encoder",
            report=report,
            resources=resources,
            distributed=distributed,
            checkpoints=checkpoints,
            held_out=prepared.measured(config, distributed),
        )
        own_steps = feed.own_steps(facts["steps"])
        facts["replay_steps"] = facts["steps"] - own_steps
        facts["epochs_by_set"] = epochs_by_set(feed.batches, own_steps)
    if distributed is None or distributed.leads:
        save(lm.model, tokenizer, out)
        origin = origin or Origin(base=Base(model=str(base_dir)))
        write_card(out, "encoder", config, facts, prepared.languages, origin)
    return facts


def _sizes(prepared: Prepared) -> dict[str, dict[str, int]]:
    """Pairs and tokens of each set, and rows of replayed text by language."""
    assert prepared.examples is not None
    examples, replay = prepared.examples, prepared.replay
    counts = {
        "pairs_by_set": _by_set(examples, np.full(examples.rows, 1 / examples.group)),
        "tokens_by_set": _by_set(examples, examples.lengths),
    }
    if replay is not None:
        counts["replay_rows_by_set"] = _by_set(replay, np.ones(replay.rows))
    return counts


def _by_set(examples: Examples, amounts: npt.NDArray[Any]) -> dict[str, int]:
    sums = np.bincount(examples.sets, weights=amounts, minlength=len(examples.names))
    return dict(zip(examples.names, sums.round().astype(int).tolist(), strict=True))


def refuse_longer_rows(settings: Any, config: PretrainingConfig) -> None:
    """Refuses rows of more tokens than a model of this Hugging Face configuration reads.

    Raises:
        ConfigError: with the most it reads.
    """
    room = longest_row(settings)
    if config.max_length > room:
        raise ConfigError(
            f"max_length {config.max_length} is longer than the {room} tokens the base reads",
            place="pretraining.max_length",
            cure=f"Set it to at most {room}.",
        )


def objective(
    lm: MaskedLM, base_dir: Path, config: PretrainingConfig, resources: Resources
) -> MaskedTokens | WordAligned:
    """The module whose forward is the loss."""
    if config.gradient_checkpointing:
        recompute_activations(lm)
    if config.objective != "word-aligned":
        terms = terms_of(config.objective, config.cross_lingual_weight, config.stop_gradient)
        return MaskedTokens(lm, terms)
    original = load_model(base_dir).to(resources.device).eval().requires_grad_(False)
    return WordAligned(lm, encoder_and_head(original), config)


def metric_names(config: PretrainingConfig) -> tuple[str, ...]:
    """Names of the three values the objective measures; an empty one is not kept."""
    if config.objective == "word-aligned":
        return WORD_ALIGNED_METRICS
    return METRICS if config.objective.startswith("weam") else METRICS[:2]
