"""The curve of one pair as an inline SVG, drawn by hand: colours are CSS variables, so one drawing
serves light, dark and print, and text is text.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from weam_ray.study import wording
from weam_ray.study.levels import Level
from weam_ray.study.lines import Line
from weam_ray.study.panels import Curve, Panel
from weam_ray.study.scaling import Array, Band

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 428, 14, 256
_NONE_X, _FIRST_X = 66, 120
"""Where size 0 and the smallest size stand; between them the axis is broken."""

_SLOTS = {"tlm": 1, "weam": 2, "mlm": 3, "word-aligned": 4}
_SHAPES = ("circle", "square", "triangle", "diamond", "down", "cross")
_DASHES = ("", "7 3", "2 3", "8 3 2 3")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a line is told apart: colour slot (1-6), marker and dashes, never by colour alone."""

    slot: int
    shape: str
    dash: str


def styles(lines: Sequence[Line]) -> dict[Line, Style]:
    """A style for each line; a method keeps its colour whatever else the study holds."""
    found: dict[Line, Style] = {}
    spare = [slot for slot in (5, 6, 3, 4, 1, 2) if slot not in _used(lines)] or [6]
    taken: dict[str, int] = {}
    for line in lines:
        if line.method not in taken:
            known = _SLOTS.get(line.method)
            taken[line.method] = (
                known or spare[sum(method not in _SLOTS for method in taken) % len(spare)]
            )
        slot = taken[line.method]
        twins = [other for other in found if other.method == line.method]
        found[line] = Style(
            slot=slot, shape=_SHAPES[slot - 1], dash=_DASHES[len(twins) % len(_DASHES)]
        )
    return found


def _used(lines: Sequence[Line]) -> set[int]:
    return {_SLOTS[line.method] for line in lines if line.method in _SLOTS}


