"""Every table of the report as CSV, for machines, and as LaTeX, for papers."""

from __future__ import annotations

import csv
from pathlib import Path

from weam_ray.study.analysis import Analysis, analyse
from weam_ray.study.columns import COUNT, PERCENT, Column, Row, Table
from weam_ray.study.fact_tables import fact_tables, power_table
from weam_ray.study.panels import Panel
from weam_ray.study.report_input import ReportInput
from weam_ray.study.tables import families, languages


def panel_table(panel: Panel) -> Table:
    """The figures of one chart."""
    rows: list[Row] = []
    base = [("no pre-training", 0, panel.baseline)] if panel.baseline else []
    levels = [(curve.line.name, *found) for curve in panel.curves for found in curve.levels]
    for name, size, one in (*base, *levels):
        rows.append(
            {
                "domain": panel.domain,
                "pair": panel.pair,
                "method": name,
                "size": size,
                "accuracy": one.interval.value,
                "low": one.interval.low,
                "high": one.interval.high,
                "seeds": len(one.seeds),
            }
        )
    return Table(
        name="curves",
        caption=f"Accuracy by size, {panel.domain} {panel.pair}".strip(),
        columns=(
            Column(key="method", heading="method"),
            Column(key="size", heading="pairs", show=COUNT),
            Column(key="accuracy", heading="accuracy, %", show=PERCENT),
            Column(key="low", heading="95 % from", show=PERCENT),
            Column(key="high", heading="to", show=PERCENT),
            Column(key="seeds", heading="seeds", show=COUNT),
        ),
        rows=tuple(rows),
    )


def all_tables(source: ReportInput, analysis: Analysis) -> list[Table]:
    """Every table of the report, the curves' figures as one."""
    panels = [panel_table(panel) for panel in analysis.panels]
    curves = []
    if panels:
        factors = tuple(Column(key=key, heading=key) for key in ("domain", "pair"))
        curves.append(
            Table(
                name="curves",
                caption="Accuracy by size, in the language of each pair",
                columns=(*factors, *panels[0].columns),
                rows=tuple(row for panel in panels for row in panel.rows),
            )
        )
    power = power_table(analysis)
    return [
        *curves,
        *families(analysis),
        languages(source, analysis),
        *fact_tables(source),
        *([power] if power else []),
    ]


def write_tables(source: ReportInput, folder: Path, analysis: Analysis | None = None) -> list[Path]:
    """Write every table as ``NAME.csv`` (raw values) and ``NAME.tex`` (as the page says them)."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in all_tables(source, analysis or analyse(source)):
        written += write_table(table, folder)
    return written


def write_table(table: Table, folder: Path) -> list[Path]:
    """One table as CSV and LaTeX."""
    return [_write_csv(table, folder), _write_latex(table, folder)]


def _write_csv(table: Table, folder: Path) -> Path:
    path = folder / f"{table.name}.csv"
    keys = list(dict.fromkeys([c.key for c in table.columns] + [k for r in table.rows for k in r]))
    with open(path, "w", encoding="utf8", newline="") as stream:
        writer = csv.DictWriter(stream, keys, restval="")
        writer.writeheader()
        writer.writerows(table.rows)
    return path


def _write_latex(table: Table, folder: Path) -> Path:
    path = folder / f"{table.name}.tex"
    kinds = "".join("r" if column.show else "l" for column in table.columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_latex(table.caption)}}}",
        f"\\begin{{tabular}}{{{kinds}}}",
        "\\toprule",
        " & ".join(_latex(column.heading) for column in table.columns) + " \\\\",
        "\\midrule",
        *(
            " & ".join(_latex(column.text(row)) for column in table.columns) + " \\\\"
            for row in table.rows
        ),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


_LATEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "\u2212": "$-$",
    "\u202f": "\\,",
    "\u2013": "--",
    "\u00d7": "$\\times$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
