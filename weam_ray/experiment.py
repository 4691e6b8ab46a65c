"""One cell of a study: its graph of steps, and the function that makes each.

``run_experiment`` is the whole chain in one process::

    items ─┬────────────────► corpus ─► links ─┐
           │   vocabulary ─► base ─────────────┴─► encoder ─┬─► transfer
           └───────────────────────► tokens ────────────────┘

An :class:`ExperimentConfig` decides what the steps are; a :class:`weam_ray.artifacts.Store` knows
which of them are done; :data:`MAKERS` makes the others. Heavy packages load when a maker runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.artifacts import Artifact, Maker, Resources, Step, Store, Work, ensure
from weam_ray.corpus.config import CORPUS_VERSION, ContaminationConfig, CorpusConfig
from weam_ray.identity import Placement, StageConfig, content_hash
from weam_ray.pretraining.config import BaseConfig, PretrainingConfig, VocabularyConfig
from weam_ray.progress import Report, silent
from weam_ray.transfer.config import TransferConfig
from weam_ray.transfer.items import ItemsConfig, item_files

if TYPE_CHECKING:
    import pyarrow as pa

    from weam_ray.corpus import ContaminationIndex
    from weam_ray.pretraining import Checkpoints, DistributedContext, PairSet

Texts = Annotated[dict[str, Path], Placement()]


class ExperimentConfig(StageConfig):
    """Everything that decides one cell."""

    corpora: tuple[CorpusConfig, ...] = ()
    """The bilingual text; empty when the objective is ``none``."""
    size: int | None = Field(default=None, ge=1)
    """Pairs taken of each corpus, the first in nested order; None takes all."""
    subset_seed: int = Field(default=0, ge=0)
    """Decides the nested order."""
    alignment: AlignmentConfig
    items: ItemsConfig
    texts: Texts = Field(default_factory=dict)
    """Monolingual text by language, for the vocabulary, the base encoder and replay."""
    vocabulary: VocabularyConfig | None = None
    """None when the base is a Hugging Face model, which brings its own."""
    base: BaseConfig
    pretraining: PretrainingConfig
    transfer: TransferConfig


class LinksStep(StageConfig):
    """Which pairs the aligner sees decides the links; a pool leaves size and seed out."""

    alignment: AlignmentConfig
    size: int | None = None
    subset_seed: int | None = None


class VocabularyStep(StageConfig):
    """A vocabulary and where its text lies."""

    vocabulary: VocabularyConfig
    texts: Texts


class BaseStep(StageConfig):
    """A base encoder and where its text lies."""

    base: BaseConfig
    texts: Texts


class EncoderStep(StageConfig):
    """Bilingual pre-training on a subset."""

    pretraining: PretrainingConfig
    sets: tuple[tuple[str, str, str], ...]
    """(name, source language, target language) of each corpus, in order."""
    size: int | None
    subset_seed: int
    replay_texts: Texts


class TokensStep(StageConfig):
    """Items as subwords."""

    max_length: int


class SanityStep(StageConfig):
    """Rows beside which an accuracy is read; no settings of its own."""

    transfer: TransferConfig


class RetrievalStep(StageConfig):
    """Sentence retrieval over the dev items' premises, which every language has."""

    language: str = "en"


