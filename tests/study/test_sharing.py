"""What comparisons share of their noise: the runs that they have in common, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from simulated import World, simulate

from weam_ray.study.intervals import crossed_family
from weam_ray.study.matching import Arm, Grid, Matched, match
from weam_ray.study.results import View
from weam_ray.study.sharing import overlap

NONE = Arm(method="none")


def matched(world: World, arms: Sequence[Arm]) -> list[Matched]:
    grid = Grid.of(simulate(world).results(), View(), "en")
    found = [match(grid, arm, NONE) for arm in arms]
    return [one for one in found if isinstance(one, Matched)]


def shared(tables: Sequence[Matched]) -> np.ndarray:
    return overlap(tables, crossed_family([one.table for one in tables]))


def test_two_methods_against_one_baseline_share_half_of_their_noise():
    arms = [Arm(method=m, size=1000) for m in ("weam", "tlm")]
    found = shared(matched(World(items=2000, pairs=("en-qaa",)), arms))
    assert found == pytest.approx(np.array([[1.0, 0.5], [0.5, 1.0]]), abs=0.04)


def test_a_baseline_answers_each_language_with_noise_of_its_own():
    """Where runs hardly shift as wholes, two pairs share little though their baseline is one."""
    arms = [Arm(method="weam", size=1000, pair=pair) for pair in ("en-qaa", "en-qab")]
    tables = matched(World(items=2000, seed_sd=0.0, seeds=5), arms)
    assert shared(tables)[0, 1] < 0.2


def test_shifts_of_whole_runs_are_shared_between_languages():
    arms = [Arm(method="weam", size=1000, pair=pair) for pair in ("en-qaa", "en-qab")]
    tables = matched(World(items=2000, seed_sd=0.1, seeds=5), arms)
    assert shared(tables)[0, 1] == pytest.approx(0.5, abs=0.05)


def test_tables_of_other_items_or_seeds_are_told_by_their_cells_alone():
    arms = [Arm(method=m, size=1000) for m in ("weam", "tlm")]
    one, other = matched(World(items=50, pairs=("en-qaa",)), arms)
    shorter = replace(other, table=other.table[:, 1:], items=np.arange(1, 50))
    fewer = replace(other, table=other.table[:2], seeds=other.seeds[:2])
    for tables in ([one, shorter], [one, fewer]):
        assert shared(tables) == pytest.approx(np.array([[1.0, 0.5], [0.5, 1.0]]))


def test_tables_without_any_noise_are_not_divided_by_it():
    arms = [Arm(method=m, size=1000) for m in ("weam", "tlm")]
    still = [
        replace(one, table=np.zeros((3, 50)))
        for one in matched(World(items=50, pairs=("en-qaa",)), arms)
    ]
    assert shared(still) == pytest.approx(np.array([[1.0, 0.5], [0.5, 1.0]]))
