"""The tables and sentences about causes: parts of a difference, budgets, nearness to the task."""

from __future__ import annotations

from collections.abc import Iterator

from weam_ray.study import wording
from weam_ray.study.analysis import Analysis
from weam_ray.study.causes import Decomposition, Part
from weam_ray.study.columns import COUNT, DIFFERENCE, TWO_DIGITS, Column, Row, Table, difference_row
from weam_ray.study.domain import PER, DomainMatch
from weam_ray.study.intervals import Interval


def cause_tables(analysis: Analysis) -> Iterator[Table]:
    """Decompositions, training by size, gain by divergence; those that have rows."""
    for table in (_parts(analysis), _budgets(analysis), _match(analysis)):
        if table.rows:
            yield table


def cause_sentences(analysis: Analysis) -> Iterator[str]:
    """What the study's causes come to, and what can't be told apart."""
    for one in analysis.decompositions:
        yield _decomposed(one)
    yield from analysis.untold
    yield from _near(analysis)


def _decomposed(one: Decomposition) -> str:
    if one.whole is None or one.whole.effect is None:
        return f"{one.name}: {one.reason}"
    parts = wording.listing([_part(part) for part in one.parts])
    whole = one.whole.effect
    text = (
        f"{one.name}: {wording.points(whole.value)} points "
        f"({wording.span(whole.low, whole.high)}), of which {parts}."
    )
    if not one.whole.claimable:
        return f"{text} Nothing can be claimed: {one.whole.too_little}."
    if not one.whole.found:
        return f"{text} The whole is not distinguishable from nothing, so no share is given."
    return text


def _part(part: Part) -> str:
    effect = part.comparison.effect
    assert effect is not None
    share = ""
    if part.share is not None:
        span = wording.span(part.share.low, part.share.high, signed=False, digits=0)
        share = f"; {wording.percent(part.share.value, 0)} % of it, {span}"
    return (
        f"{wording.points(effect.value)} from {part.name} "
        f"({wording.span(effect.low, effect.high)}{share})"
    )


def _near(analysis: Analysis) -> Iterator[str]:
    """By subwords; what can't be said is said once for all lines that share the reason."""
    found = [one for one in analysis.domain_match if one.unit == "subwords"]
    untold: dict[str, list[str]] = {}
    for one in found:
        if one.slope is None:
            untold.setdefault(one.reason, []).append(one.line.name)
        else:
            yield _matched(one, one.slope)
    for reason, names in untold.items():
        yield (
            "Whether the gain follows the text's nearness to the task can't be said of "
            f"{'; '.join(names)}: {reason}."
        )


def _matched(one: DomainMatch, slope: Interval) -> str:
    name = f"{one.line.name} at {wording.count(one.size)} pairs and nearness to the task"
    among = "within pairs" if one.within_pairs else "over domains and pairs"
    span = wording.span(slope.low, slope.high)
    clear = not slope.low <= 0 <= slope.high
    return (
        f"{name}: {wording.points(slope.value)} points of gain ({span}) for each {PER:g} bit "
        f"of subword divergence more, {among} ({len(one.places)} of them): "
        + ("an association, not a cause." if clear else "no association detectable.")
    )


def _parts(analysis: Analysis) -> Table:
    rows: list[Row] = []
    for one in analysis.decompositions:
        if one.whole is None:
            continue
        rows.append({**difference_row(one.whole), "question": one.name, "part": "the whole"})
        for part in one.parts:
            row = {**difference_row(part.comparison), "question": one.name, "part": part.name}
            if part.share is not None:
                row |= {"share": part.share.value}
                row |= {"share_low": part.share.low, "share_high": part.share.high}
            rows.append(row)
    return Table(
        name="decompositions",
        caption="Differences taken apart: the parts add up to the whole, at matched factors; "
        "share of the whole by Fieller's method",
        columns=(
            Column(key="question", heading="difference"),
            Column(key="part", heading="part"),
            *DIFFERENCE,
            Column(key="share", heading="share, %", show=_whole_percent),
            Column(key="share_low", heading="95 % from", show=_whole_percent),
            Column(key="share_high", heading="to", show=_whole_percent),
        ),
        rows=tuple(rows),
    )


def _whole_percent(value: str | int | float | None) -> str:
    return wording.percent(None if isinstance(value, str) else value, 0)


def _budgets(analysis: Analysis) -> Table:
    kinds = {"steps": "equal steps", "passes": "equal passes"}
    return Table(
        name="budgets",
        caption="Training by size: matched compute (equal steps) or matched epochs (equal passes)",
        columns=(
            Column(key="method", heading="method"),
            Column(key="budget", heading="budget"),
            Column(key="size", heading="pairs", show=COUNT),
            Column(key="steps", heading="steps", show=COUNT),
            Column(key="passes", heading="passes over the text", show=_one_digit),
        ),
        rows=tuple(
            {
                "method": one.line.name,
                "budget": kinds.get(one.kind, one.kind),
                "size": size,
                "steps": steps if wording.known(steps) else None,
                "passes": passes if wording.known(passes) else None,
            }
            for one in analysis.budgets
            for size, steps, passes in zip(one.sizes, one.steps, one.passes, strict=True)
        ),
    )


def _one_digit(value: str | int | float | None) -> str:
    number = None if isinstance(value, str) else value
    return f"{number:.1f}" if number is not None and wording.known(number) else wording.MISSING


def _match(analysis: Analysis) -> Table:
    rows: list[Row] = []
    for one in analysis.domain_match:
        row: dict[str, str | int | float | None] = {
            "method": one.line.name,
            "size": one.size,
            "unit": one.unit,
            "places": len(one.places),
            "reason": one.reason or ("within pairs" if one.within_pairs else "over all places"),
        }
        if one.slope is not None:
            row |= {"slope": one.slope.value, "low": one.slope.low, "high": one.slope.high}
        rows.append(row)
    return Table(
        name="domain_match",
        caption=f"Gain for each {PER:g} bit of divergence from the task more (random-effects "
        "meta-regression over domains and pairs)",
        columns=(
            Column(key="method", heading="method"),
            Column(key="size", heading="pairs", show=COUNT),
            Column(key="unit", heading="divergence of"),
            Column(key="slope", heading="points", show=TWO_DIGITS),
            Column(key="low", heading="95 % from", show=TWO_DIGITS),
            Column(key="high", heading="to", show=TWO_DIGITS),
            Column(key="places", heading="places", show=COUNT),
            Column(key="reason", heading=""),
        ),
        rows=tuple(rows),
    )