class Experiment:
    """The steps of a cell. Their addresses are known before anything runs.

    Raises:
        DataError: an input file is not there.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        self.config = config
        self.items = items_step(config.items)
        self.base = self._base()
        self.corpora = tuple(corpus_step(corpus, self.items) for corpus in config.corpora)
        self.links = tuple(self._links(corpus) for corpus in self.corpora)
        self.encoder = self._encoder()
        self.tokens = self._tokens()
        self.transfer = Step(
            stage="transfer",
            version=1,
            config=config.transfer,
            upstream={"encoder": self.encoder, "tokens": self.tokens},
        )
        self.retrieval = Step(
            stage="retrieval",
            version=1,
            config=RetrievalStep(language=config.transfer.train_language),
            upstream={"encoder": self.encoder, "items": self.items},
        )
        self.sanity = Step(
            stage="sanity",
            version=1,
            config=SanityStep(transfer=_without_training(config.transfer)),
            upstream={"items": self.items},
        )

    def _base(self) -> Step:
        base, texts = self.config.base, self.config.texts
        if base.model is not None:
            local = Path(base.model)
            inputs = {"model": content_hash(local)} if local.is_dir() else {}
            return Step(
                stage="base", version=1, config=BaseStep(base=base, texts={}), inputs=inputs
            )
        inputs = _hashes(texts)
        vocabulary = Step(
            stage="vocabulary",
            version=1,
            config=VocabularyStep(
                vocabulary=self.config.vocabulary or VocabularyConfig(), texts=texts
            ),
            inputs=inputs,
        )
        return Step(
            stage="base",
            version=1,
            config=BaseStep(base=base, texts=texts),
            upstream={"vocabulary": vocabulary},
            inputs=inputs,
        )

    def _links(self, corpus: Step) -> Step:
        alignment = self.config.alignment
        subset = alignment.regime == "subset" and self.config.size is not None
        return Step(
            stage="links",
            version=1,
            config=LinksStep(
                alignment=alignment,
                size=self.config.size if subset else None,
                subset_seed=self.config.subset_seed if subset else None,
            ),
            upstream={"corpus": corpus},
        )

    def _encoder(self) -> Step:
        config = self.config
        if config.pretraining.objective == "none":
            return self.base
        upstream = {"base": self.base}
        for place, (corpus, links) in enumerate(zip(self.corpora, self.links, strict=True)):
            upstream[f"corpus{place}"] = corpus
            if config.pretraining.uses_links:
                upstream[f"links{place}"] = links
        replay = config.texts if config.pretraining.replay_share > 0 else {}
        return Step(
            stage="encoder",
            version=1,
            config=EncoderStep(
                pretraining=config.pretraining,
                sets=tuple(
                    (
                        f"{corpus.source_language}-{corpus.target_language}/{corpus.domain}",
                        corpus.source_language,
                        corpus.target_language,
                    )
                    for corpus in config.corpora
                ),
                size=config.size,
                subset_seed=config.subset_seed,
                replay_texts=replay,
            ),
            upstream=upstream,
            inputs=_hashes(replay),
        )

    def _tokens(self) -> Step:
        # The vocabulary alone decides the tokens, so every base trained on it shares them.
        tokenizer = self.base.upstream.get("vocabulary", self.base)
        return Step(
            stage="tokens",
            version=1,
            config=TokensStep(max_length=self.config.transfer.max_length),
            upstream={"tokenizer": tokenizer, "items": self.items},
        )

    def ends(self) -> tuple[Step, ...]:
        """What the cell is run for; the cell is done when these are."""
        return (self.transfer, self.retrieval)

    def shared(self) -> tuple[Step, ...]:
        """What cells have in common and a study makes before its grid."""
        return (self.items, *self.corpora, *self.links, self.base, self.tokens, self.sanity)


def items_step(config: ItemsConfig) -> Step:
    """The checked evaluation items and the English training items."""
    files = [
        (f"{split}:{path.name}", path)
        for split, paths in item_files(config).items()
        for path in paths
    ]
    inputs = {f"{place:03d}:{name}": content_hash(path) for place, (name, path) in enumerate(files)}
    return Step(stage="items", version=1, config=config, inputs=inputs)


def corpus_step(config: CorpusConfig, items: Step) -> Step:
    """A cleaned bitext; the evaluation items are upstream because overlap with them is dropped."""
    overlap = config.contamination
    looks = overlap.exact or overlap.ngram is not None
    return Step(
        stage="corpus",
        version=CORPUS_VERSION,
        config=config,
        upstream={"items": items} if looks else {},
        inputs={role: content_hash(path) for role, path in config.files.items()},
    )


def run_experiment(
    config: ExperimentConfig,
    store: Store,
    report: Report = silent,
    resources: Resources | None = None,
) -> Artifact:
    """Run the whole chain of one cell in this process; what is already there is not made again.

    Returns:
        The ``transfer`` artifact, with ``predictions.parquet`` and ``scores.parquet``.
    """
    return ensure(Experiment(config).transfer, store, MAKERS, report, resources)


def make_items(work: Work) -> None:
    """Read and check the NLI files."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.items import load_items

    assert isinstance(work.step.config, ItemsConfig)
    items = load_items(work.step.config)
    pq.write_table(items, work.out / "items.parquet", compression="zstd")
    work.facts["rows"] = items.num_rows


