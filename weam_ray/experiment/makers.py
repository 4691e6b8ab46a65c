"""The functions that make a cell's steps, by stage. Heavy packages load when one of them runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from weam_ray.artifacts import Artifact, Maker, Work
from weam_ray.corpus.config import ContaminationConfig, CorpusConfig
from weam_ray.experiment.encoder import train_encoder
from weam_ray.experiment.graph import BaseStep, EncoderStep, LinksStep, VocabularyStep
from weam_ray.transfer import steps as transfer_steps
from weam_ray.transfer.divergence import make_divergence

if TYPE_CHECKING:
    from weam_ray.alignment.em import Hire
    from weam_ray.corpus import ContaminationIndex
    from weam_ray.pretraining import Checkpoints

_SECONDS_BETWEEN_CHECKPOINTS = 300.0
"""What a killed worker loses at most; a short run never stops to save."""


def make_corpus(work: Work) -> None:
    """Read, clean and order one bitext in this process."""
    from weam_ray.corpus import build_corpus, write_corpus

    assert isinstance(work.step.config, CorpusConfig)
    index = contamination_index(work.step.config, work.upstream)
    work.facts.update(write_corpus(build_corpus(work.step.config, index), work.out))


def contamination_index(
    config: CorpusConfig, upstream: Mapping[str, Artifact]
) -> ContaminationIndex | None:
    """The evaluation texts in the two languages of a bitext; None when overlap is kept.

    Args:
        upstream: finished steps of :func:`corpus_step`, by name.
    """
    read = tuple(one.path for _, one in sorted(upstream.items()))
    languages = (config.source_language, config.target_language)
    return _index(read, config.contamination, *languages) if read else None


@lru_cache(maxsize=32)
def _index(
    read: tuple[Path, ...], config: ContaminationConfig, *languages: str
) -> ContaminationIndex:
    from weam_ray.corpus import ContaminationIndex
    from weam_ray.corpus.languages import primary_language
    from weam_ray.transfer.held_out import evaluation_texts

    # Items in zh are overlap for a corpus in zh-TW too.
    wanted = {primary_language(language) for language in languages}
    texts = {
        language: found
        for language, found in evaluation_texts(read).items()
        if primary_language(language) in wanted
    }
    return ContaminationIndex.from_texts(texts, config)


def make_links(work: Work, hire: Hire | None = None) -> None:
    """Word-align one corpus, or the subset that the aligner regime allows it to see.

    ``hire`` brings another team than this process' threads; the links are the same.
    """
    import pyarrow.parquet as pq

    from weam_ray.alignment import align_table
    from weam_ray.corpus import read_corpus, take_subset

    config = work.step.config
    assert isinstance(config, LinksStep)
    pairs = read_corpus(work.upstream["corpus"].path)
    if config.size is not None and config.subset_seed is not None:
        taken = take_subset(pairs, config.size, config.subset_seed, at_most=bool(config.at_most))
        pairs = taken.sort_by("pair_id")
    links, facts = align_table(
        pairs, config.alignment, threads=work.resources.threads, hire=hire, report=work.report
    )
    pq.write_table(links, work.out / "links.parquet", compression="zstd")
    work.facts.update(facts)


def make_vocabulary(work: Work) -> None:
    """Train the subword vocabulary."""
    from weam_ray.pretraining import train_vocabulary

    assert isinstance(work.step.config, VocabularyStep)
    config = work.step.config
    work.facts.update(train_vocabulary(config.texts, config.vocabulary, work.out))


def make_base(work: Work) -> None:
    """Train the base encoder from scratch, or take a Hugging Face one over."""
    from weam_ray.pretraining import fetch_base, train_base

    assert isinstance(work.step.config, BaseStep)
    config = work.step.config
    if config.base.model is not None:
        model = config.base.model if config.folder is None else str(config.folder)
        work.facts.update(fetch_base(config.base.model_copy(update={"model": model}), work.out))
        return
    tokenizer = work.upstream["vocabulary"].path
    work.facts.update(
        train_base(
            tokenizer,
            config.texts,
            config.base,
            work.out,
            work.report,
            work.resources,
            checkpoints=_checkpoints(work, config.base.checkpoint_every),
        )
    )


def make_encoder(work: Work) -> None:
    """Bilingual pre-training of the base on the cell's subset, in this process."""
    assert isinstance(work.step.config, EncoderStep)
    upstream = {name: artifact.path for name, artifact in work.upstream.items()}
    work.facts.update(
        train_encoder(
            work.step.config,
            upstream,
            work.out,
            work.report,
            work.resources,
            checkpoints=_checkpoints(work, work.step.config.pretraining.checkpoint_every),
        )
    )


def _checkpoints(work: Work, every: int | None) -> Checkpoints | None:
    """Where training on one worker saves its state: by time, unless the study says steps."""
    from weam_ray.pretraining import Checkpoints

    if work.scratch.folder is None:
        return None
    return Checkpoints(
        folder=work.scratch.folder,
        every=every,
        seconds=math.inf if every else _SECONDS_BETWEEN_CHECKPOINTS,
        saved=work.scratch.saved,
    )


MAKERS: Mapping[str, Maker] = {
    "corpus": make_corpus,
    "links": make_links,
    "vocabulary": make_vocabulary,
    "base": make_base,
    "encoder": make_encoder,
    **transfer_steps.MAKERS,
    "divergence": make_divergence,
}
