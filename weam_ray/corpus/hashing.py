"""Hashes of text and of pairs: stable across runs, machines and versions of Python."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def text_hashes(texts: Iterable[str]) -> Hashes:
    """64-bit BLAKE2b of each text's UTF-8 bytes."""
    joined = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def pair_ids(sources: Iterable[str], targets: Iterable[str]) -> Hashes:
    """Each pair's content hash: of its normalised source, a tab, and its normalised target.

    Normalised text holds no tab, so the two sides can't be confused. Among 10 million pairs two
    share a hash by chance with probability 3e-6; they would count as duplicates.
    """
    return text_hashes(
        f"{source}\t{target}" for source, target in zip(sources, targets, strict=True)
    )


def splitmix64(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that looks random."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
