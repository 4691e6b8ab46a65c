"""Alignment error rate (Och and Ney 2003)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment.links import Links
from weam_ray.alignment.pharaoh import Gold
from weam_ray.errors import AlignerError


@dataclass(frozen=True, kw_only=True)
class AER:
    """How links A compare with sure links S and possible links P, S being among P."""

    precision: float
    """Share of A that is possible."""
    recall: float
    """Share of S that is in A."""
    aer: float
    """1 - (|A and S| + |A and P|) / (|A| + |S|)."""
    links: int
    sure: int
    possible: int
    pairs: int

    def facts(self) -> dict[str, float]:
        """The fields as a dictionary."""
        return asdict(self)


def aer(links: Links, gold: Gold | Links) -> AER:
    """Compare links with gold, over all pairs together. Sure links count as possible too.

    Plain links as gold are all sure.

    With nothing to find and nothing found, precision and recall are 1 and the rate is 0.

    Raises:
        AlignerError: the numbers of pairs differ.
    """
    sure, possible = (gold, gold) if isinstance(gold, Links) else (gold.sure, gold.possible)
    if not len(links) == len(sure) == len(possible):
        raise AlignerError(
            f"{len(links)} pairs of links against {len(sure)} pairs of gold",
            cure="Give links of the same text, line by line.",
        )
    found, certain = _keys(links), _keys(sure)
    allowed = np.union1d(certain, _keys(possible))
    hits = len(np.intersect1d(found, certain, assume_unique=True))
    fine = len(np.intersect1d(found, allowed, assume_unique=True))
    return AER(
        precision=fine / len(found) if len(found) else 1.0,
        recall=hits / len(certain) if len(certain) else 1.0,
        aer=1 - (hits + fine) / (len(found) + len(certain)) if len(found) + len(certain) else 0.0,
        links=len(found),
        sure=len(certain),
        possible=len(allowed),
        pairs=len(links),
    )


def _keys(links: Links) -> NDArray[np.void]:
    rows = np.empty(len(links.source), dtype=[("pair", "i8"), ("source", "i4"), ("target", "i4")])
    rows["pair"] = np.repeat(np.arange(len(links)), links.counts)
    rows["source"] = links.source
    rows["target"] = links.target
    return rows