class _Axes:
    """From sizes and accuracies to places on the drawing."""

    def __init__(self, panel: Panel, chance: float, sizes: Sequence[int], reach: float) -> None:
        every = [level for curve in panel.curves for _, level in curve.levels]
        if panel.baseline:
            every.append(panel.baseline)
        values = [v for level in every for v in (level.interval.low, level.interval.high)]
        values += [v for level in every for v in level.seeds]
        values += [value for _, value in panel.references] + [chance] * (chance > 0)
        low, high = min(values), max(values)
        pad = max((high - low) * 0.06, 0.01)
        self.low, self.high = max(low - pad, 0.0), min(high + pad, 1.0)
        self.step = next(
            (s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (self.high - self.low) / s <= 7), 0.25
        )
        self.first = math.log(min(sizes)) if sizes else 0.0
        self.last = math.log(max(sizes) * reach) if sizes else 0.0

    def x(self, size: float) -> float:
        """Horizontal place of a size."""
        if size <= 0:
            return _NONE_X
        if self.last <= self.first:
            return (_FIRST_X + _RIGHT) / 2
        part = (math.log(size) - self.first) / (self.last - self.first)
        return _FIRST_X + part * (_RIGHT - 22 - _FIRST_X)

    def y(self, value: float) -> float:
        """Vertical place of an accuracy."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _BOTTOM - part * (_BOTTOM - _TOP)

    def ticks(self) -> list[float]:
        """Accuracies with a grid line."""
        start = math.ceil(self.low / self.step - 1e-9)
        return [k * self.step for k in range(start, math.floor(self.high / self.step + 1e-9) + 1)]


def curve_chart(
    panel: Panel, found: dict[Line, Style], chance: float, sizes: Sequence[int], name: str
) -> str:
    """One panel as an ``<svg>`` with title and description.

    Args:
        panel: levels and fits.
        found: of :func:`styles`.
        chance: accuracy of a blind guess.
        sizes: of the whole study, so that panels share their axis.
        name: unique on the page; becomes part of ids.
    """
    drawn = [curve.band for curve in panel.curves if curve.band is not None]
    reach = max((band.sizes[-1] / band.largest for band in drawn), default=1.0)
    axes = _Axes(panel, chance, sizes, float(reach))
    svg = ET.Element(
        "svg",
        {
            "viewBox": f"0 0 {_WIDTH} {_HEIGHT}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "class": "chart",
        },
    )
    _add(svg, "title", f"Score by size, {panel.domain} {panel.pair}".strip(), id=f"{name}-title")
    _add(svg, "desc", describe(panel, chance), id=f"{name}-desc")
    _frame(svg, axes, sizes, bool(panel.baseline))
    if chance > 0:
        _reference(svg, axes, "chance", chance, "chance")
        _text(svg, _RIGHT, axes.y(chance) - 3, "chance", "end", "label")
    for place, (label, value) in enumerate(panel.references):
        _reference(svg, axes, label, value, reference_kind(place))
    if panel.baseline:
        y = axes.y(panel.baseline.interval.value)
        _line(svg, _NONE_X, y, _RIGHT, y, "baseline")
        _level(
            svg,
            axes,
            0,
            panel.baseline,
            Style(slot=0, shape="circle", dash=""),
            0,
            "none",
            whisker=True,
        )
    for place, curve in enumerate(panel.curves):
        offset = (place - (len(panel.curves) - 1) / 2) * 6
        _curve(svg, axes, curve, found[curve.line], offset, panel.baseline)
    return ET.tostring(svg, encoding="unicode")


def describe(panel: Panel, chance: float) -> str:
    """The drawing in words, for those who can't see it."""
    parts = [f"Chance is {wording.percent(chance)} %."] if chance > 0 else []
    if panel.baseline:
        parts.append(f"Without pre-training {wording.percent(panel.baseline.interval.value)} %.")
    for name, value in panel.references:
        parts.append(f"{name} {wording.percent(value)} %.")
    for curve in panel.curves:
        levels = ", ".join(
            f"{wording.percent(one.interval.value)} % at {wording.short_size(size)}"
            for size, one in curve.levels
        )
        parts.append(f"{curve.line.name}: {levels}.")
        if curve.band is not None and panel.baseline:
            parts.append(_foretold(curve.band, panel.baseline.interval.value))
    return " ".join(parts)


def _foretold(band: Band, base: float) -> str:
    end = [base + float(gains[-1]) for gains in (band.value, band.low, band.high)]
    value, low, high = (min(max(one, 0.0), 1.0) for one in end)
    return (
        f"Extrapolated ({band.form}, a guess): {wording.percent(value)} % at "
        f"{wording.about(float(band.sizes[-1]))} pairs, "
        f"95 % band {wording.span(low, high, signed=False)}."
    )


