"""Figures for a paper: SVG and PDF by matplotlib, the same bytes for the same results.

The page draws its own (:mod:`weam_ray.study.charts`); these have fixed colours and sizes for print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weam_ray.study import wording
from weam_ray.study.analysis import Analysis, analyse
from weam_ray.study.charts import Style, styles
from weam_ray.study.lines import Line
from weam_ray.study.panels import Panel
from weam_ray.study.report_input import ReportInput
from weam_ray.study.scaling import Band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import BboxBase

_COLOURS = ("#3a3835", "#0067a5", "#c74a00", "#007a5a", "#a8477f", "#8a6a00", "#2f7f9e")
_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "down": "v",
    "cross": "P",
}
_SETTINGS = {"svg.hashsalt": "weam_ray", "svg.fonttype": "none", "pdf.fonttype": 42}
_MARGIN = 0.1
"""Inches around all that is drawn."""
_MOST_PANELS = 12
"""A figure of more is longer than a page, and its time grows with every panel."""
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def write_figures(
    source: ReportInput, folder: Path, analysis: Analysis | None = None
) -> list[Path]:
    """Write ``curves.svg/.pdf`` and ``gains.svg/.pdf``; nothing where no claim can be drawn.

    As in the report, a study whose gates fail gets no curve.
    """
    import matplotlib

    found = analysis or analyse(source)
    if source.failed_gates or not found.panels:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_SETTINGS):
        for name, figure in (("curves", _curves(source, found)), ("gains", _gains(found))):
            bounds = _laid_out(figure)
            for kind, metadata in _METADATA.items():
                path = folder / f"{name}.{kind}"
                figure.savefig(path, format=kind, metadata=metadata, bbox_inches=bounds)
                written.append(path)
    return written


def _laid_out(figure: Figure) -> BboxBase:
    """Place everything, and return what is drawn on: once, where saving would for each format."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure.get_tightbbox().padded(_MARGIN)


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    # A Figure of its own, without pyplot: no global state, no display, nothing to close.
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _curves(source: ReportInput, analysis: Analysis) -> Figure:
    panels = analysis.panels[:_MOST_PANELS]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = _figure(rows, columns, 3.4, 2.6)
    looks = styles(analysis.lines)
    for place, panel in zip(axes, panels, strict=False):
        _panel(place, panel, looks, source.chance, analysis.sizes)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    if len(panels) < len(analysis.panels):
        figure.suptitle(f"{len(panels)} of {len(analysis.panels)} panels; the report has all")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _panel(
    axes: Axes,
    panel: Panel,
    looks: dict[Line, Style],
    chance: float,
    sizes: Sequence[int],
) -> None:
    axes.set_title(f"{panel.domain} {panel.pair}".strip(), fontsize="medium")
    axes.set_xscale("log")
    axes.set_xticks(list(sizes), [wording.short_size(size) for size in sizes])
    axes.minorticks_off()
    if chance > 0:
        axes.axhline(100 * chance, color="0.5", linestyle="--", linewidth=0.8, label="chance")
    if panel.baseline:
        level = 100 * panel.baseline.interval.value
        axes.axhline(level, color=_COLOURS[0], linewidth=0.8, label="no pre-training")
    for (name, value), dashes in zip(panel.references, (":", "-.", (0, (1, 4))), strict=False):
        axes.axhline(100 * value, color="0.5", linestyle=dashes, linewidth=0.8, label=name)
    for curve in panel.curves:
        look = looks[curve.line]
        x = [size for size, _ in curve.levels]
        low, mean, high = (
            [100 * getattr(one.interval, part) for _, one in curve.levels]
            for part in ("low", "value", "high")
        )
        colour = _COLOURS[look.slot]
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            x, mean, color=colour, marker=_MARKERS[look.shape], markersize=4, label=curve.line.name
        )
        places = [size for size, one in curve.levels for _ in one.seeds]
        seeds = [100 * seed for _, one in curve.levels for seed in one.seeds]
        axes.plot(places, seeds, ".", color=colour, alpha=0.5, markersize=3)
    limits = axes.get_ylim()  # of what was measured: a guess does not stretch the drawing
    for curve in panel.curves:
        if curve.band is not None and panel.baseline:
            _beyond(
                axes, curve.band, panel.baseline.interval.value, _COLOURS[looks[curve.line].slot]
            )
    axes.set_ylim(limits)
    axes.set_xlabel("sentence pairs")
    axes.set_ylabel("score, %")


def _beyond(axes: Axes, band: Band, base: float, colour: str) -> None:
    """The fitted curve beyond the largest size, dotted, with its bootstrap band."""
    beyond = band.sizes >= band.largest * 0.999
    low, value, high = (100 * (base + gains[beyond]) for gains in (band.low, band.value, band.high))
    x = band.sizes[beyond]
    axes.fill_between(x, low, high, color=colour, alpha=0.06, linewidth=0)
    axes.plot(x, value, linestyle=(0, (1, 3)), color=colour, linewidth=1, label="_extrapolated")


def _gains(analysis: Analysis) -> Figure:
    by_key = dict(zip(analysis.cell_keys, analysis.cells, strict=True))
    places = sorted({(domain, pair) for _, domain, pair, _ in analysis.cell_keys})
    figure, axes = _figure(
        1, len(analysis.lines), 1.1 + 0.6 * len(analysis.sizes), 0.9 + 0.32 * len(places)
    )
    reach = max(
        (abs(one.effect.value) for one in analysis.cells if one.effect is not None), default=0.0
    )
    for place, line in zip(axes, analysis.lines, strict=True):
        place.set_title(line.name, fontsize="medium")
        place.set_xlim(-0.5, len(analysis.sizes) - 0.5)
        place.set_ylim(len(places) - 0.5, -0.5)
        place.set_xticks(
            range(len(analysis.sizes)), [wording.short_size(size) for size in analysis.sizes]
        )
        place.set_yticks(range(len(places)), [" ".join(p for p in one if p) for one in places])
        for row, (domain, pair) in enumerate(places):
            for column, size in enumerate(analysis.sizes):
                one = by_key.get((line, domain, pair, size))
                if one is None or one.effect is None:
                    continue
                strength = 0.2 + 0.7 * abs(one.effect.value) / reach if reach else 0.2
                colour = "#2b7bba" if one.effect.value > 0 else "#d9822b"
                place.add_patch(_square(column, row, colour if one.found else "0.8", strength))
                text = wording.points(one.effect.value)
                shade = "black" if one.found else "0.4"
                # Within its square, so that the layout need not look at each of thousands.
                place.text(
                    column, row, text, ha="center", va="center", color=shade, fontsize=7
                ).set_in_layout(False)
    return figure


def _square(column: int, row: int, colour: str, alpha: float) -> Rectangle:
    from matplotlib.patches import Rectangle as NewRectangle

    return NewRectangle((column - 0.47, row - 0.46), 0.94, 0.92, color=colour, alpha=alpha, lw=0)
