"""The settings of the three stages of this package. Nothing here imports torch."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from weam_ray.identity import Placement, StageConfig, WhenSet

Objective = Literal[
    "none",
    "mlm",
    "tlm",
    "weam",
    "word-aligned",
    "weam-shuffled-links",
    "tlm-shuffled-pairs",
    "tlm-doubled",
    "weam-aligned-only",
]
"""The systems and controls of a study; `objectives.py` states each as an equation."""

Corruption = Literal["80-10-10", "mask"]
Pooling = Literal["mean", "first", "last", "same-index"]

Beta = Annotated[float, Field(ge=0, lt=1)]

OBJECTIVES_WITH_LINKS = frozenset(
    {"weam", "weam-shuffled-links", "weam-aligned-only", "word-aligned"}
)

ONE_SIDE_A_ROW: frozenset[Objective] = frozenset({"mlm", "word-aligned"})
"""Those that read a pair's sides as two rows, neither of which sees the other."""


class VocabularyConfig(StageConfig):
    """A subword vocabulary trained from scratch, shared by all languages."""

    algorithm: Literal["wordpiece", "unigram"] = "wordpiece"
    """WordPiece (BERT) or Unigram (XLM-R's SentencePiece model)."""
    size: int = Field(default=16_000, ge=32, le=1_000_000)
    """Entries, special tokens included; fewer come out when the text doesn't hold that many."""
    lowercase: bool = False
    """Lower-case and strip accents before splitting, as BERT's uncased models do."""
    temperature: float = Field(default=0.5, ge=0.0, le=1.0)
    """A language with n characters gets a share ∝ n^temperature of the training text: 1 keeps the
    sizes as they are, 0 gives every language the same. XLM uses 0.5 (Conneau & Lample 2019)."""
    max_characters: int = Field(default=20_000_000, ge=1_000)
    """Characters of text to train on, over all languages; the first lines of each file."""


class TrainingConfig(StageConfig):
    """What training an encoder on masked tokens has in common, from scratch or continued."""

    steps: int | None = Field(default=None, ge=0)
    """Optimiser steps. With neither steps nor epochs set: one epoch."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the rows of all sets together; becomes steps, rounded up."""
    batch_size: int = Field(default=32, ge=1)
    """Pairs (or sentences) a step, over all workers."""
    max_length: int = Field(default=128, ge=8)
    """Tokens a row, special tokens included; longer rows lose tokens of the longer side first."""
    masking_rate: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Probability that an ordinary token is masked. WEAM: 0.3; BERT and TLM: 0.15."""
    corruption: Corruption = "80-10-10"
    """What the encoder sees at a masked token: [MASK], a random token or the token itself in 80,
    10 and 10 of 100 cases (Devlin et al. 2019), or always [MASK]."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW. WEAM: 5e-5."""
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly from 0."""
    decay: Literal["linear", "constant"] = "linear"
    """After warm-up: linearly to 0 at the last step, or flat."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled weight decay on matrices; biases and normalisation weights are spared. None takes
    the objective's: 0 for word-aligned (Cao et al. 2020: Adam), else 0.01 (Devlin et al. 2019)."""
    adam_betas: tuple[Beta, Beta] | None = None
    """Adam's β; None takes the objective's: (0.9, 0.98) for word-aligned (Cao et al. 2020,
    section 3.2), else (0.9, 0.999)."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest L2 norm of the gradient; None never clips."""
    temperature: float = Field(default=1.0, ge=0, le=1)
    """A set (language, or language pair and domain) with n rows is drawn with a share
    ∝ n^temperature."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: weights and optimiser stay in fp32. A device without bf16 arithmetic
    computes in fp32 and the record says so."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides order, masks, dropout and, from scratch, the initial weights."""
    micro_batch: Annotated[int | None, Placement()] = Field(default=None, ge=1)
    """Pairs a forward pass on one worker; gradients add up to the whole batch's. None: all."""
    gradient_checkpointing: Annotated[bool, Placement()] = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    sharding: Annotated[Literal["ddp", "fsdp"], Placement()] = "ddp"
    """How several workers share a model: each has all of it (DDP), or weights, gradients and
    optimiser are cut over them (FSDP), for a model that fits into no worker's memory."""
    log_every: Annotated[int, Placement()] = Field(default=20, ge=1)
    """Steps between points of the curve; a point is the mean over the steps since the last."""
    checkpoint_every: Annotated[int | None, Placement()] = Field(default=None, ge=1)
    """Steps between checkpoints, when the caller gives a place for them."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs are both set; set one of them to null")
        return self

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's β1 and β2."""
        return self.adam_betas or (0.9, 0.999)

    @property
    def matrix_decay(self) -> float:
        """The decoupled weight decay of matrices."""
        return 0.01 if self.weight_decay is None else self.weight_decay

    def identity(self) -> dict[str, Any]:
        """As of any stage; the weight decay is the one used, so that its default needs no name."""
        return {**super().identity(), "weight_decay": self.matrix_decay}

    def planned_steps(self, rows: int, rows_a_step: float) -> int:
        """Steps of the budget: as set, or of its epochs (one if nothing is set), rounded up."""
        if self.steps is not None:
            return self.steps
        return math.ceil((self.epochs or 1.0) * rows / rows_a_step)


