"""The steps of one cell, and their settings: which there are, and what each is made from.

All of it follows from an :class:`ExperimentConfig`; nothing runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.artifacts import Step
from weam_ray.corpus.config import CORPUS_VERSION, CorpusConfig
from weam_ray.errors import ConfigError, DataError
from weam_ray.identity import Placement, StageConfig, WhenSet, content_hash
from weam_ray.pretraining.config import (
    BaseConfig,
    PretrainingConfig,
    VocabularyConfig,
    encoder_version,
)
from weam_ray.transfer.config import FineTuningConfig, TransferConfig
from weam_ray.transfer.diagnostics import DiagnosticsConfig, diagnostic_steps
from weam_ray.transfer.divergence import DivergenceStep
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import QaConfig, QuestionsConfig
from weam_ray.transfer.steps import (
    items_step,
    questions_step,
    read_for_answers,
    read_for_pairs,
    reader_step,
    transfer_step,
)

T = TypeVar("T")
Texts = Annotated[dict[str, Path], Placement()]
Licences = Annotated[tuple[str, ...], Placement()]
"""A line for each source of data. What they say changes no result, and so no address."""
LOCAL_MODEL = "a local folder"
"""Stands for the path of a model in what decides an address."""


class ExperimentConfig(StageConfig):
    """Everything that decides one cell."""

    corpora: tuple[CorpusConfig, ...] = ()
    """The bilingual text; empty when the objective is ``none``."""
    size: int | None = Field(default=None, ge=1)
    """Pairs taken of each corpus, the first in nested order; None takes all."""
    subset_seed: int = Field(default=0, ge=0)
    """Decides the nested order."""
    at_most: bool = False
    """Take all of a corpus that has fewer pairs than ``size``."""
    alignment: AlignmentConfig
    items: ItemsConfig
    texts: Texts = Field(default_factory=dict)
    """Monolingual text by language, for the vocabulary, the base encoder and replay."""
    vocabulary: VocabularyConfig | None = None
    """None when the base is a Hugging Face model, which brings its own."""
    base: BaseConfig
    pretraining: PretrainingConfig
    transfer: TransferConfig
    task: str = "xnli"
    """``xnli``, or a name among ``questions``: what the encoder is fine-tuned for."""
    questions: dict[str, QuestionsConfig] = Field(default_factory=dict)
    """The questions of all of a study's tasks. Those of other tasks count too: a corpus must not
    overlap with any of them, and cells of several tasks share their encoders."""
    qa: QaConfig = Field(default_factory=QaConfig)
    """Fine-tuning of a reader, when the task is one of ``questions``."""
    diagnostics: DiagnosticsConfig = Field(default_factory=DiagnosticsConfig)
    """What is measured of the encoder itself."""
    licences: Licences = ()
    """Those of the data, for the encoder's model card."""

    @property
    def fine_tuning(self) -> FineTuningConfig:
        """The settings of this cell's fine-tuning."""
        return self.qa if self.task in self.questions else self.transfer


class LinksStep(StageConfig):
    """Which pairs the aligner sees decides the links; a pool leaves size and seed out."""

    alignment: AlignmentConfig
    size: int | None = None
    subset_seed: int | None = None
    at_most: Annotated[bool | None, WhenSet()] = None


class VocabularyStep(StageConfig):
    """A vocabulary and where its text lies."""

    vocabulary: VocabularyConfig
    texts: Texts


class BaseStep(StageConfig):
    """A base encoder and where its text, or the folder of the model, lies."""

    base: BaseConfig
    texts: Texts
    folder: Annotated[Path | None, Placement()] = None
    """Of a local model, whose content is an input of the step: moved, it is the same model."""


class EncoderStep(StageConfig):
    """Bilingual pre-training on a subset."""

    pretraining: PretrainingConfig
    sets: tuple[tuple[str, str, str], ...]
    """(name, source language, target language) of each corpus, in order."""
    size: int | None
    subset_seed: int
    at_most: Annotated[bool | None, WhenSet()] = None
    replay_texts: Texts
    licences: Licences = ()


