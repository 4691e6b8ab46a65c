"""One cell of a study: its graph of steps, and the function that makes each.

``run_experiment`` is the whole chain in one process::

    items ─┬────────────────► corpus ─► links ─┐
           │   vocabulary ─► base ─────────────┴─► encoder ─┬─► transfer
           └───────────────────────► tokens ────────────────┘

For a task of question answering ``questions``, ``windows`` and ``reader`` stand for ``items``,
``tokens`` and ``transfer`` (:mod:`weam_ray.transfer.steps`). An :class:`ExperimentConfig` decides
what the steps are; a :class:`weam_ray.artifacts.Store` knows which of them are done; :data:`MAKERS`
makes the others. Reads in order: `graph`, `makers`, `encoder`.
"""

from __future__ import annotations

from weam_ray.artifacts import Artifact, Resources, Store, ensure
from weam_ray.experiment.encoder import prepare_encoder, train_encoder
from weam_ray.experiment.graph import (
    BaseStep,
    EncoderStep,
    Experiment,
    ExperimentConfig,
    LinksStep,
    SharedSteps,
    VocabularyStep,
)
from weam_ray.experiment.makers import MAKERS, contamination_index, make_links
from weam_ray.progress import Report, silent

__all__ = [
    "MAKERS",
    "BaseStep",
    "EncoderStep",
    "Experiment",
    "ExperimentConfig",
    "LinksStep",
    "SharedSteps",
    "VocabularyStep",
    "contamination_index",
    "make_links",
    "prepare_encoder",
    "run_experiment",
    "train_encoder",
]


def run_experiment(
    config: ExperimentConfig,
    store: Store,
    report: Report = silent,
    resources: Resources | None = None,
) -> Artifact:
    """Run the whole chain of one cell in this process; what is already there is not made again.

    Returns:
        The ``transfer`` artifact, with ``predictions.parquet`` and ``scores.parquet``.
    """
    return ensure(Experiment(config).transfer, store, MAKERS, report, resources)
