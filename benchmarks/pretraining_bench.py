"""What ``pretraining.py`` works with: a bitext, base encoders, runs of this project."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from weam_ray.artifacts import Resources
from weam_ray.pretraining import BaseConfig, PairSet, PretrainingConfig, load_tokenizer, pretrain
from weam_ray.pretraining.base import save
from weam_ray.pretraining.encoder import new_model


@dataclass(frozen=True)
class Bench:
    """What every section works with."""

    pairs: PairSet
    tokenizer_dir: Path
    folder: Path
    steps: int
    long_steps: int
    """Of a curve that is to be seen flatten out."""
    rounds: int
    vocabularies: tuple[int, ...]
    shape: dict[str, int]
    precisions: tuple[str, ...]
    threads: int
    device: str

    def base(self, vocabulary: int, **shape: int) -> Path:
        """A random BERT of this many entries, of the bench's shape unless said otherwise."""
        shape = shape or self.shape
        out = self.folder / f"base-{vocabulary}-{'-'.join(map(str, shape.values()))}"
        if not out.exists():
            torch.manual_seed(0)
            tokenizer = load_tokenizer(self.tokenizer_dir)
            model = new_model(BaseConfig(**shape), tokenizer)
            model.resize_token_embeddings(vocabulary, mean_resizing=False)
            save(model, tokenizer, out)
        return out

    def work(self) -> list[tuple[int, int]]:
        """Vocabularies and the steps to measure them with: mBERT's costs several times more."""
        fewer = max(self.steps // 4, 10)
        return [(size, fewer if size > 50_000 else self.steps) for size in self.vocabularies]

    def ours(self, base: Path, steps: int | None = None, **settings: Any) -> dict[str, Any]:
        """A run of this project: facts, with the curve by metric."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        config = PretrainingConfig(
            **{
                "steps": steps or self.steps,
                "log_every": max((steps or self.steps) // 10, 1),
                "warmup_share": 0.0,
                "learning_rate": 5e-4,
                **settings,
            }
        )
        resources = Resources(threads=self.threads, device=self.device)
        facts = pretrain(base, [self.pairs], config, out, resources=resources)
        facts["curve"] = curve(out)
        # The first window warms caches and allocators up.
        speeds = [value for _, value in facts["curve"]["tokens_per_second"][1:]]
        facts["speed"] = len(speeds) / sum(1 / speed for speed in speeds)
        return facts


def curve(folder: Path) -> dict[str, list[tuple[int, float]]]:
    metrics: dict[str, list[tuple[int, float]]] = {}
    for row in pq.read_table(folder / "curve.parquet").to_pylist():
        metrics.setdefault(row["metric"], []).append((row["step"], row["value"]))
    return metrics


def artificial(pairs: int) -> PairSet:
    """Zipf words, log-normal lengths (median 18 words), targets reordered locally, 9 % unlinked."""
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    lexicon = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(30_000)]
    shares = 1 / np.arange(10, 30_010)
    lengths = np.clip(rng.lognormal(np.log(18), 0.6, pairs).astype(int), 3, 100)
    names = ("source", "target", "source_spans", "target_spans", "links")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    drawn = np.split(
        rng.choice(30_000, lengths.sum(), p=shares / shares.sum()), np.cumsum(lengths)[:-1]
    )
    for words in drawn:
        order = np.argsort(np.arange(len(words)) + rng.uniform(0, 4, len(words)))
        kept = [(int(i), j) for j, i in enumerate(order) if rng.random() > 0.09]
        for name, texts in (
            ("source", [lexicon[word] for word in words]),
            ("target", [lexicon[words[i]].upper() for i in order]),
        ):
            ends = np.cumsum([len(text) + 1 for text in texts]) - 1
            begins = ends - [len(text) for text in texts]
            rows[name].append(" ".join(texts))
            rows[f"{name}_spans"].append(np.stack([begins, ends], 1).ravel().tolist())
        rows["links"].append([number for link in kept for number in link])
    ids = pa.array(np.arange(pairs), pa.uint64())
    lists = pa.list_(pa.int32())
    table = {
        name: pa.array(rows[name], lists) if "spans" in name else rows[name] for name in names[:4]
    }
    links = pa.table({"pair_id": ids, "links": pa.array(rows["links"], lists)})
    return PairSet(
        name="artificial",
        source="qaa",
        target="qab",
        pairs=pa.table({"pair_id": ids, **table}),
        links=links,
    )


def real(source: Path, target: Path, languages: list[str], limit: int) -> PairSet:
    from weam_ray.alignment import AlignmentConfig, align_table
    from weam_ray.corpus import CorpusConfig, build_corpus, read_corpus, write_corpus

    config = CorpusConfig(
        domain="bitext",
        source_language=languages[0],
        target_language=languages[1],
        source=source,
        target=target,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(build_corpus(config), Path(folder))
        pairs = read_corpus(Path(folder)).slice(0, limit)
    links, _ = align_table(pairs, AlignmentConfig())
    name = f"{source.name.split('.')[0]} {'-'.join(languages)}"
    return PairSet(name=name, source=languages[0], target=languages[1], pairs=pairs, links=links)