def make_corpus(work: Work) -> None:
    """Read, clean and order one bitext in this process."""
    from weam_ray.corpus import build_corpus, write_corpus

    assert isinstance(work.step.config, CorpusConfig)
    index = contamination_index(work.step.config, work.upstream.get("items"))
    work.facts.update(write_corpus(build_corpus(work.step.config, index), work.out))


def contamination_index(config: CorpusConfig, items: Artifact | None) -> ContaminationIndex | None:
    """The evaluation texts in the two languages of a bitext; None when overlap is kept."""
    if items is None:
        return None
    languages = (config.source_language, config.target_language)
    return _index(items.path, config.contamination, *languages)


@lru_cache(maxsize=32)
def _index(items: Path, config: ContaminationConfig, *languages: str) -> ContaminationIndex:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from weam_ray.corpus import ContaminationIndex
    from weam_ray.corpus.languages import primary_language

    table = pq.read_table(
        items / "items.parquet", columns=["split", "language", "premise", "hypothesis"]
    )
    table = table.filter(pc.field("split") != "train")
    wanted = {primary_language(language) for language in languages}
    texts: dict[str, list[str]] = {}
    # Items in zh are overlap for a corpus in zh-TW too.
    for language in pc.unique(table["language"]).to_pylist():
        if primary_language(language) in wanted:
            rows = table.filter(pc.field("language") == language)
            texts[language] = rows["premise"].to_pylist() + rows["hypothesis"].to_pylist()
    return ContaminationIndex.from_texts(texts, config)


