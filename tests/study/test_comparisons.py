"""Comparisons at matched factors: what was planted is found, what was not is not claimed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated import Answers, World, planted, simulate
from statsmodels.stats.contingency_tables import mcnemar as peer_mcnemar
from statsmodels.stats.multitest import multipletests

from weam_ray.study.comparisons import (
    Comparison,
    Question,
    compare_family,
    holm,
    mcnemar,
    multi_bootstrap,
    together,
)
from weam_ray.study.intervals import crossed, interval
from weam_ray.study.matching import Arm, Grid, Matched, level, match
from weam_ray.study.results import Results, View

NONE = Arm(method="none")


def grid_of(answers: Answers) -> Grid:
    return Grid.of(answers.results(), View(), "en")


def without(answers: Answers, *cells: str) -> Answers:
    """The study with some cells unfinished."""
    return dataclasses.replace(
        answers,
        rows=[row for row in answers.rows if not any(cell in str(row["cell"]) for cell in cells)],
    )


def compare(grid: Grid, a: Arm, b: Arm) -> Comparison:
    return compare_family(grid, [Question(name="one", a=a, b=b)])[0]


def slow_difference(answers: Answers, size: int, a: str, b: str) -> float:
    """Mean over seeds, pairs and items of the difference, by loops over labels."""
    world, total, count = answers.world, 0, 0
    for pair in world.pairs:
        language = pair.split("-")[1]
        for seed in range(world.seeds):
            cells = []
            for method in (a, b):
                place = f"medical.{pair}.{size}" if method != "none" else "-..0"
                cells.append(answers.predicted[f"transfer/{place}.{method}.{seed}", language])
            for item in range(world.items):
                total += int(cells[0][item] == answers.gold[item])
                total -= int(cells[1][item] == answers.gold[item])
                count += 1
    return total / count


@pytest.mark.parametrize(("a", "b"), [("weam", "tlm"), ("weam", "none")])
def test_the_difference_is_the_plain_mean_over_matched_items(a: str, b: str):
    answers = simulate(World(items=60, gain=planted(0.03)))
    size = 4000 if b != "none" else None
    found = compare(grid_of(answers), Arm(method=a, size=4000), Arm(method=b, size=size))
    assert found.effect is not None
    assert found.effect.value == pytest.approx(slow_difference(answers, 4000, a, b))
    assert np.mean([seed.difference for seed in found.seeds]) == pytest.approx(found.effect.value)


def test_a_planted_gain_is_found_and_a_control_is_not():
    grid = grid_of(simulate(World(items=800, gain=planted(0.03), seeds=5)))
    names = ("weam", "tlm", "weam-shuffled-links")
    questions = [Question(name=name, a=Arm(method=name, size=16000), b=NONE) for name in names]
    weam, tlm, shuffled = compare_family(grid, questions)
    assert weam.found and tlm.found and not shuffled.found
    assert weam.effect is not None and weam.effect.low < 0.15 < weam.effect.high


def test_each_pair_is_scored_in_its_own_language():
    grid = grid_of(simulate(World(items=40)))
    found = match(grid, Arm(method="weam", size=1000), NONE)
    assert isinstance(found, Matched)
    assert [one.languages for one in found.strata] == [("qaa",), ("qab",)]


def test_other_languages_can_be_asked_for():
    grid = grid_of(simulate(World(items=40)))
    found = match(grid, Arm(method="weam", pair="en-qaa", size=1000), NONE, lambda _: ("qab",))
    assert isinstance(found, Matched) and found.languages == ("qab",)


def test_a_seed_that_lacks_a_cell_is_left_out_and_said():
    answers = without(simulate(World(items=40)), "medical.en-qab.1000.weam.2")
    found = compare(grid_of(answers), Arm(method="weam", size=1000), NONE)
    assert [seed.seed for seed in found.seeds] == ["0", "1"]
    assert "1 of 3 seeds left out" in found.notes[0]


def test_what_has_not_finished_is_a_reason_not_a_crash():
    grid = grid_of(without(simulate(World(items=40)), ".weam."))
    found = compare(grid, Arm(method="weam"), NONE)
    assert found.effect is None and "finished" in found.reason


def test_arms_without_a_common_seed_can_not_be_compared():
    answers = without(simulate(World(items=40, seeds=2)), "none.1", "weam.0")
    found = compare(grid_of(answers), Arm(method="weam", size=1000), NONE)
    assert found.effect is None and "seed" in found.reason


def test_rows_without_predictions_are_a_reason():
    results = simulate(World(items=40)).results()
    grid = Grid.of(Results(rows=results.rows), View(), "en")
    assert "no predictions" in compare(grid, Arm(method="weam", size=1000), NONE).reason


def test_one_seed_is_never_a_claim():
    grid = grid_of(simulate(World(items=400, seeds=1, gain=planted(0.1))))
    found = compare(grid, Arm(method="weam", size=16000), NONE)
    assert found.effect is not None and found.effect.low > 0
    assert not found.found and found.p_holm is None


def test_identical_predictions_have_no_difference_and_p_one():
    answers = simulate(World(items=40))
    for cell, language in list(answers.predicted):
        answers.predicted[cell, language] = answers.gold
    found = compare(grid_of(answers), Arm(method="weam", size=1000), NONE)
    assert found.effect is not None and found.effect.value == 0
    assert found.identical and found.detectable is None
    assert found.p == 1.0 and found.p_holm == 1.0 and not found.found


def test_items_that_one_side_was_not_asked_are_left_out_and_counted():
    results = simulate(World(items=40)).results()
    for key, array in results.correct.arrays.items():
        if "en-qaa.1000.weam.0" in key[0]:
            array[:5] = -1
    found = compare(
        Grid.of(results, View(), "en"), Arm(method="weam", pair="en-qaa", size=1000), NONE
    )
    assert found.spread is not None and found.spread.items == 35
    assert any("5 items left out" in note for note in found.notes)


def test_seeds_that_cross_are_one_replicate_by_the_outermost():
    """2 pre-training x 2 fine-tuning seeds are 2 replicates, not 4: they share encoders."""
    answers = simulate(World(items=40, seeds=4, methods=("weam", "tlm")))
    for row in answers.rows:
        if row["method"] != "none":
            number = int(str(row["finetuning_seed"]))
            row["subset_seed"] = 0
            row["pretraining_seed"], row["finetuning_seed"] = divmod(number, 2)
    grid = grid_of(answers)
    found = compare(grid, Arm(method="weam", size=1000), Arm(method="tlm", size=1000))
    assert found.spread is not None and found.spread.seeds == 2
    assert any("averaged" in note for note in found.notes)


def test_a_constant_seed_of_the_baseline_does_not_hide_the_others():
    answers = simulate(World(items=40))
    for row in answers.rows:
        if row["method"] == "none":
            row["subset_seed"] = row["pretraining_seed"] = 0
    found = compare(grid_of(answers), Arm(method="weam", size=1000), NONE)
    assert found.spread is not None and found.spread.seeds == 3


def test_mcnemar_is_the_exact_binomial_test():
    for a, b in ((0, 0), (3, 9), (12, 12), (40, 10)):
        expected = peer_mcnemar([[5, a], [b, 5]], exact=True).pvalue if a + b else 1.0
        assert mcnemar(a, b) == pytest.approx(expected)


def test_mcnemar_is_given_for_one_language_and_withheld_for_several():
    grid = grid_of(simulate(World(items=60)))
    one = compare(grid, Arm(method="weam", size=1000, pair="en-qaa"), NONE)
    several = compare(grid, Arm(method="weam", size=1000), NONE)
    assert all(seed.mcnemar_p is not None for seed in one.seeds)
    assert all(seed.mcnemar_p is None for seed in several.seeds)
    first = one.seeds[0]
    assert first.only_a is not None and first.only_b is not None
    assert (first.only_a - first.only_b) / 60 == pytest.approx(first.difference)


def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(0).uniform(0, 0.2, 20)
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_families_whose_claims_stand_together_are_corrected_together():
    grid = grid_of(simulate(World(items=120)))
    asked = [Question(name=m, a=Arm(method=m), b=NONE) for m in ("tlm", "weam")]
    families = [compare_family(grid, [one]) for one in asked]
    found = [one for family in together(*families) for one in family]
    assert [one.p_holm for one in found] == holm([one.p for f in families for one in f if one.p])
    for one, alone in zip(found, (one for family in families for one in family), strict=True):
        assert one.detectable is not None and alone.detectable is not None
        assert one.detectable > alone.detectable and one.effect == alone.effect


def test_multi_bootstrap_agrees_with_the_model_where_seeds_are_many():
    random = np.random.default_rng(0)
    table = (
        0.05
        + random.normal(0, 0.02, (40, 1))
        + random.normal(0, 0.3, (1, 500))
        + random.normal(0, 0.3, (40, 500))
    )
    drawn, modelled = multi_bootstrap(table), interval(crossed(table))
    assert (drawn.low, drawn.high) == pytest.approx((modelled.low, modelled.high), abs=0.004)
    assert drawn == multi_bootstrap(table)


def test_a_level_is_the_mean_accuracy():
    answers = simulate(World(items=60))
    found = level(grid_of(answers), Arm(method="weam", size=1000, pair="en-qaa"))
    rows = [
        float(str(row["value"]))
        for row in answers.rows
        if row["method"] == "weam"
        and row["size"] == 1000
        and row["pair"] == "en-qaa"
        and row["language"] == "qaa"
    ]
    assert isinstance(found, Matched) and found.table.mean() == pytest.approx(np.mean(rows))