class BaseConfig(TrainingConfig):
    """The encoder every cell starts from: a Hugging Face model, or a small one from scratch."""

    model: str | None = None
    """A masked language model by hub name or local folder; None trains one from scratch. A hub
    name is identity; the content of a local folder is to be an input of the step."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""
    architecture: Literal["bert", "roformer", "modernbert"] = "bert"
    """Positions: learned and absolute (bert), or rotary (roformer, modernbert)."""
    layers: int = Field(default=4, ge=1)
    hidden: int = Field(default=256, ge=4)
    """Width of the residual stream."""
    heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=1024, ge=4)
    """Width inside the feed-forward layers."""
    max_positions: int = Field(default=512, ge=8)
    """Longest row the encoder can ever read, tokens."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On hidden states and attention. On CPU drawing it costs as much as a small layer."""
    initial_deviation: float = Field(default=0.02, gt=0, lt=1)
    """Standard deviation of the initial weights: 0.02 suits widths near 768 (Devlin et al. 2019).
    A narrow encoder from scratch wants about 1/√hidden, or it never leaves the word frequencies."""
    position_scale: float = Field(default=1.0, ge=0, le=1)
    """roformer: positions are multiplied by this before they become angles (position
    interpolation, Chen et al. 2023). 0 takes word order away, from bert too: the encoder then reads
    each segment as a bag of words, and nothing it learns of one language's order can hinder
    another's. bert, whose positions are learned, takes 1 or 0, and is the faster one without."""
    two_sentences: bool = False
    """Join two neighbouring lines of a file as `[CLS] a [SEP] b [SEP]`, so that the second segment
    and the separator are trained before any task uses them."""
    steps: int | None = Field(default=None, ge=0)
    """Optimiser steps; 0 gives the random encoder, a sanity row of every study: of a `model` its
    shape under random weights. With neither steps nor epochs set: one epoch."""
    masking_rate: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that an ordinary token is masked (BERT: 0.15)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW: small encoders from scratch want much more than 5e-5."""
    temperature: float = Field(default=0.5, ge=0, le=1)
    """A language with n lines is drawn with a share ∝ n^temperature."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        if self.max_positions < self.max_length:
            raise ValueError(f"max_positions {self.max_positions} < max_length {self.max_length}")
        takes = {"bert": (0.0, 1.0), "modernbert": (1.0,)}.get(self.architecture)
        if takes is not None and self.position_scale not in takes:
            values = " or ".join(f"{value:g}" for value in takes)
            raise ValueError(
                f"position_scale {self.position_scale:g}: {self.architecture} takes {values}"
            )
        return self


