"""Which pairs a size means, and the control whose pairs are no translations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weam_ray.corpus.hashing import Hashes, splitmix64
from weam_ray.corpus.pairs import PAIRS_SCHEMA
from weam_ray.errors import DataError


def nested_order(pair_id: Hashes, seed: int) -> npt.NDArray[np.int64]:
    """Row numbers in the seeded order whose first n rows are the subset of size n.

    A row's rank comes from its ``pair_id`` and the seed alone, so 1k ⊂ 4k ⊂ 16k, and the same
    pairs are chosen whatever the order of rows. Sizes of different seeds are independent draws.
    """
    key = splitmix64(np.array([seed % 2**64], np.uint64))[0]
    return np.lexsort((pair_id, splitmix64(np.asarray(pair_id, np.uint64) ^ key)))


def take_subset(table: pa.Table, size: int, seed: int, *, at_most: bool = False) -> pa.Table:
    """The first ``size`` pairs in the nested order, in that order.

    Args:
        at_most: take all of a corpus that has fewer.

    Raises:
        DataError: the corpus has fewer pairs.
    """
    if size > len(table) and not at_most:
        raise DataError(
            f"a subset of {size:,} pairs was asked of a corpus of {len(table):,}.",
            cure=f"Ask for {len(table):,} at most, or add text.",
        )
    order = nested_order(table["pair_id"].to_numpy(), seed)
    return table.take(order[:size])


def shuffle_pairs(table: pa.Table, seed: int) -> pa.Table:
    """The control *shuffled pairs*: the same texts, every source beside another pair's target.

    Targets move along one seeded cycle through all pairs, so no pair keeps its own (in a corpus of
    two pairs or more), and the same pairs give the same control whatever their order. Target words
    move with their text; gold links no longer hold and are null. ``pair_id`` stays that of the
    source's pair, so subsets and masks are those of the real corpus. Take subsets first, then
    shuffle: the texts are then exactly those of the real subset.
    """
    order = nested_order(table["pair_id"].to_numpy(), seed)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    moved = table.take(partner)
    gold = pa.nulls(len(table), PAIRS_SCHEMA.field("gold").type)
    columns = {
        **{name: table[name] for name in ("pair_id", "source")},
        "target": moved["target"],
        "source_spans": table["source_spans"],
        "target_spans": moved["target_spans"],
        "gold": gold,
    }
    return pa.table(columns, schema=PAIRS_SCHEMA)
