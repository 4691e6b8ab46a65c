"""Which tokens are masked and what stands in their place: a pure function of content.

Every draw is a hash of (seed, epoch, row key, position, purpose), so a row's masks don't depend on
the batch, worker or order it comes in. The hash is SplitMix64's finaliser (Steele, Lea & Flood
2014), vectorised on uint64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weam_ray.pretraining.config import Corruption

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1

# What a draw is for; distinct numbers make the draws independent. Renumbering changes every result.
MASK, KIND, TOKEN, ORDER, BATCH_ORDER = range(5)
DROPOUT, WEIGHTS, HELD_OUT = 6, 7, 8


def mix(values: U64) -> U64:
    """A bijective hash of each uint64."""
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def seed_word(*parts: int) -> int:
    """One 64-bit word from several integers, in order."""
    word = 0
    for part in parts:
        word = int(mix(np.array([(word ^ (part & _WORD)) & _WORD], np.uint64))[0])
    return word


def draw(word: int, keys: U64, purpose: int) -> U64:
    """Uniform uint64, one for each key, independent between words and purposes."""
    return mix(keys ^ np.uint64(seed_word(word, purpose)))


def uniform(bits: U64) -> npt.NDArray[np.float64]:
    """Bits to [0, 1) with 53 bits of resolution."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """What masking must know of a vocabulary.

    Attributes:
        maskable: bool [V]; false for special and unknown tokens.
        ordinary: int64, the ids a random replacement is drawn from.
        mask_id: the id of the mask token.
    """

    maskable: npt.NDArray[np.bool_]
    ordinary: I64
    mask_id: int


def token_keys(seed: int, epochs: I64, row_keys: U64, positions: I64) -> U64:
    """One key a token from its row's key and epoch and its position in the row, all [T]."""
    rows = mix(row_keys ^ mix(epochs.astype(np.uint64) ^ np.uint64(seed_word(seed))))
    return mix(rows ^ positions.astype(np.uint64))


def corrupt(
    ids: I64, keys: U64, table: TokenTable, rate: float, corruption: Corruption
) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Token ids as the encoder sees them, and which of them are to be predicted.

    Args:
        ids: original tokens [T].
        keys: from :func:`token_keys` [T].
        table: which tokens may be masked, and what random ones are drawn from.
        rate: probability of masking.
        corruption: what stands at a masked token.
    """
    masked = (uniform(draw(0, keys, MASK)) < rate) & table.maskable[ids]
    seen = ids.copy()
    where = np.flatnonzero(masked)
    if corruption == "mask":
        seen[where] = table.mask_id
        return seen, masked
    kind = uniform(draw(0, keys[where], KIND))
    seen[where[kind < 0.8]] = table.mask_id
    swapped = where[(kind >= 0.8) & (kind < 0.9)]
    choice = draw(0, keys[swapped], TOKEN) % np.uint64(len(table.ordinary))
    seen[swapped] = table.ordinary[choice.astype(np.int64)]
    return seen, masked
