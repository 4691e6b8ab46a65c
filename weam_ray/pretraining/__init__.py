"""Links → encoder: vocabularies, base encoders, examples, objectives, the training loop.

Reads in order: `vocabulary`, `base`, `examples` (with `sides`, `words`), `masking`, `partners`,
`batches` (with `order`), `objectives` (with `encoder`, `head`), `held_out`, `prepared`, `feed`,
`loop` (with `placement`, `window`), `bilingual`. Settings are importable without torch; the rest is
loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from weam_ray.pretraining.config import (
    OBJECTIVES_WITH_LINKS,
    BaseConfig,
    HeldOutConfig,
    Objective,
    PretrainingConfig,
    TrainingConfig,
    VocabularyConfig,
)

if TYPE_CHECKING:
    from weam_ray.pretraining.base import fetch_base, train_base
    from weam_ray.pretraining.bilingual import pretrain, pretrain_on
    from weam_ray.pretraining.checkpoints import Checkpoints
    from weam_ray.pretraining.distributed import DistributedContext
    from weam_ray.pretraining.encoder import encoder_and_head, load_model, load_tokenizer
    from weam_ray.pretraining.examples import Examples, PairSet, build_examples
    from weam_ray.pretraining.prepared import Prepared, prepare
    from weam_ray.pretraining.vocabulary import train_vocabulary

_HOMES = {
    "Checkpoints": "checkpoints",
    "DistributedContext": "distributed",
    "Examples": "examples",
    "PairSet": "examples",
    "build_examples": "examples",
    "encoder_and_head": "encoder",
    "fetch_base": "base",
    "load_model": "encoder",
    "load_tokenizer": "encoder",
    "pretrain": "bilingual",
    "pretrain_on": "bilingual",
    "prepare": "prepared",
    "Prepared": "prepared",
    "train_base": "base",
    "train_vocabulary": "vocabulary",
}

__all__ = [
    "OBJECTIVES_WITH_LINKS",
    "BaseConfig",
    "Checkpoints",
    "DistributedContext",
    "Examples",
    "HeldOutConfig",
    "Objective",
    "PairSet",
    "Prepared",
    "PretrainingConfig",
    "TrainingConfig",
    "VocabularyConfig",
    "build_examples",
    "encoder_and_head",
    "fetch_base",
    "load_model",
    "load_tokenizer",
    "prepare",
    "pretrain",
    "pretrain_on",
    "train_base",
    "train_vocabulary",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
