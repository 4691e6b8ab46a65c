"""What keeps a wrong or empty result from being read as one: flags on predictions, gates on claims.

A flag says that predictions look like a mistake (a confused label order, one class for everything,
chance). A gate says what must be true of a base encoder before a study may claim anything; what a
tiny encoder showed without them: an accuracy of 33.5 where seven overlap features had 42.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from math import sqrt
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from weam_ray.identity import StageConfig
from weam_ray.transfer.config import Selection
from weam_ray.transfer.reading import LABELS
from weam_ray.transfer.scores import NO_SELECTION, group_rows

ONE_CLASS_SHARE = 0.95
"""A share of one predicted class from which the predictions are called constant."""

LOST_CLASS_SHARE = 0.05
"""A predicted share below which a class that gold has at least 1 in 5 times is called lost."""

CONFUSED_GAIN = 0.15
"""Accuracy gained by renaming the predicted labels from which their order is called confused."""

PAIR_SYSTEMS = ("majority", "hypothesis-only", "premise-only", "word-overlap-only")
"""The sanity rows of sentence pairs; `sanity.py` says what each is."""

QUESTION_SYSTEMS = ("majority", "question-only", "first-sentence", "word-overlap-only")
"""Those of questions; `qa/sanity.py` says what each is."""

_Z95 = 1.96

FlagKind = Literal["one-class", "lost-class", "near-chance", "label-order", "one-answer"]


@dataclass(frozen=True)
class Flag:
    """Something about one language's predictions that a reader must see beside the accuracy."""

    kind: FlagKind
    task: str
    """Of the scored set: a reader answers those of several tasks."""
    language: str
    split: str
    selection: str
    message: str

    def as_fact(self) -> dict[str, str]:
        """JSON values for an artifact's record."""
        return asdict(self)


def flags(predictions: pa.Table) -> list[Flag]:
    """The flags of every task, language, split and selection in predictions.parquet."""
    gold = predictions["gold"].to_numpy()
    predicted = predictions["predicted"].to_numpy()
    found: list[Flag] = []
    columns = ["task", "language", "split", "selection"]
    for key, rows in group_rows(predictions, columns).items():
        task, language, split, selection = key
        found += [
            Flag(kind, task, language, split, selection, message)
            for kind, message in _judge(gold[rows], predicted[rows])
        ]
    return found


def _judge(gold: NDArray[Any], predicted: NDArray[Any]) -> Iterable[tuple[FlagKind, str]]:
    n = len(gold)
    confusion = np.zeros((len(LABELS), len(LABELS)))
    np.add.at(confusion, (gold, predicted), 1 / n)
    accuracy = float(np.trace(confusion))
    shares, gold_shares = confusion.sum(axis=0), confusion.sum(axis=1)
    top = int(shares.argmax())
    if shares[top] >= ONE_CLASS_SHARE:
        yield "one-class", f"{shares[top]:.1%} of {n} predictions are {LABELS[top]}"
    else:
        for label in np.flatnonzero((shares < LOST_CLASS_SHARE) & (gold_shares >= 0.2)):
            yield (
                "lost-class",
                f"{LABELS[label]} is predicted {shares[label]:.1%} of the time,"
                f" true {gold_shares[label]:.1%}",
            )
    chance = float(gold_shares.max())
    if accuracy <= chance + _Z95 * sqrt(chance * (1 - chance) / n):
        yield (
            "near-chance",
            f"accuracy {accuracy:.3f} on {n} items can't be told from always answering the most"
            f" frequent label ({chance:.3f})",
        )
    best, renamed = max(
        (sum(confusion[order[code], code] for code in range(len(LABELS))), order)
        for order in permutations(range(len(LABELS)))
    )
    if best - accuracy >= CONFUSED_GAIN:
        names = ", ".join(
            f"{LABELS[code]} as {LABELS[to]}" for code, to in enumerate(renamed) if code != to
        )
        yield (
            "label-order",
            f"accuracy {accuracy:.3f} would be {best:.3f} with predictions renamed ({names}):"
            " the labels' order is probably confused",
        )


