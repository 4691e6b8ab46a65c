"""``pretraining.py --only gpu``: mBERT's size on a GPU, against what its matrix units can do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pretraining_bench import Bench
from pretraining_trainer import trainer_run

from weam_ray.pretraining import PretrainingConfig, load_tokenizer, prepare


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
    for name in ("tlm", "weam"):
        run = bench.ours(base, objective=name, precision="bf16", batch_size=batch)
        rows[f"ours, {name}"] = (
            run["speed"],
            vectors_a_token(bench, base, name),
            run["wait_share"],
        )
    for name, (speed, heads, waited) in rows.items():
        flops = speed * flops_a_token(12, 768, 3072, 119_547, heads)
        wait = "" if waited is None else f"{waited:.1%}"
        yield f"| {name} | {speed:,.0f} | {flops / 1e12:.0f} | {flops / peak:.1%} | {wait} |"
    yield "\nFLOPs are of the matrices a run needs; the Trainer's head reads every token."


def vectors_a_token(bench: Bench, base: Path, name: str) -> float:
    """How many vectors the head reads for each real token."""
    config = PretrainingConfig(objective=name)
    feed = prepare(load_tokenizer(base), [bench.pairs], config).feed(config)
    batches = [feed.step(number).parts[0] for number in range(20)]
    return sum(len(one.row_start) - 1 for one in batches) / sum(one.tokens for one in batches)


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