class HeldOutConfig(StageConfig):
    """Pairs that are never trained on, and when their loss ends a run early."""

    share: float = Field(default=0.05, gt=0, lt=1)
    """Share of each set's pairs, chosen by a seeded hash of their content: a pair held out of a
    small subset is held out of every larger one too."""
    at_most: int = Field(default=1_000, ge=1)
    """Pairs of each set that are measured; those beyond are not trained on either."""
    every: int = Field(default=100, ge=1)
    """Steps between measurements; the last step is measured too."""
    patience: int | None = Field(default=3, ge=1)
    """Measurements in a row without a lower loss that end the run; None measures and never ends
    it. The learning rate follows the planned steps all the same."""
    least_gain: float = Field(default=0.0, ge=0)
    """How much lower than at the last gain counts as a gain, nats, for `patience`. The weights kept
    are those of the lowest loss all the same."""
    keep: Literal["best", "last"] = "best"
    """Which weights are returned: those of the lowest loss, or those the run ended with."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides which pairs, and their masks, which are the same at every measurement. Apart from
    the seed of the run, so that runs of all seeds are measured on the same tokens."""


class PretrainingConfig(TrainingConfig):
    """Bilingual pre-training of a base encoder. Defaults are WEAM's (Yang et al. 2021) as the
    brief gives them; what the paper leaves open is a setting of its own.
    """

    objective: Objective = "weam"
    """See `objectives.py`. The two shuffled controls train on data the caller has shuffled
    (`corpus.shuffle_pairs`, `alignment.shuffle_links`): here they are TLM and WEAM."""
    cross_lingual_weight: float = Field(default=1.0, ge=0)
    """λ in L = L_mp + λ·L_cp."""
    pooling: Pooling = "mean"
    """What stands for a partner word of several subwords: their mean, the first, the last, or the
    one at the masked token's own place in its word (the last one if the partner is shorter)."""
    one_to_many: Literal["mean", "first", "drop"] = "mean"
    """A word linked to several: the mean of the partners, the leftmost, or treated as unaligned."""
    stop_gradient: bool = False
    """Cut the gradient through exchanged vectors (ablation)."""
    replay_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps that are MLM on monolingual text instead, spread evenly. The same for
    every objective."""
    replay_two_sentences: bool = False
    """Replay neighbouring lines as one row, as the base's ``two_sentences`` does. A base that read
    them so and is then shown single lines forgets what a second sentence is."""
    anchor_language: str = "en"
    """word-aligned: the side held near the frozen original; the source if neither side is it."""
    anchor_weight: float = Field(default=1.0, ge=0)
    """word-aligned: weight of that regulariser. Cao et al. 2020: 1."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Overrides the base's dropout. 0 makes the loss the same on any number of workers; above it
    each worker draws its own noise."""

    held_out: Annotated[HeldOutConfig | None, WhenSet()] = None
    """Pairs held out, by whose loss (the objective's own) a run may end early; None: every pair is
    trained on, to the last step."""

    @property
    def uses_links(self) -> bool:
        """Whether the objective reads word alignments."""
        return self.objective in OBJECTIVES_WITH_LINKS

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's β1 and β2."""
        aligned = self.objective == "word-aligned"
        return self.adam_betas or ((0.9, 0.98) if aligned else (0.9, 0.999))

    @property
    def matrix_decay(self) -> float:
        """The decoupled weight decay of matrices."""
        if self.weight_decay is None and self.objective == "word-aligned":
            return 0.0
        return super().matrix_decay


def encoder_version(config: PretrainingConfig, replayed: int = 0) -> int:
    """Which version of the encoder stage makes this: higher where the same settings gave another
    encoder before.

    `mlm` and `word-aligned` came to read the pairs of a step that the others read; replay with a
    budget of steps came to mix languages by the sizes of their texts; no text that is measured is
    trained on in another pair.

    Args:
        config: the settings.
        replayed: languages there is text of to replay.
    """
    mixes = config.replay_share > 0 and replayed > 1 and config.steps is not None
    return 1 + (config.objective in ONE_SIDE_A_ROW) + mixes + (config.held_out is not None)
