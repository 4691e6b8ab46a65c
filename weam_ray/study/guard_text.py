"""Gates and flags as a person reads them in the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from weam_ray.study.gates import SYSTEMS
from weam_ray.study.report_input import FlagFacts, ReportInput
from weam_ray.study.wording import rule_name
from weam_ray.transfer.guards import Gate

_FLAGS_SHOWN = 10


def gate_plan(gates: Sequence[Gate], methods: Collection[str]) -> Iterator[str]:
    """What a study asks of its base before it claims anything, a line a gate, and one for what its
    grid will never measure.

    Args:
        methods: those of the grid.
    """
    if gates:
        yield "gates, without which no claim is made"
    for gate in gates:
        margin = f" and {100 * gate.margin:g} points more" if gate.margin else ""
        where = f" {'or' if gate.hold_in == 'any' else 'and'} ".join(gate.languages)
        yield (
            f"  {gate.name}: {gate.system} above {gate.above} in {where} by more than chance"
            f"{margin} ({gate.task} {gate.split}, {gate.metric}, {rule_name(str(gate.selection))})"
        )
        for method, system in SYSTEMS.items():
            if system in (gate.system, gate.above) and method not in methods:
                yield (
                    f"    CAN'T HOLD: the grid has no cells of the method {method}; add it to"
                    " grid.method, or state gates without it"
                )


def guard_lines(source: ReportInput) -> Iterator[str]:
    """How the gates came out, and which predictions look like a mistake."""
    said = {True: "gate holds", False: "GATE FAILS, no claim is made", None: "gate not checked"}
    for gate in source.gates:
        yield f"{said[gate.passed]}: {gate.name} ({gate.detail})"
    flags = source.diagnostics.flags
    for flag in flags[:_FLAGS_SHOWN]:
        yield f"FLAG {_flag(flag)}"
    if len(flags) > _FLAGS_SHOWN:
        yield f"FLAG and {len(flags) - _FLAGS_SHOWN} more, in the report"


def _flag(flag: FlagFacts) -> str:
    point = flag.point
    parts = [point.domain, point.pair, str(point.size or ""), point.method, flag.task, flag.setting]
    name = ".".join(part for part in parts if part)
    where = f"{flag.language}, {flag.split} items ({flag.cells} of {flag.of} cells)"
    return f"{flag.kind}: {name} in {where}: {flag.message}"
