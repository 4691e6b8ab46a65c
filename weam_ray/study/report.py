"""The report: one self-contained HTML page that asks the network for nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from weam_ray.study import charts, wording
from weam_ray.study.analysis import Analysis, analyse
from weam_ray.study.answer import Answer, answer, needed_text
from weam_ray.study.cause_tables import cause_sentences
from weam_ray.study.columns import Row, Table, verdict
from weam_ray.study.comparisons import Comparison
from weam_ray.study.export import panel_table
from weam_ray.study.fact_tables import fact_tables, power_table
from weam_ray.study.lines import Line
from weam_ray.study.panels import Panel
from weam_ray.study.report_input import ReportInput
from weam_ray.study.tables import families, languages

_CITATIONS = (
    "Yang, Ma, Cui, Ye, Che and Wang 2021. Bilingual alignment pre-training for zero-shot "
    "cross-lingual transfer. MRQA, pages 100-105 (WEAM). arXiv:2106.01732.",
    "Dyer, Chahuneau and Smith 2013. A simple, fast, and effective reparameterization of IBM "
    "Model 2. NAACL (fast_align).",
    "Conneau and Lample 2019. Cross-lingual language model pretraining. NeurIPS (TLM).",
    "Conneau et al. 2018. XNLI: evaluating cross-lingual sentence representations. EMNLP.",
    "Sellam et al. 2022. The MultiBERTs: BERT reproductions for robustness analysis. ICLR "
    "(inference over seeds and items).",
    "Smyth 2004. Linear models and empirical Bayes methods for assessing differential expression. "
    "SAGMB 3 (moderated variances).",
    "Holm 1979. A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6.",
)

_LOPSIDED = 0.7
"""A run that gives one class more than this share of its answers has mostly learnt that class."""


def write_report(source: ReportInput, out: Path, analysis: Analysis | None = None) -> Path:
    """Write the page to ``out`` (a .html file), whole or not at all, and return its path.

    What can't be computed (one seed, one size, no cell) is said on the page; nothing raises for
    lack of results.
    """
    page = render(source, analysis or analyse(source))
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.write_text(page, encoding="utf8")
    os.replace(draft, out)
    return out


def render(source: ReportInput, analysis: Analysis) -> str:
    """The page as text."""
    said = answer(source, analysis)
    template = _environment().get_template("report.html")
    return template.render(
        source=source,
        analysis=analysis,
        answer=said,
        metric=wording.metric_name(source.view.metric),
        style=Markup(_asset("report.css")),
        **_figures(source, analysis, said),
        **_tables(source, analysis),
        causes=tuple(cause_sentences(analysis)) if said.claims else (),
        cell_counts=_cell_counts(source, analysis),
        citations=_CITATIONS,
        needed=[(slope.line.name, needed_text(slope)) for slope in analysis.slopes if slope.needed],
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=wording.percent,
        points=wording.points,
        count=wording.count,
        duration=wording.duration,
        short_size=wording.short_size,
        rule=wording.rule_name,
        sentence=_sentence,
    )
    return environment


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _asset(name: str) -> str:
    return (resources.files("weam_ray.study") / "templates" / name).read_text(encoding="utf8")


@dataclass(frozen=True, kw_only=True)
class _PanelView:
    title: str
    svg: Markup
    table: Table


@dataclass(frozen=True, kw_only=True)
class _HeatCell:
    text: str
    title: str
    kind: str
    """``gain``, ``loss``, ``grey`` (not significant), ``gap`` (no cell)."""
    strength: int
    """0-100, of the colour."""
    said: str = ""
    """What the colour says, for those who can't see it."""


