"""From results to everything the report shows: levels, families of comparisons, slopes, answers.

Families, each with its own Holm correction, in the order in which they are believed:

1. methods: every method against no pre-training, and WEAM against its rivals, at the largest size
   that both have, averaged over domains and pairs, in the language of each pair;
2. slopes: does the gain grow with size, per method, averaged over domains and pairs;
3. cells: every domain x pair x size x method against no pre-training (the heat map);
4. causes: aligner regimes and domains against each other, where the study varies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from weam_ray.study import scaling
from weam_ray.study.comparisons import Comparison, Question, compare_family, judge
from weam_ray.study.curves import Form
from weam_ray.study.intervals import Crossed, Interval, crossed, interval, moderate
from weam_ray.study.lines import Key, Line, cause_questions, keys_of, lines_of, method_questions
from weam_ray.study.matching import Arm, Grid, Languages, Matched, level, match, overlap
from weam_ray.study.report_input import ReportInput
from weam_ray.study.results import BASELINE, REFERENCE_METHODS, target_languages
from weam_ray.study.wording import method_name, system_name


@dataclass(frozen=True, kw_only=True)
class Level:
    """Accuracy of one configuration, over seeds and items."""

    size: int
    interval: Interval
    seeds: tuple[float, ...]
    """Accuracy of each seed."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a panel."""

    line: Line
    levels: tuple[Level, ...]
    band: scaling.Band | None = None
    """The fitted gain; None where no slope was found, which would extrapolate noise."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Accuracy by size in the language of one pair and domain."""

    domain: str
    pair: str
    languages: tuple[str, ...]
    baseline: Level | None
    curves: tuple[Curve, ...]
    references: tuple[tuple[str, float], ...]
    """Sanity rows drawn as lines: name and accuracy."""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """How one line's gain grows, averaged over domains and pairs."""

    line: Line
    comparison: Comparison
    form: Form | None
    """The form that foretold the held-out largest size best; None with fewer than three sizes."""
    held_out: tuple[scaling.HeldOut, ...] = ()
    needed: scaling.PairsNeeded | None = None
    by_pair: tuple[tuple[str, Interval], ...] = ()
    pooled: scaling.Pooled | None = None


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything computed; the report only lays it out."""

    grid: Grid
    lines: tuple[Line, ...]
    sizes: tuple[int, ...]
    panels: tuple[Panel, ...]
    methods: tuple[Comparison, ...]
    slopes: tuple[Slope, ...]
    cells: tuple[Comparison, ...]
    """In the order of :attr:`cell_keys`."""
    cell_keys: tuple[Key, ...]
    """(line, domain, pair, size)."""
    causes: tuple[Comparison, ...]


def analyse(source: ReportInput) -> Analysis:
    """Compute the study's answers. Deterministic; needs no randomness but the bands' fixed seed."""
    grid = Grid.of(source.results, source.view, source.source_language)
    lines = lines_of(grid.cells)
    keys = tuple(keys_of(grid, lines))
    cells = compare_family(
        grid,
        [
            Question(
                name=f"{line.name}, {domain} {pair}, {size} pairs".replace(",  ", ", "),
                a=line.arm(size=size, domain=domain, pair=pair),
                b=Arm(method=BASELINE),
            )
            for line, domain, pair, size in keys
        ],
    )
    slopes, bands = _slopes(grid, lines, keys, source.target_gain)
    return Analysis(
        grid=grid,
        lines=lines,
        sizes=tuple(sorted({size for *_, size in keys})),
        panels=tuple(_panels(source, grid, lines, keys, bands)),
        methods=tuple(compare_family(grid, method_questions(grid, lines))),
        slopes=slopes,
        cells=tuple(cells),
        cell_keys=keys,
        causes=tuple(compare_family(grid, cause_questions(grid))),
    )


_Key = TypeVar("_Key")
Bands = dict[tuple[Line, str, str], scaling.Band]


def _slopes(
    grid: Grid, lines: Sequence[Line], keys: Sequence[Key], target: float
) -> tuple[tuple[Slope, ...], Bands]:
    parts: dict[Line, dict[tuple[str, str], scaling.Series]] = {}
    joined: dict[Line, scaling.Series | str] = {}
    for line in lines:
        parts[line] = _series(grid, line, keys)
        joined[line] = scaling.mean_series(list(parts[line].values()))
    able = [line for line in lines if not isinstance(joined[line], str)]
    answers = judge(
        [_slope_question(line) for line in able],
        [scaling.slope_contrast(one) for line in able if not isinstance(one := joined[line], str)],
    )
    single = [(line, place, one) for line in able for place, one in parts[line].items()]
    alone = judge(
        [_slope_question(line) for line, _, _ in single],
        [scaling.slope_contrast(one) for _, _, one in single],
    )
    slopes, bands = [], Bands()
    for line, answer in zip(able, answers, strict=True):
        own = [
            (place, one, judged)
            for (other, place, one), judged in zip(single, alone, strict=True)
            if other == line
        ]
        whole = joined[line]
        assert not isinstance(whole, str) and answer.spread is not None
        predictions = [scaling.held_out(one) for _, one, _ in own]
        form = scaling.best_form(predictions)
        slopes.append(
            Slope(
                line=line,
                comparison=answer,
                form=form,
                held_out=scaling.held_out(whole),
                needed=_needed(whole, form, answer, target),
                by_pair=tuple(
                    (" ".join(part for part in place if part), judged.effect)
                    for place, _, judged in own
                    if judged.effect is not None
                ),
                pooled=_pooled([judged for _, _, judged in own]),
            )
        )
        for (domain, pair), one, judged in own:
            if answer.found and judged.spread is not None:
                drawn = scaling.draw(one, judged.spread)
                bands[line, domain, pair] = scaling.band(one, form or "log-linear", drawn)
    missing = [line for line in lines if isinstance(joined[line], str)]
    slopes.extend(
        Slope(
            line=line,
            comparison=Comparison(
                question=_slope_question(line), effect=None, reason=str(joined[line])
            ),
            form=None,
        )
        for line in missing
    )
    return tuple(slopes), bands


def _slope_question(line: Line) -> Question:
    return Question(name=f"{line.name}: gain a doubling", a=line.arm(), b=Arm(method=BASELINE))


def _series(grid: Grid, line: Line, keys: Sequence[Key]) -> dict[tuple[str, str], scaling.Series]:
    found: dict[tuple[str, str], scaling.Series] = {}
    for place in dict.fromkeys((d, p) for one, d, p, _ in keys if one == line):
        by_size: dict[int, Matched] = {}
        for size in [n for one, d, p, n in keys if one == line and (d, p) == place]:
            gain = match(
                grid,
                line.arm(size=size, domain=place[0], pair=place[1]),
                Arm(method=BASELINE),
            )
            if not isinstance(gain, str):
                by_size[size] = gain
        stacked = scaling.series(by_size)
        if not isinstance(stacked, str):
            found[place] = stacked
    return found


def _needed(
    whole: scaling.Series, form: Form | None, answer: Comparison, target: float
) -> scaling.PairsNeeded:
    if answer.spread is None or not answer.claimable:
        reason = "one seed says nothing about the next"
        return scaling.PairsNeeded(gain=target, sizes=None, reason=reason)
    draws = scaling.draw(whole, answer.spread)
    if answer.found:
        return scaling.pairs_needed(whole, form or "log-linear", draws, target)
    always = scaling.pairs_needed(whole, "constant", draws, target)
    if always.at_most is not None:
        return always
    reason = "no slope was detectable, so no size can be named"
    return scaling.PairsNeeded(gain=target, sizes=None, reason=reason)


def _pooled(judged: Sequence[Comparison]) -> scaling.Pooled | None:
    spreads = [one.spread for one in judged if one.spread is not None and one.spread.seeds > 1]
    if len(spreads) < len(judged):
        return None
    return scaling.pool(
        [one.mean for one in spreads], [one.seed_part + one.item_part for one in spreads]
    )


def _panels(
    source: ReportInput,
    grid: Grid,
    lines: Sequence[Line],
    keys: Sequence[Key],
    bands: Bands,
) -> list[Panel]:
    panels = []
    levels = level_family(
        {key: level(grid, key[0].arm(size=key[3], domain=key[1], pair=key[2])) for key in keys}
    )
    for domain, pair in sorted({(d, p) for _, d, p, _ in keys}):
        languages = tuple(
            lang for lang in target_languages(pair, grid.source) if lang in grid.all_languages
        )
        curves = [
            Curve(
                line=line,
                levels=tuple(
                    _level(key[3], levels[key])
                    for key in keys
                    if key[:3] == (line, domain, pair) and key in levels
                ),
                band=bands.get((line, domain, pair)),
            )
            for line in lines
        ]
        base = level(grid, Arm(method=BASELINE), _always(languages))
        panels.append(
            Panel(
                domain=domain,
                pair=pair,
                languages=languages,
                baseline=None if isinstance(base, str) else _level(0, (base, crossed(base.table))),
                curves=tuple(curve for curve in curves if curve.levels),
                references=tuple(_references(source, grid, languages)),
            )
        )
    return panels


def _always(languages: Sequence[str]) -> Languages:
    return lambda _: languages


def level_family(
    tables: dict[_Key, Matched | str],
) -> dict[_Key, tuple[Matched, Crossed]]:
    """Levels that lend each other strength, by key; those that can't be computed are left out."""
    able = {key: one for key, one in tables.items() if not isinstance(one, str)}
    if not able:
        return {}
    spreads = moderate([crossed(one.table) for one in able.values()], overlap([*able.values()]))
    return {key: (one, s) for (key, one), s in zip(able.items(), spreads, strict=True)}


