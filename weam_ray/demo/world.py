"""Writes the artificial world as the files that a user of real text has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from weam_ray.demo.grammar import FUNCTION_WORDS, GRAMMARS, Sentence, links, text
from weam_ray.demo.inference import LABELS, Items, make_items
from weam_ray.demo.lexicon import Ints, Inventory, Shape, spell, take_inventory
from weam_ray.demo.meaning import Rates, Speaker
from weam_ray.errors import ConfigError
from weam_ray.identity import StageConfig

SOURCE = "en"
DOMAINS = ("home", "court", "harbour")
Language = Literal["qaa", "qab", "qac"]
Share = Annotated[float, Field(ge=0)]


class WorldConfig(StageConfig):
    """The artificial world: what there is to say, how often, and how much of it is written down."""

    seed: int = Field(7, ge=0)
    """Of everything that is drawn."""
    languages: tuple[Language, ...] = Field(("qaa", "qab", "qac"), min_length=1)
    """Besides English."""

    kinds: int = Field(8, ge=4)
    """Hypernyms, used by every domain, all equally common."""
    core_nouns: int = Field(5, ge=1)
    """Leaf nouns of each kind that every domain uses."""
    own_nouns: int = Field(3, ge=0)
    """Leaf nouns of each kind that each domain has for itself."""
    verb_groups: int = Field(5, ge=2)
    """Groups of verbs, each with two opposite poles; words of one pole mean the same."""
    core_verbs: int = Field(5, ge=1)
    """Verbs of each pole that every domain uses."""
    own_verbs: int = Field(3, ge=0)
    """Verbs of each pole that each domain has for itself."""
    adjective_groups: int = Field(3, ge=2)
    """Groups of adjectives, as for verbs."""
    core_adjectives: int = Field(4, ge=1)
    """Adjectives of each pole that every domain uses."""
    own_adjectives: int = Field(2, ge=0)
    """Adjectives of each pole that each domain has for itself."""
    core_places: int = Field(4, ge=1)
    """Places that every domain uses."""
    own_places: int = Field(2, ge=0)
    """Places that each domain has for itself."""
    adverbs: int = Field(4, ge=1)
    """For each of the two moods."""
    names: int = Field(8, ge=1)
    """Spelled alike in all languages."""

    loanwords: float = Field(0.15, ge=0.0, le=1.0)
    """Share of concepts that all languages spell alike, besides names."""
    zipf: float = Field(1.0, ge=0.0, le=3.0)
    """Exponent of Zipf-Mandelbrot: p(rank) ∝ 1 / (rank + 2.7)^zipf within a class of words."""
    negation: float = Field(0.2, ge=0.0, le=1.0)
    """Share of sentences."""
    adjective: float = Field(0.4, ge=0.0, le=1.0)
    """Share of nouns that have one."""
    place: float = Field(0.1, ge=0.0, le=1.0)
    """Share of sentences."""
    adverb: float = Field(0.4, ge=0.0, le=1.0)
    """Share of sentences."""
    name: float = Field(0.1, ge=0.0, le=1.0)
    """Share of subjects of running text that are names."""
    kind: float = Field(0.25, ge=0.0, le=1.0)
    """Share of nouns of running text that are hypernyms."""
    repetition: float = Field(0.0, ge=0.0, le=1.0)
    """How often a word that keeps its sense in a second sentence is the same word again."""
    generalised: float = Field(0.8, ge=0.0, le=1.0)
    """How often a noun that is spoken of again is replaced by its hypernym."""
    coherence: float = Field(0.9, ge=0.0, le=1.0)
    """How often verbs, adjectives and adverbs of running text share their sentence's mood, and
    nouns are of a kind that the verb prefers. NLI items but statements have neither: a changed word
    must not jar with the rest."""
    restated: float = Field(1.0, ge=0.0, le=1.0)
    """Monolingual lines come in twos: how often the second says the first in other words. Else it
    says that someone else does the opposite."""

    mono_sentences: int = Field(12000, ge=1)
    """Sentences of monolingual text a language, the domains in equal parts."""
    pairs: int = Field(6000, ge=1)
    """Sentence pairs a domain and language pair."""
    train_items: int = Field(12000, ge=90)
    """English NLI items, about."""
    dev_items: int = Field(600, ge=90)
    """NLI items in every language, about."""
    test_items: int = Field(1200, ge=90)
    """NLI items in every language, about."""
    nli_domains: tuple[Share, Share, Share] = (0.6, 0.2, 0.2)
    """Shares of the NLI items that are about each domain: home, court, harbour."""
    statement_items: float = Field(0.7, ge=0.0)
    """Share of items that say all of it otherwise, the opposite, or something else."""
    verb_items: float = Field(0.1, ge=0.0)
    """Share of items decided by a verb; this and the next four need not sum to one."""
    adjective_items: float = Field(0.0, ge=0.0)
    """Share of items decided by an adjective."""
    negation_items: float = Field(0.05, ge=0.0)
    """Share of items decided by negation."""
    noun_items: float = Field(0.1, ge=0.0)
    """Share of items decided by a noun's kind."""
    modifier_items: float = Field(0.05, ge=0.0)
    """Share of items decided by an added or dropped adjective."""

    @model_validator(mode="after")
    def _there_is_something_to_ask(self) -> Self:
        if not any(self.phenomena().values()):
            raise ConfigError(
                "every share of the NLI phenomena is 0, so there are no items",
                place="world.statement_items",
                cure="Set one of the *_items shares above 0.",
            )
        if not any(self.nli_domains):
            raise ConfigError(
                "every domain's share of the NLI items is 0, so there are none",
                place="world.nli_domains",
                cure="Set one above 0: [0.6, 0.2, 0.2].",
            )
        return self

    def shape(self) -> Shape:
        """How many concepts there are."""
        counts = {name: getattr(self, name) for name in Shape.__annotations__ if name != "domains"}
        return Shape(domains=len(DOMAINS), **counts)

    def rates(self) -> Rates:
        """How often optional things are said."""
        return Rates(**{name: getattr(self, name) for name in Rates.__annotations__})

    def phenomena(self) -> dict[str, float]:
        """Shares of the NLI phenomena, by name."""
        names = ("statement", "verb", "adjective", "negation", "noun", "modifier")
        return {name: getattr(self, f"{name}_items") for name in names}


