"""A plan says what will run and why, what is done, and what it costs, before anything is spent."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from planned_study import estimate_of, plan_of, pretend, read_small, run, store_of

from weam_ray.artifacts import Artifact, Step, Store
from weam_ray.study.estimate import Machine
from weam_ray.study.plan_text import in_thousands, in_time, plan_text
from weam_ray.study.reasons import difference

# --- what will run


def test_stages_that_cells_share_are_counted_once_and_listed_in_order(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": ["none", "tlm", "weam"], "seed": [0, 1]})
    plan = plan_of(study)
    assert len(plan.cells) == len(plan.cells_to_run) == 10
    counts = {stage: (total, missing) for stage, total, missing in plan.stages()}
    for shared in ("items", "corpus", "links", "vocabulary", "base", "tokens", "sanity"):
        assert counts[shared] == (1, 1), shared
    assert counts["encoder"] == (8, 8) and counts["transfer"] == (10, 10)
    seen: set[str] = set()
    for address, step in plan.steps.items():
        assert {needed.address for needed in step.upstream.values()} <= seen
        seen.add(address)


def test_what_was_run_is_done_and_nothing_is_left(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    run(plan_of(study), store_of(study))
    plan = plan_of(study)
    assert not plan.missing and not plan.cells_to_run
    assert plan.summary() == "3 cells: 3 done, 0 to run"


def test_a_grid_that_grew_runs_only_what_is_new(tmp_path: Path) -> None:
    run(plan_of(read_small(tmp_path)), store_of(read_small(tmp_path)))
    grown = read_small(tmp_path, grid={"size": [2, 3, 4], "seed": [0, 1]})
    plan = plan_of(grown)
    assert sorted(cell.key.label for cell in plan.cells_to_run) == [
        "law.en-de.2.weam.s1",
        "law.en-de.3.weam.s0",
        "law.en-de.3.weam.s1",
        "law.en-de.4.weam.s1",
        "none.s1",
    ]
    assert {plan.steps[address].stage for address in plan.missing} <= {
        "encoder",
        "transfer",
        "retrieval",
        "probe",
    }


def test_what_finished_cells_were_built_on_may_be_cleared_away(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"method": "weam"})
    store = store_of(study)
    run(plan_of(study), store)
    shutil.rmtree(store.root / "encoder")
    assert not plan_of(study).cells_to_run
    grown = plan_of(read_small(tmp_path, grid={"method": "weam", "finetuning_seed": [0, 1]}))
    assert len(grown.cells_to_run) == 2, "their encoders have to be made again"
    assert len(grown.missing_of("encoder")) == 2


def test_planning_writes_nothing(tmp_path: Path) -> None:
    plan_of(read_small(tmp_path))
    assert not (tmp_path / "storage").exists()


def test_a_large_grid_looks_each_step_up_once_and_reads_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps thousands of cells within seconds; the clock itself would make a shaky test."""
    study = read_small(
        tmp_path,
        grid={"pair": ["en-de", "en-fr"], "method": ["tlm", "weam"], "seed": list(range(25))},
    )
    looked: Counter[str] = Counter()
    find = Store.find

    def counted(store: Store, step: Step | str) -> Artifact | None:
        looked[step if isinstance(step, str) else step.address] += 1
        return find(store, step)

    monkeypatch.setattr(Store, "find", counted)
    read: Counter[str] = Counter()
    monkeypatch.setattr(
        "weam_ray.identity._file_hash",
        _remembering(lambda path, *_: read.update([path]) or str(path)),
    )
    plan = plan_of(study)
    assert len(plan.cells) == 200
    corpora = {step.address for step in plan.missing_of("corpus")}
    assert all(count == 1 + (address in corpora) for address, count in looked.items())
    assert set(read.values()) == {1}


def _remembering(function: Any) -> Any:
    return lru_cache(maxsize=None)(function)


# --- why


def test_every_step_that_runs_has_a_reason(tmp_path: Path) -> None:
    plan = plan_of(read_small(tmp_path))
    (base,), (links,) = plan.missing_of("base"), plan.missing_of("links")
    assert plan.why(base) == "it builds on vocabulary, which will run"
    assert plan.why(links) == "it builds on corpus, which will run"
    (items,) = plan.missing_of("items")
    assert plan.why(items) == "no output with these settings and inputs is in the store"


