"""Why does accuracy rise? A difference taken apart into steps that add up to it.

Two ways apart, each a sum of differences between cells at matched factors, so that the parts add up
to the whole exactly and each has an interval of its own:

- *growth*: with more pairs come better links and more pre-training text. Cells of both aligner
  regimes at two sizes tell them apart. ``S`` learns its links from the subset alone, ``P`` from the
  whole corpus at either size::

      S(large) - S(small) = [P(large) - P(small)]                                  more text
                          + [(P(small) - S(small)) - (P(large) - S(large))]        better links

- *ladder*: at one size, controls stand between no pre-training and the method, and each rung adds
  one thing: text, pairing, the exchange of aligned words, the right links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from weam_ray.study.comparisons import Comparison, Question, judge, together
from weam_ray.study.intervals import Interval, crossed, half_width
from weam_ray.study.lines import Line, largest
from weam_ray.study.matching import Arm, Grid, Matched, match, same_items
from weam_ray.study.results import BASELINE
from weam_ray.study.wording import count, method_name

_LADDERS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "objective by objective",
        (
            ("mlm", "text alone"),
            ("tlm", "sentence pairs"),
            ("weam", "the exchange of aligned words"),
        ),
    ),
    (
        "beside links at random",
        (("weam-shuffled-links", "all but the right links"), ("weam", "the right links")),
    ),
    (
        "beside pairs at random",
        (("tlm-shuffled-pairs", "all but the right pairs"), ("tlm", "the right pairs")),
    ),
)
"""Methods from the bottom up, and what each adds to the one below (the first: to none). A rung that
the study lacks is left out, its part falling to the next, unless nothing is left to take apart."""

_SHARES = np.linspace(-1.0, 2.0, 601)
"""Shares of the whole that are tried, Fieller's way."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One summand."""

    name: str
    comparison: Comparison
    share: Interval | None
    """Of the whole (Fieller's interval); None where the whole is not distinguishable from 0, or the
    share has no bounds between -100 % and +200 %."""


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """A difference and its parts, or the reason why it can't be taken apart."""

    name: str
    whole: Comparison | None
    parts: tuple[Part, ...] = ()
    reason: str = ""
    """What the study lacks, and what would have to be added."""


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """A signed sum of arms, before it is judged."""

    name: str
    table: Matched
    arms: tuple[Arm, Arm] | None = None
    """Where it is a plain difference that the study may have asked for already."""
    cells: int = 2
    """Configurations that enter: sums of as many are judged together, for their noise is alike."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A whole and its parts."""

    name: str
    whole: _Sum
    parts: tuple[_Sum, ...]


def decompose(
    grid: Grid, lines: Sequence[Line], known: Sequence[Comparison]
) -> tuple[Decomposition, ...]:
    """Every difference of the study that controls or regimes can take apart.

    Args:
        grid: the cells.
        lines: of the study.
        known: comparisons that were answered already; a part that is one of them is not judged
            again, so that it has one interval. The others are one Holm family.
    """
    ladders = [_ladder(grid, lines, *ladder) for ladder in _LADDERS]
    found: list[_Asked | Decomposition] = [
        *(one for one in ladders if one is not None),
        *(_growth(grid, method) for method in _with_links(grid)),
    ]
    sums = [
        part
        for one in found
        if isinstance(one, _Asked)
        for part in (one.whole, *one.parts)
        if _among(part, known) is None
    ]
    kinds = sorted({one.cells for one in sums})
    judged = together(*(_judge([one for one in sums if one.cells == kind]) for kind in kinds))
    answers = {
        id(one): answer
        for kind, family in zip(kinds, judged, strict=True)
        for one, answer in zip([one for one in sums if one.cells == kind], family, strict=True)
    }
    return tuple(
        one
        if isinstance(one, Decomposition)
        else _told(one, lambda part: _among(part, known) or answers[id(part)])
        for one in found
    )


def _judge(sums: Sequence[_Sum]) -> list[Comparison]:
    return judge(
        [Question(name=one.name, a=Arm(), b=Arm()) for one in sums], [one.table for one in sums]
    )