class Gate(StageConfig):
    """One comparison that must hold before a study claims anything."""

    name: Annotated[str, Field(min_length=1)]
    """What is shown when it fails."""

    system: str = "base"
    """The rows that must be better: the base encoder without bilingual text, fine-tuned."""

    above: str = "random-encoder"
    """The rows it must be better than."""

    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """Languages compared."""

    hold_in: Literal["every", "any"] = "every"
    """Whether it must hold in every language or in one of them."""

    task: str | None = None
    """Task of the rows; None takes the one that claims are made on."""

    metric: Literal["accuracy", "exact_match", "f1"] | None = None
    """None takes accuracy, and F1 of answers."""

    split: Literal["dev", "test"] | None = None
    """Items compared. None takes dev, so that a gate may be passed before a test item is looked at,
    or, of a task without dev, the items that claims are made on."""

    selection: Selection | None = None
    """Selection rule of the rows; sanity rows have none and are taken whatever it is. None takes
    the first of the study."""

    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Least difference of accuracies (0 to 1), beyond what chance explains at 95 %."""

    def on(
        self,
        *,
        task: str,
        metric: Literal["accuracy", "f1"],
        split: Literal["dev", "test"],
        selection: Selection,
    ) -> Gate:
        """The gate with what it leaves open filled in."""
        whole = {"task": task, "metric": metric, "split": split, "selection": selection}
        return self.model_copy(
            update={name: getattr(self, name) or value for name, value in whole.items()}
        )


def default_gates(
    source: str, targets: Sequence[str], blind: str = "hypothesis-only"
) -> tuple[Gate, ...]:
    """The gates of a study unless its file says otherwise.

    Args:
        blind: the sanity row that the base must be above in the source language.
    """
    gates = [
        Gate(name="the base beats a random encoder in the source language", languages=(source,)),
        Gate(
            name=f"fine-tuned accuracy in the source language is above {blind}",
            above=blind,
            languages=(source,),
        ),
    ]
    if targets:
        gates.append(
            Gate(
                name="the base beats a random encoder in a target language",
                languages=tuple(targets),
                hold_in="any",
            )
        )
    return tuple(gates)


@dataclass(frozen=True)
class Comparison:
    """One language of a gate; None where a row is missing."""

    language: str
    value: float | None
    over: float | None
    needed: float | None
    """Least difference: margin plus the 95 % half-width of a difference of two accuracies."""

    @property
    def holds(self) -> bool:
        """Whether the difference was measured and is large enough."""
        if self.value is None or self.over is None or self.needed is None:
            return False
        return self.value - self.over > self.needed


@dataclass(frozen=True)
class GateResult:
    """A gate with its numbers."""

    gate: Gate
    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether the study may claim what this gate guards. What wasn't measured hasn't passed."""
        holds = [comparison.holds for comparison in self.comparisons]
        return any(holds) if self.gate.hold_in == "any" else all(holds)

    def sentence(self) -> str:
        """The result in words and numbers, one line."""
        return f"{'passed' if self.passed else 'FAILED'}: {self.gate.name} ({self.figures()})"

    def figures(self) -> str:
        """The numbers of every language compared."""
        return "; ".join(_words(self.gate, comparison) for comparison in self.comparisons)


def evaluate_gates(rows: Iterable[Mapping[str, Any]], gates: Sequence[Gate]) -> list[GateResult]:
    """Hold score rows against the gates.

    Args:
        rows: mappings with the columns of scores.parquet. Rows that agree in system, language,
            split and selection (seeds) are averaged; the interval is that of one run's items, for
            F1 the widest that its mean allows.
        gates: what they leave open is dev and source-dev, a study's defaults.
    """
    kept = list(rows)
    gates = [
        one.model_copy(
            update={"split": one.split or "dev", "selection": one.selection or "source-dev"}
        )
        for one in gates
    ]
    return [
        GateResult(gate, tuple(_compare(kept, gate, language) for language in gate.languages))
        for gate in gates
    ]


def _compare(rows: Sequence[Mapping[str, Any]], gate: Gate, language: str) -> Comparison:
    left, right = (_mean(rows, gate, system, language) for system in (gate.system, gate.above))
    needed = None
    if left and right:
        variance = sum(value * (1 - value) / n for value, n in (left, right))
        needed = gate.margin + _Z95 * sqrt(variance)
    return Comparison(language, left and left[0], right and right[0], needed)


def _mean(
    rows: Sequence[Mapping[str, Any]], gate: Gate, system: str, language: str
) -> tuple[float, int] | None:
    found = [
        row
        for row in rows
        if (row["system"], row["language"], row["split"]) == (system, language, gate.split)
        and row["selection"] in (gate.selection, NO_SELECTION)
        and row["metric"] == (gate.metric or "accuracy")
        and gate.task in (None, row.get("task"))
    ]
    if not found:
        return None
    return sum(row["value"] for row in found) / len(found), min(row["n"] for row in found)


def _words(gate: Gate, comparison: Comparison) -> str:
    if comparison.value is None or comparison.over is None or comparison.needed is None:
        lacking = gate.system if comparison.value is None else gate.above
        return f"{comparison.language}: no {gate.split} row of {lacking}"
    return (
        f"{comparison.language}: {gate.system} {comparison.value:.1%}, {gate.above}"
        f" {comparison.over:.1%}, needs {comparison.needed:+.1%}"
    )
