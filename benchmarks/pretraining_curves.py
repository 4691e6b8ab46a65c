"""MLM, TLM, WEAM and TLM on shuffled pairs on the same bitext: losses side by side.

TLM reads the other sentence, so its loss should fall below MLM's; that takes as long as the encoder
needs to find a word's translation in it. Shuffled pairs tell the two parts apart: what they lose
against MLM is the cost of reading two sentences at once, what TLM gains on them is the translation.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pretraining_bench import Bench

from weam_ray.experiment.encoder import unpaired
from weam_ray.pretraining import (
    HeldOutConfig,
    PretrainingConfig,
    VocabularyConfig,
    train_vocabulary,
)

SHAPE = dict(layers=2, hidden=128, heads=4, intermediate=512)
ARMS = {
    "mlm": "mlm",
    "tlm": "tlm",
    "weam": "weam",
    "tlm, shuffled pairs": "tlm-shuffled-pairs",
}
_LOSS = "held_out_loss_mp"


def curves_of_objectives(bench: Bench) -> Iterator[str]:
    """A section: the table of losses, and what follows from it."""
    quick = bench.steps < 100
    size, steps = (2_000, 40) if quick else (8_000, bench.long_steps)
    bench = _with_vocabulary(bench, size)
    base = bench.base(size, **SHAPE)
    yield f"\n## MLM, TLM and WEAM on the same pairs ({bench.pairs.name}, {steps} steps)\n"
    yield (
        f"BERT, 2 layers of 128, {size:,} entries, from the same random weights; learning rate "
        "1e-3, batch 32, masking 0.3, no dropout. L_mp (a token's own vector) on 3 % of the pairs, "
        "which none was trained on. Each arm is a process of one thread, "
        f"{bench.threads} at a time.\n"
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(bench.threads, mp_context=context) as pool:
        futures = {name: pool.submit(_arm, bench, base, steps, name) for name in ARMS}
        runs = {name: future.result() for name, future in futures.items()}
    curves = {name: dict(run["curve"][_LOSS]) for name, run in runs.items()}
    yield f"| step | {' | '.join(curves)} | two at once costs | the translation gives |"
    yield "|---" * (len(curves) + 3) + "|"
    for step in curves["mlm"]:
        losses = [curve[step] for curve in curves.values()]
        mlm, tlm, _, shuffled = losses
        cells = [f"{value:.3f}" for value in (*losses, shuffled - mlm, shuffled - tlm)]
        yield f"| {step:,} | {' | '.join(cells)} |"
    yield "| seconds | " + " | ".join(f"{run['seconds']:.0f}" for run in runs.values()) + " | | |"
    yield f"\n{_verdict(curves)}"
    shortest = min(run["seconds"] for run in runs.values())
    at_once = ", ".join(f"{name} {_at_time(run, shortest)}" for name, run in runs.items())
    yield f"At equal time, {shortest:.0f} s: {at_once}."


def _with_vocabulary(bench: Bench, size: int) -> Bench:
    folder = bench.folder / f"vocabulary-{size}"
    folder.mkdir()
    texts = {side: bench.folder / side for side in ("source", "target")}
    train_vocabulary(texts, VocabularyConfig(size=size), folder)
    return dataclasses.replace(bench, tokenizer_dir=folder)


def _arm(bench: Bench, base: Path, steps: int, name: str) -> dict[str, Any]:
    """One training, in a process of its own."""
    pairs = bench.pairs
    held_out = HeldOutConfig(share=0.03, every=steps // 10, patience=None, keep="last")
    if name == "tlm, shuffled pairs":
        # Held-out texts change partners among themselves: every arm is measured on the same ones.
        shuffled = unpaired(pairs.pairs, PretrainingConfig(held_out=held_out))
        pairs = dataclasses.replace(pairs, pairs=shuffled)
    alone = dataclasses.replace(bench, pairs=pairs, threads=1)
    return alone.ours(
        base,
        steps,
        objective=ARMS[name],
        learning_rate=1e-3,
        warmup_share=0.1,
        dropout=0.0,
        held_out=held_out,
    )


def _verdict(curves: Mapping[str, Mapping[int, float]]) -> str:
    mlm, tlm = curves["mlm"], curves["tlm"]
    last = max(mlm)
    if tlm[last] >= mlm[last]:
        return f"TLM does NOT fall below MLM in {last:,} steps ({tlm[last]:.3f}, {mlm[last]:.3f})."
    first = next(step for step in sorted(mlm) if tlm[step] < mlm[step])
    return (
        f"TLM is below MLM at {first:,} steps and ends {mlm[last] - tlm[last]:.3f} below it "
        f"({tlm[last]:.3f} against {mlm[last]:.3f})."
    )


def _at_time(run: Mapping[str, Any], seconds: float) -> str:
    """The last loss a run had reached by then; its steps all take the same time."""
    reached = [
        (step, loss)
        for step, loss in run["curve"][_LOSS]
        if step * run["seconds"] / run["steps"] <= seconds * 1.001
    ]
    return f"{reached[-1][1]:.3f} (step {reached[-1][0]:,})" if reached else "nothing yet"