class SharedSteps:
    """Steps that cells have in common, made once: each costs a hash of its files and settings.

    The cells of a grid hold the very same settings where they are alike, so that what was made of
    these is found by their identity, without looking into them.
    """

    def __init__(self) -> None:
        self._made: dict[object, tuple[tuple[object, ...], Any]] = {}

    def once(self, make: Callable[..., T], *arguments: object) -> T:
        """``make(*arguments)``, or what it returned when it was given the same before."""
        key = (make, *map(_mark, arguments))
        if key not in self._made:
            # With the arguments, for an object's id is its own only as long as it is there.
            self._made[key] = arguments, make(*arguments)
        made: T = self._made[key][1]
        return made

    def __reduce__(self) -> tuple[type[SharedSteps], tuple[()]]:
        return SharedSteps, ()  # in another process the ids are others


def _mark(one: object) -> object:
    if isinstance(one, Mapping):
        return tuple((name, _mark(value)) for name, value in one.items())
    return one if one is None or isinstance(one, (str, int, Path)) else id(one)


class Experiment:
    """The steps of a cell. Their addresses are known before anything runs.

    Args:
        config: the cell.
        shared: with the other cells of its grid.

    Raises:
        DataError: an input file is not there.
    """

    def __init__(self, config: ExperimentConfig, shared: SharedSteps | None = None) -> None:
        once = (shared or SharedSteps()).once
        self.config = config
        self.items = once(items_step, config.items) if config.items.patterns else None
        self.questions = {
            name: once(questions_step, name, one) for name, one in config.questions.items()
        }
        self.base = once(_base_step, config.base, config.vocabulary, config.texts)
        self.corpora = tuple(
            once(corpus_step, corpus, self.items, self.questions) for corpus in config.corpora
        )
        subset = config.alignment.regime == "subset" and config.size is not None
        at_most = config.at_most or None
        seen = (config.size, config.subset_seed, at_most) if subset else (None, None, None)
        self.links = tuple(
            once(_links_step, corpus, config.alignment, *seen) for corpus in self.corpora
        )
        replayed = config.texts if config.pretraining.replay_share > 0 else {}
        self.encoder = self._encoder(replayed, once(_hashes, replayed))
        # The vocabulary alone decides the tokens, so every base trained on it shares them.
        tokenizer = self.base.upstream.get("vocabulary", self.base)
        asked = self.questions.get(config.task, self.items)
        if asked is None:
            raise ConfigError(
                f"the items of {config.task} name no files",
                place="items",
                cure="Give items.train, items.dev and items.test a path.",
            )
        if config.task in self.questions:
            self.tokens, self.sanity = once(read_for_answers, config.qa, asked, tokenizer)
            self.transfer = reader_step(config.qa, asked, self.tokens, self.encoder)
        else:
            self.tokens, self.sanity = once(read_for_pairs, config.transfer, asked, tokenizer)
            self.transfer = transfer_step(config.transfer, self.tokens, self.encoder)
        language = config.transfer.train_language
        self.diagnostics = once(
            diagnostic_steps, config.diagnostics, language, self.encoder, self.items
        )
        self.divergences = tuple(
            once(_divergence_step, corpus, asked, tokenizer) for corpus in self.corpora
        )

    def _encoder(self, replayed: dict[str, Path], inputs: Mapping[str, str]) -> Step:
        config = self.config
        if config.pretraining.objective == "none":
            return self.base
        upstream = {"base": self.base}
        for place, (corpus, links) in enumerate(zip(self.corpora, self.links, strict=True)):
            upstream[f"corpus{place}"] = corpus
            if config.pretraining.uses_links:
                upstream[f"links{place}"] = links
        return Step(
            stage="encoder",
            version=encoder_version(config.pretraining, len(replayed)),
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
                at_most=config.at_most or None,
                replay_texts=replayed,
                licences=config.licences,
            ),
            upstream=upstream,
            inputs=inputs,
        )

    @property
    def retrieval(self) -> Step | None:
        """Sentence retrieval, where there are items."""
        return next((step for step in self.diagnostics if step.stage == "retrieval"), None)

    def ends(self) -> tuple[Step, ...]:
        """What the cell is run for; the cell is done when these are."""
        return (self.transfer, *self.diagnostics)

    def shared(self) -> tuple[Step, ...]:
        """What cells have in common and a study makes before its grid."""
        read = (*((self.items,) if self.items else ()), *self.questions.values())
        return (
            *read,
            *self.corpora,
            *self.links,
            self.base,
            self.tokens,
            self.sanity,
            *self.divergences,
        )


