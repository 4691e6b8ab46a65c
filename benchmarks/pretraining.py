"""Pre-training measured side by side with the Hugging Face Trainer; results go into a document.

    python benchmarks/pretraining.py --source x.en.gz --target x.de.gz --languages en de
    python benchmarks/pretraining.py --only gpu --device cuda

Without a bitext an artificial one with Zipf words and real length variation is used. Contenders
take turns within one run, so that a busy machine slows both. Needs torch, transformers, numpy and
pyarrow; the Trainer needs accelerate (`pip install accelerate`), and a bitext numba to align it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.multiprocessing as mp

from weam_ray.artifacts import Resources, package_versions
from weam_ray.pretraining import (
    BaseConfig,
    DistributedContext,
    PairSet,
    PretrainingConfig,
    VocabularyConfig,
    load_model,
    load_tokenizer,
    pretrain,
    train_vocabulary,
)
from weam_ray.pretraining.base import save
from weam_ray.pretraining.encoder import new_model

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

FULL = dict(layers=4, hidden=256, heads=4, intermediate=1024)
QUICK = dict(layers=2, hidden=64, heads=2, intermediate=256)


@dataclass(frozen=True)
class Bench:
    """What every section works with."""

    pairs: PairSet
    tokenizer_dir: Path
    folder: Path
    steps: int
    rounds: int
    vocabularies: tuple[int, int]
    shape: dict[str, int]
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

    def work(self) -> tuple[tuple[int, int], ...]:
        """Vocabularies and the steps to measure them with: mBERT's costs several times more."""
        small, large = self.vocabularies
        return (small, self.steps), (large, max(self.steps // 4, 10))

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
    from weam_ray.corpus import CorpusConfig, build_corpus

    config = CorpusConfig(
        domain="bitext",
        source_language=languages[0],
        target_language=languages[1],
        source=source,
        target=target,
    )
    pairs = build_corpus(config).pairs.slice(0, limit)
    links, _ = align_table(pairs, AlignmentConfig())
    name = f"{source.name.split('.')[0]} {'-'.join(languages)}"
    return PairSet(name=name, source=languages[0], target=languages[1], pairs=pairs, links=links)


# The Hugging Face side: TLM as its users write it ---------------------------------------------


def trainer_run(
    bench: Bench, base: Path, steps: int, bf16: bool = False, batch: int = 32
) -> dict[str, Any]:
    """The Trainer with the standard collator on tokenised pairs: speed and losses by step."""
    import transformers

    tokenizer = load_tokenizer(base)
    table = bench.pairs.pairs
    tokenised = tokenizer(
        table["source"].to_pylist(), table["target"].to_pylist(), truncation=True, max_length=128
    )
    rows = [dict(zip(tokenised, row, strict=True)) for row in zip(*tokenised.values(), strict=True)]
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    counted: list[int] = []

    def counting(features: list[dict[str, Any]]) -> Any:
        counted.append(sum(len(feature["input_ids"]) for feature in features))
        return collate(features)

    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if bench.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(bench.folder / "trainer"),
        max_steps=steps,
        bf16=bf16,
        per_device_train_batch_size=batch,
        learning_rate=5e-4,
        weight_decay=0.01,
        report_to=[],
        save_strategy="no",
        logging_steps=max(steps // 10, 1),
        disable_tqdm=True,
        use_cpu=bench.device == "cpu",
        remove_unused_columns=False,
    )
    trainer = transformers.Trainer(
        model=load_model(base),
        args=arguments,
        train_dataset=rows,
        data_collator=counting,
        callbacks=[Clock()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    skip = max(steps // 10, 1)
    losses = [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]
    speed = sum(counted[skip:steps]) / (times[-1] - times[skip - 1])
    return {"speed": speed, "losses": losses}


# Sections: each returns Markdown ---------------------------------------------------------------


def against_trainer(bench: Bench) -> Iterator[str]:
    yield "## TLM against the Hugging Face Trainer\n"
    yield (
        f"BERT, {bench.shape}, batch 32, at most 128 tokens, masking 0.3, {bench.threads} "
        f"threads, {bench.rounds} rounds in turns; real tokens a second (median).\n"
    )
    yield "| vocabulary | Trainer | ours, fp32 | ours, bf16 | fp32 / Trainer | bf16 / Trainer |"
    yield "|---|---|---|---|---|---|"
    losses: dict[str, list[tuple[int, float]]] = {}
    for vocabulary, steps in bench.work():
        base = bench.base(vocabulary)
        speeds: dict[str, list[float]] = {"trainer": [], "fp32": [], "bf16": []}
        for _ in range(bench.rounds):
            theirs = trainer_run(bench, base, steps)
            speeds["trainer"].append(theirs["speed"])
            for precision in ("fp32", "bf16"):
                run = bench.ours(base, steps, objective="tlm", precision=precision)
                speeds[precision].append(run["speed"])
                if vocabulary == bench.vocabularies[0]:
                    losses[f"ours, {precision}"] = run["curve"]["loss_mp"]
            if vocabulary == bench.vocabularies[0]:
                losses["Trainer"] = theirs["losses"]
        trainer, fp32, bf16 = (np.median(values) for values in speeds.values())
        yield (
            f"| {vocabulary:,} | {trainer:,.0f} | {fp32:,.0f} | {bf16:,.0f} | "
            f"{fp32 / trainer:.2f}× | {bf16 / trainer:.2f}× |"
        )
    yield "\nLoss after the same number of pairs (smaller vocabulary; means since the row above):\n"
    yield from beside(losses)


def beside(curves: dict[str, list[tuple[int, float]]]) -> Iterator[str]:
    yield f"| step | {' | '.join(curves)} |"
    yield "|---" * (len(curves) + 1) + "|"
    for points in zip(*curves.values(), strict=True):
        yield f"| {points[0][0]} | " + " | ".join(f"{value:.3f}" for _, value in points) + " |"


def cost_of_weam(bench: Bench) -> Iterator[str]:
    yield "\n## A step of WEAM against a step of TLM\n"
    yield "| vocabulary | precision | TLM, ms | WEAM, ms | WEAM / TLM | aligned share |"
    yield "|---|---|---|---|---|---|"
    for vocabulary, steps in bench.work():
        base = bench.base(vocabulary)
        for precision in ("fp32", "bf16"):
            step: dict[str, list[float]] = {"tlm": [], "weam": []}
            for _ in range(bench.rounds):
                for objective in step:
                    run = bench.ours(base, steps, objective=objective, precision=precision)
                    step[objective].append(run["tokens"] / steps / run["speed"] * 1e3)
            tlm, weam = np.median(step["tlm"]), np.median(step["weam"])
            yield (
                f"| {vocabulary:,} | {precision} | {tlm:.1f} | {weam:.1f} | {weam / tlm:.2f}× | "
                f"{run['aligned_share']:.3f} |"
            )


def curves_of_objectives(bench: Bench) -> Iterator[str]:
    steps = bench.steps * (2 if bench.shape == QUICK else 10)
    yield f"\n## MLM, TLM and WEAM on the same pairs ({bench.pairs.name}, {steps} steps)\n"
    yield "Loss from a token's own vector (L_mp), from the same random encoder, and seconds.\n"
    base = bench.base(bench.vocabularies[0])
    runs = {
        name: bench.ours(base, steps, objective=name, precision="bf16", warmup_share=0.1)
        for name in ("mlm", "tlm", "weam")
    }
    yield from beside({name: run["curve"]["loss_mp"] for name, run in runs.items()})
    yield "| seconds | " + " | ".join(f"{run['seconds']:.1f}" for run in runs.values()) + " |"
    tlm, mlm = (runs[name]["curve"]["loss_mp"][-1][1] for name in ("tlm", "mlm"))
    verdict = "falls below" if tlm < mlm else "does NOT fall below"
    yield f"\nTLM {verdict} MLM at the last step ({tlm:.3f} against {mlm:.3f})."


def _worker(rank: int, world: int, meet: str, bench: Bench, base: Path, out: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{meet}", rank=rank, world_size=world)
    config = PretrainingConfig(objective="tlm", steps=bench.steps, log_every=bench.steps // 10)
    pretrain(
        base,
        [bench.pairs],
        config,
        out,
        resources=Resources(threads=1),
        distributed=DistributedContext(rank=rank, world=world),
    )
    torch.distributed.destroy_process_group()


def two_workers(bench: Bench) -> Iterator[str]:
    yield "\n## Two workers of one thread against one worker of two\n"
    base, speeds = bench.base(bench.vocabularies[0]), {"one": [], "two": []}
    for number in range(bench.rounds):
        speeds["one"].append(bench.ours(base, objective="tlm")["speed"])
        out = Path(tempfile.mkdtemp(dir=bench.folder))
        mp.spawn(_worker, (2, str(bench.folder / f"meet{number}"), bench, base, out), nprocs=2)
        windows = [value for _, value in curve(out)["tokens_per_second"][1:]]
        speeds["two"].append(len(windows) / sum(1 / speed for speed in windows))
    one, two = np.median(speeds["one"]), np.median(speeds["two"])
    yield (
        f"One worker {one:,.0f} tokens/s, two workers {two:,.0f} tokens/s: efficiency "
        f"{two / one:.2f} (the smaller vocabulary, fp32, same batches)."
    )


def on_gpu(bench: Bench) -> Iterator[str]:
    yield "\n## mBERT size on a GPU\n"
    if bench.device == "cpu":
        yield "No GPU on this machine: run `--only gpu --device cuda` where there is one."
        return
    peak = matmul_peak()
    shape = dict(layers=12, hidden=768, heads=12, intermediate=3072)
    base, batch = bench.base(119_547, **shape), 256
    yield f"{torch.cuda.get_device_name()}, bf16 matrix peak {peak / 1e12:.0f} TFLOP/s (8192³).\n"
    yield "| run | tokens/s | TFLOP/s of the model | share of the peak | waiting for data |"
    yield "|---|---|---|---|---|"
    theirs = trainer_run(bench, base, bench.steps, bf16=True, batch=batch)
    rows = {"Trainer, TLM": (theirs["speed"], 1.0, None)}
    for objective, heads in (("tlm", 0.3), ("weam", 0.3 * 1.91)):
        run = bench.ours(base, objective=objective, precision="bf16", batch_size=batch)
        rows[f"ours, {objective}"] = (run["speed"], heads, run["wait_share"])
    for name, (speed, heads, waited) in rows.items():
        flops = speed * flops_a_token(12, 768, 3072, 119_547, heads)
        wait = "" if waited is None else f"{waited:.1%}"
        yield f"| {name} | {speed:,.0f} | {flops / 1e12:.0f} | {flops / peak:.1%} | {wait} |"
    yield "\nFLOPs are of the matrices a run needs; the Trainer's head reads every token."


def matmul_peak() -> float:
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(30):
        torch.cuda.synchronize()
        began = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * 8192**3 / np.median(times[10:])


def flops_a_token(layers: int, width: int, inner: int, vocabulary: int, heads: float) -> float:
    """Forward and backward: 6 FLOPs a weight; attention's own products at ~64 places a token."""
    body = layers * (4 * width * width + 2 * width * inner + 2 * 64 * width)
    return 6.0 * (body + heads * (vocabulary * width + width * width))


SECTIONS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "trainer": against_trainer,
    "weam": cost_of_weam,
    "curves": curves_of_objectives,
    "workers": two_workers,
    "gpu": on_gpu,
}


def machine(bench: Bench) -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = package_versions()
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers"))
    return (
        f"{datetime.date.today()}, {os.cpu_count()} × {model}, {named}; "
        f"text: {bench.pairs.name}, {bench.pairs.pairs.num_rows:,} pairs; "
        f"load at the start {os.getloadavg()[0]:.1f}."
    )


def write(document: Path, text: str) -> None:
    """Puts the figures between the marks of the document, or at its end."""
    old = document.read_text(encoding="utf8") if document.exists() else "# Pre-training\n"
    head, _, rest = old.partition(BEGIN)
    tail = rest.partition(END)[2]
    document.write_text(
        f"{head.rstrip()}\n\n{BEGIN}\n{text}\n{END}\n{tail.lstrip()}", encoding="utf8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few steps, one round: a check only")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--source", type=Path, help="one side of a bitext, a sentence a line")
    parser.add_argument("--target", type=Path)
    parser.add_argument("--languages", nargs=2, default=["en", "de"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, help="document to write into; standard output if absent"
    )
    options = parser.parse_args()
    pairs = 1_000 if options.quick else 30_000
    corpus = (
        real(options.source, options.target, options.languages, pairs)
        if options.source
        else artificial(pairs)
    )
    with tempfile.TemporaryDirectory() as folder:
        texts = {}
        for side in ("source", "target"):
            texts[side] = Path(folder) / side
            texts[side].write_text("\n".join(corpus.pairs[side].to_pylist()), encoding="utf8")
        (Path(folder) / "vocabulary").mkdir()
        train_vocabulary(
            texts,
            VocabularyConfig(size=2_000 if options.quick else 16_000),
            Path(folder) / "vocabulary",
        )
        bench = Bench(
            pairs=corpus,
            tokenizer_dir=Path(folder) / "vocabulary",
            folder=Path(folder),
            steps=20 if options.quick else 100,
            rounds=1 if options.quick else 3,
            vocabularies=(2_000, 8_000) if options.quick else (16_000, 119_547),
            shape=QUICK if options.quick else FULL,
            threads=options.threads,
            device=options.device,
        )
        lines = [f"Measured {machine(bench)}", "", f"    python {' '.join(sys.argv)}", ""]
        for name in options.only:
            for line in SECTIONS[name](bench):
                print(line, flush=True)
                lines.append(line)
    if options.out:
        write(options.out, "\n".join(lines))


if __name__ == "__main__":
    main()
