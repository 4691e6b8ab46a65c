"""weam_ray: how much domain-specific bilingual text before zero-shot transfer improves?

The map, in the order in which text becomes an answer:

1. ``corpus``       bilingual text in: read, clean, count what was dropped, nested subsets
2. ``alignment``    words → links: fast_align's model on arrays, symmetrisation, AER
3. ``pretraining``  links → encoder: vocabulary, base, MLM, TLM, WEAM and their controls
4. ``transfer``     encoder → scores: fine-tuning, predictions item by item, sanity rows
5. ``study``        cells → answer: the study file, grid, plan, statistics, report

``experiment`` is one cell, the whole chain in one process; ``demo`` makes an artificial world whose
links and labels are known; ``on_ray`` places the work and tracks it; ``sweep`` is the main job.
"""

from typing import TYPE_CHECKING, Any

from weam_ray.artifacts import Store
from weam_ray.errors import AlignerError, ConfigError, DataError, ResourceError, WeamError

if TYPE_CHECKING:
    from weam_ray.experiment import ExperimentConfig, run_experiment

__all__ = [
    "AlignerError",
    "ConfigError",
    "DataError",
    "ExperimentConfig",
    "ResourceError",
    "Store",
    "WeamError",
    "run_experiment",
]


def __getattr__(name: str) -> Any:
    # The chain takes half a second to load, which commands that don't run it need not wait for.
    if name in ("ExperimentConfig", "run_experiment"):
        from weam_ray import experiment

        return getattr(experiment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