def _frame(svg: ET.Element, axes: _Axes, sizes: Sequence[int], none: bool) -> None:
    for tick in axes.ticks():
        y = axes.y(tick)
        _line(svg, _LEFT, y, _RIGHT, y, "grid")
        unit = " %" if tick == axes.ticks()[-1] else ""
        _text(svg, _LEFT - 6, y + 4, f"{100 * tick:.0f}{unit}", "end")
    _line(svg, _LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis")
    if none:
        _text(svg, _NONE_X, _BOTTOM + 16, "none", "middle")
        middle = (_NONE_X + _FIRST_X) / 2
        for shift in (-3, 3):
            _line(svg, middle + shift - 3, _BOTTOM + 5, middle + shift + 3, _BOTTOM - 5, "axis")
    last = -100.0
    for size in sorted(sizes):
        x = axes.x(size)
        _line(svg, x, _BOTTOM, x, _BOTTOM + 4, "axis")
        if x - last > 30:
            _text(svg, x, _BOTTOM + 16, wording.short_size(size), "middle")
            last = x
    _text(svg, (_LEFT + _RIGHT) / 2, _HEIGHT - 8, "sentence pairs, log scale", "middle", "label")


def _reference(svg: ET.Element, axes: _Axes, name: str, value: float, kind: str) -> None:
    y = axes.y(value)
    line = _line(svg, _LEFT, y, _RIGHT, y, kind)
    _add(line, "title", f"{name} {wording.percent(value)} %")


def reference_kind(place: int) -> str:
    """The class of the n-th reference line: each has dashes of its own."""
    return f"reference reference{place % 3}"


def reference_marker(place: int) -> str:
    """A legend's swatch of the n-th reference line."""
    svg = ET.Element("svg", {"viewBox": "0 0 34 14", "class": "swatch", "aria-hidden": "true"})
    _line(svg, 1, 7, 33, 7, reference_kind(place))
    return ET.tostring(svg, encoding="unicode")


def _curve(
    svg: ET.Element,
    axes: _Axes,
    curve: Curve,
    style: Style,
    offset: float,
    baseline: Level | None,
) -> None:
    group = ET.SubElement(svg, "g", {"class": f"line s{style.slot}"})
    levels = curve.levels
    if len(levels) > 1:
        upper = [(axes.x(size), axes.y(one.interval.high)) for size, one in levels]
        lower = [(axes.x(size), axes.y(one.interval.low)) for size, one in reversed(levels)]
        ET.SubElement(group, "polygon", {"class": "band", "points": _points(upper + lower)})
        places = [(axes.x(size), axes.y(one.interval.value)) for size, one in levels]
        attributes = {"class": "mean", "points": _points(places)}
        if style.dash:
            attributes["stroke-dasharray"] = style.dash
        ET.SubElement(group, "polyline", attributes)
    if curve.band is not None and baseline is not None:
        _extrapolation(group, axes, curve.band, baseline.interval.value)
    for size, one in levels:
        _level(group, axes, size, one, style, offset, curve.line.name, whisker=len(levels) == 1)


def _extrapolation(group: ET.Element, axes: _Axes, band: Band, base: float) -> None:
    beyond = [k for k, size in enumerate(band.sizes) if size >= band.largest * 0.999]

    def places(gains: Array) -> list[tuple[float, float]]:
        return [(axes.x(float(band.sizes[k])), axes.y(base + float(gains[k]))) for k in beyond]

    edge = _points(places(band.high) + places(band.low)[::-1])  # cut at the drawing's edges
    ET.SubElement(group, "polygon", {"class": "beyond-band", "points": edge})
    middle = [
        place
        for place, k in zip(places(band.value), beyond, strict=True)
        if axes.low <= base + float(band.value[k]) <= axes.high
    ]
    line = ET.SubElement(group, "polyline", {"class": "beyond", "points": _points(middle)})
    _add(line, "title", f"extrapolated, {band.form}: a guess")


def _level(
    group: ET.Element,
    axes: _Axes,
    size: int,
    one: Level,
    style: Style,
    offset: float,
    name: str,
    *,
    whisker: bool,
) -> None:
    x = axes.x(size)
    for seed in one.seeds:
        ET.SubElement(
            group,
            "circle",
            {"class": f"seed s{style.slot}", **_xy(x + offset, axes.y(seed)), "r": "2.4"},
        )
    x += offset if whisker else 0  # alone at their size, lines stand side by side
    if whisker:
        kind = f"whisker s{style.slot}"
        _line(group, x, axes.y(one.interval.low), x, axes.y(one.interval.high), kind)
    mark = _marker(group, style.shape, x, axes.y(one.interval.value), f"mark s{style.slot}")
    span = wording.span(one.interval.low, one.interval.high, signed=False)
    where = f"{wording.count(size)} pairs" if size else "no bitext"
    _add(mark, "title", f"{name}, {where}: {wording.percent(one.interval.value)} % ({span})")


def marker(style: Style) -> str:
    """A legend's swatch: line and marker."""
    svg = ET.Element("svg", {"viewBox": "0 0 34 14", "class": "swatch", "aria-hidden": "true"})
    group = ET.SubElement(svg, "g", {"class": f"line s{style.slot}"})
    attributes = {"class": "mean", "points": "1,7 33,7"}
    if style.dash:
        attributes["stroke-dasharray"] = style.dash
    ET.SubElement(group, "polyline", attributes)
    _marker(group, style.shape, 17, 7, f"mark s{style.slot}")
    return ET.tostring(svg, encoding="unicode")


def _marker(group: ET.Element, shape: str, x: float, y: float, kind: str) -> ET.Element:
    if shape == "circle":
        return ET.SubElement(group, "circle", {"class": kind, **_xy(x, y), "r": "4.2"})
    corners = {
        "square": [(-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)],
        "triangle": [(0, -5), (4.8, 3.8), (-4.8, 3.8)],
        "down": [(0, 5), (4.8, -3.8), (-4.8, -3.8)],
        "diamond": [(0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)],
        "cross": [(-1.5, -5), (1.5, -5), (1.5, -1.5), (5, -1.5), (5, 1.5), (1.5, 1.5), (1.5, 5)]
        + [(-1.5, 5), (-1.5, 1.5), (-5, 1.5), (-5, -1.5), (-1.5, -1.5)],
    }[shape]
    places = [(x + dx, y + dy) for dx, dy in corners]
    return ET.SubElement(group, "polygon", {"class": kind, "points": _points(places)})


def interval_chart(value: float, low: float, high: float, reach: float, found: bool) -> str:
    """A difference as a dot and its interval around zero, for a table's cell.

    Args:
        value: the difference, a share.
        low: of its interval.
        high: of its interval.
        reach: what the half width of the drawing stands for, so that rows share their scale.
        found: drawn strong; otherwise grey.
    """
    width, middle, y = 150.0, 75.0, 8.0
    scale = (middle - 5) / reach if reach > 0 else 0.0
    svg = ET.Element(
        "svg",
        {"viewBox": "0 0 150 16", "class": f"interval {'found' if found else 'unfound'}"}
        | {"aria-hidden": "true"},
    )
    _line(svg, middle, 0, middle, 16, "zero")
    place = [min(max(middle + one * scale, 2), width - 2) for one in (low, value, high)]
    _line(svg, place[0], y, place[2], y, "whisker")
    ET.SubElement(svg, "circle", {"class": "dot", **_xy(place[1], y), "r": "3.6"})
    return ET.tostring(svg, encoding="unicode")


def shares_chart(shares: Sequence[float]) -> str:
    """Predicted class shares as a bar of as many parts, for a table's cell."""
    svg = ET.Element(
        "svg",
        {"viewBox": "0 0 60 5", "class": "shares", "aria-hidden": "true"}
        | {"preserveAspectRatio": "none"},
    )
    left = 0.0
    for place, share in enumerate(shares):
        width = 60 * share
        ET.SubElement(
            svg,
            "rect",
            {"class": f"class{place}", "x": _f(left), "y": "0", "width": _f(width), "height": "5"},
        )
        left += width
    return ET.tostring(svg, encoding="unicode")


def _add(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _text(svg: ET.Element, x: float, y: float, text: str, anchor: str, kind: str = "tick") -> None:
    attributes = {"class": kind, "x": _f(x), "y": _f(y), "text-anchor": anchor}
    ET.SubElement(svg, "text", attributes).text = text


def _line(svg: ET.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> ET.Element:
    places = {"x1": _f(x1), "y1": _f(y1), "x2": _f(x2), "y2": _f(y2)}
    return ET.SubElement(svg, "line", {"class": kind, **places})


def _xy(x: float, y: float) -> dict[str, str]:
    return {"cx": _f(x), "cy": _f(y)}


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_f(x)},{_f(y)}" for x, y in places)


def _f(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