@dataclass(frozen=True, kw_only=True)
class _HeatMap:
    title: str
    sizes: tuple[int, ...]
    rows: tuple[tuple[str, tuple[_HeatCell, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class _MethodRow:
    one: Comparison
    svg: Markup
    verdict: str


def _figures(source: ReportInput, analysis: Analysis, said: Answer) -> Mapping[str, object]:
    if not said.claims:
        return {"panels": (), "heat": (), "legend": (), "method_rows": ()}
    found = charts.styles(analysis.lines)
    return {
        "panels": tuple(
            _panel(source, analysis, found, panel, f"panel{k}")
            for k, panel in enumerate(analysis.panels)
        ),
        "heat": _heat(source, analysis),
        "legend": _legend(analysis, found),
        "method_rows": _method_rows(analysis),
    }


def _legend(
    analysis: Analysis, found: Mapping[Line, charts.Style]
) -> tuple[tuple[str, Markup], ...]:
    # Safe: built by ElementTree, which escapes.
    lines = [(line.name, Markup(charts.marker(found[line]))) for line in analysis.lines]
    names = [name for name, _ in analysis.panels[0].references] if analysis.panels else []
    references = [(name, Markup(charts.reference_marker(k))) for k, name in enumerate(names)]
    return (*lines, *references)


def _panel(
    source: ReportInput,
    analysis: Analysis,
    found: dict[Line, charts.Style],
    panel: Panel,
    name: str,
) -> _PanelView:
    svg = charts.curve_chart(panel, found, source.chance, analysis.sizes, name)
    names = [source.language_names.get(code, code) for code in panel.languages]
    scored = f", scored in {wording.listing(names)}" if names else ""
    return _PanelView(
        title=f"{panel.domain} {panel.pair}".strip() + scored,
        svg=Markup(svg),  # built by ElementTree, which escapes
        table=panel_table(panel),
    )


def _heat(source: ReportInput, analysis: Analysis) -> tuple[_HeatMap, ...]:
    by_key = dict(zip(analysis.cell_keys, analysis.cells, strict=True))
    known = [abs(one.effect.value) for one in analysis.cells if one.effect is not None]
    reach = max(known, default=0.0) or 1.0
    domains = sorted({domain for _, domain, _, _ in analysis.cell_keys})
    maps = []
    for line in analysis.lines:
        rows = []
        for domain in domains:
            for pair in sorted({p for own, d, p, _ in by_key if own == line and d == domain}):
                label = f"{domain} {pair}" if len(domains) > 1 else pair
                cells = tuple(
                    _heat_cell(by_key.get((line, domain, pair, size)), reach)
                    for size in analysis.sizes
                )
                rows.append((label.strip(), cells))
        maps.append(_HeatMap(title=line.name, sizes=analysis.sizes, rows=tuple(rows)))
    return tuple(maps)


def _heat_cell(one: Comparison | None, reach: float) -> _HeatCell:
    if one is None or one.effect is None:
        reason = one.reason if one else "not in the study, or not finished"
        return _HeatCell(text="·", title=reason, kind="gap", strength=0)
    span = wording.span(one.effect.low, one.effect.high)
    return _HeatCell(
        text=wording.points(one.effect.value),
        title=f"95 % interval {span}; p {wording.probability(one.p_holm)} (Holm); {verdict(one)}",
        kind=("gain" if one.effect.value > 0 else "loss") if one.found else "grey",
        said="holds" if one.found else "not detectable",
        strength=round(20 + 80 * abs(one.effect.value) / reach),
    )


def _method_rows(analysis: Analysis) -> tuple[_MethodRow, ...]:
    bounds = [
        abs(edge)
        for one in analysis.methods
        if one.effect is not None
        for edge in (one.effect.low, one.effect.high)
    ]
    reach = max(bounds, default=0.0)
    return tuple(
        _MethodRow(
            one=one,
            svg=Markup("")
            if one.effect is None
            else Markup(  # built by ElementTree, which escapes
                charts.interval_chart(
                    one.effect.value, one.effect.low, one.effect.high, reach, one.found
                )
            ),
            verdict=verdict(one),
        )
        for one in analysis.methods
    )


def _tables(source: ReportInput, analysis: Analysis) -> Mapping[str, object]:
    by_name = {table.name: table for table in (*families(analysis), *fact_tables(source))}
    scores = languages(source, analysis)
    return {
        "tables": by_name,
        "power": power_table(analysis),
        "scores": _score_matrix(source, scores),
        "systems": tuple(dict.fromkeys(str(row["system"]) for row in scores.rows)),
        "provenance": _provenance(source),
    }


@dataclass(frozen=True, kw_only=True)
class _Score:
    accuracy: str
    span: str
    shares: str
    bar: Markup
    own: bool
    lopsided: bool
    """One class takes most answers, run by run: near-chance by another name."""


def _score_matrix(
    source: ReportInput, scores: Table
) -> tuple[tuple[str, tuple[_Score | None, ...]], ...]:
    systems = list(dict.fromkeys(str(row["system"]) for row in scores.rows))
    found: dict[str, dict[str, _Score]] = {}
    for row in scores.rows:
        found.setdefault(str(row["language"]), {})[str(row["system"])] = _score(row)
    return tuple(
        (_language_label(source, language), tuple(own.get(system) for system in systems))
        for language, own in found.items()
    )


def _language_label(source: ReportInput, language: str) -> str:
    name = source.language_names.get(language, "")
    return f"{name} ({language})" if name and name != language else language


def _score(row: Row) -> _Score:
    def number(key: str) -> float | None:
        value = row.get(key)
        return None if value is None or isinstance(value, str) else float(value)

    shares = [share for k in range(3) if (share := number(f"share_{k}")) is not None]
    whole = len(shares) == 3
    return _Score(
        accuracy=wording.percent(number("accuracy")),
        span=wording.span(number("low"), number("high"), signed=False),
        shares=" / ".join(wording.percent(share, 0) for share in shares) if whole else "",
        bar=Markup(charts.shares_chart(shares)) if whole else Markup(""),
        own=bool(row.get("own_bitext")),
        lopsided=(number("largest_share") or 0.0) > _LOPSIDED,
    )


def _cell_counts(source: ReportInput, analysis: Analysis) -> str:
    done = len(analysis.grid.cells)
    planned = source.planned_cells
    parts = [f"{done} of {planned} cells finished" if planned else f"{done} cells finished"]
    if source.failures:
        parts.append(f"{len(source.failures)} failed")
    if source.holes:
        parts.append(f"{len(source.holes)} can't be run (holes)")
    return ", ".join(parts)


def _provenance(source: ReportInput) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    facts, view = source.provenance, source.view
    run = (
        ("command", facts.command),
        ("started (UTC)", facts.started),
        ("wall time", wording.duration(facts.wall_seconds) if facts.wall_seconds else ""),
        ("hardware", facts.hardware),
        ("study hash", facts.study_hash),
        ("measured on", f"{view.task}, {view.setting}, {view.split} items"),
        ("checkpoint rule", wording.rule_name(view.selection)),
    )
    groups = (
        ("Run", tuple((name, value) for name, value in run if value)),
        ("Settings", tuple(facts.settings.items())),
        (
            "Time by stage",
            tuple((name, wording.duration(s)) for name, s in facts.stage_seconds.items()),
        ),
        ("Versions", tuple(facts.packages.items())),
        ("Content hashes of input files", tuple(facts.inputs.items())),
    )
    return tuple((name, rows) for name, rows in groups if rows)
