"""Does a method's gain grow with the bilingual text, per method and averaged over its places?

A place is a domain and a pair. :func:`measure` asks, :func:`conclude` says what follows once the
answers have been corrected together with whatever else the page claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from weam_ray.study import scaling
from weam_ray.study.comparisons import LEVEL, Comparison, Question, judge, moderated
from weam_ray.study.curves import Form
from weam_ray.study.intervals import Interval, intervals
from weam_ray.study.lines import Key, Line
from weam_ray.study.matching import Arm, Grid, Matched, match
from weam_ray.study.results import BASELINE

_Place = tuple[str, str]
Bands = dict[tuple[Line, str, str], scaling.Band]
"""The fitted gain of a line in a domain and pair."""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """How one line's gain grows, averaged over domains and pairs."""

    line: Line
    comparison: Comparison
    form: Form | None
    """The form that foretold the held-out largest size best; None with fewer than three sizes."""
    held_out: tuple[scaling.HeldOut, ...] = ()
    needed: scaling.PairsNeeded | None = None
    by_pair: tuple[tuple[str, Interval], ...] = ()
    pooled: scaling.Pooled | None = None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The gains of every line by size, and the slopes through them before any correction."""

    lines: tuple[Line, ...]
    parts: dict[Line, dict[_Place, scaling.Series]]
    joined: dict[Line, scaling.Series | str]
    """The mean over places, or why there is none."""
    answers: list[Comparison]
    """A slope per line, in their order."""

    @cached_property
    def alone(self) -> dict[tuple[Line, _Place], Comparison]:
        """The slope of each of the parts, judged as a family of its own."""
        single = {
            (line, place): one for line in self.lines for place, one in self.parts[line].items()
        }
        judged = judge(
            [slope_question(line) for line, _ in single],
            [scaling.slope_contrast(one) for one in single.values()],
        )
        return dict(zip(single, judged, strict=True))


def measure(grid: Grid, lines: Sequence[Line], keys: Sequence[Key]) -> Growth:
    """Stack each line's gains by size and judge the slopes of all lines as one family."""
    parts = {line: _series(grid, line, keys) for line in lines}
    joined = {line: scaling.mean_series(list(parts[line].values())) for line in lines}
    contrasts = [
        one if isinstance(one := joined[line], str) else scaling.slope_contrast(one)
        for line in lines
    ]
    return Growth(
        lines=tuple(lines),
        parts=parts,
        joined=joined,
        answers=judge([slope_question(line) for line in lines], contrasts),
    )


def conclude(growth: Growth, answers: Sequence[Comparison], target: float) -> tuple[Slope, ...]:
    """The slopes in full.

    Args:
        growth: of :func:`measure`.
        answers: its answers, corrected.
        target: the gain of "how many pairs for this gain?", a share.
    """
    return tuple(
        _conclude_one(growth, line, answer, target)
        for line, answer in zip(growth.lines, answers, strict=True)
    )


def curve_bands(growth: Growth, slopes: Sequence[Slope]) -> Bands:
    """The fitted curves of the lines whose slope was found, one for each place."""
    bands = Bands()
    for slope in slopes:
        for (domain, pair), one in growth.parts[slope.line].items():
            spread = growth.alone[slope.line, (domain, pair)].spread
            if slope.comparison.found and spread is not None:
                drawn = scaling.draw(one, spread)
                bands[slope.line, domain, pair] = scaling.band(
                    one, slope.form or "log-linear", drawn
                )
    return bands


def _conclude_one(growth: Growth, line: Line, answer: Comparison, target: float) -> Slope:
    whole = growth.joined[line]
    if isinstance(whole, str):
        return Slope(line=line, comparison=answer, form=None)
    own = growth.parts[line]
    form = scaling.best_form([scaling.held_out(one) for one in own.values()])
    judged = {place: growth.alone[line, place] for place in own}
    return Slope(
        line=line,
        comparison=answer,
        form=form,
        held_out=scaling.held_out(whole),
        needed=_needed(whole, form, answer, target),
        by_pair=tuple(
            (" ".join(part for part in place if part), one.effect)
            for place, one in judged.items()
            if one.effect is not None
        ),
        pooled=_pooled(list(judged.values())),
    )


def slope_question(line: Line) -> Question:
    """How a slope is called."""
    return Question(name=f"{line.name}: gain a doubling", a=line.arm(), b=Arm(method=BASELINE))


def _series(grid: Grid, line: Line, keys: Sequence[Key]) -> dict[tuple[str, str], scaling.Series]:
    found: dict[tuple[str, str], scaling.Series] = {}
    for place in dict.fromkeys((d, p) for one, d, p, _ in keys if one == line):
        by_size: dict[int, Matched] = {}
        for size in [n for one, d, p, n in keys if one == line and (d, p) == place]:
            gain = match(
                grid,
                line.arm(size=size, domain=place[0], pair=place[1]),
                Arm(method=BASELINE),
            )
            if not isinstance(gain, str):
                by_size[size] = gain
        stacked = scaling.series(by_size)
        if not isinstance(stacked, str):
            found[place] = stacked
    return found


def _needed(
    whole: scaling.Series, form: Form | None, answer: Comparison, target: float
) -> scaling.PairsNeeded:
    if answer.spread is None or not answer.claimable:
        return scaling.PairsNeeded(gain=target, sizes=None, reason=answer.too_little)
    if answer.found:
        draws = scaling.draw(whole, answer.spread)
        said = scaling.pairs_needed(whole, form or "log-linear", draws, target)
        # Of sizes that were measured the measurement says more than a curve: a constant may have
        # foretold the largest size best, though the smallest one's own gain is within the noise.
        if said.at_most is None:
            return said
        return _by_sizes(whole, target, "a curve has it at every size")
    return _by_sizes(whole, target, "no slope was detectable")


def _by_sizes(whole: scaling.Series, target: float, why: str) -> scaling.PairsNeeded:
    """Without a curve: the sizes measured whose own gain is above or below the target for sure.

    Bonferroni over the sizes; seed variances moderated among them.
    """
    spreads = moderated(whole.gains)
    level = 1 - (1 - LEVEL) / len(spreads)
    bounds = intervals(spreads, level)
    enough = [n for n, one in zip(whole.sizes, bounds, strict=True) if one.low >= target]
    short = [n for n, one in zip(whole.sizes, bounds, strict=True) if one.high < target]
    if not enough:
        reason = f"{why}, and no size measured has that gain for sure"
        return scaling.PairsNeeded(gain=target, sizes=None, reason=reason)
    return scaling.PairsNeeded(
        gain=target,
        sizes=None,
        at_most=enough[0],
        more_than=max((n for n in short if n < enough[0]), default=None),
    )


def _pooled(judged: Sequence[Comparison]) -> scaling.Pooled | None:
    spreads = [one.spread for one in judged if one.spread is not None and one.spread.seeds > 1]
    if len(spreads) < len(judged):
        return None
    return scaling.pool(
        [one.mean for one in spreads], [one.seed_part + one.item_part for one in spreads]
    )
