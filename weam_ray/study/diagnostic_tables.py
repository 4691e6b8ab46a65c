"""The tables of a report that stand beside its claims: gaps, flags, probes, an encoder's links."""

from __future__ import annotations

from collections.abc import Iterator

from weam_ray.study import wording
from weam_ray.study.columns import COUNT, PERCENT, POINTS, Column, Row, Table, Value
from weam_ray.study.diagnostics import gap_of
from weam_ray.study.report_input import Point, ReportInput

_POINT = (
    Column(key="method", heading="method"),
    Column(key="domain", heading="domain"),
    Column(key="pair", heading="pair"),
    Column(key="size", heading="pairs", show=COUNT),
)
_TASK = (Column(key="task", heading="task"), Column(key="setting", heading="setting"))


def diagnostic_tables(source: ReportInput) -> Iterator[Table]:
    """The tables; some may have no rows."""
    yield _flags(source)
    yield _gaps(source)
    yield _sanity(source)
    yield _probe(source)
    yield _encoder_links(source)
    yield _layers(source)


def _place(point: Point) -> Row:
    return {
        "method": wording.method_name(point.method),
        "domain": point.domain,
        "pair": point.pair,
        "size": point.size or None,
    }


def _flags(source: ReportInput) -> Table:
    return Table(
        name="flags",
        caption="Predictions that look like a mistake and not like a result",
        columns=(
            Column(key="kind", heading="flag"),
            *_TASK,
            *_POINT,
            Column(key="language", heading="language"),
            Column(key="split", heading="items"),
            Column(key="cells", heading="cells"),
            Column(key="message", heading="figures of the first"),
        ),
        rows=tuple(
            {
                **_place(one.point),
                "kind": one.kind,
                "task": one.task,
                "setting": one.setting,
                "language": one.language,
                "split": one.split,
                "cells": f"{one.cells} of {one.of}",
                "message": one.message,
            }
            for one in source.diagnostics.flags
        ),
    )


def _gaps(source: ReportInput) -> Table:
    return Table(
        name="gaps",
        caption="Every task and setting: the source language, the targets, the gap between them; "
        "beside them the best of what needs no encoder (blind)",
        columns=(
            *_TASK,
            Column(key="split", heading="items of"),
            Column(key="rule", heading="checkpoint rule"),
            *_POINT,
            Column(key="metric", heading="metric"),
            Column(key="source", heading="source, %", show=PERCENT),
            Column(key="target", heading="targets, %", show=PERCENT),
            Column(key="gap", heading="gap, points", show=POINTS),
            Column(key="blind_source", heading="source blind, %", show=PERCENT),
            Column(key="blind_target", heading="targets blind, %", show=PERCENT),
            Column(key="languages", heading="targets", show=COUNT),
            Column(key="seeds", heading="seeds", show=COUNT),
            Column(key="n", heading="items", show=COUNT),
        ),
        rows=tuple(
            {
                **_place(one.point),
                "task": one.task,
                "setting": one.setting,
                "split": one.split,
                "rule": wording.rule_name(one.selection),
                "selection": one.selection,
                "metric": one.metric.replace("_", " "),
                "source": one.source,
                "target": one.target,
                "gap": gap_of(one),
                "blind_source": one.blind_source,
                "blind_target": one.blind_target,
                "languages": one.languages,
                "seeds": one.seeds,
                "n": one.n,
            }
            for one in source.diagnostics.gaps
        ),
    )


def _sanity(source: ReportInput) -> Table:
    """A row a language and a column a system; no task has all of them."""
    names = ("task", "setting", "metric", "language")
    found: dict[tuple[str, ...], dict[str, Value]] = {}
    systems: dict[str, str] = {}
    for record in source.sanity.to_dict("records"):
        if record["split"] == source.view.split:
            key = tuple(str(record[name]) for name in names)
            row = found.setdefault(key, {**dict(zip(names, key, strict=True)), "n": record["n"]})
            row[str(record["system"])] = float(record["value"])
            systems.setdefault(str(record["system"]), wording.system_name(str(record["system"])))
    return Table(
        name="sanity",
        caption="What needs no encoder, in every task, setting and language",
        columns=(
            *_TASK,
            Column(key="metric", heading="metric"),
            Column(key="language", heading="language"),
            *(Column(key=key, heading=f"{name}, %", show=PERCENT) for key, name in systems.items()),
            Column(key="n", heading="items", show=COUNT),
        ),
        rows=tuple(found.values()),
    )


def _probe(source: ReportInput) -> Table:
    return Table(
        name="probe",
        caption="A regression on frozen vectors, as they are and without each language's mean",
        columns=(
            *_POINT,
            Column(key="language", heading="language"),
            Column(key="plain", heading="plain, %", show=PERCENT),
            Column(key="centred", heading="centred, %", show=PERCENT),
            Column(key="n", heading="dev items", show=COUNT),
        ),
        rows=tuple(
            {
                **_place(one.point),
                "language": one.language,
                "plain": one.plain,
                "centred": one.centred,
                "n": one.n,
            }
            for one in source.diagnostics.probes
        ),
    )


def _encoder_links(source: ReportInput) -> Table:
    return Table(
        name="encoder_aer",
        caption="Word links from the encoder's own vectors: error rate against known links",
        columns=(
            *_POINT,
            Column(key="name", heading="known links"),
            Column(key="layer", heading="layer", show=COUNT),
            Column(key="softmax", heading="AER by softmax, %", show=PERCENT),
            Column(key="argmax", heading="by argmax, %", show=PERCENT),
            Column(key="best", heading="best layer's, %", show=PERCENT),
            Column(key="best_layer", heading="which", show=COUNT),
            Column(key="n", heading="sentence pairs", show=COUNT),
        ),
        rows=tuple(
            {
                **_place(one.point),
                "name": one.name,
                "layer": one.layer,
                "softmax": one.softmax,
                "argmax": one.argmax,
                "best": one.best,
                "best_layer": one.best_layer,
                "n": one.n,
            }
            for one in source.diagnostics.encoder_links
        ),
    )


def _layers(source: ReportInput) -> Table:
    return Table(
        name="retrieval_layers",
        caption="Sentence retrieval by layer (0: the embeddings), mean of languages and directions",
        columns=(
            *_POINT,
            Column(key="layer", heading="layer", show=COUNT),
            Column(key="plain", heading="found, %", show=PERCENT),
            Column(key="centred", heading="centred, %", show=PERCENT),
            Column(key="shared", heading="by shared subwords, %", show=PERCENT),
        ),
        rows=tuple(
            {
                **_place(one.point),
                "layer": one.layer,
                "plain": one.plain,
                "centred": one.centred,
                "shared": one.shared,
            }
            for one in source.diagnostics.layers
        ),
    )
