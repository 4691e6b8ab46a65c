"""Bilingual pre-training of a base encoder: one call for every system and control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weam_ray.artifacts import Resources
from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining.base import epochs_by_set, save, sentences_of
from weam_ray.pretraining.batches import Batches
from weam_ray.pretraining.card import write_card
from weam_ray.pretraining.checkpoints import Checkpoints
from weam_ray.pretraining.config import PretrainingConfig
from weam_ray.pretraining.encoder import (
    MaskedLM,
    encoder_and_head,
    load_model,
    load_tokenizer,
    longest_row,
    recompute_activations,
)
from weam_ray.pretraining.examples import Examples, PairSet, build_examples, concatenate
from weam_ray.pretraining.feed import Feed
from weam_ray.pretraining.loop import DistributedContext, fit
from weam_ray.pretraining.objectives import (
    METRICS,
    WORD_ALIGNED_METRICS,
    MaskedTokens,
    WordAligned,
    terms_of,
)
from weam_ray.pretraining.sides import token_table
from weam_ray.pretraining.vocabulary import text_lines
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
        objective, rows, tokens, links dropped by reason, steps, replay_steps, epochs_by_set,
        seconds, tokens_per_second, wait_share, aligned_share and final losses.

    Raises:
        ConfigError: rows longer than the base reads; replay without text.
        DataError: corpora or links that don't fit.
    """
    tokenizer = load_tokenizer(base_dir)
    lm = encoder_and_head(load_model(base_dir, dropout=config.dropout))
    leads = distributed is None or distributed.leads
    facts: dict[str, Any] = {"objective": config.objective}
    if config.objective == "none":
        facts["steps"] = 0
    else:
        feed, examples = prepare(lm, tokenizer, corpora, config, replay_texts, distributed)
        pairs = examples.rows // examples.group
        steps = config.planned_steps(pairs, config.batch_size * (1.0 - config.replay_share))
        facts |= examples.facts
        facts |= fit(
            objective(lm, base_dir, config, resources or Resources()),
            feed,
            steps,
            config,
            metric_names(config),
            out=out,
            stage="encoder",
            report=report,
            resources=resources,
            distributed=distributed,
            checkpoints=checkpoints,
        )
        facts["replay_steps"] = steps - feed.own_steps(steps)
        facts["epochs_by_set"] = epochs_by_set(feed.batches, feed.own_steps(steps))
    if leads:
        save(lm.model, tokenizer, out)
        languages = sorted({name for pair in corpora for name in (pair.source, pair.target)})
        write_card(out, "encoder", config, facts, languages)
    return facts


def prepare(
    lm: MaskedLM,
    tokenizer: Any,
    corpora: Sequence[PairSet],
    config: PretrainingConfig,
    replay_texts: Mapping[str, Path] | None = None,
    distributed: DistributedContext | None = None,
) -> tuple[Feed, Examples]:
    """The batches of a run, and the bilingual rows they are drawn from."""
    if not corpora:
        raise DataError("no bilingual corpus", cure="Give pretrain at least one PairSet.")
    room = longest_row(lm)
    if config.max_length > room:
        raise ConfigError(
            f"max_length {config.max_length} is longer than the {room} tokens the base reads",
            cure=f"Set pretraining.max_length to at most {room}.",
        )
    parts = [
        build_examples(
            corpus.pairs,
            corpus.links,
            tokenizer,
            config,
            anchor_target=corpus.target == config.anchor_language,
        )
        for corpus in corpora
    ]
    examples = concatenate(parts, [corpus.name for corpus in corpora])
    rank, world = (distributed.rank, distributed.world) if distributed else (0, 1)

    def batches(rows: Examples) -> Batches:
        return Batches(
            rows,
            config,
            token_table(tokenizer),
            tokenizer.pad_token_id,
            pooling=config.pooling,
            one_to_many=config.one_to_many,
            rank=rank,
            world=world,
        )

    feed = Feed(
        batches=batches(examples),
        replay=batches(_replay(replay_texts, tokenizer, config)) if config.replay_share else None,
        replay_share=config.replay_share,
    )
    return feed, examples


def _replay(
    texts: Mapping[str, Path] | None, tokenizer: Any, config: PretrainingConfig
) -> Examples:
    if not texts:
        raise ConfigError(
            f"replay_share is {config.replay_share} and there is no text to replay",
            cure="Give monolingual texts, or set pretraining.replay_share to 0.",
        )
    # As many lines of a language as the whole run could read of it, were it the only one.
    limit = None if config.steps is None else math.ceil(config.steps * config.batch_size)
    parts = []
    for language, path in sorted(texts.items()):
        lines = [line for _, line in zip(range(limit or 1 << 62), text_lines(path), strict=False)]
        parts.append(
            sentences_of(language, lines, tokenizer, config.max_length, config.replay_two_sentences)
        )
    return concatenate(parts, sorted(texts))


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
