"""The tables of a report: raw values for CSV, the same values in words for the page and LaTeX."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from weam_ray.study import wording
from weam_ray.study.analysis import Analysis
from weam_ray.study.cause_tables import cause_tables
from weam_ray.study.columns import (
    COUNT,
    DIFFERENCE,
    PERCENT,
    POINTS,
    TWO_DIGITS,
    Column,
    Row,
    Table,
    Value,
    difference_row,
    number,
)
from weam_ray.study.comparisons import Comparison
from weam_ray.study.intervals import wilson
from weam_ray.study.report_input import ReportInput
from weam_ray.study.results import target_languages


def families(analysis: Analysis) -> Iterator[Table]:
    """Methods, slopes, cells, pairwise, causes."""
    ends = (
        Column(key="by_seed", heading="each seed, points"),
        Column(key="verdict", heading="in words"),
    )
    ask = Column(key="question", heading="comparison")
    yield Table(
        name="methods",
        caption="Methods at the largest size both have, averaged over domains and pairs, "
        "in the language of each pair",
        columns=(
            ask,
            *DIFFERENCE,
            Column(key="bootstrap_low", heading="bootstrap 95 % from", show=POINTS),
            Column(key="bootstrap_high", heading="to", show=POINTS),
            *ends,
        ),
        rows=tuple(difference_row(one) for one in analysis.methods),
    )
    yield _slopes(analysis)
    if any(slope.by_pair for slope in analysis.slopes):
        yield _slopes_by_pair(analysis)
    if any(slope.held_out for slope in analysis.slopes):
        yield _held_out(analysis)
    factors = tuple(
        Column(key=key, heading=key, show=COUNT if key == "size" else None)
        for key in ("domain", "pair", "method", "size")
    )
    rows = [
        _placed({"domain": domain, "pair": pair, "method": line.name, "size": size}, one)
        for (line, domain, pair, size), one in zip(analysis.cell_keys, analysis.cells, strict=True)
    ]
    yield Table(
        name="cells",
        caption="Gain over no pre-training of every configuration, in the language of its pair",
        columns=(
            *factors,
            *DIFFERENCE,
            Column(key="mcnemar", heading="McNemar p, each seed"),
            *ends,
        ),
        rows=tuple(rows),
    )
    if analysis.pairwise:
        yield Table(
            name="pairwise",
            caption="Any other two methods, at the largest size both have, and any two sizes of a "
            "method, at matched factors",
            columns=(ask, *DIFFERENCE, *ends),
            rows=tuple(difference_row(one) for one in analysis.pairwise),
        )
    if analysis.causes:
        yield Table(
            name="causes",
            caption="Aligner regimes, domains and budgets against each other, at matched factors",
            columns=(ask, *DIFFERENCE, *ends),
            rows=tuple(difference_row(one) for one in analysis.causes),
        )
    yield from cause_tables(analysis)


def _placed(factors: dict[str, Value], one: Comparison) -> Row:
    return {**factors, **difference_row(one)}


def _slopes(analysis: Analysis) -> Table:
    show = {"difference": TWO_DIGITS, "low": TWO_DIGITS, "high": TWO_DIGITS}
    show["detectable"] = number(lambda value: wording.percent(value, 2))
    columns = tuple(
        Column(key=one.key, heading=one.heading, show=show.get(one.key, one.show))
        for one in DIFFERENCE
    )
    rows = []
    for slope in analysis.slopes:
        row = difference_row(slope.comparison)
        if slope.comparison.claimable and not (
            slope.comparison.found or slope.comparison.identical
        ):
            row["verdict"] = "no slope detectable"
        elif slope.comparison.found:
            assert slope.comparison.effect is not None
            row["verdict"] = "rises" if slope.comparison.effect.value > 0 else "falls"
        row["question"] = slope.line.name
        row["form"] = slope.form
        rows.append(row)
    return Table(
        name="slopes",
        caption="Slope of the gain, points a doubling of the bilingual text",
        columns=(
            Column(key="question", heading="method"),
            *columns,
            Column(key="form", heading="form that foretold the largest size best"),
            Column(key="verdict", heading="in words"),
        ),
        rows=tuple(rows),
    )


def _slopes_by_pair(analysis: Analysis) -> Table:
    rows: list[Row] = []
    for slope in analysis.slopes:
        for place, (name, one) in enumerate(slope.by_pair):
            row: dict[str, Value] = {"method": slope.line.name, "pair": name, "slope": one.value}
            row |= {"low": one.low, "high": one.high}
            if slope.pooled is not None:
                row["shrunk"] = slope.pooled.shrunk[place]
            rows.append(row)
        if slope.pooled is not None:
            mean = slope.pooled.mean
            rows.append(
                {
                    "method": slope.line.name,
                    "pair": "other pairs like these (mean; sd between pairs "
                    f"{wording.percent(slope.pooled.between_sd, 2)})",
                    "slope": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                }
            )
    return Table(
        name="slopes_by_pair",
        caption="Slopes by pair; with three pairs or more also drawn towards their mean as far as "
        "their noise asks (random effects over pairs)",
        columns=(
            Column(key="method", heading="method"),
            Column(key="pair", heading="pair"),
            Column(key="slope", heading="points a doubling", show=TWO_DIGITS),
            Column(key="low", heading="95 % from", show=TWO_DIGITS),
            Column(key="high", heading="to", show=TWO_DIGITS),
            Column(key="shrunk", heading="partially pooled", show=TWO_DIGITS),
        ),
        rows=tuple(rows),
    )


def _held_out(analysis: Analysis) -> Table:
    return Table(
        name="held_out",
        caption="Curves fitted without the largest size, and what they foretold of it "
        "(mean over domains and pairs)",
        columns=(
            Column(key="method", heading="method"),
            Column(key="form", heading="form"),
            Column(key="predicted", heading="foretold gain, points", show=POINTS),
            Column(key="measured", heading="measured, points", show=POINTS),
            Column(key="error", heading="error, points", show=POINTS),
        ),
        rows=tuple(
            {
                "method": slope.line.name,
                "form": one.form,
                "predicted": one.predicted,
                "measured": one.measured,
                "error": one.error,
            }
            for slope in analysis.slopes
            for one in slope.held_out
        ),
    )


def languages(source: ReportInput, analysis: Analysis) -> Table:
    """Accuracy per language and system with 95 % intervals and class shares, sanity rows beside."""
    shares = _shares(source)
    rows: list[Row] = []
    for (language, name), one in analysis.levels.languages.items():
        row: dict[str, Value] = {
            "language": language,
            "system": name,
            "kind": "cell",
            "own_bitext": int(
                any(
                    language in target_languages(pair, source.source_language, (language,))
                    for pair in one.pairs
                )
            ),
            "accuracy": one.interval.value,
            "low": one.interval.low,
            "high": one.interval.high,
            "n": one.items,
            "seeds": len(one.seeds),
        }
        known = [shares[cell, language] for cell in one.cells if (cell, language) in shares]
        for place in range(3):
            values = [share[place] for share in known if wording.known(share[place])]
            row[f"share_{place}"] = statistics.fmean(values) if values else None
        largest_shares = [max(share) for share in known if all(wording.known(v) for v in share)]
        row["largest_share"] = statistics.fmean(largest_shares) if largest_shares else None
        rows.append(row)
    rows.extend(_sanity_rows(source))
    order = {language: k for k, language in enumerate(_language_order(source, analysis))}
    rows.sort(key=lambda row: order.get(str(row["language"]), len(order)))
    return Table(
        name="languages",
        caption="Accuracy per language, methods at their largest size",
        columns=(
            Column(key="language", heading="language"),
            Column(key="system", heading="system"),
            Column(key="accuracy", heading="accuracy, %", show=PERCENT),
            Column(key="low", heading="95 % from", show=PERCENT),
            Column(key="high", heading="to", show=PERCENT),
            *(
                Column(key=f"share_{k}", heading=f"predicted {name}, %", show=PERCENT)
                for k, name in enumerate(source.class_names)
            ),
            Column(key="n", heading="items", show=COUNT),
            Column(key="seeds", heading="seeds", show=COUNT),
        ),
        rows=tuple(rows),
    )


def _language_order(source: ReportInput, analysis: Analysis) -> list[str]:
    own = {lang for cell in analysis.grid.cells for lang in analysis.grid.own(cell) if cell.pair}
    beside = source.view_sanity
    sanity = set() if beside.empty else {str(v) for v in beside["language"]}
    every = {*analysis.grid.all_languages, *sanity}
    return sorted(every, key=lambda v: (v != source.source_language, v not in own, v))


def _shares(source: ReportInput) -> dict[tuple[str, str], tuple[float, float, float]]:
    rows = source.results.view(source.view)
    columns = (rows[name] for name in ("cell", "language", "share_0", "share_1", "share_2"))
    return {
        (str(cell), str(language)): (float(a), float(b), float(c))
        for cell, language, a, b, c in zip(*columns, strict=True)
    }


def _sanity_rows(source: ReportInput) -> Iterator[Row]:
    for record in source.view_sanity.to_dict("records"):
        n = int(record["n"])
        bounds = wilson(round(float(record["value"]) * n), n)
        yield {
            "language": str(record["language"]),
            "system": wording.system_name(str(record["system"])),
            "kind": "sanity",
            "own_bitext": 0,
            "accuracy": float(record["value"]),
            "low": bounds.low if bounds else None,
            "high": bounds.high if bounds else None,
            "n": n,
            "seeds": None,
            **{f"share_{k}": _finite(record.get(f"share_{k}")) for k in range(3)},
        }


def _finite(value: object) -> float | None:
    number = float(value) if isinstance(value, (int, float)) else None
    return number if wording.known(number) else None
