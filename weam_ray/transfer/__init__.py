"""Stage 4, encoder → scores: items, fine-tuning, predictions, guards, sanity rows, retrieval.

What needs torch is imported when it is first used, so reading a study file stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weam_ray.transfer.config import TransferConfig
from weam_ray.transfer.guards import Flag, Gate, GateResult, default_gates, evaluate_gates, flags
from weam_ray.transfer.items import (
    ITEMS_SCHEMA,
    ItemsConfig,
    check_items,
    item_files,
    items_facts,
    load_items,
)
from weam_ray.transfer.reading import LABELS
from weam_ray.transfer.scores import PREDICTIONS_SCHEMA, SCORES_SCHEMA, scores_from_predictions
from weam_ray.transfer.tokenised import TokenisedItems, tokenise_items

if TYPE_CHECKING:
    from weam_ray.transfer.fine_tuning import fine_tune
    from weam_ray.transfer.probe import frozen_probe
    from weam_ray.transfer.retrieval import premise_retrieval, sentence_retrieval
    from weam_ray.transfer.sanity import sanity_rows
    from weam_ray.transfer.word_alignment import encoder_aer, encoder_links

__all__ = [
    "ITEMS_SCHEMA",
    "LABELS",
    "PREDICTIONS_SCHEMA",
    "SCORES_SCHEMA",
    "Flag",
    "Gate",
    "GateResult",
    "ItemsConfig",
    "TokenisedItems",
    "TransferConfig",
    "check_items",
    "default_gates",
    "encoder_aer",
    "encoder_links",
    "evaluate_gates",
    "fine_tune",
    "flags",
    "frozen_probe",
    "item_files",
    "items_facts",
    "load_items",
    "premise_retrieval",
    "sanity_rows",
    "scores_from_predictions",
    "sentence_retrieval",
    "tokenise_items",
]

_LATER = {
    "encoder_aer": "word_alignment",
    "encoder_links": "word_alignment",
    "fine_tune": "fine_tuning",
    "frozen_probe": "probe",
    "premise_retrieval": "retrieval",
    "sanity_rows": "sanity",
    "sentence_retrieval": "retrieval",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
