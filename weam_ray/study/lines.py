"""The lines of the report, and the questions it asks of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from weam_ray.study.comparisons import Question
from weam_ray.study.matching import Arm, Cell, Grid
from weam_ray.study.results import BASELINE, REFERENCE_METHODS
from weam_ray.study.wording import count, method_name

_ORDER = ("mlm", "tlm", "word-aligned", "weam")
_RIVALS = (
    ("weam", "tlm"),
    ("weam", "weam-shuffled-links"),
    ("weam", "word-aligned"),
    ("weam", "mlm"),
    ("weam", "tlm-doubled"),
    ("weam", "weam-aligned-only"),
    ("tlm", "mlm"),
    ("tlm", "tlm-shuffled-pairs"),
)


@dataclass(frozen=True, order=True, kw_only=True)
class Line:
    """A method as it is drawn: with its aligner regime where the study varies that."""

    method: str
    regime: str = ""
    """"" unless it tells two lines apart."""

    @property
    def name(self) -> str:
        """What the line is called."""
        return method_name(self.method, self.regime)

    def arm(self, **factors: int | str | None) -> Arm:
        """The line's cells, narrowed by further factors."""
        size, domain, pair = (factors.get(name) for name in ("size", "domain", "pair"))
        return Arm(
            method=self.method,
            regime=self.regime or None,
            size=int(size) if size is not None else None,
            domain=None if domain is None else str(domain),
            pair=None if pair is None else str(pair),
        )


Key = tuple[Line, str, str, int]
"""(line, domain, pair, size): a configuration that uses bitext."""


def lines_of(cells: Sequence[Cell]) -> tuple[Line, ...]:
    """The competing methods, by regime where one has several."""
    regimes: dict[str, set[str]] = {}
    for cell in cells:
        if cell.method != BASELINE and cell.method not in REFERENCE_METHODS:
            regimes.setdefault(cell.method, set()).add(cell.regime)
    lines = [
        Line(method=method, regime=regime if len(found) > 1 else "")
        for method, found in regimes.items()
        for regime in sorted(found)
    ]
    return tuple(sorted(lines, key=lambda one: (_rank(one.method), one.regime)))


def _rank(method: str) -> tuple[int, str]:
    return (_ORDER.index(method) if method in _ORDER else len(_ORDER), method)


def keys_of(grid: Grid, lines: Sequence[Line]) -> list[Key]:
    """Every configuration of the lines that has a finished cell."""
    found = {
        (line, cell.domain, cell.pair, cell.size)
        for line in lines
        for cell in grid.taken(line.arm())
    }
    return sorted(found, key=lambda key: (lines.index(key[0]), *key[1:]))


def largest(grid: Grid, *arms: Arm) -> int | None:
    """The largest size that all arms have; None if they share none."""
    sizes = [{cell.size for cell in grid.taken(arm)} for arm in arms]
    shared = set.intersection(*sizes)
    return max(shared) if shared else None


def method_questions(grid: Grid, lines: Sequence[Line]) -> list[Question]:
    """Each line against no pre-training, and rivals against each other, at their largest size."""
    questions = []
    for line in lines:
        size = largest(grid, line.arm())
        questions.append(
            Question(
                name=f"{line.name} against {method_name(BASELINE)}",
                a=line.arm(size=size),
                b=Arm(method=BASELINE),
            )
        )
    for a, b in _RIVALS:
        for one, other in itertools.product(
            [line for line in lines if line.method == a],
            [line for line in lines if line.method == b],
        ):
            if one.regime and other.regime and one.regime != other.regime:
                continue
            size = largest(grid, one.arm(), other.arm())
            if size is not None:
                questions.append(
                    Question(
                        name=f"{one.name} against {other.name}",
                        a=one.arm(size=size),
                        b=other.arm(size=size),
                    )
                )
    return questions


def pairwise_questions(grid: Grid, lines: Sequence[Line]) -> list[Question]:
    """What :func:`method_questions` leaves: any other two methods, any two sizes of a method."""
    questions = []
    for one, other in itertools.combinations(lines, 2):
        rivals = {(one.method, other.method), (other.method, one.method)} & {*_RIVALS}
        regimes = bool(one.regime and other.regime and one.regime != other.regime)
        size = largest(grid, one.arm(), other.arm())
        if one.method != other.method and not rivals and not regimes and size is not None:
            questions.append(
                Question(
                    name=f"{one.name} against {other.name}, {count(size)} pairs",
                    a=one.arm(size=size),
                    b=other.arm(size=size),
                )
            )
    for line in lines:
        sizes = sorted({cell.size for cell in grid.taken(line.arm())})
        questions += [
            Question(
                name=f"{line.name}: {count(large)} against {count(small)} pairs",
                a=line.arm(size=large),
                b=line.arm(size=small),
            )
            for small, large in itertools.combinations(sizes, 2)
        ]
    return questions


def cell_questions(keys: Sequence[Key]) -> list[Question]:
    """Every configuration against no pre-training, in the order of the keys."""
    return [
        Question(
            name=f"{line.name}, {domain} {pair}, {size} pairs".replace(",  ", ", "),
            a=line.arm(size=size, domain=domain, pair=pair),
            b=Arm(method=BASELINE),
        )
        for line, domain, pair, size in keys
    ]


def cause_questions(grid: Grid) -> list[Question]:
    """Regimes and domains against each other, at all sizes that both have."""
    questions = []
    domains = sorted({cell.domain for cell in grid.cells if cell.domain})
    methods = sorted({cell.method for cell in grid.cells if cell.pair}, key=_rank)
    for method in methods:
        arm = Arm(method=method)
        regimes = sorted({cell.regime for cell in grid.taken(arm)})
        for a, b in itertools.combinations(regimes, 2):
            questions.append(
                Question(
                    name=f"{method_name(method)}: links from the {a} against the {b}",
                    a=Arm(method=method, regime=a),
                    b=Arm(method=method, regime=b),
                )
            )
        for a, b in itertools.combinations(domains, 2):
            questions.append(
                Question(
                    name=f"{method_name(method)}: {a} text against {b} text",
                    a=Arm(method=method, domain=a),
                    b=Arm(method=method, domain=b),
                )
            )
    return questions
