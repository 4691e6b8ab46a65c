"""What the store holds beside accuracies: gaps, guard flags, probes and an encoder's own links."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from weam_ray.artifacts import Artifact, Step
from weam_ray.study.grid import Cell
from weam_ray.study.report_input import (
    Diagnostics,
    EncoderAerFacts,
    FlagFacts,
    GapFacts,
    LayerFacts,
    Point,
    ProbeFacts,
    RetrievalFacts,
)
from weam_ray.study.results import SEEDS, Results, View, small_table, target_languages

Key = TypeVar("Key", bound=Hashable)


class Finder(Protocol):
    """Where finished steps are looked up."""

    def find(self, step: Step) -> Artifact | None:
        """The finished artifact of a step, or None."""


def read_diagnostics(
    cells: Iterable[Cell],
    finder: Finder,
    results: Results,
    view: View,
    sources: Mapping[str, str],
    layers: tuple[LayerFacts, ...],
    sanity: pd.DataFrame,
) -> Diagnostics:
    """All of them; seeds of one point of the grid are averaged.

    Args:
        sources: the language that each task is trained on.
        layers: of :func:`read_retrieval`.
        sanity: as in :class:`weam_ray.study.report_input.ReportInput`.
    """
    found = list(cells)
    return Diagnostics(
        gaps=tuple(gaps(results, view, sources, sanity)),
        flags=tuple(_flags(found, finder, results, view)),
        probes=tuple(_probes(found, finder)),
        encoder_links=tuple(_encoder_links(found, finder)),
        layers=layers,
    )


def gaps(
    results: Results, view: View, sources: Mapping[str, str], sanity: pd.DataFrame
) -> Iterator[GapFacts]:
    """Scores of every task and setting: source language, targets, and what lies between them.

    A target is the other language of a cell's pair; of cells without bitext every other language
    whose questions are in it too. A task without items of the split that claims are made on is
    shown by those it has (TyDiQA's test is hidden).
    """
    own_rows = results.rows[results.rows["system"] == view.system]
    there = own_rows.groupby("task", sort=False)["split"].agg(set)
    splits = {task: view.split if view.split in have else min(have) for task, have in there.items()}
    rows = own_rows[own_rows["split"] == own_rows["task"].map(splits)]
    columns = ["task", "setting", "selection", "metric", "method", "domain", "pair", "size"]
    beside = _blind_rows(sanity, splits)
    languages, values = rows["language"].to_numpy(object), rows["value"].to_numpy(float)
    counts = rows["n"].to_numpy()
    seeds = rows[list(SEEDS)].to_numpy()
    # Frames of a few rows cost more than what is done with them, and there are thousands.
    groups: Any = rows.groupby(columns, sort=False).indices
    for key, places in groups.items():
        task, setting, selection, metric, method, domain, pair, size = key
        source = sources[str(task)]
        own = target_languages(str(pair), source, set(languages[places]))
        single = places[~np.isin(languages[places], _crossed(languages[places]))]
        there = languages[single]
        targets = single[np.isin(there, own) if own else there != source]
        scored = (set(there[there == source]), set(languages[targets]))
        blind = beside.get((str(task), str(setting), str(metric)), {})
        yield GapFacts(
            point=Point(
                method=str(method), domain=str(domain), pair=str(pair), size=int(str(size))
            ),
            task=str(task),
            split=splits[task],
            setting=str(setting),
            selection=str(selection),
            metric=str(metric),
            source=_mean(values[single[there == source]]),
            target=_mean(values[targets]),
            blind_source=_best_blind(blind, scored[0]),
            blind_target=_best_blind(blind, scored[1]),
            languages=len(scored[1]),
            # Of several targets or languages a seed has several cells.
            seeds=len({*map(tuple, seeds[places])}),
            n=int(counts[places].min()),
        )


_Blind = dict[str, dict[str, float]]
"""Scores by system and language."""


def _blind_rows(
    sanity: pd.DataFrame, splits: Mapping[Hashable, str]
) -> dict[tuple[str, str, str], _Blind]:
    """The sanity rows of each task's split, by task, setting and metric."""
    found: dict[tuple[str, str, str], _Blind] = {}
    if sanity.empty:
        return found
    names = ("task", "setting", "metric", "system", "language", "value")
    rows = sanity[sanity["split"] == sanity["task"].map(splits)]
    for task, setting, metric, system, language, value in rows[list(names)].itertuples(index=False):
        systems = found.setdefault((str(task), str(setting), str(metric)), {})
        systems.setdefault(str(system), {})[str(language)] = float(value)
    return found


def _best_blind(systems: _Blind, languages: set[str]) -> float | None:
    """The highest mean over the languages of any system that has all of them."""
    means = [
        fmean(values[language] for language in languages)
        for values in systems.values()
        if languages and languages <= values.keys()
    ]
    return max(means, default=None)


def _crossed(languages: Iterable[str]) -> list[str]:
    """Labels of questions asked in another language: "de-en" where de and en are labels too."""
    known = set(languages)
    return [one for one in known if "-" in one and set(one.split("-", 1)) <= known]


def _mean(values: NDArray[np.float64]) -> float | None:
    if not len(values):
        return None
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _flags(
    cells: Iterable[Cell], finder: Finder, results: Results, view: View
) -> Iterator[FlagFacts]:
    """Flags by each cell's first rule, of every task and setting, on the items that claims are made
    on; of a language that has none of these, on those it has.

    A reader answers the sets of several tasks, so a flag's task is that of the set it is about.
    """
    found: dict[tuple[Point, str, str, str, str, str, str], list[str]] = defaultdict(list)
    reported = _scored(results, view.split)
    finished: Counter[tuple[Point, str, str, str, str]] = Counter()
    scored: dict[str, set[tuple[str, str]]] = defaultdict(set)
    columns = (results.rows[name].to_numpy(object) for name in ("cell", "task", "language"))
    for address, task, language in zip(*columns, strict=True):
        scored[address].add((task, language))
    for cell in cells:
        done = finder.find(cell.experiment.transfer)
        if done is None:
            continue
        point, own, setting = _point(cell), cell.key.task, cell.key.setting
        selection = cell.config.fine_tuning.selection[0]
        finished.update((point, own, setting, *one) for one in scored[done.address])
        for flag in done.facts.get("flags", ()):
            # Cells of stores that are older than flags' tasks have none in their records.
            task, language, split = flag.get("task", own), flag["language"], flag["split"]
            elsewhere = split != view.split and (done.address, task, language) in reported
            if flag["selection"] == selection and not elsewhere:
                key = (point, own, setting, task, language, split, flag["kind"])
                found[key].append(flag["message"])
    for (point, own, setting, task, language, split, kind), messages in found.items():
        yield FlagFacts(
            point=point,
            task=task,
            setting=setting,
            language=language,
            split=split,
            kind=kind,
            cells=len(messages),
            of=finished[point, own, setting, task, language],
            message=messages[0],
        )


def _scored(results: Results, split: str) -> set[tuple[str, str, str]]:
    """(cell, task, language) of everything that has rows of a split."""
    rows = results.rows[results.rows["split"] == split]
    columns = (rows[name].to_numpy(object) for name in ("cell", "task", "language"))
    return set(zip(*columns, strict=True))


def _probes(cells: Iterable[Cell], finder: Finder) -> Iterator[ProbeFacts]:
    tables: dict[Point, list[pa.Table]] = defaultdict(list)
    for point, _, table in _tables(cells, finder, "probe", "scores.parquet"):
        tables[point].append(table.select(["language", "system", "value", "n"]))
    for point, found in tables.items():
        # By columns: a dictionary a row takes longer than reading the files.
        columns = pa.concat_tables(found, promote_options="default").to_pydict()
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        counts: dict[str, int] = {}
        for language, system, value, n in zip(*columns.values(), strict=True):
            values[language][system].append(value)
            counts[language] = n
        for language, systems in values.items():
            yield ProbeFacts(
                point=point,
                language=language,
                plain=fmean(systems["frozen-probe"]),
                centred=fmean(systems["frozen-probe-centred"]),
                n=counts[language],
            )


def _encoder_links(cells: Iterable[Cell], finder: Finder) -> Iterator[EncoderAerFacts]:
    """At the layer that stands for the encoder, and at the best one."""
    rates: dict[tuple[Point, str, str], dict[str, list[list[float]]]] = {}
    chosen: dict[tuple[Point, str, str], tuple[int, int]] = {}
    for point, row in _rows(cells, finder, "encoder_aer", "encoder_aer.parquet"):
        key = (point, row["name"], row["pair"])
        ways = rates.setdefault(key, {"softmax": [], "argmax": []})
        if row["layer"] == len(ways[row["way"]]):
            ways[row["way"]].append([])
        ways[row["way"]][row["layer"]].append(row["aer"])
        if row["reported"]:
            chosen[key] = row["layer"], row["n"]
    for (point, name, pair), ways in rates.items():
        layer, n = chosen[point, name, pair]
        by_layer = {way: [fmean(seeds) for seeds in layers] for way, layers in ways.items()}
        yield EncoderAerFacts(
            point=point,
            name=f"{name} {pair}",
            layer=layer,
            softmax=by_layer["softmax"][layer],
            argmax=by_layer["argmax"][layer],
            best=min(by_layer["softmax"]),
            best_layer=by_layer["softmax"].index(min(by_layer["softmax"])),
            n=n,
        )


def read_retrieval(
    cells: Iterable[Cell], finder: Finder
) -> tuple[tuple[RetrievalFacts, ...], tuple[LayerFacts, ...]]:
    """Sentence retrieval, averaged over the seeds of a point of the grid: in each language, and at
    every layer as the mean over languages and both directions.
    """
    languages: dict[tuple[Point, str], list[tuple[float, float, int]]] = defaultdict(list)
    alike: dict[Point, list[float]] = defaultdict(list)
    layers: dict[Point, dict[bool, list[NDArray[np.float64]]]] = {}
    seen: set[str] = set()
    for point, address, table in _tables(cells, finder, "retrieval", "retrieval.parquet"):
        if address not in seen:  # methods that share an encoder share what it retrieves
            names = ("language", "accuracy", "shared_subwords", "n")
            columns = (table[name].to_pylist() for name in names)
            for language, accuracy, shared, n in zip(*columns, strict=True):
                languages[point, language].append((accuracy, shared, n))
        seen.add(address)
        if not table.num_rows:
            continue
        own = layers.setdefault(point, {False: [], True: []})
        alike[point] += table["shared_subwords"].to_pylist()
        for centred, (there, back) in _DIRECTIONS.items():
            own[centred].append((_by_layer(table[there]) + _by_layer(table[back])) / 2)
    return (
        tuple(
            RetrievalFacts(
                method=point.method,
                domain=point.domain,
                pair=point.pair,
                size=point.size,
                language=language,
                accuracy=fmean(accuracy for accuracy, _, _ in found),
                shared=fmean(shared for _, shared, _ in found),
                n=found[0][2],
                chance=1 / found[0][2],
            )
            for (point, language), found in languages.items()
        ),
        tuple(
            LayerFacts(
                point=point,
                layer=layer,
                plain=plain,
                centred=centred,
                shared=fmean(alike[point]),
            )
            for point, found in layers.items()
            for layer, (plain, centred) in enumerate(
                zip(_means(found[False]), _means(found[True]), strict=True)
            )
        ),
    )


_DIRECTIONS = {
    False: ("to_target", "to_source"),
    True: ("centred_to_target", "centred_to_source"),
}
"""Columns with a number a layer, by whether vectors are centred."""


def _by_layer(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Lists of one length as an array, shape (rows, layers)."""
    flat = pc.list_flatten(column).to_numpy()
    return np.asarray(flat, np.float64).reshape(len(column), -1)


def _means(tables: Sequence[NDArray[np.float64]]) -> list[float]:
    """The mean of every column, over the rows of all of them."""
    return [fmean(values) for values in np.concatenate(tables).T.tolist()]


def _rows(
    cells: Iterable[Cell], finder: Finder, stage: str, name: str
) -> Iterator[tuple[Point, Mapping[str, Any]]]:
    """The rows of one diagnostic of every encoder, each encoder once a point."""
    for point, _, table in _tables(cells, finder, stage, name):
        yield from ((point, row) for row in table.to_pylist())


def _tables(
    cells: Iterable[Cell], finder: Finder, stage: str, name: str
) -> Iterator[tuple[Point, str, pa.Table]]:
    """(point, address, table) of one diagnostic of every encoder, each encoder once a point."""
    seen: set[tuple[Point, str]] = set()
    for cell in cells:
        for step in cell.experiment.diagnostics:
            if step.stage != stage:
                continue
            point = _point(cell)
            if (point, step.address) in seen:
                continue
            seen.add((point, step.address))
            if (done := finder.find(step)) is not None:
                yield point, step.address, small_table(done.path / name)


def _point(cell: Cell) -> Point:
    key = cell.key
    return Point(method=key.method, domain=key.domain, pair=key.pair, size=key.size)


def gap_of(one: GapFacts) -> float | None:
    """Source minus target; None where one of them was not measured."""
    if one.source is None or one.target is None:
        return None
    difference = one.source - one.target
    return difference if math.isfinite(difference) else None
