"""Two studies beside each other: what both measured, paired where they share items, and what not.

Cells are matched by domain, pair, size, method and regime; items by the hash of their sentences and
label, so that two names for one item pair and one name for two items does not. Seeds pair by number
where both have them (they then share subsets and masks), else in order. Differences are judged as
within a study: over seeds x items, Holm over each family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weam_ray.study.bundle import Bundle
from weam_ray.study.causes import combine
from weam_ray.study.comparisons import Comparison, Question, judge
from weam_ray.study.matching import Arm, Cell, Grid, Matched, Stratum, cells_of, match_strata
from weam_ray.study.results import BASELINE, Correctness, Results, View, target_languages
from weam_ray.study.wording import count, method_name

_Configuration = tuple[str, str, int, str, str]
"""(domain, pair, size, method, regime)."""
_FEWEST_SHARED = 10
"""Items in common below which a language is not compared."""


@dataclass(frozen=True, kw_only=True)
class StudyComparison:
    """What two studies say of each other; differences are the second less the first."""

    first: str
    second: str
    methods: tuple[Comparison, ...]
    """Accuracy of each method, averaged over the configurations that both have."""
    gains: tuple[Comparison, ...]
    """Gain over no pre-training, likewise: what is left when the bases differ."""
    cells: tuple[Comparison, ...]
    """Accuracy of each configuration."""
    same: int
    """Configurations that are the same work, cell by cell: nothing to compare."""
    apart: tuple[str, ...]
    """What can't be compared, and why."""
    settings: tuple[tuple[str, str, str], ...]
    """Settings in which they differ: name, first's, second's."""


def compare_studies(first: Bundle, second: Bundle) -> StudyComparison:
    """Match what two studies measured and judge the differences."""
    joint = _Joint(first, second)
    shared = [kind for kind in joint.kinds[0] if kind in joint.kinds[1]]
    same = [kind for kind in shared if joint.is_same_work(kind)]
    other = [kind for kind in shared if kind not in same]
    say = _Names([*joint.kinds[0], *joint.kinds[1]])
    cells = _family([(say.cell(kind), joint.difference([kind])) for kind in other])
    methods = dict.fromkeys((kind[3], kind[4]) for kind in other)
    by_method = {key: [kind for kind in other if (kind[3], kind[4]) == key] for key in methods}
    names = {key: say.method(*key) for key in methods}
    return StudyComparison(
        first=first.name,
        second=second.name,
        methods=_family([(names[key], joint.difference(own)) for key, own in by_method.items()]),
        gains=_family(
            [
                (f"gain of {names[key]}", joint.gain_difference(own))
                for key, own in by_method.items()
                if key[0] != BASELINE
            ]
        ),
        cells=cells,
        same=len(same),
        apart=tuple(joint.apart(say)),
        settings=tuple(_settings(first.settings, second.settings)),
    )


def _family(asked: Sequence[tuple[str, Matched | str]]) -> tuple[Comparison, ...]:
    questions = [Question(name=name, a=Arm(), b=Arm()) for name, _ in asked]
    return tuple(judge(questions, [table for _, table in asked]))


class _Names:
    """Methods by name, and by aligner regime where the two studies have several of one."""

    def __init__(self, kinds: Sequence[_Configuration]) -> None:
        self._regimes: dict[str, set[str]] = {}
        for *_, method, regime in kinds:
            self._regimes.setdefault(method, set()).add(regime)

    def method(self, method: str, regime: str) -> str:
        """``WEAM``, or ``WEAM (subset links)``."""
        return method_name(method, regime if len(self._regimes[method]) > 1 else "")

    def cell(self, kind: _Configuration) -> str:
        """``medical en-de, 4 000 pairs, WEAM``."""
        domain, pair, size, method, regime = kind
        place = f"{domain} {pair}, {count(size)} pairs, " if pair else ""
        return f"{place}{self.method(method, regime)}"


