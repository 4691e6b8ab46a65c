"""Does the gain follow how near the text is to the task? Divergence as a covariate.

A place is a domain and pair; its gain is one point, with its variance, and its divergence (words
or subwords, bits, in the pair's other language) the covariate. Where pairs have several domains
each, only the spread within a pair is used, since languages differ by more than their text. The fit
is a random-effects meta-regression (DerSimonian and Laird's variance between places, Knapp and
Hartung 2003's interval): an association over the study's places, not a cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from weam_ray.study.comparisons import Comparison
from weam_ray.study.intervals import Interval
from weam_ray.study.lines import Key, Line
from weam_ray.study.report_input import DivergenceFacts

Unit = Literal["words", "subwords"]
PER = 0.1
"""Bits that a slope speaks of."""
_FEWEST_FREE = 2
"""Places beyond the parameters: with fewer the residual says nothing."""
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DomainMatch:
    """Gain of one line against the divergence of its text from the task."""

    line: Line
    unit: Unit
    size: int
    places: tuple[tuple[str, float, Interval], ...] = ()
    """(name, divergence in bits, gain) of every place."""
    slope: Interval | None = None
    """Gain per :data:`PER` bits further from the task; None where ``reason`` says why."""
    within_pairs: bool = False
    reason: str = ""


def domain_match(
    facts: Sequence[DivergenceFacts],
    lines: Sequence[Line],
    cells: Mapping[Key, Comparison],
    source: str,
) -> tuple[DomainMatch, ...]:
    """Each line's gains, at the size that most places have, against both divergences."""
    known = {
        (one.domain, one.pair, unit): value
        for one in facts
        if one.language != source
        for unit in ("words", "subwords")
        if (value := getattr(one, unit)) is not None
    }
    found = []
    for line in lines:
        sizes = [n for other, _, _, n in cells if other == line]
        if not known or not sizes:
            continue
        size = max(set(sizes), key=lambda n: (sizes.count(n), n))
        units: tuple[Unit, ...] = ("words", "subwords")
        for unit in units:
            points = [
                (domain, pair, known[domain, pair, unit], one)
                for (other, domain, pair, n), one in cells.items()
                if other == line and n == size and (domain, pair, unit) in known
            ]
            found.append(_match(line, unit, size, points))
    return tuple(found)


def _match(
    line: Line, unit: Unit, size: int, points: Sequence[tuple[str, str, float, Comparison]]
) -> DomainMatch:
    able = [one for one in points if one[3].claimable and one[3].effect is not None]
    places = tuple(
        (f"{domain} {pair}", bits, one.effect)
        for domain, pair, bits, one in able
        if one.effect is not None
    )
    pairs = sorted({pair for _, pair, _, _ in able})
    within = len(pairs) > 1 and len(able) - len(pairs) - 1 >= _FEWEST_FREE
    columns = [np.array([bits for _, _, bits, _ in able]) / PER]
    if within:
        columns += [np.array([float(own == pair) for _, own, _, _ in able]) for pair in pairs]
    else:
        columns.append(np.ones(len(able)))
    x = np.stack(columns, axis=1) if able else np.zeros((0, 2))
    reason = _reason(x)
    return DomainMatch(
        line=line,
        unit=unit,
        size=size,
        places=places,
        slope=None if reason else _regress(x, able),
        within_pairs=within,
        reason=reason,
    )


def _reason(x: Array) -> str:
    need = x.shape[1] + _FEWEST_FREE
    if len(x) < need:
        have = "1 domain and pair has" if len(x) == 1 else f"{len(x)} domains and pairs have"
        return f"{have} a gain and a divergence, and {need} would be needed"
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return "the places do not differ in their divergence"
    return ""


def _regress(x: Array, able: Sequence[tuple[str, str, float, Comparison]]) -> Interval:
    spreads = [one.spread for *_, one in able if one.spread is not None]
    y = np.array([one.mean for one in spreads])
    noise = np.array([one.seed_part + one.item_part for one in spreads])
    noise = np.maximum(noise, 1e-12)
    free = len(y) - x.shape[1]
    tau2 = _between(x, y, noise, free)
    weights = 1 / (noise + tau2)
    inverse = np.linalg.inv((x.T * weights) @ x)
    slope = inverse @ (x.T * weights) @ y
    rest = y - x @ slope
    # Knapp and Hartung's factor, never below 1: few places that lie on a line by luck prove little.
    factor = max(float((weights * rest**2).sum()) / free, 1.0)
    half = float(stats.t.ppf(0.975, free) * np.sqrt(inverse[0, 0] * factor))
    value = float(slope[0])
    return Interval(value=value, low=value - half, high=value + half)


def _between(x: Array, y: Array, noise: Array, free: int) -> float:
    """Variance between places beyond their noise and the covariate (method of moments)."""
    weights = 1 / noise
    weighted = (x.T * weights) @ x
    slope = np.linalg.solve(weighted, (x.T * weights) @ y)
    q = float((weights * (y - x @ slope) ** 2).sum())
    hat = np.trace(np.linalg.solve(weighted, (x.T * weights**2) @ x))
    scale = float(weights.sum() - hat)
    return max((q - free) / scale, 0.0) if scale > 0 else 0.0
