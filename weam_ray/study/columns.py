"""What tables are made of: raw values for CSV, the same values in words for the page and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weam_ray.study import wording
from weam_ray.study.comparisons import Comparison

Value = str | int | float | None
Row = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: the key of its raw values, and how they are said."""

    key: str
    heading: str
    show: Callable[[Value], str] | None = None
    """None: the value is text."""

    def text(self, row: Row) -> str:
        """What the page shows."""
        value = row.get(self.key)
        if self.show is not None:
            return self.show(value)
        return wording.MISSING if value is None or value == "" else str(value)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a name (of its files) and a caption."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def number(say: Callable[[float | None], str]) -> Callable[[Value], str]:
    """A way to say a number as one to say a cell's value."""
    return lambda value: say(None if value is None or isinstance(value, str) else float(value))


PERCENT, POINTS = number(wording.percent), number(wording.points)
COUNT, P, SECONDS = (number(say) for say in (wording.count, wording.probability, wording.duration))
TWO_DIGITS = number(lambda value: wording.points(value, 2))

DIFFERENCE = (
    Column(key="difference", heading="difference, points", show=POINTS),
    Column(key="low", heading="95 % from", show=POINTS),
    Column(key="high", heading="to", show=POINTS),
    Column(key="p_holm", heading="p (Holm)", show=P),
    Column(key="detectable", heading="detectable, points", show=PERCENT),
    Column(key="seeds", heading="seeds", show=COUNT),
    Column(key="items", heading="items", show=COUNT),
)


def verdict(one: Comparison) -> str:
    """A comparison in a few words."""
    if one.effect is None or one.spread is None:
        return f"can't be said: {one.reason}"
    if not one.claimable:
        return f"can't be said: {one.too_little}"
    if one.found:
        return "better" if one.effect.value > 0 else "worse"
    if one.identical:
        return "identical on every item"
    return f"no difference detectable; {detectable_text(one)}"


def detectable_text(one: Comparison) -> str:
    """What would have been found; an effect of more than everything is none that could be."""
    if one.detectable is None:
        return "nothing varies, so what would have been can't be said"
    if one.detectable >= 1:
        return "no effect, however large, would have been sure to be"
    return f"{wording.percent(one.detectable)} points would have been"


def difference_row(one: Comparison) -> dict[str, Value]:
    """The raw values of a comparison."""
    row: dict[str, Value] = {"question": one.question.name, "verdict": verdict(one)}
    if one.effect is None or one.spread is None:
        return row
    row |= {"difference": one.effect.value, "low": one.effect.low, "high": one.effect.high}
    if one.bootstrap is not None:
        row |= {"bootstrap_low": one.bootstrap.low, "bootstrap_high": one.bootstrap.high}
    row |= {"p": one.p, "p_holm": one.p_holm, "detectable": one.detectable}
    row |= {"seeds": one.spread.seeds, "items": one.spread.items, "df": one.spread.df}
    row |= {"seed_sd": one.spread.seed_sd if one.spread.seeds > 1 else None}
    row["by_seed"] = "; ".join(wording.points(seed.difference) for seed in one.seeds)
    tests = [seed.mcnemar_p for seed in one.seeds if seed.mcnemar_p is not None]
    row["mcnemar"] = "; ".join(wording.probability(p) for p in tests)
    row["notes"] = "; ".join(one.notes)
    return row
