"""The gates of a study, those of its file or the default ones, and how they came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from weam_ray.study.config import StudyConfig
from weam_ray.study.report_input import Gate as ReportedGate
from weam_ray.study.results import BASELINE, Results, View
from weam_ray.study.tasks import XNLI, data_of, evaluated_languages, fine_tuning, other_language
from weam_ray.transfer.guards import Gate, default_gates, evaluate_gates

SYSTEMS = {BASELINE: "base", "random": "random-encoder"}
"""What gates call the cells that read no bilingual text."""


def measured_gates(
    study: StudyConfig, results: Results, view: View, sanity: pd.DataFrame
) -> tuple[ReportedGate, ...]:
    """The gates with their figures.

    Args:
        sanity: as in :class:`weam_ray.study.report_input.ReportInput`.
    """
    rows = results.rows[results.rows["method"].isin(list(SYSTEMS))]
    rows = rows.assign(system=rows["method"].map(SYSTEMS))
    known: list[Mapping[str, Any]] = [
        {str(name): value for name, value in row.items()}
        for table in (rows, sanity)
        for row in table.to_dict("records")
        if row["setting"] == view.setting
    ]
    return tuple(
        ReportedGate(name=result.gate.name, passed=result.passed, detail=result.figures())
        for result in evaluate_gates(known, study_gates(study, view))
    )


def study_gates(study: StudyConfig, view: View) -> tuple[Gate, ...]:
    """The gates of the file, or those of every study whose file names none."""
    gates = study.gates or _default_gates(study, view)
    return tuple(_whole(study, gate, gate.task or view.task) for gate in gates)


def _whole(study: StudyConfig, gate: Gate, task: str) -> Gate:
    tuned = study.transfer if task == XNLI else study.qa
    return gate.on(
        task=task,
        metric="accuracy" if task == XNLI else "f1",
        split="dev" if data_of(study, task).dev is not None else study.report_split,
        selection=tuned.selection[0],
    )


def _default_gates(study: StudyConfig, view: View) -> tuple[Gate, ...]:
    blind = "hypothesis-only" if view.task == XNLI else "word-overlap-only"
    if view.setting == "translate-train":
        return _gates_where_trained(trained_languages(study, view.task), blind)
    source = fine_tuning(study, view.task).train_language
    targets = [code for code in evaluated_languages(study, view.task) if code != source]
    return default_gates(source, targets, blind)


def _gates_where_trained(languages: Sequence[str], blind: str) -> tuple[Gate, ...]:
    """The default gates of translate-train, whose cells are scored in the one language each was
    trained on and never in the source language.

    Every such language is fine-tuned on by itself, so each must be above the blind row. A random
    encoder is mostly run for one pair, and so in one language.
    """
    if not languages:
        return ()
    return (
        Gate(
            name="the base beats a random encoder in a language trained on",
            languages=tuple(languages),
            hold_in="any",
        ),
        Gate(
            name=f"fine-tuned accuracy in each language trained on is above {blind}",
            above=blind,
            languages=tuple(languages),
        ),
    )


def trained_languages(study: StudyConfig, task: str) -> tuple[str, ...]:
    """The languages that translate-train cells without bitext train on, each by itself."""
    asked = study.items if task == XNLI else study.questions[task]
    own = fine_tuning(study, task).setting
    found = (
        other_language(study, task, pair)
        for factors in (study.grid, *study.extra)
        if task in factors.task
        and BASELINE in factors.method
        and "translate-train" in (factors.setting or (own,))
        for pair in factors.pair
    )
    return tuple(dict.fromkeys(code for code in found if code in asked.train_languages))