def _among(one: _Sum, known: Sequence[Comparison]) -> Comparison | None:
    for other in known:
        if other.effect is None or other.spread is None:
            continue
        same = (other.question.a, other.question.b) == one.arms
        # The same arms over fewer places, seeds or items would be another quantity.
        shape = (other.spread.seeds, other.spread.items) == one.table.table.shape
        if same and shape and abs(other.effect.value - float(one.table.table.mean())) < 1e-9:
            return other
    return None


def _told(asked: _Asked, answer: Callable[[_Sum], Comparison]) -> Decomposition:
    whole = answer(asked.whole)
    clear = whole.claimable and whole.effect is not None
    if whole.effect is not None:
        clear = clear and not whole.effect.low <= 0 <= whole.effect.high
    return Decomposition(
        name=asked.name,
        whole=whole,
        parts=tuple(
            Part(
                name=part.name,
                comparison=answer(part),
                share=_share(part.table, asked.whole.table, whole) if clear else None,
            )
            for part in asked.parts
        ),
    )


def _with_links(grid: Grid) -> list[str]:
    return sorted(
        {cell.method for cell in grid.cells if cell.regime and "shuffled" not in cell.method}
    )


def _ladder(
    grid: Grid, lines: Sequence[Line], how: str, rungs: Sequence[tuple[str, str]]
) -> _Asked | None:
    """The rungs that the study has, at the largest size that all of them have."""
    by_method = {line.method: line for line in lines if line.regime in ("", "pool")}
    there = [(by_method[method], name) for method, name in rungs if method in by_method]
    if len(there) < 2 or there[-1][0].method != rungs[-1][0]:
        return None
    size = largest(grid, *(line.arm() for line, _ in there))
    if size is None:
        return None
    base = below = Arm(method=BASELINE)
    steps: list[tuple[str, Arm, Arm]] = []
    for line, name in there:
        here = line.arm(size=size)
        steps.append((name, here, below))
        below = here
    top = there[-1][0].name
    whole = (f"{top} against {method_name(BASELINE)} at {count(size)} pairs, {how}", below, base)
    terms = [((1.0, a), (-1.0, b)) for _, a, b in (whole, *steps)]
    found = _at_shared_places(grid, terms)
    if isinstance(found, str):
        return None
    sums = [
        _Sum(name=name, table=table, arms=(a, b))
        for (name, a, b), table in zip((whole, *steps), found, strict=True)
    ]
    return _Asked(name=whole[0], whole=sums[0], parts=tuple(sums[1:]))


def _growth(grid: Grid, method: str) -> _Asked | Decomposition:
    subset, pool = (Arm(method=method, regime=regime) for regime in ("subset", "pool"))
    name = f"{method_name(method)}: growth with size when the aligner sees the subset alone"
    sizes = [{c.size for c in grid.taken(arm)} for arm in (subset, pool)]
    shared = sorted(set.intersection(*sizes))
    if len(shared) < 2:
        lacks = [regime for regime, one in zip(("subset", "pool"), sizes, strict=True) if not one]
        what = f"no cells with {lacks[0]} links" if lacks else "fewer than two sizes in both"
        return Decomposition(
            name=name,
            whole=None,
            reason=f"The study has {what}, so better links and more text grow together and can't "
            "be told apart; `regime: [pool, subset]` at two sizes would tell.",
        )
    small, large = shared[0], shared[-1]
    corners = {
        (regime, size): Arm(method=method, regime=regime, size=size)
        for regime in ("subset", "pool")
        for size in (small, large)
    }
    whole = ((1.0, corners["subset", large]), (-1.0, corners["subset", small]))
    text = ((1.0, corners["pool", large]), (-1.0, corners["pool", small]))
    links = (
        (1.0, corners["pool", small]),
        (-1.0, corners["subset", small]),
        (-1.0, corners["pool", large]),
        (1.0, corners["subset", large]),
    )
    name += f", {count(small)} to {count(large)} pairs"
    found = _at_shared_places(grid, [whole, text, links])
    if isinstance(found, str):
        return Decomposition(name=name, whole=None, reason=f"It can't be computed: {found}.")
    return _Asked(
        name=name,
        whole=_Sum(name=name, table=found[0]),
        parts=(
            _Sum(name="more text, links from the whole corpus", table=found[1]),
            _Sum(name="better links", table=found[2], cells=4),
        ),
    )