def _level(size: int, found: tuple[Matched, Crossed]) -> Level:
    matched, spread = found
    bounds = interval(spread)
    return Level(
        size=size,
        interval=Interval(value=bounds.value, low=max(bounds.low, 0.0), high=min(bounds.high, 1.0)),
        seeds=tuple(float(mean) for mean in matched.table.mean(1)),
    )


def _references(
    source: ReportInput, grid: Grid, languages: Sequence[str]
) -> list[tuple[str, float]]:
    lines = []
    for method in sorted(REFERENCE_METHODS):
        found = level(grid, Arm(method=method), _always(languages))
        if not isinstance(found, str):
            lines.append((method_name(method), float(found.table.mean())))
    for system, value in sanity_means(source, languages).items():
        if system == "word-overlap-only":
            lines.append((system_name(system), value))
    return lines


def sanity_means(source: ReportInput, languages: Sequence[str]) -> dict[str, float]:
    """Mean accuracy of each sanity system in some languages, on the view's split."""
    rows = source.sanity
    if rows.empty or not languages:
        return {}
    rows = rows[
        (rows["split"] == source.view.split)
        & (rows["metric"] == source.view.metric)
        & rows["language"].isin(list(languages))
    ]
    return {str(k): float(v) for k, v in rows.groupby("system", sort=False)["value"].mean().items()}
