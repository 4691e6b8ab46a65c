"""Simulated studies with known effects, for tests and for benchmarks/claims.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.study.results import Correctness, Results, tidy_rows

Row = dict[str, object]


def no_gain(method: str, size: int, pair: str) -> float:
    return 0.0


def planted(per_doubling: float, smallest: int = 1000) -> Callable[[str, int, str], float]:
    """WEAM and TLM gain alike: ``per_doubling`` each time the size doubles, from one at 1,000."""

    def gain(method: str, size: int, pair: str) -> float:
        if method in ("none", "random") or not size or "shuffled" in method:
            return 0.0
        return per_doubling * (np.log2(size / smallest) + 1)

    return gain


@dataclass(frozen=True, kw_only=True)
class World:
    """What a simulated study is drawn from. Sizes of effects are shares."""

    pairs: tuple[str, ...] = ("en-qaa", "en-qab")
    domains: tuple[str, ...] = ("medical",)
    sizes: tuple[int, ...] = (1000, 4000, 16000)
    methods: tuple[str, ...] = ("tlm", "weam", "weam-shuffled-links")
    seeds: int = 3
    items: int = 400
    languages: tuple[str, ...] = ("en", "qaa", "qab")
    base: float = 0.45
    gain: Callable[[str, int, str], float] = field(default=no_gain)
    seed_sd: float = 0.01
    baseline_seed_sd: float | None = None
    """Spread of ``none`` between seeds where it is another than the others'."""
    item_sd: float = 1.0
    """Spread of how items take to one system rather than another (logits, same in every seed)."""
    random_row: bool = False
    split: str = "test"
    selection: str = "source-dev"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Rows, gold labels and predicted labels by (cell, language)."""

    rows: list[Row]
    gold: np.ndarray
    predicted: dict[tuple[str, str], np.ndarray]
    world: World

    def results(self) -> Results:
        """As if read from files."""
        correct = Correctness()
        world = self.world
        correct.positions["nli", world.split] = {f"i{k}": k for k in range(world.items)}
        for (cell, language), labels in self.predicted.items():
            key = (cell, "nli", language, world.split, world.selection)
            correct.arrays[key] = (labels == self.gold).astype(np.int8)
        return Results(rows=tidy_rows(self.rows), correct=correct)

    def write(self, root: Path) -> list[Row]:
        """Predictions files under ``root`` and the rows that name them."""
        world = self.world
        items = np.array([f"i{k}" for k in range(world.items)])
        for cell in dict.fromkeys(str(row["cell"]) for row in self.rows):
            languages = [lang for c, lang in self.predicted if c == cell]
            n = world.items * len(languages)
            table = pa.table(
                {
                    "task": ["nli"] * n,
                    "language": np.repeat(languages, world.items),
                    "split": [world.split] * n,
                    "selection": [world.selection] * n,
                    "item": np.tile(items, len(languages)),
                    "gold": np.tile(self.gold, len(languages)),
                    "predicted": np.concatenate([self.predicted[cell, x] for x in languages]),
                }
            )
            (root / cell).mkdir(parents=True)
            pq.write_table(table, root / cell / "predictions.parquet")
        return [{**row, "predictions": f"{row['cell']}/predictions.parquet"} for row in self.rows]


def simulate(world: World, seed: int = 0) -> Answers:
    """One study drawn from a world."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, 3, world.items).astype(np.int8)
    rows: list[Row] = []
    predicted: dict[tuple[str, str], np.ndarray] = {}
    ease = random.normal(0, 1.5, world.items)
    for kind in _kinds(world):
        taste = {
            lang: ease + random.normal(0, world.item_sd, world.items) for lang in world.languages
        }
        for number in range(world.seeds):
            own = world.seed_sd if kind[3] != "none" else world.baseline_seed_sd
            shift = random.normal(0, world.seed_sd if own is None else own)
            _one_cell(world, kind, number, shift, taste, gold, random, rows, predicted)
    return Answers(rows=rows, gold=gold, predicted=predicted, world=world)


def _kinds(world: World) -> list[tuple[str, str, int, str]]:
    alone = ["none", *(["random"] if world.random_row else [])]
    return [("", "", 0, method) for method in alone] + [
        (domain, pair, size, method)
        for domain in world.domains
        for pair in world.pairs
        for size in world.sizes
        for method in world.methods
    ]


def _one_cell(
    world: World,
    kind: tuple[str, str, int, str],
    number: int,
    shift: float,
    taste: dict[str, np.ndarray],
    gold: np.ndarray,
    random: np.random.Generator,
    rows: list[Row],
    predicted: dict[tuple[str, str], np.ndarray],
) -> None:
    domain, pair, size, method = kind
    bitext = method not in ("none", "random")
    cell = f"transfer/{domain}.{pair}.{size}.{method}.{number}".replace("/.", "/-.")
    for language in world.languages:
        wanted = world.base + shift + (0.15 if language == "en" else 0.0)
        if bitext and language in pair.split("-") and language != "en":
            wanted += world.gain(method, size, pair)
        right = random.random(world.items) < chances(taste[language], wanted)
        wrong = (gold + random.integers(1, 3, world.items)) % 3
        labels = np.where(right, gold, wrong).astype(np.int8)
        predicted[cell, language] = labels
        shares = np.bincount(labels, minlength=3) / world.items
        rows.append(
            {
                "cell": cell,
                "domain": domain,
                "pair": pair,
                "size": size,
                "method": method,
                "regime": "pool" if bitext else "",
                "subset_seed": number if bitext else -1,
                "pretraining_seed": number if bitext else -1,
                "finetuning_seed": number,
                "task": "nli",
                "language": language,
                "split": world.split,
                "selection": world.selection,
                "value": float(right.mean()),
                "n": world.items,
                "share_0": shares[0],
                "share_1": shares[1],
                "share_2": shares[2],
                "steps": 100 if bitext else 0,
                "epochs": 3200 / size if size else 0.0,
                "seconds": 12.5,
            }
        )


def chances(taste: np.ndarray, wanted: float | np.ndarray) -> np.ndarray:
    """Per-item chances whose population mean is ``wanted``, whatever the items drawn.

    Chances are a fixed function of the item's taste, moved by a constant, so that an effect of d
    is d on average over items and seeds: the truth that intervals are held to.
    """
    spread = 0.35 * np.tanh(taste / 2)  # odd in taste: mean 0 over the population
    return np.clip(wanted + spread, 0.0, 1.0)
