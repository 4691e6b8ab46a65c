"""The tables of a report that show the run's facts: aligners, corpora, power, provenance."""

from __future__ import annotations

from collections.abc import Iterator

from weam_ray.study import power, wording
from weam_ray.study.analysis import Analysis
from weam_ray.study.columns import COUNT, PERCENT, Column, Row, Table, number
from weam_ray.study.comparisons import measured_noise
from weam_ray.study.diagnostic_tables import diagnostic_tables
from weam_ray.study.report_input import ReportInput

_SEEDS = (2, 3, 5, 10, 20)


def fact_tables(source: ReportInput) -> Iterator[Table]:
    """Gates, aligners, retrieval, corpora, tasks, holes, failures; those that have rows."""
    for table in (
        _gates(source),
        _aligners(source),
        _divergences(source),
        _retrieval(source),
        _corpora(source),
        _dropped(source),
        _evaluated(source),
        _spent(source),
        _holes(source),
        _failures(source),
        *diagnostic_tables(source),
    ):
        if table.rows:
            yield table


def _columns(*pairs: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column(key=key, heading=heading) for key, heading in pairs)


def _gates(source: ReportInput) -> Table:
    said = {True: "holds", False: "fails", None: "not checked"}
    return Table(
        name="gates",
        caption="Gates: what must hold before any claim",
        columns=_columns(("gate", "gate"), ("outcome", "outcome"), ("detail", "figures")),
        rows=tuple(
            {"gate": one.name, "outcome": said[one.passed], "detail": one.detail}
            for one in source.gates
        ),
    )


def _aligners(source: ReportInput) -> Table:
    return Table(
        name="aligners",
        caption="Word alignment: error against known links, and share of words with a partner",
        columns=(
            *_columns(("domain", "domain"), ("pair", "pair")),
            Column(key="size", heading="pairs seen", show=COUNT),
            *_columns(("regime", "learnt from"), ("symmetrisation", "symmetrisation")),
            Column(key="aer", heading="AER, %", show=PERCENT),
            Column(key="linked", heading="words with a partner, %", show=PERCENT),
        ),
        rows=tuple(
            {
                "domain": one.domain,
                "pair": one.pair,
                "size": one.size,
                "regime": one.regime,
                "symmetrisation": one.symmetrisation,
                "aer": one.aer,
                "linked": one.linked_share,
            }
            for one in source.aligners
        ),
    )


_BITS = number(lambda value: wording.MISSING if value is None else f"{value:.3f}")


def _divergences(source: ReportInput) -> Table:
    names = ("words", "words_within", "subwords", "subwords_within", "unseen")
    return Table(
        name="divergences",
        caption="Nearness of the bilingual text to the task: Jensen-Shannon divergence in bits (0 "
        "the same frequencies, 1 nothing shared), beside that of two halves of the task",
        columns=(
            *_columns(("domain", "domain"), ("pair", "pair"), ("language", "language")),
            Column(key="words", heading="words", show=_BITS),
            Column(key="words_within", heading="within the task", show=_BITS),
            Column(key="subwords", heading="subwords", show=_BITS),
            Column(key="subwords_within", heading="within the task", show=_BITS),
            Column(key="unseen", heading="task words the text never has, %", show=PERCENT),
        ),
        rows=tuple(
            {
                "domain": one.domain,
                "pair": one.pair,
                "language": one.language,
                **{name: getattr(one, name) for name in names},
            }
            for one in source.divergences
        ),
    )


def _retrieval(source: ReportInput) -> Table:
    return Table(
        name="retrieval",
        caption="Sentence retrieval: translations found as nearest neighbours",
        columns=(
            *_columns(("method", "method"), ("domain", "domain"), ("pair", "pair")),
            Column(key="size", heading="pairs", show=COUNT),
            Column(key="language", heading="language"),
            Column(key="accuracy", heading="found, %", show=PERCENT),
            Column(key="shared", heading="by shared subwords, %", show=PERCENT),
            Column(key="chance", heading="by chance, %", show=PERCENT),
            Column(key="n", heading="sentences", show=COUNT),
        ),
        rows=tuple(
            {
                "method": wording.method_name(one.method),
                "domain": one.domain,
                "pair": one.pair,
                "size": one.size or None,
                "language": one.language,
                "accuracy": one.accuracy,
                "shared": one.shared,
                "chance": one.chance,
                "n": one.n,
            }
            for one in source.retrieval
        ),
    )


def _corpora(source: ReportInput) -> Table:
    return Table(
        name="corpora",
        caption="Bilingual text: pairs read and kept",
        columns=(
            *_columns(("domain", "domain"), ("pair", "pair")),
            Column(key="read", heading="read", show=COUNT),
            Column(key="kept", heading="kept", show=COUNT),
            Column(key="lost", heading="dropped", show=COUNT),
            Column(key="share", heading="dropped, %", show=PERCENT),
            Column(key="place", heading="artifact"),
        ),
        rows=tuple(
            {
                "domain": one.domain,
                "pair": one.pair,
                "read": one.read,
                "kept": one.kept,
                "lost": one.read - one.kept,
                "share": (one.read - one.kept) / one.read if one.read else None,
                "place": one.place,
            }
            for one in source.corpora
        ),
    )


