"""How much work a step is: optimiser steps, tokens and arithmetic, from its settings alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from weam_ray.artifacts import Artifact, Step, Store
from weam_ray.corpus.config import CorpusConfig
from weam_ray.errors import WeamError
from weam_ray.experiment import BaseStep, EncoderStep, LinksStep, VocabularyStep
from weam_ray.identity import StageConfig
from weam_ray.study.item_counts import Counts, count_files, count_made, total
from weam_ray.transfer.config import FineTuningConfig, TransferConfig
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import QaConfig

_CONFIGS: Mapping[str, type[StageConfig]] = {
    "items": ItemsConfig,
    "corpus": CorpusConfig,
    "links": LinksStep,
    "vocabulary": VocabularyStep,
    "base": BaseStep,
    "encoder": EncoderStep,
    "transfer": TransferConfig,
    "reader": QaConfig,
}
TRAINING = ("base", "encoder", "transfer", "reader")
"""Stages whose time is that of an encoder's forward and backward passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an encoder's speed and size follow from."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Weights of all layers: four projections and the two feed-forward matrices of each."""
        return self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)

    @property
    def weights(self) -> int:
        """Weights with the embeddings (shared with the head)."""
        return self.layer_weights + self.vocabulary * self.hidden

    def training_flops(self, tokens: float, predicted: float = 0.0) -> float:
        """Arithmetic of forward and backward passes: 6 a weight and token (Kaplan et al. 2020,
        section 2.1), and the head's at the predicted positions alone.
        """
        return 6.0 * (tokens * self.layer_weights + predicted * self.vocabulary * self.hidden)


HUB_SHAPES: Mapping[str, Shape] = {
    "bert-base-multilingual-cased": Shape(
        layers=12, hidden=768, intermediate=3072, vocabulary=119_547
    ),
    "xlm-roberta-base": Shape(layers=12, hidden=768, intermediate=3072, vocabulary=250_002),
}
"""Encoders that are known before they are fetched, by their name on the hub without its owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work of one step; None where its settings don't say."""

    optimiser_steps: int | None = None
    tokens: int | None = None
    """At most: rows are counted at their full length."""
    shape: Shape | None = None
    amount: float | None = 1.0
    """What seconds are proportional to: arithmetic of training stages, bytes of bitext for corpora
    and links, 1 for the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A step of the plan, or one that a record of the store tells of."""

    stage: str
    config: StageConfig
    upstream: Mapping[str, str]
    """Addresses by name."""


