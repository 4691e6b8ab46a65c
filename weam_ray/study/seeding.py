"""What one replicate is, where cells have seeds of a subset, pre-training and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weam_ray.study.results import SEEDS

if TYPE_CHECKING:
    from weam_ray.study.matching import Cell, Stratum

Seed = tuple[int, ...]
Sides = tuple[list["Cell"], list["Cell"]]


def replicate_by(strata: Sequence[Stratum]) -> tuple[list[int], list[int]]:
    """The seeds that all cells carry, and those of them that make a replicate."""
    carried = [
        place
        for place in range(len(SEEDS))
        if all(cell.seeds[place] >= 0 for one in strata for cell in (*one.a, *one.b))
    ]
    # What is one replicate? Seeds that move together, (0,0,0), (1,1,1), are one. Seeds that cross
    # share noise, so the outermost that varies on both sides is the replicate, and the rest is
    # averaged in it.
    sides: list[set[Seed]] = [set(), set()]
    for one in strata:
        for side, cells in zip(sides, (one.a, one.b), strict=True):
            side.update(tuple(cell.seeds[p] for p in carried) for cell in cells)
    seen = sides[0] | sides[1]
    levels = [len({seed[k] for seed in seen}) for k in range(len(carried))]
    if all(n in (1, len(seen)) for n in levels):
        return carried, carried
    varying = [
        p
        for k, p in enumerate(carried)
        if all(len({seed[k] for seed in side}) > 1 for side in sides if side)
    ]
    return carried, varying[:1] or carried


def by_seed(one: Stratum, places: list[int]) -> dict[Seed, Sides]:
    """The cells of both sides of each seed that both have."""
    found: dict[Seed, Sides] = {}
    for side, cells in enumerate((one.a, one.b)):
        for cell in cells:
            seed = tuple(cell.seeds[p] for p in places)
            found.setdefault(seed, ([], []))[side].append(cell)
    return {seed: sides for seed, sides in found.items() if sides[0] and (sides[1] or not one.b)}


def seed_label(seed: Seed, places: list[int]) -> str:
    """``0``; ``0/1/2`` of seeds that differ."""
    if not seed:
        return "the only one"
    if len(set(seed)) == 1:
        return str(seed[0])
    return "/".join(str(part) for part in seed)


def seed_names(places: list[int]) -> str:
    """``subset seed, pretraining seed``."""
    return ", ".join(SEEDS[place].replace("_", " ") for place in places)