def _dropped(source: ReportInput) -> Table:
    return Table(
        name="dropped",
        caption="Dropped pairs by reason",
        columns=(
            *_columns(("domain", "domain"), ("pair", "pair"), ("reason", "reason")),
            Column(key="pairs", heading="pairs", show=COUNT),
            Column(key="share", heading="of those read, %", show=PERCENT),
        ),
        rows=tuple(
            {
                "domain": one.domain,
                "pair": one.pair,
                "reason": reason.replace("_", " "),
                "pairs": dropped,
                "share": dropped / one.read if one.read else None,
            }
            for one in source.corpora
            for reason, dropped in sorted(one.dropped.items(), key=lambda item: -item[1])
            if dropped
        ),
    )


def _evaluated(source: ReportInput) -> Table:
    return Table(
        name="evaluated",
        caption="Data of the tasks: items kept over all languages; left out or shortened, and why",
        columns=(
            *_columns(("task", "task"), ("split", "split")),
            Column(key="languages", heading="languages", show=COUNT),
            Column(key="kept", heading="items", show=COUNT),
            *_columns(("reasons", "left out or shortened")),
        ),
        rows=tuple(
            {
                "task": one.task,
                "split": one.split,
                "languages": one.languages,
                "kept": one.kept,
                "reasons": "; ".join(
                    f"{wording.count(count)} {reason}" for reason, count in one.reasons.items()
                )
                or "none",
            }
            for one in source.evaluated
        ),
    )


def _spent(source: ReportInput) -> Table:
    rows = source.results.view(source.view).drop_duplicates("cell")
    found: list[Row] = []
    for method, size in sorted(set(zip(rows["method"], rows["size"], strict=True))):
        own = rows[(rows["method"] == method) & (rows["size"] == size)]
        found.append(
            {
                "method": wording.method_name(str(method)),
                "size": int(size) or None,
                "cells": len(own),
                "steps": float(own["steps"].mean()),
                "epochs": float(own["epochs"].mean()),
                "seconds": float(own["seconds"].mean()),
            }
        )
    return Table(
        name="spent",
        caption="Steps, passes over the bitext and seconds a cell, means",
        columns=(
            Column(key="method", heading="method"),
            Column(key="size", heading="pairs", show=COUNT),
            Column(key="cells", heading="cells", show=COUNT),
            Column(key="steps", heading="steps", show=COUNT),
            Column(key="epochs", heading="passes", show=lambda v: _one_digit(v)),
            Column(key="seconds", heading="seconds", show=lambda v: _one_digit(v)),
        ),
        rows=tuple(found),
    )


def _one_digit(value: str | int | float | None) -> str:
    number = None if isinstance(value, str) else value
    return f"{number:.1f}" if number is not None and wording.known(number) else wording.MISSING


def _holes(source: ReportInput) -> Table:
    return Table(
        name="holes",
        caption="Holes: combinations that can't be run",
        columns=_columns(("factors", "combination"), ("reason", "why")),
        rows=tuple({"factors": one.factors, "reason": one.reason} for one in source.holes),
    )


def _failures(source: ReportInput) -> Table:
    return Table(
        name="failures",
        caption="Cells that failed",
        columns=_columns(("factors", "cell"), ("error", "error"), ("log", "log")),
        rows=tuple(
            {"factors": one.factors, "error": one.error, "log": one.log} for one in source.failures
        ),
    )


def power_table(analysis: Analysis) -> Table | None:
    """What more seeds would make detectable, from the noise the method comparisons measured."""
    noise = measured_noise(analysis.methods)
    spreads = [one.spread for one in analysis.methods if one.claimable and one.spread is not None]
    if noise is None or not spreads:
        return None
    items, now = spreads[0].items, spreads[0].seeds
    family = sum(one.claimable for one in analysis.methods)
    family += sum(slope.comparison.claimable for slope in analysis.slopes)
    rows: list[Row] = [
        {
            "seeds": seeds,
            "detectable": power.detectable_effect(
                noise, seeds=seeds, items=items, comparisons=family
            ),
            "here": "this study" if seeds == now else " ",
        }
        for seeds in sorted({*_SEEDS, now})
    ]
    return Table(
        name="power",
        caption=f"True difference found with 80 % probability at {wording.count(items)} items, as "
        f"the only one among the answer's {family} comparisons, given the noise measured here "
        f"(discordance {wording.percent(noise.discordance)} %, sd between seeds "
        f"{wording.percent(noise.seed_sd, 2)} points a system)",
        columns=(
            Column(key="seeds", heading="seeds", show=COUNT),
            Column(key="detectable", heading="points", show=_capped),
            Column(key="here", heading=""),
        ),
        rows=tuple(rows),
    )


def _capped(value: str | int | float | None) -> str:
    number = None if isinstance(value, str) else value
    return "none for sure" if number is not None and number >= 1 else wording.percent(number)
