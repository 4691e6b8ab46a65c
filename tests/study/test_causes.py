"""Causes: parts add up to the whole, what was planted is found, what can't be told is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated import Answers, World, planted, simulate

from weam_ray.study.analysis import analyse
from weam_ray.study.cause_tables import cause_sentences
from weam_ray.study.causes import Decomposition
from weam_ray.study.domain import PER, domain_match
from weam_ray.study.lines import Line
from weam_ray.study.report_input import DivergenceFacts, ReportInput


def both_regimes(world: World, deficit: dict[int, float]) -> Answers:
    """A study in which links of the subset alone cost ``deficit`` at each size."""

    def subset(method: str, size: int, pair: str) -> float:
        return world.gain(method, size, pair) - (deficit[size] if method == "weam" else 0.0)

    pool = simulate(world, 1)
    poorer = simulate(dataclasses.replace(world, gain=subset, methods=("weam",)), 2)
    names = {str(row["cell"]): f"{row['cell']}.subset" for row in poorer.rows if row["pair"]}
    rows = [
        {**row, "cell": names[str(row["cell"])], "regime": "subset"}
        for row in poorer.rows
        if row["pair"]
    ]
    moved = {
        (names[cell], language): np.where(labels == poorer.gold, pool.gold, (pool.gold + 1) % 3)
        for (cell, language), labels in poorer.predicted.items()
        if cell in names
    }
    return dataclasses.replace(
        pool, rows=[*pool.rows, *rows], predicted={**pool.predicted, **moved}
    )


def parts_of(answers: Answers, start: str) -> Decomposition:
    found = analyse(ReportInput(title="causes", results=answers.results()))
    return next(one for one in found.decompositions if one.name.startswith(start))


WORLD = World(
    items=2500, seeds=5, seed_sd=0.004, methods=("weam",), sizes=(1000, 16000), gain=planted(0.02)
)


def test_better_links_and_more_text_are_told_apart():
    found = parts_of(both_regimes(WORLD, {1000: 0.06, 16000: 0.0}), "WEAM: growth")
    assert found.whole is not None and found.whole.effect is not None and found.whole.found
    assert found.whole.effect.low < 0.08 + 0.06 < found.whole.effect.high
    text, links = found.parts
    for part, truth in ((text, 0.08), (links, 0.06)):
        effect, share = part.comparison.effect, part.share
        assert effect is not None and effect.low < truth < effect.high
        assert share is not None and share.low < truth / 0.14 < share.high
    effects = [part.comparison.effect.value for part in found.parts if part.comparison.effect]
    assert sum(effects) == pytest.approx(found.whole.effect.value)


def test_one_regime_alone_says_what_is_missing():
    found = parts_of(simulate(World(items=60)), "WEAM: growth")
    assert found.whole is None and "no cells with subset links" in found.reason


def test_the_rungs_of_a_ladder_add_up_to_the_gain():
    answers = simulate(World(items=300, methods=("mlm", "tlm", "weam"), gain=planted(0.02)))
    found = parts_of(answers, "WEAM against no pre-training at 16")
    assert [part.name for part in found.parts] == [
        "text alone",
        "sentence pairs",
        "the exchange of aligned words",
    ]
    assert found.whole is not None and found.whole.effect is not None
    effects = [part.comparison.effect.value for part in found.parts if part.comparison.effect]
    assert sum(effects) == pytest.approx(found.whole.effect.value)


def test_a_part_that_the_page_shows_elsewhere_has_the_same_interval_here():
    answers = simulate(World(items=300, gain=planted(0.03)))
    found = analyse(ReportInput(title="causes", results=answers.results()))
    ladder = next(one for one in found.decompositions if "objective by" in one.name)
    shown = {one.question.name: one for one in found.methods}
    assert ladder.whole == shown["WEAM against no pre-training"]
    assert [part.comparison for part in ladder.parts] == [
        shown["TLM against no pre-training"],
        shown["WEAM against TLM"],
    ]


def test_a_gain_of_nothing_has_no_shares():
    found = parts_of(simulate(World(items=200, methods=("tlm", "weam")), 3), "WEAM against")
    assert found.whole is not None and not found.whole.found
    assert all(part.share is None for part in found.parts)


def with_passes(answers: Answers, method: str, as_method: str) -> Answers:
    """Cells of a method again, trained for equal passes and under another name."""
    rows, predicted = [], dict(answers.predicted)
    for row in answers.rows:
        if row["method"] == method:
            cell = f"{row['cell']}.passes"
            steps = int(str(row["size"])) // 10
            rows.append({**row, "cell": cell, "method": as_method, "epochs": 3.2, "steps": steps})
            language = str(row["language"])
            predicted[cell, language] = predicted[str(row["cell"]), language]
    return dataclasses.replace(answers, rows=[*answers.rows, *rows], predicted=predicted)


def test_one_budget_alone_says_that_size_and_repetition_are_one():
    given = ReportInput(title="one budget", results=simulate(World(items=60)).results())
    text = " ".join(cause_sentences(analyse(given)))
    assert "every cell trained for 100 steps" in text
    assert "3.2 times at 1\u202f000 pairs and 0.2 times at 16\u202f000" in text


def test_equal_steps_are_compared_with_equal_passes():
    answers = with_passes(simulate(World(items=60)), "weam", "weam-passes")
    given = ReportInput(
        title="two budgets", results=answers.results(), objectives={"weam-passes": "weam"}
    )
    found = analyse(given)
    names = [one.question.name for one in found.causes]
    assert names == [
        f"WEAM (equal steps) against weam-passes (equal passes), {size} pairs"
        for size in ("1\u202f000", "4\u202f000", "16\u202f000")
    ]
    assert all(one.identical for one in found.causes)


def divergences(world: World, bits: dict[tuple[str, str], float]) -> tuple[DivergenceFacts, ...]:
    return tuple(
        DivergenceFacts(
            domain=domain,
            pair=pair,
            language=pair.split("-")[1],
            words=value,
            words_within=0.1,
            subwords=value / 2,
            subwords_within=0.05,
            unseen=0.1,
        )
        for (domain, pair), value in bits.items()
    )


def test_a_gain_that_falls_with_divergence_is_seen_within_pairs():
    bits = {
        (domain, pair): 0.3 + 0.1 * k + (0.2 if pair == "en-qab" else 0.0)
        for k, domain in enumerate(("medical", "law", "talks"))
        for pair in ("en-qaa", "en-qab")
    }

    world = World(
        domains=("medical", "law", "talks"), items=1500, sizes=(4000,), methods=("weam",), seeds=4
    )
    parts = []
    for (domain, pair), value in bits.items():
        gain = 0.15 - 0.4 * (value - 0.3) + (0.1 if pair == "en-qab" else 0.0)
        one = dataclasses.replace(
            world, domains=(domain,), pairs=(pair,), gain=lambda m, s, p, g=gain: g
        )
        parts.append(simulate(one, 5))
    # One baseline and one set of items: each part's own answers, as right or wrong as they were.
    first = parts[0]
    rows, predicted = list(first.rows), dict(first.predicted)
    for part in parts[1:]:
        rows += [row for row in part.rows if row["pair"]]
        for (cell, language), labels in part.predicted.items():
            if "..0." not in cell and "-..0" not in cell:
                right = labels == part.gold
                predicted[cell, language] = np.where(right, first.gold, (first.gold + 1) % 3)
    answers = dataclasses.replace(first, rows=rows, predicted=predicted)
    given = ReportInput(
        title="domains", results=answers.results(), divergences=divergences(world, bits)
    )
    found = next(one for one in analyse(given).domain_match if one.unit == "words")
    assert found.within_pairs and len(found.places) == 6
    assert found.slope is not None
    assert found.slope.low < -0.4 * PER < found.slope.high < 0


def test_two_places_say_nothing_about_divergence():
    world = World(items=60)
    bits = {("medical", "en-qaa"): 0.3, ("medical", "en-qab"): 0.4}
    given = ReportInput(
        title="few", results=simulate(world).results(), divergences=divergences(world, bits)
    )
    found = analyse(given).domain_match
    assert found and all(one.slope is None for one in found)
    assert "2 domains and pairs have a gain" in found[0].reason
    assert "can't be said" in " ".join(cause_sentences(analyse(given)))


def test_without_divergences_there_is_nothing_to_fit():
    assert domain_match((), (Line(method="weam"),), {}, "en") == ()
