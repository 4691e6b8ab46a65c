"""The artificial world is deterministic, in real formats, and its answers are true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import DEMO

from weam_ray.demo import WorldConfig, write_world
from weam_ray.demo.grammar import GRAMMARS, links, text
from weam_ray.demo.lexicon import take_inventory
from weam_ray.demo.meaning import Speaker
from weam_ray.errors import ConfigError
from weam_ray.identity import content_hash
from weam_ray.study.reading import read_study

LANGUAGES = ("en", "qaa", "qab", "qac")
SHARES = [f"{name}_items" for name in WorldConfig().phenomena()]
SMALL = WorldConfig(mono_sentences=300, pairs=300, train_items=3000, dev_items=300, test_items=3000)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_world(SMALL, out)
    return out


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf8").splitlines()


def items(world: Path, split: str, language: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in lines(world / "nli" / f"nli.{split}.{language}.jsonl")]


def test_same_seed_same_bytes_other_seed_other_world(world: Path, tmp_path: Path) -> None:
    write_world(SMALL, tmp_path / "again")
    write_world(SMALL.model_copy(update={"seed": 8}), tmp_path / "other")
    assert content_hash(tmp_path / "again") == content_hash(world)
    assert content_hash(tmp_path / "other") != content_hash(world)


def test_the_world_is_the_same_in_every_process(world: Path, tmp_path: Path) -> None:
    """Python's own hashes of strings differ from process to process; no file may follow them."""
    code = (
        "import sys; from pathlib import Path; from weam_ray.demo import WorldConfig, write_world;"
        "write_world(WorldConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = [sys.executable, "-c", code, SMALL.model_dump_json(), str(out)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
        assert content_hash(out) == content_hash(world)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nli_domains": (0, 0, 0)}, "every domain's share"),
        (dict.fromkeys(SHARES, 0), "every share of the NLI phenomena is 0"),
    ],
)
def test_a_world_without_items_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WorldConfig(**changes)


def test_too_few_items_for_every_label_are_refused(tmp_path: Path) -> None:
    few = SMALL.model_copy(update={"nli_domains": (1.0, 1e-4, 0.0)})
    with pytest.raises(ConfigError, match="too few for every label"):
        write_world(few, tmp_path)


def test_more_pairs_leave_items_as_they_are(world: Path, tmp_path: Path) -> None:
    write_world(SMALL.model_copy(update={"pairs": 400}), tmp_path)
    assert content_hash(tmp_path / "nli") == content_hash(world / "nli")


def test_counts_are_those_asked_for(world: Path) -> None:
    for language in LANGUAGES:
        assert len(lines(world / "mono" / f"mono.{language}.txt")) == 300
    for language in LANGUAGES[1:]:
        for domain in ("home", "court", "harbour"):
            stem = f"{domain}.en-{language}"
            for path in (f"parallel/{stem}.en", f"parallel/{stem}.{language}", f"gold/{stem}.talp"):
                assert len(lines(world / path)) == 300


def test_gold_links_stay_inside_their_sentences_and_off_the_diagonal(world: Path) -> None:
    for language in LANGUAGES[1:]:
        stem = f"home.en-{language}"
        sources = lines(world / "parallel" / f"{stem}.en")
        targets = lines(world / "parallel" / f"{stem}.{language}")
        gold = lines(world / "gold" / f"{stem}.talp")
        crossed = 0
        for source, target, row in zip(sources, targets, gold, strict=True):
            pairs = [tuple(map(int, link.split("-"))) for link in row.split()]
            assert pairs and all(
                i < len(source.split()) and j < len(target.split()) for i, j in pairs
            )
            crossed += [j for _, j in pairs] != sorted(j for _, j in pairs)
        assert crossed > 150, f"{language} says things in English order"


def test_some_links_are_one_to_many(world: Path) -> None:
    for language in ("qaa", "qac"):
        rows = lines(world / "gold" / f"home.en-{language}.talp")
        targets = [[link.split("-")[1] for link in row.split()] for row in rows]
        assert sum(len(row) != len(set(row)) for row in targets) > 30


def test_links_join_what_means_the_same() -> None:
    inventory = take_inventory(SMALL.shape())
    speaker = Speaker(inventory, SMALL.rates(), np.random.default_rng(0))
    stems = [f"w{number}" for number in range(inventory.concepts)]
    for meaning in speaker.sentences(0, 200).tolist():
        english = GRAMMARS["en"](meaning, stems)
        for language in LANGUAGES[1:]:
            other = GRAMMARS[language](meaning, stems)
            slow = [
                (i, j)
                for i, (_, units) in enumerate(english)
                for j, (_, others) in enumerate(other)
                if set(units) & set(others)
            ]
            assert links(english, other) == slow
            said = {unit for _, units in english for unit in units}
            assert said == {unit for _, units in other for unit in units}, text(other)


def test_without_loanwords_languages_share_names_and_nothing_else(tmp_path: Path) -> None:
    world = tmp_path
    write_world(SMALL.model_copy(update={"loanwords": 0.0}), world)
    words = {
        language: {
            word for line in lines(world / "mono" / f"mono.{language}.txt") for word in line.split()
        }
        for language in LANGUAGES
    }
    for one in LANGUAGES:
        for other in LANGUAGES:
            if one < other:
                shared = words[one] & words[other]
                assert all(word.istitle() for word in shared), shared
                assert shared or other == "qac", "qac's names carry its subject suffix"


def words(path: Path) -> set[str]:
    return {word for line in lines(path) for word in line.split()}


def test_domains_share_some_of_their_words(world: Path) -> None:
    home, court = (words(world / f"parallel/{name}.en-qaa.en") for name in ("home", "court"))
    assert 0.2 < len(home & court) / len(home | court) < 0.9


def test_each_domain_of_the_shipped_world_has_words_of_its_own(tmp_path: Path) -> None:
    shipped = read_study(DEMO).world
    assert shipped is not None
    write_world(shipped.model_copy(update={"mono_sentences": 1, "train_items": 90}), tmp_path)
    for language in LANGUAGES[1:]:
        for side in ("en", language):
            domains = [
                words(tmp_path / "parallel" / f"{domain}.en-{language}.{side}")
                for domain in ("home", "court", "harbour")
            ]
            shared = set.intersection(*domains)
            for own in domains:
                others = set.union(*(one for one in domains if one is not own))
                assert len(own - others) > 10 and len(shared) > 20


def test_item_i_is_the_same_in_every_language(world: Path) -> None:
    for split in ("dev", "test"):
        english = [item["label"] for item in items(world, split, "en")]
        for language in LANGUAGES[1:]:
            assert [item["label"] for item in items(world, split, language)] == english


def test_labels_are_balanced(world: Path) -> None:
    for split in ("train", "dev", "test"):
        shares = Counter(item["label"] for item in items(world, split, "en"))
        assert len(shares) == 3 and max(shares.values()) == min(shares.values())
