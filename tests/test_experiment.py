"""One cell in one process: its steps, what decides their addresses, and the whole chain."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_study import small_study

from weam_ray.artifacts import Resources, Store, ensure
from weam_ray.errors import DataError
from weam_ray.experiment import MAKERS, Experiment, ExperimentConfig, run_experiment
from weam_ray.study.data import find_data
from weam_ray.study.grid import Cell, expand


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


def cells(storage: Path, **changes: str) -> dict[str, Cell]:
    study = small_study(storage, **changes)
    grid = expand(study, find_data(study, Store(storage / "store")))
    return {cell.key.label: cell for cell in grid.cells}


def weam(storage: Path, **changes: str) -> Experiment:
    return cells(storage, **changes)["home.en-qaa.60.weam.s0"].experiment


def addresses(experiment: Experiment) -> dict[str, str]:
    return {step.stage: address for address, step in experiment.transfer.chain().items()}


def test_the_whole_chain_of_a_cell_runs_in_one_process(storage: Path) -> None:
    store = Store(storage / "store")
    done = run_experiment(
        cells(storage)["home.en-qaa.60.weam.s0"].config, store, resources=Resources(threads=1)
    )
    predictions = pq.read_table(done.path / "predictions.parquet").to_pandas()
    scores = pq.read_table(done.path / "scores.parquet").to_pandas()
    last = predictions.query("selection == 'last' and split == 'test' and language == 'qaa'")
    row = scores.query("selection == 'last' and split == 'test' and language == 'qaa'").iloc[0]
    assert (last["gold"] == last["predicted"]).mean() == pytest.approx(row["value"], abs=1e-12)
    assert len(last) == row["n"]


def test_pairs_of_unequal_size_are_trained_on_together_and_mixed_by_size_or_temperature(
    storage: Path, tmp_path: Path
) -> None:
    world = find_data(small_study(storage), Store(storage / "store"))
    assert world is not None
    data = Path(shutil.copytree(world, tmp_path / "data"))
    for side in ("en", "qab"):
        text = data / "parallel" / f"home.en-qab.{side}"
        text.write_text("".join(text.read_text().splitlines(keepends=True)[:40]))
    (data / "gold" / "home.en-qab.talp").unlink()
    epochs = {}
    for temperature in ("1.0", "0.0"):
        (cell,) = cells(
            tmp_path,
            world="null",
            data_dir=str(data),
            bitext__smaller="whole",
            bitext__gold="null",
            pretraining__steps="20",
            pretraining__replay_share="0",
            pretraining__temperature=temperature,
            grid="{domain: home, pair: en-qaa+en-qab, size: 120, method: weam, seed: 0}",
        ).values()
        done = ensure(cell.experiment.encoder, Store(tmp_path / "store"), MAKERS)
        pairs, read = done.facts["pairs_by_set"], done.facts["epochs_by_set"]
        assert pairs["en-qaa/home"] == 120 and 35 < pairs["en-qab/home"] <= 40
        assert sum(pairs[name] * read[name] for name in pairs) == pytest.approx(20 * 32, rel=1e-3)
        epochs[temperature] = read["en-qab/home"] / read["en-qaa/home"]
    assert epochs["1.0"] == pytest.approx(1, abs=0.35), "as often as the others' pairs"
    assert epochs["0.0"] == pytest.approx(3, rel=0.2), "as often as the other language"


def test_the_whole_chain_needs_neither_ray_nor_mlflow_nor_the_command_line(
    storage: Path, tmp_path: Path
) -> None:
    """A machine with a GPU may have none of them."""
    cell = tmp_path / "cell.json"
    cell.write_text(cells(storage)["home.en-qaa.60.weam.s0"].config.model_dump_json())
    code = """
import sys
ABSENT = ("ray", "mlflow", "optuna", "datasets", "typer", "rich")
for name in ABSENT:
    sys.modules[name] = None  # an import of it fails as if it were not installed
