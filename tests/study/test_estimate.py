"""What a plan costs is told before anything is spent, and refused where it can't fit."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned_study import MACHINE, estimate_of, plan_of, pretend, read_small, run, store_of

from weam_ray.artifacts import Resources, Store
from weam_ray.errors import ResourceError
from weam_ray.study.calibration import measure, this_machine
from weam_ray.study.estimate import Estimate, Machine, StageEstimate, largest_shape
from weam_ray.study.item_counts import count_files
from weam_ray.study.workload import Shape
from weam_ray.transfer.items import ItemsConfig


def stage_of(found: Estimate, name: str) -> StageEstimate:
    return next(one for one in found.stages if one.stage == name)


def set_seconds(store: Store, stage: str, seconds: float) -> None:
    """Rewrite what the records of a stage say they took."""
    for path in (store.root / stage).glob("*/record.json"):
        text = path.read_text()
        before = text.split('"seconds": ')[1].split(",")[0]
        path.write_text(text.replace(f'"seconds": {before}', f'"seconds": {seconds}'))


def test_steps_and_tokens_are_counted_over_what_will_run(tmp_path: Path) -> None:
    found = estimate_of(read_small(tmp_path, grid={"method": ["none", "weam"], "seed": [0, 1]}))
    assert stage_of(found, "encoder").optimiser_steps == 4 * 4
    assert stage_of(found, "encoder").tokens == 4 * 4 * 2 * 16
    assert stage_of(found, "transfer").optimiser_steps == 6 * 3
    assert stage_of(found, "items").optimiser_steps is None


def test_a_budget_in_epochs_becomes_steps_of_the_size(tmp_path: Path) -> None:
    study = read_small(
        tmp_path,
        "pretraining.steps=null",
        "pretraining.epochs=3",
        "pretraining.replay_share=0.5",
        grid={"method": "weam", "size": [2, 4]},
    )
    # 3 epochs of 2 and 4 pairs in batches of 2, half of whose rows are replayed text.
    assert stage_of(estimate_of(study), "encoder").optimiser_steps == 6 + 12


def test_fine_tuning_in_epochs_is_counted_from_the_files_and_then_from_the_items(
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {
        "grid": {"method": "none"},
        "transfer": {"steps": None, "epochs": 2.0, "batch_size": 4, "max_length": 16},
    }

    def steps(**more: Any) -> int | None:
        study = read_small(tmp_path, **more, **changes)
        (tmp_path / "data" / "train.en").write_text("an item\n" * 9)
        return stage_of(estimate_of(study), "transfer").optimiser_steps

    assert steps() == 2 * 3
    assert steps(items={"train_limit": 4}) == 2 * 1
    study = read_small(tmp_path, **changes)
    pretend(plan_of(study).missing_of("items")[0], store_of(study))
    assert stage_of(estimate_of(study), "transfer").optimiser_steps == 2 * 2


def test_items_of_any_format_are_counted_before_they_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train.en.jsonl.gz", "wt") as stream:
        stream.write("{}\n" * 5)
    pq.write_table(pa.table({"language": ["en", "de"] * 3}), tmp_path / "dev.parquet")
    config = ItemsConfig(
        train=str(tmp_path / "train.{language}.jsonl.gz"),
        dev=str(tmp_path / "dev.parquet"),
        languages=("en", "de"),
    )
    assert count_files(config) == {("train", "en"): 5, ("dev", "en"): 3, ("dev", "de"): 3}
    (tmp_path / "dev.parquet").write_bytes(b"broken")
    assert count_files(config) is None


def test_time_comes_from_like_work_in_the_store_and_scales_with_it(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": "weam", "size": 2})
    store = store_of(study)
    run(plan_of(study), store)
    set_seconds(store, "encoder", 10.0)
    grown = read_small(
        tmp_path,
        grid={"method": ["weam", "long"], "size": 2, "seed": [0, 1]},
        methods={"long": {"pretraining": {"objective": "weam", "steps": 12}}},
    )
    found = stage_of(estimate_of(grown, Machine(cpus=2, flops=1.0)), "encoder")
    assert found.to_run == 3 and found.basis == "recorded"
    assert found.seconds == pytest.approx(10.0 + 3 * 10.0 + 3 * 10.0)


def test_corpora_and_links_are_scaled_by_their_bytes(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": "weam", "size": 2})
    run(plan_of(study), store_of(study), only="links")
    set_seconds(store_of(study), "links", 8.0)
    both = read_small(tmp_path, grid={"method": "weam", "size": 2, "pair": ["en-de", "en-fr"]})
    for side in ("en", "fr"):
        path = tmp_path / "data" / f"law.en-fr.{side}"
        path.write_text("x\n" * 50)
    known = sum((tmp_path / "data" / f"law.en-de.{side}").stat().st_size for side in ("en", "de"))
    found = stage_of(estimate_of(both), "links")
    assert found.seconds == pytest.approx(8.0 * 200 / known)


def test_time_comes_from_a_calibration_where_nothing_is_recorded(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": "weam", "size": 2})
    shape = largest_shape(plan_of(study), store_of(study))
    assert shape is not None
    flops = 1e6
    found = stage_of(estimate_of(study, Machine(cpus=2, flops=flops)), "encoder")
    tokens = 4 * 2 * 16
    assert found.basis == "calibrated"
    assert found.seconds == pytest.approx(shape.training_flops(tokens, 0.3 * tokens) / flops)
    unknown = estimate_of(study)
    assert "encoder" in unknown.unknown and unknown.wall_seconds == 0.0


def test_cells_run_side_by_side_as_resources_allow_and_money_follows_the_wall_time(
    tmp_path: Path,
) -> None:
    study = read_small(tmp_path, grid={"method": "none", "seed": [0, 1, 2, 3]})
    run(plan_of(study), store_of(study))
    set_seconds(store_of(study), "transfer", 3600.0)
    more = {"grid": {"method": "none", "seed": list(range(12))}}

    def wall(*overrides: str, machine: Machine = MACHINE) -> float:
        grown = read_small(tmp_path, *overrides, **more)
        return estimate_of(grown, machine, price_per_hour=2.0).wall_seconds / 3600

    assert wall() == pytest.approx(4.0, rel=1e-3)  # eight cells, two at once
    assert wall("resources.cell_threads=2") == pytest.approx(8.0, rel=1e-3)
    gpus = Machine(cpus=64, gpus=2)
    assert wall("resources.cell_gpus=0.5", machine=gpus) == pytest.approx(2.0, rel=1e-3)
    assert wall("resources.cell_gpus=1", machine=gpus) == pytest.approx(4.0, rel=1e-3)
    assert wall("resources.cell_gpus=0.4", machine=gpus) == pytest.approx(2.0, rel=1e-3)
    both = ("resources.cell_gpus=1", "resources.cell_workers=2")
    assert wall(*both, machine=gpus) == pytest.approx(8.0, rel=1e-3)
    found = estimate_of(read_small(tmp_path, **more), price_per_hour=2.0)
    assert found.cost == pytest.approx(8.0, rel=1e-3)
    assert estimate_of(read_small(tmp_path, **more)).cost is None


def test_a_random_encoder_takes_no_time_and_halves_nobody_elses(tmp_path: Path) -> None:
    def base(*methods: str, **rest: Any) -> tuple[StageEstimate, Estimate]:
        study = read_small(
            tmp_path, "resources.base_threads=1", grid={"method": ["none", *methods]}
        )
        found = estimate_of(study, Machine(cpus=2, flops=1e6, **rest))
        return stage_of(found, "base"), found

    alone, _ = base()
    beside, found = base("random")
    assert (alone.to_run, beside.to_run) == (1, 2)
    assert beside.optimiser_steps == alone.optimiser_steps == 5
    assert beside.seconds == pytest.approx(alone.seconds)
    assert beside.working == 1, "each of those that train takes as long as all together"
    others = sum(one.seconds or 0.0 for one in found.stages if one.stage == "transfer")
    assert found.wall_seconds == pytest.approx((alone.seconds or 0.0) + others / 2)


def test_the_bases_own_threads_and_gpus_give_its_time(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    slow = stage_of(estimate_of(study, Machine(cpus=2, flops=1e6)), "base").seconds
    fast = stage_of(estimate_of(study, Machine(cpus=2, flops=1e6, base_flops=4e6)), "base").seconds
    assert slow and fast == pytest.approx(slow / 4)
    two = read_small(tmp_path, "resources.base_threads=2")
    found = this_machine(two, plan_of(two), store_of(two), seconds=0.05)
    assert found.flops and found.base_flops and found.base_flops != found.flops


@pytest.mark.parametrize(
    ("overrides", "machine", "words"),
    [
        (["resources.cell_threads=4"], MACHINE, "cell_threads asks for 4 CPUs, and there are 2"),
        (["resources.base_threads=4"], MACHINE, "base_threads asks for 4 CPUs, and there are 2"),
        (["resources.base_gpus=1"], MACHINE, "base_gpus asks for 1 GPUs, and there are 0"),
        (["resources.cell_gpus=1"], MACHINE, "cell_gpus asks for 1 GPUs, and there are 0"),
        (["resources.cell_workers=3"], MACHINE, "cell_threads asks for 3 CPUs, and there are 2"),
        ([], Machine(cpus=2, disk_free=10), "don't fit the 10 B free"),
        (["base.hidden=4096"], Machine(cpus=2, memory=2**20), "of memory a cell"),
        (["grid.domain=talks", "grid.pair=en-fr", "grid.method=weam"], MACHINE, "every cell is a"),
    ],
)
def test_what_cannot_fit_is_refused(
    tmp_path: Path, overrides: list[str], machine: Machine, words: str
) -> None:
    found = estimate_of(read_small(tmp_path, *overrides), machine)
    with pytest.raises(ResourceError, match=words):
        found.refuse_what_cannot_fit()


def test_cells_that_fit_alone_but_not_together_are_refused_with_the_cure(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    shape = largest_shape(plan_of(study), store_of(study))
    assert shape is not None
    found = estimate_of(study, Machine(cpus=8, memory=16 * shape.weights * 3))
    assert "8 cells at once" in found.problems[0]
    assert "raise resources.cell_threads" in found.problems[0]


def test_a_plan_that_fits_is_not_refused(tmp_path: Path) -> None:
    estimate_of(read_small(tmp_path)).refuse_what_cannot_fit()


def test_hub_encoders_are_sized_before_they_are_fetched(tmp_path: Path) -> None:
    study = read_small(tmp_path, base={"model": "google-bert/bert-base-multilingual-cased"})
    shape = largest_shape(plan_of(study), store_of(study))
    assert shape is not None
    assert shape.weights == pytest.approx(177e6, rel=0.02), "mBERT has 178 million weights"


def test_a_calibration_measures_something_of_the_right_size() -> None:
    shape = Shape(layers=2, hidden=32, intermediate=64, vocabulary=100)
    flops = measure(shape, Resources(threads=1), batch_size=4, length=16, seconds=0.05)
    assert 1e6 < flops < 1e14
    half = measure(shape, Resources(), batch_size=4, length=16, seconds=0.05, precision="bf16")
    assert 1e6 < half < 1e14


def test_this_machine_is_measured_only_where_there_is_something_to_train(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    store = store_of(study)
    found = this_machine(study, plan_of(study), store, seconds=0.05)
    assert found.cpus >= 1 and found.gpus == 0
    assert found.memory and found.disk_free and found.flops
    run(plan_of(study), store)
    assert this_machine(study, plan_of(study), store).flops is None
    assert this_machine(read_small(tmp_path), plan_of(study), store, calibrate=False).flops is None
