"""The settings of the aligner: fast_align's model, its defaults, and how directions are joined."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from weam_ray.identity import StageConfig

Symmetrisation = Literal[
    "forward",
    "reverse",
    "intersection",
    "union",
    "grow-diag",
    "grow-diag-final",
    "grow-diag-final-and",
]


class AlignmentConfig(StageConfig):
    """IBM Model 2 with a diagonal prior (Dyer, Chahuneau and Smith 2013), in both directions."""

    iterations: int = Field(default=5, ge=3, le=100)
    """Iterations, the last of which only reads off the links; no unit. Source: fast_align."""

    null_probability: float = Field(default=0.08, ge=0, lt=1)
    """Prior probability that a target word has no source word. Source: fast_align's ``-q``."""

    initial_tension: float = Field(default=4.0, ge=0.1, le=14)
    """Strength of the diagonal before it is estimated, no unit. Source: fast_align's ``-T``."""

    optimise_tension: bool = True
    """Re-estimate the tension from the second iteration on (fast_align's ``-o``)."""

    variational_bayes: bool = True
    """A Dirichlet prior on each source word's translations (fast_align's ``-v``)."""

    alpha: float = Field(default=0.01, ge=0.002, le=100)
    """Concentration of that prior, in words. Source: fast_align's ``-a``."""

    symmetrisation: Symmetrisation = "intersection"
    """How the directions are joined. The intersection is one to one, so that an exchange of
    vectors is well defined; ``grow-diag-final-and`` is what phrase tables used."""

    regime: Literal["pool", "subset"] = "pool"
    """Learn the links from the whole pool of pairs, or from the subset of a cell's size alone."""

    casefold: bool = True
    """Count ``The`` and ``the`` as one word. The text itself keeps its case."""

    max_words: int = Field(default=2000, ge=1, le=32767)
    """A pair with a longer side, in words, gets no links and is counted: its cells grow with the
    product of the two lengths. fast_align breaks at 32768."""