from weam_ray import ExperimentConfig, Store, run_experiment
cell = ExperimentConfig.model_validate_json(open(sys.argv[1]).read())
done = run_experiment(cell, Store(sys.argv[2]))
print(done.address)
"""
    command = [sys.executable, "-c", code, str(cell), str(tmp_path / "store")]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == weam(storage).transfer.address


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/nowhere/at/all", "no such folder: /nowhere/at/all"),
        ("./nowhere", "no such folder: ./nowhere"),
        ("{empty}", "it has no config.json"),
    ],
)
def test_a_base_model_that_is_not_there_is_refused_before_anything_runs(
    storage: Path, tmp_path: Path, model: str, words: str
) -> None:
    base = f"{{model: {model.format(empty=tmp_path)}}}"
    with pytest.raises(DataError, match="base.model") as raised:
        weam(storage, base=base, vocabulary="null")
    assert words in str(raised.value) and "Hugging Face Hub" in str(raised.value)


def test_a_setting_changes_its_stage_and_what_follows_and_nothing_before(storage: Path) -> None:
    before = addresses(weam(storage))
    after = addresses(weam(storage, pretraining__learning_rate="0.003"))
    changed = {stage for stage in before if before[stage] != after[stage]}
    assert changed == {"encoder", "transfer"}


def test_the_number_of_threads_changes_no_address(storage: Path) -> None:
    other = addresses(weam(storage, resources__cell_threads="2", resources__base_threads="2"))
    assert other == addresses(weam(storage))


def test_tlm_waits_for_no_links(storage: Path) -> None:
    methods = "{domain: home, pair: en-qaa, size: 60, method: [tlm, weam], seed: 0}"
    tlm = cells(storage, grid=methods)["home.en-qaa.60.tlm.s0"].experiment
    assert "links" not in addresses(tlm)
    assert "links" in addresses(weam(storage, grid=methods))


def test_links_of_the_pool_are_shared_by_sizes_and_seeds_those_of_a_subset_are_not(
    storage: Path,
) -> None:
    def links(regime: str) -> set[str]:
        factors = f"size: [30, 60], method: weam, regime: {regime}, seed: [0, 1]"
        grid = f"{{domain: home, pair: en-qaa, {factors}}}"
        return {cell.experiment.links[0].address for cell in cells(storage, grid=grid).values()}

    assert len(links("pool")) == 1
    assert len(links("subset")) == 4


def test_a_corpus_knows_the_items_it_must_not_overlap(storage: Path) -> None:
    experiment = weam(storage)
    assert experiment.corpora[0].upstream["items"] is experiment.items
    kept = weam(storage, bitext__contamination="{exact: false, ngram: null}")
    assert not kept.corpora[0].upstream


def test_the_same_data_in_another_folder_keeps_its_addresses(storage: Path, tmp_path: Path) -> None:
    assert addresses(weam(storage)) == addresses(weam(tmp_path))


def test_a_method_without_bitext_fine_tunes_the_base_itself(storage: Path) -> None:
    experiment = cells(storage)["none.s0"].experiment
    assert experiment.encoder is experiment.base
    assert not experiment.corpora


def test_seeds_of_fine_tuning_share_the_encoder(storage: Path) -> None:
    grid = "{domain: home, pair: en-qaa, size: 60, method: weam, seed: 0, finetuning_seed: [0, 1]}"
    first, second = cells(storage, grid=grid).values()
    assert first.experiment.encoder.address == second.experiment.encoder.address
    assert first.experiment.transfer.address != second.experiment.transfer.address


def test_a_cell_is_its_settings_and_nothing_else(storage: Path) -> None:
    config = weam(storage).config
    again = ExperimentConfig.model_validate(config.model_dump())
    assert Experiment(again).transfer.address == Experiment(config).transfer.address


def test_an_encoders_card_says_what_the_records_and_the_study_say(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    licences = "['the artificial world: made here', 'its items: made here too']"
    first = weam(tmp_path, licences=licences)
    assert first.encoder.address == weam(tmp_path).encoder.address
    made = ensure(first.encoder, store, MAKERS)
    card = made.file("README.md").read_text(encoding="utf8")
    assert "Continued from an encoder trained from scratch." in card
    assert "| en-qaa/home | 60 |" in card and "symmetrisation: intersection" in card
    assert "- the artificial world: made here\n" in card and "license: other\n" in card
    moved = tmp_path / "mine"
    shutil.copytree(made.path, moved)
    second = weam(tmp_path, base=f"{{model: {moved}}}", vocabulary="null", licences=licences)
    card = ensure(second.encoder, store, MAKERS).file("README.md").read_text(encoding="utf8")
    assert "Continued from the model in a folder called `mine`." in card
    assert str(tmp_path) not in card