def make_links(work: Work) -> None:
    """Word-align one corpus, or the subset that the aligner regime allows it to see."""
    import pyarrow.parquet as pq

    from weam_ray.alignment import align_table
    from weam_ray.corpus import read_corpus, take_subset

    config = work.step.config
    assert isinstance(config, LinksStep)
    pairs = read_corpus(work.upstream["corpus"].path)
    if config.size is not None and config.subset_seed is not None:
        pairs = take_subset(pairs, config.size, config.subset_seed).sort_by("pair_id")
    links, facts = align_table(
        pairs, config.alignment, threads=work.resources.threads, report=work.report
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
        work.facts.update(fetch_base(config.base, work.out))
        return
    tokenizer = work.upstream["vocabulary"].path
    work.facts.update(
        train_base(tokenizer, config.texts, config.base, work.out, work.report, work.resources)
    )


def make_encoder(work: Work) -> None:
    """Bilingual pre-training of the base on the cell's subset, in this process."""
    assert isinstance(work.step.config, EncoderStep)
    upstream = {name: artifact.path for name, artifact in work.upstream.items()}
    work.facts.update(
        train_encoder(work.step.config, upstream, work.out, work.report, work.resources)
    )


def train_encoder(
    config: EncoderStep,
    upstream: Mapping[str, Path],
    out: Path,
    report: Report,
    resources: Resources,
    *,
    distributed: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """The encoder stage as one worker runs it, alone or among several.

    Args:
        upstream: folders of the finished steps it builds on, by name.

    Returns:
        The record's facts, the same from every worker.
    """
    from weam_ray.pretraining import pretrain

    return pretrain(
        upstream["base"],
        [_pair_set(config, place, upstream) for place in range(len(config.sets))],
        config.pretraining,
        out,
        report,
        resources,
        replay_texts=config.replay_texts or None,
        distributed=distributed,
        checkpoints=checkpoints,
    )


def _pair_set(config: EncoderStep, place: int, upstream: Mapping[str, Path]) -> PairSet:
    import pyarrow.parquet as pq

    from weam_ray.corpus import read_corpus, shuffle_pairs, take_subset
    from weam_ray.pretraining import PairSet

    pairs = read_corpus(upstream[f"corpus{place}"])
    if config.size is not None:
        pairs = take_subset(pairs, config.size, config.subset_seed)
    objective = config.pretraining.objective
    if objective == "tlm-shuffled-pairs":
        pairs = shuffle_pairs(pairs, config.pretraining.seed)
    links: pa.Table | None = None
    if config.pretraining.uses_links:
        links = pq.read_table(upstream[f"links{place}"] / "links.parquet")
        if objective == "weam-shuffled-links":
            links = _shuffled(links, config.pretraining.seed)
    name, source, target = config.sets[place]
    return PairSet(name=name, source=source, target=target, pairs=pairs, links=links)


def _shuffled(table: pa.Table, seed: int) -> pa.Table:
    import numpy as np

    from weam_ray.alignment import Links, shuffle_links

    ids = np.asarray(table["pair_id"].combine_chunks())
    links = shuffle_links(Links.from_arrow(table["links"].combine_chunks()), seed, ids)
    return table.set_column(table.column_names.index("links"), "links", links.to_arrow())


def make_tokens(work: Work) -> None:
    """Tokenise all items once for every cell that shares the vocabulary."""
    import pyarrow.parquet as pq

    from weam_ray.transfer import tokenise_items

    assert isinstance(work.step.config, TokensStep)
    items = pq.read_table(work.upstream["items"].path / "items.parquet")
    tokens = tokenise_items(items, work.upstream["tokenizer"].path, work.step.config.max_length)
    tokens.write(work.out)
    work.facts["items"] = len(tokens)


def make_transfer(work: Work) -> None:
    """Fine-tune on the training language and predict every item of every language."""
    from weam_ray.transfer import TokenisedItems, fine_tune

    assert isinstance(work.step.config, TransferConfig)
    tokens = TokenisedItems.read(work.upstream["tokens"].path)
    encoder = work.upstream["encoder"].path
    work.facts.update(
        fine_tune(encoder, tokens, work.step.config, work.out, work.report, work.resources)
    )


def make_sanity(work: Work) -> None:
    """Score what no encoder is needed for."""
    import pyarrow.parquet as pq

    from weam_ray.transfer import sanity_rows

    assert isinstance(work.step.config, SanityStep)
    items = pq.read_table(work.upstream["items"].path / "items.parquet")
    rows = sanity_rows(items, work.step.config.transfer)
    pq.write_table(rows, work.out / "scores.parquet")
    work.facts["rows"] = rows.num_rows


def make_retrieval(work: Work) -> None:
    """Find each dev premise's translation by the encoder's vectors, before any fine-tuning."""
    import pyarrow.parquet as pq

    from weam_ray.transfer import premise_retrieval

    assert isinstance(work.step.config, RetrievalStep)
    items = pq.read_table(work.upstream["items"].path / "items.parquet")
    table = premise_retrieval(
        work.upstream["encoder"].path, items, work.step.config.language, work.resources
    )
    pq.write_table(table, work.out / "retrieval.parquet")


MAKERS: Mapping[str, Maker] = {
    "items": make_items,
    "corpus": make_corpus,
    "links": make_links,
    "vocabulary": make_vocabulary,
    "base": make_base,
    "encoder": make_encoder,
    "tokens": make_tokens,
    "transfer": make_transfer,
    "sanity": make_sanity,
    "retrieval": make_retrieval,
}


def _hashes(texts: Mapping[str, Path]) -> dict[str, str]:
    return {f"text:{language}": content_hash(path) for language, path in sorted(texts.items())}


def _without_training(config: TransferConfig) -> TransferConfig:
    # The sanity rows read which languages and selection there are; no fine-tuning seed or rate
    # changes them, and so none may change their address.
    default = TransferConfig()
    return config.model_copy(
        update={
            name: getattr(default, name)
            for name in ("seed", "learning_rate", "steps", "epochs", "precision", "batch_size")
        }
    )