@pytest.mark.parametrize(
    ("override", "stage", "words"),
    [
        ("pretraining.steps=9", "encoder", "pretraining.steps 4 → 9"),
        ("base.hidden=16", "base", "base.hidden 8 → 16"),
        ("bitext.cleaning.max_words=7", "corpus", "cleaning.max_words 150 → 7"),
    ],
)
def test_a_changed_setting_is_named_as_the_reason(
    tmp_path: Path, override: str, stage: str, words: str
) -> None:
    changes = {"grid": {"size": 2, "method": "weam"}}
    study = read_small(tmp_path, **changes)
    run(plan_of(study), store_of(study))
    plan = plan_of(read_small(tmp_path, override, **changes))
    (step,) = plan.missing_of(stage)
    found = difference(step, store_of(study))
    assert found is not None and found.startswith(words) and f"(else as {stage}/" in found


def test_a_changed_file_is_named_as_the_reason(tmp_path: Path) -> None:
    study = read_small(tmp_path, grid={"size": 2, "method": "weam"})
    run(plan_of(study), store_of(study))
    (tmp_path / "data" / "mono.de").write_text("changed text\n")
    text = plan_text(plan_of(study), estimate_of(study), store_of(study))
    assert "vocabulary (1): no output with these settings and inputs is in the store: " in text
    assert "the content of text:de changed" in text


def test_a_raised_version_is_named_as_the_reason(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    (items,) = plan_of(study).missing_of("items")
    store = store_of(study)
    pretend(items, store)
    newer = Step(stage="items", version=items.version + 1, config=items.config, inputs=items.inputs)
    assert difference(newer, store) == (
        f"version {items.version} → {items.version + 1} (else as {items.address})"
    )


def test_the_nearest_of_several_records_is_the_one_compared_with(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"grid": {"size": 2, "method": "weam"}}
    for overrides in (("pretraining.steps=5", "pretraining.batch_size=3"), ()):
        study = read_small(tmp_path, *overrides, **changes)
        run(plan_of(study), store_of(study))
    plan = plan_of(read_small(tmp_path, "pretraining.steps=6", **changes))
    found = difference(plan.missing_of("encoder")[0], store_of(study))
    assert found is not None and found.startswith("pretraining.steps 4 → 6 (else as")


# --- how it reads


def test_the_plan_reads_as_a_table_with_reasons_and_a_total(tmp_path: Path) -> None:
    study = read_small(
        tmp_path, grid={"pair": ["en-de", "en-fr"], "domain": ["law", "talks"], "seed": [0, 1]}
    )
    run(plan_of(study), store_of(study), only="corpus")
    plan = plan_of(study)
    found = estimate_of(study, Machine(cpus=2, flops=1e9), price_per_hour=2.5)
    lines = plan_text(plan, found, store_of(study)).splitlines()
    assert lines[0].startswith("14 cells: 0 done, 14 to run; 4 holes; stages to run: ")
    assert lines[1].startswith("hole: talks.en-fr.2.weam.s0 and 3 more: no talks text for en-fr")
    table = {line.split()[0]: line.split() for line in lines[4 : 4 + len(found.stages)]}
    assert table["corpus"][1:4] == ["3", "3", "0"]
    assert table["encoder"][1:4] == ["12", "0", "12"]
    assert "  links (3): no output with these settings and inputs is in the store" in lines
    assert "2 cells at once" in lines[-1] and "cost 0.00" in lines[-1]
    assert max(len(line) for line in lines) < 220


def test_a_time_that_nothing_tells_is_not_said_to_be_none(tmp_path: Path) -> None:
    study = read_small(tmp_path, "resources.cell_threads=2")
    last = plan_text(plan_of(study), estimate_of(study), store_of(study)).splitlines()[-1]
    assert last.startswith("time not known with 1 cell at once, ")


def test_every_step_can_be_listed_with_its_reason(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    plan = plan_of(study)
    text = plan_text(plan, estimate_of(study), store_of(study), every_step=True)
    assert {line.split()[1].rstrip(":") for line in text.splitlines() if line[:4] == "run "} == set(
        plan.missing
    )


def test_a_finished_plan_has_no_total(tmp_path: Path) -> None:
    study = read_small(tmp_path)
    run(plan_of(study), store_of(study))
    text = plan_text(plan_of(study), estimate_of(study), store_of(study))
    assert "why" not in text and "about" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.25, "0.2 s"),
        (59.6, "1 min 0 s"),
        (3700, "1 h 1 min"),
        (3 * 86400, "3.0 days"),
    ],
)
def test_times_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert in_time(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, ""), (9_999, "9,999"), (12_345, "12.3k"), (12_300_000, "12.3M"), (10**11, "100.0G")],
)
def test_large_numbers_are_short(number: int | None, text: str) -> None:
    assert in_thousands(number) == text
