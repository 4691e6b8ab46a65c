"""The test that pairs nothing and clusters nothing, for contrast in benchmarks/claims.py."""

from __future__ import annotations

import numpy as np
from scipy import stats

from weam_ray.study.comparisons import Question
from weam_ray.study.matching import Grid, Matched, match


def unpaired(grid: Grid, question: Question) -> float:
    """The contrast: all answers of all seeds and languages as independent, two proportions."""
    counts = []
    for arm, other in ((question.a, question.b), (question.b, question.a)):
        side = match(grid, arm, other)
        assert isinstance(side, Matched)
        right, n = 0, 0
        for stratum in side.strata:
            for cell in stratum.a:
                for language in stratum.languages:
                    array = grid.array(cell, language)
                    assert array is not None
                    right, n = right + int(array.sum()), n + len(array)
        counts.append((right, n))
    return two_proportions(*counts)


def two_proportions(one: tuple[int, int], other: tuple[int, int]) -> float:
    """The p value of "right of asked" against another such pair."""
    (a, n), (b, m) = one, other
    pooled = (a + b) / (n + m)
    z = (a / n - b / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(2 * stats.norm.sf(abs(z)))
