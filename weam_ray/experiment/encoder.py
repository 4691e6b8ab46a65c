"""The encoder stage of a cell: what it trains on, and its training by one worker or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weam_ray.artifacts import Resources
from weam_ray.experiment.graph import EncoderStep
from weam_ray.pretraining.config import PretrainingConfig
from weam_ray.progress import Report
from weam_ray.record import RECORD, read_record

if TYPE_CHECKING:
    import pyarrow as pa

    from weam_ray.pretraining import Checkpoints, DistributedContext, PairSet, Prepared
    from weam_ray.pretraining.card import Origin
    from weam_ray.pretraining.feed import Source


def train_encoder(
    config: EncoderStep,
    upstream: Mapping[str, Path],
    out: Path,
    report: Report,
    resources: Resources,
    *,
    distributed: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
    prepared: Prepared | None = None,
    source: Source | None = None,
) -> dict[str, Any]:
    """The encoder stage as one worker runs it, alone or among several.

    Args:
        upstream: folders of the finished steps it builds on, by name.
        prepared: from :func:`prepare_encoder`, where one reads for all workers.
        source: makes this worker's share of every step; None: it is made in this process.

    Returns:
        The record's facts, the same from every worker.
    """
    from weam_ray.pretraining import pretrain_on

    return pretrain_on(
        prepared or prepare_encoder(config, upstream),
        upstream["base"],
        config.pretraining,
        out,
        report,
        resources,
        distributed=distributed,
        checkpoints=checkpoints,
        source=source,
        origin=_origin(config, upstream),
    )


def _origin(config: EncoderStep, upstream: Mapping[str, Path]) -> Origin:
    """What the records of the steps it builds on say of an encoder's data and base."""
    from weam_ray.pretraining.card import Base, Origin

    base = _record(upstream["base"])
    taken, folder = base["config"]["base"], base["config"].get("folder")
    corpora = (_record(upstream[f"corpus{place}"])["config"] for place in range(len(config.sets)))
    linked = _record(upstream["links0"]) if config.pretraining.uses_links else None
    return Origin(
        base=Base(
            model=folder or taken["model"],
            revision=base["facts"].get("commit") or taken["revision"],
        ),
        files={
            name: [Path(corpus[side]).name for side in ("source", "target") if corpus[side]]
            for (name, _, _), corpus in zip(config.sets, corpora, strict=True)
        },
        aligner=linked["config"]["alignment"] if linked else None,
        licences=config.licences,
    )


def _record(folder: Path) -> dict[str, Any]:
    return read_record((folder / RECORD).read_bytes(), str(folder))


def prepare_encoder(config: EncoderStep, upstream: Mapping[str, Path]) -> Prepared:
    """What the encoder stage trains on, tokenised.

    Raises:
        ConfigError: rows longer than the base reads, which is seen before the text is.
    """
    from weam_ray.pretraining import load_tokenizer, prepare
    from weam_ray.pretraining.bilingual import refuse_longer_rows
    from weam_ray.pretraining.encoder import load_settings
    from weam_ray.pretraining.held_out import without_repeats

    training = config.pretraining
    refuse_longer_rows(load_settings(upstream["base"]), training)
    sets = [_pair_set(config, place, upstream) for place in range(len(config.sets))]
    if training.held_out is not None:
        sets = without_repeats(sets, training.held_out)
    if training.objective == "tlm-shuffled-pairs":
        sets = [replace(one, pairs=unpaired(one.pairs, training)) for one in sets]
    return prepare(
        load_tokenizer(upstream["base"]),
        sets,
        training,
        config.replay_texts or None,
    )


def _pair_set(config: EncoderStep, place: int, upstream: Mapping[str, Path]) -> PairSet:
    import pyarrow.parquet as pq

    from weam_ray.corpus import read_corpus, take_subset
    from weam_ray.pretraining import PairSet

    pairs = read_corpus(upstream[f"corpus{place}"])
    if config.size is not None:
        seed, at_most = config.subset_seed, bool(config.at_most)
        pairs = take_subset(pairs, config.size, seed, at_most=at_most)
    links: pa.Table | None = None
    if config.pretraining.uses_links:
        links = pq.read_table(upstream[f"links{place}"] / "links.parquet")
        if config.pretraining.objective == "weam-shuffled-links":
            links = _shuffled(links, config.pretraining.seed)
    name, source, target = config.sets[place]
    return PairSet(name=name, source=source, target=target, pairs=pairs, links=links)


def unpaired(pairs: pa.Table, config: PretrainingConfig) -> pa.Table:
    """The control of shuffled pairs; no text of a held-out pair goes to one that is trained on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from weam_ray.corpus import shuffle_pairs
    from weam_ray.pretraining.held_out import is_held_out

    if config.held_out is None:
        return shuffle_pairs(pairs, config.seed)
    held = pa.array(is_held_out(pairs["pair_id"].to_numpy(), config.held_out))
    parts = [pairs.filter(which) for which in (pc.invert(held), held)]
    return pa.concat_tables([shuffle_pairs(part, config.seed) for part in parts])


def _shuffled(table: pa.Table, seed: int) -> pa.Table:
    import numpy as np

    from weam_ray.alignment import Links, shuffle_links

    ids = np.asarray(table["pair_id"].combine_chunks())
    links = shuffle_links(Links.from_arrow(table["links"].combine_chunks()), seed, ids)
    return table.set_column(table.column_names.index("links"), "links", links.to_arrow())
