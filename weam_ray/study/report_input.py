"""What a report is written from: results, and the facts of the run beside them.

Nothing here is computed; whoever knows the store fills it, and the report only reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from weam_ray.study.results import Results, View


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A check that must hold before any claim is made: is the base good enough to measure with?"""

    name: str
    """What is asked, as a sentence: "The base beats the random encoder in English"."""
    passed: bool | None
    """None: could not be checked (says so in the report, and blocks nothing)."""
    detail: str = ""
    """The figures: "47.7 against 51.6"."""


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """One bitext: what was read, what was dropped and why."""

    domain: str
    pair: str
    read: int
    """Pairs read from the files."""
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Pairs dropped, by reason."""
    place: str = ""
    """File or artifact, for the reader to find it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFacts:
    """Items of one task and split over its languages, or what one vocabulary made of them all."""

    task: str
    split: str
    kept: int
    languages: int | None = None
    """Languages, or pairs of them; None where all splits are meant."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Items left out or shortened, by reason."""


@dataclass(frozen=True, kw_only=True)
class AlignerFacts:
    """Quality of the links one corpus (or subset) was given."""

    domain: str
    pair: str
    size: int
    """Pairs the aligner learnt from."""
    regime: str = ""
    symmetrisation: str = ""
    aer: float | None = None
    """Alignment error rate against known links, 0-1; None where none are known."""
    linked_share: float | None = None
    """Share of words (or masked tokens) that have a partner, 0-1."""


@dataclass(frozen=True, kw_only=True)
class DivergenceFacts:
    """How far one side of a bitext is from the evaluated sentences in its language."""

    domain: str
    pair: str
    language: str
    words: float | None
    """Jensen-Shannon divergence of word frequencies, bits, 0-1; None where nothing is evaluated in
    this language."""
    words_within: float | None
    """What two halves of the evaluated sentences give of each other: the least to be expected."""
    subwords: float | None
    subwords_within: float | None
    unseen: float | None
    """Share of the evaluated words that the bitext never has, 0-1."""


@dataclass(frozen=True, kw_only=True)
class RetrievalFacts:
    """How often a sentence's translation is its nearest neighbour, by the encoder's own vectors."""

    method: str
    language: str
    accuracy: float
    """Share of sentences, 0-1."""
    n: int
    domain: str = ""
    pair: str = ""
    size: int = 0
    shared: float | None = None
    """What counting subwords in common finds, without any vector."""
    chance: float | None = None
    """1/n."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A configuration without its seeds."""

    method: str
    domain: str = ""
    pair: str = ""
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class GapFacts:
    """What one configuration scores in the source language and in its targets, over its seeds."""

    point: Point
    task: str
    split: str
    """That claims are made on, unless the task has no such items."""
    setting: str
    selection: str
    metric: str
    source: float | None
    """0-1; None where the source language was not scored (translate-train)."""
    target: float | None
    """Mean over the targets."""
    blind_source: float | None
    """The best of the sanity rows in the same language; None where it has none."""
    blind_target: float | None
    """The same over the targets."""
    languages: int
    """Targets."""
    seeds: int
    n: int
    """Items of the language that has least."""


@dataclass(frozen=True, kw_only=True)
class FlagFacts:
    """Predictions that look like a mistake: one class, chance, a confused label order."""

    point: Point
    task: str
    """Of the scored set: XQuAD of a reader that learnt for MLQA."""
    setting: str
    language: str
    split: str
    """That claims are made on, unless the language has no such items."""
    kind: str
    cells: int
    """Cells of this configuration that are flagged so."""
    of: int
    """Cells of it that are finished."""
    message: str
    """The first one's figures."""


@dataclass(frozen=True, kw_only=True)
class ProbeFacts:
    """Accuracy of a regression on frozen vectors, plain and with each language's mean taken off."""

    point: Point
    language: str
    plain: float
    centred: float
    n: int


@dataclass(frozen=True, kw_only=True)
class EncoderAerFacts:
    """Error rate of word links from an encoder's own vectors, against known links."""

    point: Point
    name: str
    """The set of known links and its languages."""
    layer: int
    """The layer that stands for the encoder, fixed beforehand."""
    softmax: float
    argmax: float
    best: float
    """The lowest rate by softmax of any layer: an upper bound of quality, chosen on these links."""
    best_layer: int
    n: int


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """Sentence retrieval at one layer, the mean over languages and both directions."""

    point: Point
    layer: int
    plain: float
    centred: float
    shared: float
    """What counting subwords in common finds, the same at every layer."""


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """What stands beside the claims."""

    gaps: tuple[GapFacts, ...] = ()
    flags: tuple[FlagFacts, ...] = ()
    probes: tuple[ProbeFacts, ...] = ()
    encoder_links: tuple[EncoderAerFacts, ...] = ()
    layers: tuple[LayerFacts, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A combination the grid asks for that can't exist, known before the run."""

    factors: str
    """"law en-qab 16000 weam seed 0"."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class FailedCell:
    """A cell that was started and did not finish."""

    factors: str
    error: str
    log: str = ""
    """Path of the cell's log file."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from. Every mapping is shown as a table of name and value."""

    command: str = ""
    started: str = ""
    """ISO 8601, UTC."""
    wall_seconds: float | None = None
    study_hash: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Content hashes of input files, by name."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The settings that decide the outcome (base, steps, learning rate, ...)."""
    licences: tuple[str, ...] = ()
    """One line a data source: what it is and under which licence."""
    hardware: str = ""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by stage, summed over cells."""


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """All that :func:`weam_ray.study.report.write_report` needs."""

    title: str
    results: Results
    view: View = field(default_factory=View)
    """The measurement that claims are made on, fixed before the run."""
    demonstration: bool = False
    """The study runs on an artificial world: it demonstrates, and is no evidence."""
    planned_cells: int | None = None
    """Cells in the grid; None if unknown."""
    source_language: str = "en"
    language_names: Mapping[str, str] = field(default_factory=dict)
    class_names: tuple[str, str, str] = ("entailment", "neutral", "contradiction")
    chance: float = 1 / 3
    """Accuracy of a blind guess."""
    gates: tuple[Gate, ...] = ()
    sanity: pd.DataFrame = field(default_factory=pd.DataFrame)
    """scores.parquet of the sanity rows of every task and setting: task, setting, language, split,
    selection, system, metric, value, n, share_0, share_1, share_2. ``selection`` is not looked at:
    nothing is selected there."""
    corpora: tuple[CorpusFacts, ...] = ()
    evaluated: tuple[EvaluationFacts, ...] = ()
    aligners: tuple[AlignerFacts, ...] = ()
    retrieval: tuple[RetrievalFacts, ...] = ()
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    divergences: tuple[DivergenceFacts, ...] = ()
    objectives: Mapping[str, str] = field(default_factory=dict)
    """Pre-training objective of each method that is a variation of one."""
    holes: tuple[Hole, ...] = ()
    failures: tuple[FailedCell, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    target_gain: float = 0.02
    """The gain d of "how many pairs for +d points?", as a share (0.02 = 2 points)."""

    @property
    def view_sanity(self) -> pd.DataFrame:
        """The sanity rows beside the measurement that claims are made on."""
        rows = self.sanity
        if rows.empty:
            return rows
        kept = np.ones(len(rows), bool)
        for column in ("task", "setting", "split", "metric"):
            kept &= (rows[column] == getattr(self.view, column)).to_numpy(bool)
        return rows[kept]

    @property
    def failed_gates(self) -> tuple[Gate, ...]:
        """Gates that were checked and do not hold."""
        return tuple(gate for gate in self.gates if gate.passed is False)