def _base_step(
    base: BaseConfig, vocabulary: VocabularyConfig | None, texts: Mapping[str, Path]
) -> Step:
    if base.model is not None:
        config = BaseStep(base=base, texts={})
        inputs = {}
        if (local := _model_folder(base.model)) is not None:
            base = base.model_copy(update={"model": LOCAL_MODEL})
            config = BaseStep(base=base, texts={}, folder=local.absolute())
            inputs = {"model": content_hash(local)}
        return Step(stage="base", version=1, config=config, inputs=inputs)
    inputs, read = _hashes(texts), dict(texts)
    words = VocabularyStep(vocabulary=vocabulary or VocabularyConfig(), texts=read)
    return Step(
        stage="base",
        version=1,
        config=BaseStep(base=base, texts=read),
        upstream={"vocabulary": Step(stage="vocabulary", version=1, config=words, inputs=inputs)},
        inputs=inputs,
    )


def _links_step(
    corpus: Step,
    alignment: AlignmentConfig,
    size: int | None,
    subset_seed: int | None,
    at_most: bool | None,
) -> Step:
    return Step(
        stage="links",
        version=1,
        config=LinksStep(alignment=alignment, size=size, subset_seed=subset_seed, at_most=at_most),
        upstream={"corpus": corpus},
    )


def _divergence_step(corpus: Step, asked: Step, tokenizer: Step) -> Step:
    assert isinstance(corpus.config, CorpusConfig)
    return Step(
        stage="divergence",
        version=1,
        config=DivergenceStep(
            source_language=corpus.config.source_language,
            target_language=corpus.config.target_language,
            segmenter=corpus.config.segmenter,
        ),
        upstream={"corpus": corpus, "asked": asked, "tokenizer": tokenizer},
    )


def _model_folder(name: str) -> Path | None:
    """The folder that a base is taken from; None for the name of one on the Hub.

    Raises:
        DataError: it can only be a folder and there is none, or no model lies in it.
    """
    path = Path(name)
    if not path.is_dir():
        # A name of the Hub is `model` or `owner/model`.
        if name.startswith((".", "~", "/")) or name.count("/") > 1:
            raise DataError(
                f"no such folder: {name}",
                place="base.model",
                cure="Name a save_pretrained folder, or a model of the Hugging Face Hub.",
            )
        return None
    if not (path / "config.json").is_file():
        raise DataError(
            f"no model lies in {name}: it has no config.json",
            place="base.model",
            cure="Name a save_pretrained folder, or a model of the Hugging Face Hub.",
        )
    return path


def corpus_step(
    config: CorpusConfig, items: Step | None, questions: Mapping[str, Step] | None = None
) -> Step:
    """A cleaned bitext; all evaluation data is upstream because overlap with it is dropped."""
    overlap = config.contamination
    looks = overlap.exact or overlap.ngram is not None
    read = {"items": items} if items is not None else {}
    read |= {f"questions:{name}": step for name, step in (questions or {}).items()}
    return Step(
        stage="corpus",
        version=CORPUS_VERSION,
        config=config,
        upstream=read if looks else {},
        inputs={role: content_hash(path) for role, path in config.files.items()},
    )


def _hashes(texts: Mapping[str, Path]) -> dict[str, str]:
    return {f"text:{language}": content_hash(path) for language, path in sorted(texts.items())}
