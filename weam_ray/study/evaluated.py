"""What came of the evaluation data: items read, left out by reason, and shortened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from weam_ray.artifacts import Artifact
from weam_ray.study.diagnostics import Finder
from weam_ray.study.grid import Cell
from weam_ray.study.report_input import EvaluationFacts
from weam_ray.transfer.qa.questions import OTHER_LANGUAGE


def read_evaluated(cells: Iterable[Cell], finder: Finder) -> tuple[EvaluationFacts, ...]:
    """A row for each task and split, and for each setting under which something was shortened."""
    found: dict[str, tuple[EvaluationFacts, ...]] = {}
    for cell in cells:
        experiment, task = cell.experiment, cell.key.task
        for step in (experiment.questions.get(task, experiment.items), experiment.tokens):
            if step is None or step.address in found:
                continue
            if (done := finder.find(step)) is not None:
                found[step.address] = tuple(_facts(task, step.stage, done))
    return tuple(row for rows in found.values() for row in rows)


def _facts(task: str, stage: str, done: Artifact) -> Iterator[EvaluationFacts]:
    facts = done.facts
    match stage:
        case "items":
            # What is wrong with an item of a pair of sentences is refused, and nothing dropped.
            sets = {f"{task}/{name}": one for name, one in facts["by_split"].items()}
            yield from _by_split({name: (one["items"], {}) for name, one in sets.items()})
        case "questions":
            sets = facts["by_set"]
            yield from _by_split({k: (one["questions"], _lost(one)) for k, one in sets.items()})
        case "tokens" | "windows":
            items = facts["items" if stage == "tokens" else "questions"]
            what = "inputs shortened" if stage == "tokens" else "questions shortened"
            if count := facts["truncated"]:
                yield EvaluationFacts(task=task, split="all", kept=items, reasons={what: count})


def _lost(one: Mapping[str, Any]) -> dict[str, int]:
    return {why: count for why, count in one["dropped"].items() if why != OTHER_LANGUAGE}


def _by_split(
    sets: Mapping[str, tuple[int, Mapping[str, int]]],
) -> Iterator[EvaluationFacts]:
    """Sets are named task/split/language: a reader answers other tasks' questions too."""
    groups: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for name, one in sets.items():
        task, split, _ = name.split("/", 2)
        groups[task, split].append(one)
    for (task, split), members in groups.items():
        reasons: Counter[str] = Counter()
        for _, dropped in members:
            reasons.update(dropped)
        yield EvaluationFacts(
            task=task,
            split=split,
            languages=len(members),
            kept=sum(count for count, _ in members),
            reasons={reason: count for reason, count in reasons.items() if count},
        )