def write_world(config: WorldConfig, out: Path) -> dict[str, Any]:
    """Write all files of the world below ``out`` and return their counts.

    - ``mono/mono.<lang>.txt``: one sentence a line.
    - ``parallel/<domain>.en-<lang>.<side>``: line-aligned sentences, words parted by spaces.
    - ``gold/<domain>.en-<lang>.talp``: the true links, 0-based ``i-j``, a line per pair.
    - ``nli/nli.train.en.jsonl``, ``nli/nli.{dev,test}.<lang>.jsonl``: ``premise``, ``hypothesis``,
      ``label``; line i is the same item in every language.

    Raises:
        ConfigError: the counts asked for can't make balanced items.
    """
    world = _World(config, out)
    world.write_monolingual()
    world.write_parallel()
    world.write_items()
    return world.facts


class _World:
    def __init__(self, config: WorldConfig, out: Path) -> None:
        self.config, self.out = config, Path(out)
        self.inventory: Inventory = take_inventory(config.shape())
        taken = {word for words in FUNCTION_WORDS.values() for word in words}
        languages = (SOURCE, *config.languages)
        self.stems = spell(self.inventory, languages, config.seed, config.loanwords, taken)
        self.facts: dict[str, Any] = {"concepts": self.inventory.concepts}

    def speaker(self, *key: int) -> Speaker:
        """A speaker of its own for each file: one file's size changes no other file."""
        draw = np.random.default_rng([self.config.seed, *key])
        return Speaker(self.inventory, self.config.rates(), draw)

    def say(self, meanings: Ints, language: str) -> list[Sentence]:
        grammar, stems = GRAMMARS[language], self.stems[language]
        return [grammar(meaning, stems) for meaning in meanings.tolist()]

    def write_monolingual(self) -> None:
        for number, language in enumerate(self.stems):
            speaker = self.speaker(1, number)
            size = -(-self.config.mono_sentences // (2 * len(DOMAINS)))
            passages = [
                passage
                for domain in range(len(DOMAINS))
                for passage in self._passages(speaker, domain, size, language)
            ]
            order = speaker.draw.permutation(len(passages))
            lines = [line for number in order for line in passages[number]]
            lines = lines[: self.config.mono_sentences]
            _write_lines(self.out / "mono" / f"mono.{language}.txt", lines)
            self.facts[f"mono/{language}"] = len(lines)

    def _passages(
        self, speaker: Speaker, domain: int, size: int, language: str
    ) -> Iterable[tuple[str, str]]:
        """Running text: a sentence, and one that says the same again, or the opposite."""
        first = speaker.sentences(domain, size)
        opposed = 1 - speaker.happens(self.config.restated, size).astype(np.int64)
        second = speaker.restated(first, domain, opposed)
        for one, other in zip(self.say(first, language), self.say(second, language), strict=True):
            yield text(one), text(other)

    def write_parallel(self) -> None:
        for number, language in enumerate(self.config.languages):
            for domain, name in enumerate(DOMAINS):
                meanings = self.speaker(2, number, domain).sentences(domain, self.config.pairs)
                sources, targets = self.say(meanings, SOURCE), self.say(meanings, language)
                stem = f"{name}.{SOURCE}-{language}"
                for side, sentences in ((SOURCE, sources), (language, targets)):
                    _write_lines(self.out / "parallel" / f"{stem}.{side}", map(text, sentences))
                gold = [links(s, t) for s, t in zip(sources, targets, strict=True)]
                _write_lines(self.out / "gold" / f"{stem}.talp", map(_pharaoh, gold))
                self.facts[f"pairs/{stem}"] = len(meanings)

    def write_items(self) -> None:
        sizes = {
            "train": self.config.train_items,
            "dev": self.config.dev_items,
            "test": self.config.test_items,
        }
        for number, (split, size) in enumerate(sizes.items()):
            speaker = self.speaker(3, number)
            parts = [
                make_items(speaker, domain, round(size * share), self.config.phenomena())
                for domain, share in enumerate(self.config.nli_domains)
                if share
            ]
            for language in [SOURCE] if split == "train" else self.stems:
                lines = (line for items in parts for line in self._jsonl(items, language))
                _write_lines(self.out / "nli" / f"nli.{split}.{language}.jsonl", lines)
            self.facts[f"items/{split}"] = sum(len(items) for items in parts)

    def _jsonl(self, items: Items, language: str) -> Iterable[str]:
        premises = self.say(items.premises, language)
        hypotheses = self.say(items.hypotheses, language)
        for premise, hypothesis, label in zip(premises, hypotheses, items.labels, strict=True):
            item = {
                "premise": text(premise),
                "hypothesis": text(hypothesis),
                "label": LABELS[label],
            }
            yield json.dumps(item, ensure_ascii=False)


def _pharaoh(pairs: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{i}-{j}" for i, j in pairs)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