_Term = Sequence[tuple[float, Arm]]


def _at_shared_places(grid: Grid, terms: Sequence[_Term]) -> list[Matched] | str:
    """Each sum of arms over the domains and pairs that all of them have, and the seeds."""
    arms = {arm for term in terms for _, arm in term if arm.method != BASELINE}
    places = set.intersection(*({(c.domain, c.pair) for c in grid.taken(arm)} for arm in arms))
    if not places:
        return "no domain and pair has all of its cells"
    gains: dict[tuple[Arm, str, str], Matched] = {}
    for domain, pair in sorted(places):
        # Differences of gains over one and the same baseline are differences of the arms.
        for arm in arms:
            own = Arm(method=arm.method, regime=arm.regime, size=arm.size, domain=domain, pair=pair)
            gain = match(grid, own, Arm(method=BASELINE))
            if isinstance(gain, str):
                return gain
            gains[arm, domain, pair] = gain
    found = []
    for term in terms:
        parts = [
            (sign / len(places), gains[arm, domain, pair])
            for sign, arm in term
            if arm.method != BASELINE
            for domain, pair in sorted(places)
        ]
        one = combine(parts)
        if isinstance(one, str):
            return one
        found.append(one)
    seeds = set.intersection(*(set(one.seeds) for one in found))
    return (
        found if all(set(one.seeds) == seeds for one in found) else "its cells share too few seeds"
    )


def combine(parts: Sequence[tuple[float, Matched]]) -> Matched | str:
    """A weighted sum of tables over the seeds they share, or why there is none."""
    seeds = set.intersection(*(set(one.seeds) for _, one in parts))
    if not seeds:
        return "its cells have no seed in common"
    if not same_items([one for _, one in parts]):
        return "its cells were not asked the same items"
    kept = [seed for seed in parts[0][1].seeds if seed in seeds]
    weights: dict[tuple[str, str, int, str, str], float] = {}
    table = np.zeros((len(kept), parts[0][1].table.shape[1]))
    for sign, one in parts:
        table += sign * one.table[[one.seeds.index(seed) for seed in kept]]
        for kind, weight in one.weights.items():
            weights[kind] = weights.get(kind, 0.0) + sign * weight
    return Matched(
        seeds=tuple(kept),
        table=table,
        right_wrong=None,
        strata=(),
        weights=weights,
        notes=tuple(dict.fromkeys(note for _, one in parts for note in one.notes)),
        items=parts[0][1].items,
    )


def _share(part: Matched, whole: Matched, judged: Comparison) -> Interval | None:
    """Fieller's interval of part / whole: the shares r at which part - r whole may well be 0.

    The moderation of the judged whole (variance and degrees of freedom) is applied to every r.
    """
    total = float(whole.table.mean())
    if total == 0 or part.table.shape != whole.table.shape:
        return None
    raw, told = crossed(whole.table).seed_variance, judged.spread
    if told is None:
        return None
    scale = told.seed_variance / raw if raw > 0 else 1.0
    spreads = [
        own.moderated(own.seed_variance * scale, told.df)
        for own in (crossed(part.table - share * whole.table) for share in _SHARES)
    ]
    halves = half_width(
        np.array([one.seed_part for one in spreads]),
        np.array([one.item_part for one in spreads]),
        told.df,
    )
    inside = np.abs([one.mean for one in spreads]) <= halves
    kept = _SHARES[inside]
    if not len(kept) or inside[0] or inside[-1]:
        return None
    value = float(part.table.mean()) / total
    return Interval(value=value, low=float(kept[0]), high=float(kept[-1]))
