"""The short way through many simulated studies is the long way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from naive import unpaired
from repeated import Repeated, retabled
from simulated import World, planted

from weam_ray.study.lines import method_questions
from weam_ray.study.matching import Grid, Matched, match
from weam_ray.study.results import View
from weam_ray.study.scaling import Series
from weam_ray.study.slopes import measure

WORLD = World(items=60, methods=("tlm", "weam"), gain=planted(0.02), baseline_seed_sd=0.05)


@pytest.fixture(scope="module")
def studies() -> Repeated:
    return Repeated.of(WORLD)


def test_tables_and_naive_tests_are_those_of_the_whole_study(studies: Repeated):
    asked = studies.ask(method_questions(studies.grid, studies.lines))
    right = studies.draw(5)
    grid = Grid.of(studies.whole(right), View(), "en")
    for one, table in zip(asked.questions, retabled(asked, right), strict=True):
        other = match(grid, one.a, one.b)
        assert isinstance(other, Matched)
        np.testing.assert_allclose(table.table, other.table, atol=1e-12)
    assert studies.naive(asked, right) == pytest.approx(
        [unpaired(grid, one) for one in asked.questions]
    )


def test_gains_by_size_are_those_of_the_whole_study(studies: Repeated):
    right = studies.draw(6)
    whole = measure(Grid.of(studies.whole(right), View(), "en"), studies.lines, studies.keys)
    short = studies.grown(right)
    for line in studies.lines:
        one, other = short.joined[line], whole.joined[line]
        assert isinstance(one, Series) and isinstance(other, Series)
        np.testing.assert_allclose(one.tables, other.tables, atol=1e-12)
        for place, part in short.parts[line].items():
            np.testing.assert_allclose(part.tables, whole.parts[line][place].tables, atol=1e-12)


def test_another_study_has_other_answers_and_the_same_one_has_the_same(studies: Repeated):
    assert (studies.draw(7) != studies.draw(8)).any()
    assert (studies.draw(7) == studies.draw(7)).all()


def test_what_is_drawn_has_the_gains_and_the_spread_of_its_world():
    still = replace(WORLD, items=4000, seeds=40, seed_sd=0.02, baseline_seed_sd=0.0)
    studies = Repeated.of(replace(still, seeds=2, items=20))
    right = replace(studies, world=still).draw(0)
    levels = {unit: right[k].mean(1) for k, unit in enumerate(studies.units)}
    none, weam = levels["", "", 0, "none", "qaa"], levels["medical", "en-qaa", 16000, "weam", "qaa"]
    assert weam.mean() - none.mean() == pytest.approx(0.1, abs=0.02)
    assert none.std() < 0.012 < weam.std() < 0.035
