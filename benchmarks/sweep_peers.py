"""What benchmarks/sweep.py measures a sweep against; it starts this file, nobody else does.

``plain N OF``: the cells whose number is N modulo OF, one after the other in this process.
``chain N``: cell N with all it builds on, in a store of its own.
``standard CELLS CORES``: the standard way, a Tune trial a cell with a TorchTrainer in it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from weam_ray.artifacts import Resources, Store, ensure
from weam_ray.experiment import MAKERS, run_experiment
from weam_ray.study.data import find_data
from weam_ray.study.grid import Cell, expand
from weam_ray.study.reading import read_study

DEMO = Path(__file__).resolve().parent.parent / "sweeps" / "demo.yaml"


def cells_of(words: list[str]) -> tuple[list[Cell], Store]:
    study = read_study(DEMO, [word for word in words if word != "--set"])
    store = study.open_store()
    cells = expand(study, find_data(study, store)).cells
    return [cell for cell in cells if cell.key.pair], store


def make(cell: Cell, store: Store) -> None:
    for step in cell.experiment.ends():
        ensure(step, store, MAKERS, resources=Resources(threads=1))


def plain(number: int, of: int, words: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    cells, store = cells_of(words)
    warm(cells, store)
    print("ready", flush=True)
    sys.stdin.readline()
    for cell in cells[1:][number::of]:
        make(cell, store)


def warm(cells: list[Cell], store: Store) -> None:
    """Load what a first cell loads: the one that is done, once more, elsewhere."""
    import pandas  # noqa: F401
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    done = store.find(cells[0].experiment.encoder)
    assert done is not None
    for kind in (AutoModelForMaskedLM, AutoModelForSequenceClassification):
        kind.from_pretrained(done.path)


def chain(number: int, words: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    cells, store = cells_of(words)
    run_experiment(cells[number].config, store, resources=Resources(threads=1))
    make(cells[number], store)


def standard(count: int, cores: int, words: list[str]) -> None:
    """As Ray's own guides write a grid over training runs (Ray 2.60, "Hyperparameter tuning with
    Ray Train"): a trial starts a TorchTrainer of one worker, which does the cell's work.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    cells, store = cells_of(words)
    # Tune ends a trial, and with it the TorchTrainer's controller, before that has given back its
    # worker's CPU; its cleaner asks Ray's State API, which only ray[default] brings, and so never
    # learns of it. A CPU more for each cell keeps the lost ones from stopping the grid: how many
    # run at a time is max_concurrent_trials' to say. Another one holds the waiting trials.
    ray.init(num_cpus=cores + count + 1, include_dashboard=False, log_to_driver=False)

    def train(config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        make(cells[config["cell"]], store)
        ray.train.report({"done": 1})

    with tempfile.TemporaryDirectory() as scratch:

        def trial(config: dict[str, Any]) -> None:
            TorchTrainer(
                train,
                train_loop_config=config,
                scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
                run_config=RunConfig(
                    name=f"cell{config['cell']}",
                    storage_path=scratch,
                    callbacks=[TuneReportCallback()],
                ),
            ).fit()

        started = time.monotonic()
        # The trial itself only waits; with a CPU of its own it would halve what can run at once.
        results = tune.Tuner(
            tune.with_resources(trial, {"CPU": 0.01}),
            param_space={"cell": tune.grid_search(list(range(1, count + 1)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=cores),
            run_config=tune.RunConfig(name="standard", storage_path=scratch, verbose=0),
        ).fit()
        seconds = time.monotonic() - started
    assert not results.num_errors
    print(seconds)


if __name__ == "__main__":
    kind, number, *rest = sys.argv[1:]
    if kind == "plain":
        plain(int(number), int(rest[0]), rest[1:])
    elif kind == "chain":
        chain(int(number), rest[1:])
    else:
        standard(int(number), int(rest[0]), rest[1:])
