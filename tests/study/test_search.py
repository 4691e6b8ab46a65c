"""A search goes on where it was, whatever was killed when, and is judged on dev items alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned_study import read_small, store_of

from weam_ray.artifacts import Store, Work
from weam_ray.errors import ConfigError, ResourceError
from weam_ray.on_ray.jobs import Job
from weam_ray.on_ray.search import SearchJobs, search_of
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import expand
from weam_ray.study.search import TrialResult, best, trial_study, write_trials

SPACE = {
    "pretraining.masking_rate": {"low": 0.05, "high": 0.6},
    "pretraining.cross_lingual_weight": {"low": 0.0, "high": 2.0},
    "alignment.symmetrisation": {"choices": ["intersection", "union"]},
}
SEARCH: dict[str, Any] = {"space": SPACE, "trials": 8, "at_once": 2, "startup": 2}
GRID = {"size": 4, "method": ["none", "weam"], "seed": [0, 1, 2]}


def study_of(folder: Path, **changes: Any) -> StudyConfig:
    return read_small(folder, grid=GRID, search={**SEARCH, **changes})


def jobs_of(study: StudyConfig) -> SearchJobs:
    return SearchJobs(study, study.data_dir, store_of(study))


def accuracy(settings: dict[str, Any], seed: int) -> float:
    """The truth: masking of 0.25 is best; each seed has an offset of its own."""
    return 0.6 - abs(settings["masking_rate"] - 0.25) + 0.001 * seed


def make(job: Job, store: Store, value: Callable[[dict[str, Any], int], float] = accuracy) -> None:
    """Put what a cell would come to into the store, without its work."""
    for step in job.steps:
        encoder = step.upstream["encoder"].config.model_dump()["pretraining"]

        def write(work: Work, encoder: dict[str, Any] = encoder) -> None:
            measured = value(encoder, encoder["seed"])
            rows = [
                {
                    "task": "xnli",
                    "metric": "accuracy",
                    "split": split,
                    "selection": rule,
                    "language": code,
                    "value": number,
                }
                for rule in ("source-dev", "last", "target-dev-oracle")
                for split, number in (("dev", measured), ("test", 0.99))
                for code in ("en", "de", "fr")
            ]
            pq.write_table(pa.Table.from_pylist(rows), work.out / "scores.parquet")

        store.make(step, write, {})


def run(study: StudyConfig, *, jobs: int | None = None, side_by_side: int = 1) -> list[TrialResult]:
    """Run a search, or so many of its jobs, as if killed then."""
    store = store_of(study)
    source = jobs_of(study)
    running: list[Job] = []
    for _ in itertools.count() if jobs is None else range(jobs):
        while len(running) < side_by_side and (job := source.take(None)) is not None:
            running.append(job)
        if not running:
            assert source.exhausted()
            break
        job = running.pop()  # the last that began ends first
        make(job, store)
        source.ended(job, None)
    return jobs_of(study).results()


def test_it_finds_a_better_setting_and_counts_its_trials(tmp_path: Path) -> None:
    trials = run(study_of(tmp_path, trials=24, at_once=1, startup=5))
    assert [trial.number for trial in trials] == list(range(24))
    chosen = best(trials)
    assert chosen is not None and chosen.value is not None and trials[0].value is not None
    assert chosen.value > trials[0].value
    assert abs(float(chosen.parameters["pretraining.masking_rate"]) - 0.25) < 0.05


def test_the_first_trial_is_the_studys_own_settings_and_costs_nothing_after_the_grid(
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path)
    own = [cell for cell in expand(study, study.data_dir).cells if cell.key.method == "weam"]
    for cell in own:
        ends = cell.experiment.ends()
        make(Job(name=cell.key.label, steps=ends), store_of(study))
    source = jobs_of(study)
    job = source.take(None)
    assert job is not None and "trial-0001" in job.name, "the cells of trial 0 were there"


def test_only_dev_items_are_looked_at(tmp_path: Path) -> None:
    trials = run(study_of(tmp_path))
    values = [value for trial in trials for value in trial.values]
    assert values and max(values) < 0.9, "every test accuracy was 0.99"


def test_the_same_trials_however_often_it_was_killed(tmp_path: Path) -> None:
    undisturbed = run(study_of(tmp_path / "a"))
    study = study_of(tmp_path / "b")
    for _ in range(60):
        run(study, jobs=1)
    assert run(study) == undisturbed


def test_the_same_trials_however_many_cells_run_side_by_side(tmp_path: Path) -> None:
    alone = run(study_of(tmp_path / "a", at_once=4))
    assert run(study_of(tmp_path / "b", at_once=4), side_by_side=3) == alone


def test_without_its_journal_it_is_found_again_from_the_store(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    before = run(study)
    (study.folder / "search.journal").unlink()
    source = jobs_of(study)
    assert source.take(None) is None, "every cell is in the store"
    assert source.results() == before


def test_more_trials_go_on_behind_those_there_are(tmp_path: Path) -> None:
    few = run(study_of(tmp_path, trials=4))
    more = run(study_of(tmp_path, trials=6))
    assert more[:4] == few and len(more) == 6


def test_another_space_is_another_search(tmp_path: Path) -> None:
    run(study_of(tmp_path))
    narrow = {"pretraining.masking_rate": {"low": 0.2, "high": 0.3}}
    assert jobs_of(study_of(tmp_path, space=narrow)).results() == []


def test_a_trial_that_falls_behind_is_ended_before_its_last_seed(tmp_path: Path) -> None:
    trials = run(study_of(tmp_path, trials=16))
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned and all(1 <= len(trial.values) < 3 for trial in pruned)
    assert all(trial.value is None for trial in pruned), "a part of the seeds is no objective"
    kept = run(study_of(tmp_path / "other", trials=16, pruner="none"))
    assert {trial.state for trial in kept} == {"complete"}


def test_a_trial_whose_cell_fails_is_failed_and_the_others_go_on(tmp_path: Path) -> None:
    study = study_of(tmp_path, trials=4)
    source = jobs_of(study)
    first = source.take(None)
    assert first is not None
    source.ended(first, "boom")
    while (job := source.take(None)) is not None:
        make(job, store_of(study))
        source.ended(job, None)
    states = [trial.state for trial in source.results()]
    assert states[0] == "failed" and len(states) == 4
    assert source.exhausted()


def test_two_processes_do_not_run_one_search(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    store = store_of(study)
    with search_of(study, study.data_dir, store) as search:
        assert search is not None
        with (
            pytest.raises(ResourceError, match="another process"),
            search_of(study, study.data_dir, store),
        ):
            pass
    with search_of(study, study.data_dir, store):
        pass


def test_half_a_line_and_a_lock_of_a_killed_process_are_cleared_away(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    before = run(study)
    journal = study.folder / "search.journal"
    with open(journal, "ab") as stream:
        stream.write(b'{"op_code": 5, "wor')
    (study.folder / "search.journal.lock").symlink_to(journal)
    assert jobs_of(study).results() == before


def test_the_chosen_trial_is_a_method_of_the_report(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    run(study)
    cells = jobs_of(study).chosen_cells()
    assert {cell.key.method for cell in cells} == {"weam-tuned"}
    assert all(store_of(study).find(cell.experiment.transfer) for cell in cells)


def test_trials_are_written_as_a_table_and_the_best_as_settings_to_paste(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    trials = run(study)
    table, tuned = write_trials(trials, tmp_path / "out")
    assert table.read_text().splitlines()[0].startswith("trial,state,dev_accuracy,cells")
    assert len(table.read_text().splitlines()) == 1 + len(trials)
    assert "masking_rate" in tuned.read_text() and "dev" in tuned.read_text()


def test_cells_of_a_trial_differ_in_what_is_searched_alone(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    varied = trial_study(study, 3, {"pretraining.masking_rate": 0.5})
    cells = expand(varied, study.data_dir).cells
    assert [cell.key.label for cell in cells] == [f"law.en-de.4.trial-0003.s{n}" for n in range(3)]
    own = [cell for cell in expand(study, study.data_dir).cells if cell.key.method == "weam"]
    for one, other in zip(cells, own, strict=True):
        assert one.experiment.base.address == other.experiment.base.address
        assert one.experiment.links[0].address == other.experiment.links[0].address
        assert one.experiment.encoder.address != other.experiment.encoder.address


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {"pretraining.lambda": {"low": 0, "high": 1}}}, "no setting lambda"),
        ({"space": {"base.layers": {"low": 1, "high": 2}}}, "shared base"),
        ({"space": {"pretraining.masking_rate": {"low": 0.5, "high": 1.5}}}, "1.5"),
        ({"space": {"pretraining.masking_rate": {"low": 0.5}}}, "low and high"),
        ({"space": {"pretraining.masking_rate": {"low": 0.5, "high": 0.1}}}, "not below"),
        ({"space": {"alignment.symmetrisation": {"choices": ["union", "onion"]}}}, "onion"),
        ({"method": "tlm"}, "grid.method does not name tlm"),
        ({"languages": ["xh"]}, "xh"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_the_file(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        study_of(tmp_path, **changes)


def test_claims_are_not_made_on_the_items_that_chose(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chooses on dev"):
        read_small(tmp_path, grid=GRID, search=SEARCH, report_split="dev")