def _settings(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield name, one.get(name, "–"), other.get(name, "–")


class _Joint:
    """Both studies' cells in one grid, over the items they share."""

    def __init__(self, first: Bundle, second: Bundle) -> None:
        self.bundles = (first, second)
        self.view = first.view
        self._problems = list(_view_problems(first.view, second.view))
        results = [Results.read(one.rows, one.root) for one in self.bundles]
        rows = [found.view(first.view) for found in results]
        cells = [cells_of(own) for own in rows]
        self.kinds = tuple(
            {kind: [c for c in own if c.configuration == kind] for kind in _kinds(own)}
            for own in cells
        )
        asked = [set(own["language"]) for own in rows]
        self.languages = self._shared_languages(asked)
        self._correct = self._join([found.correct for found in results])
        self._scored = {
            cell.address: frozenset(own[own["cell"] == cell.address]["language"])
            for own, of in zip(rows, cells, strict=True)
            for cell in of
        }

    def _shared_languages(self, asked: Sequence[set[str]]) -> dict[str, dict[str, str]]:
        """Languages both were scored in, each with the second's item for every one they share."""
        found = {}
        for language in sorted(asked[0] & asked[1]):
            key = (self.view.task, self.view.split, language)
            contents = [one.contents.get(key, {}) for one in self.bundles]
            by_content = {content: item for item, content in contents[1].items()}
            pairs = {
                item: by_content[content]
                for item, content in contents[0].items()
                if content in by_content
            }
            if len(pairs) < _FEWEST_SHARED:
                self._problems.append(
                    f"{language}: {len(pairs)} of {len(contents[0])} and {len(contents[1])} items "
                    "are the same"
                )
                continue
            left = [len(one) - len(pairs) for one in contents]
            if any(left):
                self._problems.append(
                    f"{language}: {len(pairs)} items are shared; {left[0]} and {left[1]} left out"
                )
            found[language] = pairs
        for place, name in enumerate(one.name for one in self.bundles):
            only = sorted(asked[place] - asked[1 - place])
            if only:
                self._problems.append(f"only {name} was scored in {', '.join(only)}")
        return found

    def _join(self, correct: Sequence[Correctness]) -> Correctness:
        """Right or wrong over the items that all shared languages share; cells marked by study."""
        joint = Correctness()
        shared = [set(own) for own in self.languages.values()]
        items = sorted(set.intersection(*shared)) if shared else []
        joint.positions[self.view.task, self.view.split] = {item: k for k, item in enumerate(items)}
        for place, own in enumerate(correct):
            known = own.positions.get((self.view.task, self.view.split), {})
            for (cell, task, language, split, selection), array in own.arrays.items():
                key = (task, split, selection)
                if key != (self.view.task, self.view.split, self.view.selection):
                    continue
                if language not in self.languages:
                    continue
                names = [i if place == 0 else self.languages[language][i] for i in items]
                joint.arrays[f"{place}:{cell}", task, language, split, selection] = _taken(
                    array, [known.get(name, -1) for name in names]
                )
        return joint

    def is_same_work(self, kind: _Configuration) -> bool:
        """Whether both studies hold the very same cells of a configuration."""
        one, other = ({cell.address for cell in own[kind]} for own in self.kinds)
        return one == other

    def difference(self, kinds: Sequence[_Configuration]) -> Matched | str:
        """Accuracy of some configurations, the second study's less the first's."""
        strata = [self._stratum(kind, kind[1], (1, kind), (0, kind)) for kind in kinds]
        return self._matched(strata)

    def gain_difference(self, kinds: Sequence[_Configuration]) -> Matched | str:
        """Gain over no pre-training, the second study's less the first's."""
        bases = [next((k for k in own if k[3] == BASELINE), None) for own in self.kinds]
        if bases[0] is None or bases[1] is None:
            return "one of the studies has no cells without pre-training"
        gains: list[Matched] = []
        for place, base in ((1, bases[1]), (0, bases[0])):
            gain = self._matched(
                [self._stratum(kind, kind[1], (place, kind), (place, base)) for kind in kinds]
            )
            if isinstance(gain, str):
                return gain
            gains.append(gain)
        if not set(gains[0].seeds) & set(gains[1].seeds):
            fewest = min(len(one.seeds) for one in gains)
            ranks = tuple(f"{k + 1}." for k in range(fewest))
            gains = [replace(one, seeds=ranks, table=one.table[:fewest]) for one in gains]
        return combine([(1.0, gains[0]), (-1.0, gains[1])])

    def _stratum(
        self,
        kind: _Configuration,
        pair: str,
        a: tuple[int, _Configuration],
        b: tuple[int, _Configuration],
    ) -> Stratum | str:
        sides = [self.kinds[place][own] for place, own in (a, b)]
        if a[0] != b[0]:
            sides = _with_common_seeds(sides)
        own = target_languages(pair, self.bundles[0].source_language, self.languages)
        wanted = own or [one for one in self.languages if one != self.bundles[0].source_language]
        languages = [
            one
            for one in wanted
            if one in self.languages
            and all(one in self._scored[cell.address] for side in sides for cell in side)
        ]
        if not languages:
            return "they were not scored in a language with items in common"
        marked = [
            tuple(replace(cell, address=f"{place}:{cell.address}") for cell in side)
            for (place, _), side in zip((a, b), sides, strict=True)
        ]
        key = (kind[0], kind[1], kind[2], kind[4])
        return Stratum(key=key, languages=tuple(languages), a=marked[0], b=marked[1])

    def _matched(self, strata: Sequence[Stratum | str]) -> Matched | str:
        able = [one for one in strata if not isinstance(one, str)]
        if len(able) < len(strata):
            return next(one for one in strata if isinstance(one, str))
        grid = Grid(cells=(), languages={}, correct=self._correct, view=self.view, source="")
        found = match_strata(grid, able)
        if isinstance(found, str):
            return found
        # Cells of the two studies are other cells, though their factors are alike.
        return replace(found, weights=_weights(able))

    def apart(self, say: _Names) -> Iterator[str]:
        """What can't be compared."""
        yield from self._problems
        for place, name in enumerate(one.name for one in self.bundles):
            only = [kind for kind in self.kinds[place] if kind not in self.kinds[1 - place]]
            if only:
                more = f" and {len(only) - 1} more" if len(only) > 1 else ""
                yield f"only {name} has {say.cell(only[0])}{more}"


def _kinds(cells: Sequence[Cell]) -> list[_Configuration]:
    return list(dict.fromkeys(cell.configuration for cell in cells))


def _view_problems(one: View, other: View) -> Iterator[str]:
    for name in ("task", "setting", "split", "selection", "system", "metric"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            yield f"the first reports on {name} {mine}, the second on {theirs}: {mine} is compared"


def _taken(array: NDArray[np.int8], places: Sequence[int]) -> NDArray[np.int8]:
    at = np.array(places, np.int64)
    known = (at >= 0) & (at < len(array))
    taken = np.full(len(at), -1, np.int8)
    taken[known] = array[at[known]]
    return taken


def _with_common_seeds(sides: Sequence[list[Cell]]) -> list[list[Cell]]:
    """Cells as they are where seeds are shared; else numbered in order on both sides."""
    fine = [{cell.seeds for cell in side} for side in sides]
    if fine[0] & fine[1]:
        return [list(side) for side in sides]
    return [
        [replace(cell, seeds=(k, k, k)) for k, cell in enumerate(sorted(side, key=_seeds))]
        for side in sides
    ]


def _seeds(cell: Cell) -> tuple[int, int, int]:
    return cell.seeds


def _weights(strata: Sequence[Stratum]) -> dict[_Configuration, float]:
    weights: dict[_Configuration, float] = {}
    for one in strata:
        for sign, cells in ((1.0, one.a), (-1.0, one.b)):
            for cell in cells[:1]:
                study = cell.address.partition(":")[0]
                domain, pair, size, method, regime = cell.configuration
                kind = (domain, pair, size, f"{study}:{method}", regime)
                weights[kind] = weights.get(kind, 0.0) + sign / len(strata)
    return weights
