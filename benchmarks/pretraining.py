"""Pre-training measured side by side with the Hugging Face Trainer; results go into a document.

    python benchmarks/pretraining.py --only trainer    # against the Trainer, 16k and 120k entries
    python benchmarks/pretraining.py --only weam       # a step of WEAM against one of TLM
    python benchmarks/pretraining.py --only curves --source x.en.gz --target x.de.gz
    python benchmarks/pretraining.py --only workers    # two workers against one
    python benchmarks/pretraining.py --only gpu --device cuda

Without a bitext an artificial one with Zipf words and real length variation is used. Contenders
take turns within one run, so that a busy machine slows both. Needs torch, transformers, numpy and
pyarrow; the Trainer needs accelerate (`pip install accelerate`), and a bitext numba to align it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
from machine import processor
from pretraining_bench import Bench, artificial, curve, real
from pretraining_curves import curves_of_objectives
from pretraining_gpu import on_gpu
from pretraining_trainer import trainer_run

from weam_ray.artifacts import Resources, package_versions
from weam_ray.pretraining import (
    DistributedContext,
    PretrainingConfig,
    VocabularyConfig,
    encoder_and_head,
    load_model,
    load_tokenizer,
    prepare,
    pretrain,
    train_vocabulary,
)
from weam_ray.pretraining.bilingual import objective
from weam_ray.pretraining.feed import Feed
from weam_ray.pretraining.optimiser import adamw
from weam_ray.pretraining.precision import autocast

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

FULL = dict(layers=4, hidden=256, heads=4, intermediate=1024)
QUICK = dict(layers=2, hidden=64, heads=2, intermediate=256)

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
    values = [dict(points) for points in curves.values()]
    for step in sorted(set.intersection(*map(set, values))):
        yield f"| {step} | " + " | ".join(f"{one[step]:.3f}" for one in values) + " |"


class Stepper:
    """One objective's training, a step at a time."""

    def __init__(self, bench: Bench, base: Path, name: str, precision: str) -> None:
        self.config = PretrainingConfig(objective=name, precision=precision)
        resources = Resources(threads=bench.threads, device=bench.device)
        module = objective(encoder_and_head(load_model(base)), base, self.config, resources)
        self._module = module.to(bench.device).train()
        prepared = prepare(load_tokenizer(base), [bench.pairs], self.config)
        self.feed: Feed = prepared.feed(self.config)
        self._parameters = [one for one in module.parameters() if one.requires_grad]
        self._optimiser = adamw(self._parameters, self.config)
        self._device = torch.device(bench.device)

    def seconds(self, number: int) -> float:
        """What a step took, from drawing its batch to the optimiser."""
        began = time.perf_counter()
        [batch] = self.feed.step(number).parts
        with autocast(self.config.precision, self._device):
            loss, _ = self._module(batch.to(self._device), 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def cost_of_weam(bench: Bench) -> Iterator[str]:
    yield "\n## A step of WEAM against a step of TLM\n"
    yield (
        f"A step of each in turns, on the same pairs, BERT of {bench.shape}; medians. `vectors` is "
        "what the head reads of each: without sharing WEAM's would be its predictions.\n"
    )
    yield (
        "| vocabulary | precision | TLM, ms | WEAM, ms | WEAM / TLM | vectors, TLM | WEAM | "
        "predictions, WEAM | aligned share |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for vocabulary, steps in bench.work():
        base = bench.base(vocabulary)
        for precision in bench.precisions:
            runs = {name: Stepper(bench, base, name, precision) for name in ("tlm", "weam")}
            step: dict[str, list[float]] = {name: [] for name in runs}
            for number in range(steps + 2):
                for name, run in runs.items():
                    step[name].append(run.seconds(number))
            tlm, weam = (1e3 * float(np.median(step[name][2:])) for name in runs)
            ratio = float(np.median(np.array(step["weam"][2:]) / np.array(step["tlm"][2:])))
            batches = [runs["weam"].feed.step(number).parts[0] for number in range(steps)]
            own = sum(len(batch.places_M) for batch in batches)
            aligned = sum(len(batch.aligned_A) for batch in batches)
            read = sum(len(batch.row_start) - 1 for batch in batches)
            yield (
                f"| {vocabulary:,} | {precision} | {tlm:.1f} | {weam:.1f} | {ratio:.2f}× | "
                f"{own / steps:.0f} | {read / steps:.0f} | {(own + aligned) / steps:.0f} | "
                f"{aligned / own:.3f} |"
            )


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


SECTIONS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "trainer": against_trainer,
    "weam": cost_of_weam,
    "curves": curves_of_objectives,
    "workers": two_workers,
    "gpu": on_gpu,
}


def machine(bench: Bench) -> str:
    versions = package_versions()
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers"))
    return (
        f"{datetime.date.today()}, {os.cpu_count()} × {processor()}, {named}; "
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few steps, one round: a check only")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--source", type=Path, help="one side of a bitext, a sentence a line")
    parser.add_argument("--target", type=Path)
    parser.add_argument("--languages", nargs=2, default=["en", "de"])
    parser.add_argument(
        "--vocabularies", nargs="+", type=int, default=[16_000, 119_547], help="entries"
    )
    parser.add_argument(
        "--shape", nargs=4, type=int, metavar=("LAYERS", "HIDDEN", "HEADS", "INTERMEDIATE")
    )
    parser.add_argument(
        "--precisions", nargs="+", default=["fp32", "bf16"], help="of the section weam"
    )
    parser.add_argument("--long-steps", type=int, default=6_000, help="steps of the curves")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, help="document to write into; standard output if absent"
    )
    return parser.parse_args()


def bench_of(options: argparse.Namespace, folder: Path) -> Bench:
    """The corpus, a vocabulary of it, and how much is to be measured."""
    quick = options.quick
    pairs = 1_000 if quick else 30_000
    corpus = (
        real(options.source, options.target, options.languages, pairs)
        if options.source
        else artificial(pairs)
    )
    texts = {side: folder / side for side in ("source", "target")}
    for side, path in texts.items():
        path.write_text("\n".join(corpus.pairs[side].to_pylist()), encoding="utf8")
    vocabulary = folder / "vocabulary"
    vocabulary.mkdir()
    train_vocabulary(texts, VocabularyConfig(size=2_000 if quick else 16_000), vocabulary)
    shape = QUICK if quick else FULL
    return Bench(
        pairs=corpus,
        tokenizer_dir=vocabulary,
        folder=folder,
        steps=20 if quick else 100,
        long_steps=options.long_steps,
        rounds=1 if quick else 3,
        vocabularies=(2_000, 8_000) if quick else tuple(options.vocabularies),
        shape=dict(zip(FULL, options.shape, strict=True)) if options.shape else shape,
        precisions=tuple(options.precisions),
        threads=options.threads,
        device=options.device,
    )


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_of(options, Path(folder))
        lines = [f"Measured {machine(bench)}", "", f"    python {' '.join(sys.argv)}", ""]
        for name in options.only:
            for line in SECTIONS[name](bench):
                print(line, flush=True)
                lines.append(line)
    if options.out:
        write(options.out, "\n".join(lines))


if __name__ == "__main__":
    main()