class Workbook:
    """Workloads by address, of steps to come and of steps recorded."""

    def __init__(self, steps: Mapping[str, Step], store: Store) -> None:
        self._steps = steps
        self._store = store
        self._entries: dict[str, Entry | None] = {}
        self._shapes: dict[str, Shape | None] = {}
        self._items: dict[str, Counts | None] = {}

    def workload(self, address: str) -> Workload:
        """The work of a step; an empty one when nothing is known of it."""
        entry = self.entry(address)
        if entry is None:
            return Workload(amount=None)
        if isinstance(entry.config, BaseStep):
            return self._base(address, entry.config)
        if isinstance(entry.config, EncoderStep):
            return self._encoder(entry, entry.config)
        if isinstance(entry.config, TransferConfig):
            return self._transfer(entry, entry.config)
        if isinstance(entry.config, QaConfig):
            return self._reader(entry, entry.config)
        if entry.stage in ("corpus", "links"):
            return Workload(amount=self._bitext_bytes(address))
        return Workload()

    def entry(self, address: str) -> Entry | None:
        """What is known of an address."""
        if address not in self._entries:
            self._entries[address] = self._look(address)
        return self._entries[address]

    def _look(self, address: str) -> Entry | None:
        if (step := self._steps.get(address)) is not None:
            upstream = {name: needed.address for name, needed in step.upstream.items()}
            return Entry(stage=step.stage, config=step.config, upstream=upstream)
        stage = address.partition("/")[0]
        found = self._store.find(address)
        if found is None:
            return None
        try:
            config = _CONFIGS.get(stage, StageConfig).model_validate(_settings(found, stage))
        except (ValidationError, WeamError):  # written by another version of the stage
            return None
        return Entry(stage=stage, config=config, upstream=found.record["upstream"])

    def _base(self, address: str, config: BaseStep) -> Workload:
        shape, base = self.shape(address), config.base
        if base.model is not None:
            return Workload(shape=shape, optimiser_steps=0, tokens=0, amount=None)
        steps = self._recorded_steps(address) if base.steps is None else base.steps
        return _training(shape, steps, base.batch_size * base.max_length, base.masking_rate)

    def _encoder(self, entry: Entry, config: EncoderStep) -> Workload:
        training = config.pretraining
        rows = self._rows(entry, config)
        own_rows = training.batch_size * (1.0 - training.replay_share)
        steps = training.steps
        if steps is None and rows is not None:
            steps = training.planned_steps(rows, own_rows)
        shape = self.shape(entry.upstream["base"])
        tokens = training.batch_size * training.max_length
        return _training(shape, steps, tokens, training.masking_rate)

    def _rows(self, entry: Entry, config: EncoderStep) -> int | None:
        if config.size is not None:
            return config.size * len(config.sets)
        corpora = [
            self._store.find(address)
            for name, address in entry.upstream.items()
            if name.startswith("corpus")
        ]
        kept = [int(found.facts["rows_kept"]) for found in corpora if found is not None]
        return sum(kept) if len(kept) == len(corpora) else None

    def _transfer(self, entry: Entry, config: TransferConfig) -> Workload:
        shape = self.shape(entry.upstream["encoder"])
        items = self._item_counts(entry)
        if items is None:
            return _training(shape, config.steps, config.batch_size * config.max_length)
        return _fine_tuned(shape, config, items)

    def _reader(self, entry: Entry, config: QaConfig) -> Workload:
        shape = self.shape(entry.upstream["encoder"])
        windows = self._store.find(entry.upstream["windows"])
        if windows is None:  # how many windows the contexts make is not known before they are cut
            return _training(shape, config.steps, config.batch_size * config.max_length)
        counts: dict[tuple[str, str], int] = {}
        for name, count in windows.facts["by_split"].items():
            split, _, language = name.partition("/")
            counts[split, language] = count
        return _fine_tuned(shape, config, counts)

    def _item_counts(self, entry: Entry) -> Counts | None:
        tokens = self.entry(entry.upstream.get("tokens", ""))
        address = tokens.upstream.get("items", "") if tokens else ""
        if address not in self._items:
            self._items[address] = self._count_items(address)
        return self._items[address]

    def _count_items(self, address: str) -> Counts | None:
        entry = self.entry(address)
        if entry is None or not isinstance(entry.config, ItemsConfig):
            return None
        made = self._store.find(address)
        return count_files(entry.config) if made is None else count_made(made)

    def shape(self, address: str) -> Shape | None:
        """The encoder that a base or encoder step ends with."""
        if address not in self._shapes:
            self._shapes[address] = self._shape(address)
        return self._shapes[address]

    def _shape(self, address: str) -> Shape | None:
        entry = self.entry(address)
        if entry is None:
            return None
        if not isinstance(entry.config, BaseStep):
            return self.shape(entry.upstream["base"]) if "base" in entry.upstream else None
        base = entry.config.base
        if entry.config.folder is not None:
            return _folder_shape(entry.config.folder)
        if base.model is not None:
            return HUB_SHAPES.get(base.model.rpartition("/")[2])
        vocabulary = self.entry(entry.upstream["vocabulary"])
        if vocabulary is None or not isinstance(vocabulary.config, VocabularyStep):
            return None
        return Shape(
            layers=base.layers,
            hidden=base.hidden,
            intermediate=base.intermediate,
            vocabulary=vocabulary.config.vocabulary.size,
        )

    def _bitext_bytes(self, address: str) -> float | None:
        entry = self.entry(address)
        if entry is not None and isinstance(entry.config, LinksStep):
            entry = self.entry(entry.upstream["corpus"])
        if entry is None or not isinstance(entry.config, CorpusConfig):
            return None
        files = entry.config.files.values()
        return float(sum(path.stat().st_size for path in files if path.exists())) or None

    def _recorded_steps(self, address: str) -> int | None:
        found = self._store.find(address)
        return int(found.facts["steps"]) if found and "steps" in found.facts else None


def _folder_shape(folder: Path) -> Shape | None:
    """The shape that a model's own settings tell of; None where they are of another kind."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf8"))
        return Shape(
            layers=settings["num_hidden_layers"],
            hidden=settings["hidden_size"],
            intermediate=settings["intermediate_size"],
            vocabulary=settings["vocab_size"],
        )
    except (OSError, ValueError, KeyError):
        return None


def _settings(artifact: Artifact, stage: str) -> dict[str, object]:
    settings: dict[str, object] = artifact.record["config"] if stage in _CONFIGS else {}
    return settings


def _fine_tuned(shape: Shape | None, config: FineTuningConfig, counts: Counts) -> Workload:
    """Training on the languages of the setting, and reading dev and test of those evaluated."""

    def a_pass(rows: int) -> int:
        return math.ceil(rows / config.batch_size)

    own = a_pass(total(counts, "train", config.source_languages))
    steps = config.steps or max(1, math.ceil(config.epochs * own))
    if config.setting == "few-shot":
        shots = a_pass(config.few_shot_items * len(config.taught))
        steps += math.ceil(config.few_shot_epochs * shots)
    read = config.evaluated_languages
    # A reader's "de-en" is a German context with an English question.
    names = {
        name
        for _, name in counts
        if read is None or name in read or read.issuperset(name.split("-", 1))
    }
    dev, test = (total(counts, split, names) for split in ("dev", "test"))
    training = _training(shape, steps, config.batch_size * config.max_length)
    if training.amount is None or shape is None:
        return training
    # A forward pass alone is a third of the arithmetic of a training step.
    tokens = (dev * config.evaluations + test) * config.max_length
    return replace(training, amount=training.amount + shape.training_flops(tokens) / 3.0)


def _training(
    shape: Shape | None, steps: int | None, tokens_a_step: int, predicted_share: float = 0.0
) -> Workload:
    if steps is None:
        return Workload(shape=shape, amount=None)
    tokens = steps * tokens_a_step
    return Workload(
        optimiser_steps=steps,
        tokens=tokens,
        shape=shape,
        amount=None if shape is None else shape.training_flops(tokens, tokens * predicted_share),
    )
