"""What a run reads, tokenised once: by its only worker, or by one for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining.base import sentences_of, whole_rows
from weam_ray.pretraining.batches import Batches
from weam_ray.pretraining.config import PretrainingConfig
from weam_ray.pretraining.distributed import DistributedContext
from weam_ray.pretraining.examples import Examples, PairSet, build_examples, concatenate
from weam_ray.pretraining.feed import Feed, Source
from weam_ray.pretraining.held_out import HeldOut, held_out_texts, split_set, without_repeats
from weam_ray.pretraining.masking import TokenTable
from weam_ray.pretraining.sides import token_table
from weam_ray.pretraining.vocabulary import text_lines


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Columns of integers, the same on every worker, that batches are drawn from.

    Attributes:
        examples: bilingual rows; None for the objective that trains on nothing.
        replay: monolingual rows, where there is replay.
        held_out: bilingual rows that are measured and never trained on, where there are any.
        table: what can be masked.
        pad_id: the padding token.
        languages: codes of the sides of all pairs.
        repeats: pairs, and lines to be replayed, left out because a text of theirs is measured.
    """

    examples: Examples | None
    replay: Examples | None
    held_out: Examples | None
    table: TokenTable
    pad_id: int
    languages: tuple[str, ...]
    repeats: Mapping[str, int]

    @property
    def facts(self) -> dict[str, float]:
        """What was counted on the way."""
        facts = dict(self.examples.facts) if self.examples else {}
        if self.held_out is not None:
            facts["held_out_pairs"] = self.held_out.rows // self.held_out.group
            facts |= self.repeats
        return facts

    def planned_steps(self, config: PretrainingConfig) -> int:
        """Optimiser steps of the budget, replay included."""
        assert self.examples is not None
        pairs = self.examples.rows // self.examples.group
        return config.planned_steps(pairs, config.batch_size * (1.0 - config.replay_share))

    def feed(
        self,
        config: PretrainingConfig,
        distributed: DistributedContext | None = None,
        source: Source | None = None,
    ) -> Feed:
        """The steps of one worker."""
        assert self.examples is not None
        return Feed(
            batches=self._batches(self.examples, config, distributed),
            replay=self._batches(self.replay, config, distributed) if self.replay else None,
            replay_share=config.replay_share,
            source=source,
        )

    def measured(
        self, config: PretrainingConfig, distributed: DistributedContext | None = None
    ) -> HeldOut | None:
        """One worker's share of what is measured."""
        if config.held_out is None or self.held_out is None:
            return None
        # Masks of a seed of their own: the same tokens are asked every time and in every run.
        fixed = config.model_copy(update={"seed": config.held_out.seed})
        return HeldOut(
            batches=self._batches(self.held_out, fixed, distributed), config=config.held_out
        )

    def _batches(
        self, examples: Examples, config: PretrainingConfig, distributed: DistributedContext | None
    ) -> Batches:
        rank, world = (distributed.rank, distributed.world) if distributed else (0, 1)
        return Batches(
            examples,
            config,
            self.table,
            self.pad_id,
            pooling=config.pooling,
            one_to_many=config.one_to_many,
            rank=rank,
            world=world,
        )


def prepare(
    tokenizer: Any,
    corpora: Sequence[PairSet],
    config: PretrainingConfig,
    replay_texts: Mapping[str, Path] | None = None,
) -> Prepared:
    """Reads, splits and tokenises what a run is given.

    Raises:
        ConfigError: replay without text.
        DataError: corpora or links that don't fit, or none.
    """
    examples = replay = held_out = None
    repeats: dict[str, int] = {}
    if config.objective != "none":
        if not corpora:
            raise DataError("no bilingual corpus", cure="Give pretrain at least one PairSet.")
        trained: Sequence[PairSet] = corpora
        if config.held_out is not None:
            corpora = without_repeats(corpora, config.held_out)
            repeats["held_out_repeats"] = sum(corpus.repeats for corpus in corpora)
            split = [split_set(corpus, config.held_out) for corpus in corpora]
            trained = [one for one, _ in split]
            held_out = _examples([other for _, other in split], tokenizer, config)
        examples = _examples(trained, tokenizer, config)
        replay, lines = _replay(replay_texts, tokenizer, config, corpora)
        if replay is not None and held_out is not None:
            repeats["held_out_replay_lines"] = lines
    return Prepared(
        examples=examples,
        replay=replay,
        held_out=held_out,
        table=token_table(tokenizer),
        pad_id=tokenizer.pad_token_id,
        languages=tuple(sorted({name for pair in corpora for name in (pair.source, pair.target)})),
        repeats=repeats,
    )


def _examples(corpora: Sequence[PairSet], tokenizer: Any, config: PretrainingConfig) -> Examples:
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
    return concatenate(parts, [corpus.name for corpus in corpora])


def _replay(
    texts: Mapping[str, Path] | None,
    tokenizer: Any,
    config: PretrainingConfig,
    corpora: Sequence[PairSet],
) -> tuple[Examples | None, int]:
    """Lines to be replayed, and how many were left out because they are measured."""
    if not config.replay_share:
        return None, 0
    if not texts:
        raise ConfigError(
            f"replay_share is {config.replay_share} and there is no text to replay",
            cure="Give monolingual texts, or set pretraining.replay_share to 0.",
        )
    # As many lines of a language as the whole run could read of it, were it the only one.
    limit = None if config.steps is None else math.ceil(config.steps * config.batch_size)
    two = config.replay_two_sentences
    measured: set[str] = set()
    if config.held_out is not None:
        measured.update(held_out_texts(corpora, config.held_out).to_pylist())
    repeats = 0
    parts: list[Examples] = []
    whole: list[int] = []
    for language, path in sorted(texts.items()):
        every = text_lines(path)
        read = list(islice(every, limit or None))
        lines = [line for line in read if line not in measured]
        repeats += len(read) - len(lines)
        parts.append(sentences_of(language, lines, tokenizer, config.max_length, two))
        # Languages are mixed by what there is of them, not by what is read.
        whole.append(whole_rows(parts[-1], len(read), len(read) + sum(1 for _ in every)))
    examples = replace(concatenate(parts, sorted(texts)), whole=np.array(whole, np.int64))
    return examples, repeats
