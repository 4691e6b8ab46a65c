"""Words → links: fast_align's model on arrays, symmetrisation, Pharaoh files, error rate.

What needs Numba is imported when it is first asked for, so that settings load at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weam_ray.alignment.config import AlignmentConfig, Symmetrisation

if TYPE_CHECKING:
    from weam_ray.alignment.align import Alignment, align_encoded, align_words
    from weam_ray.alignment.files import write_links
    from weam_ray.alignment.links import Links
    from weam_ray.alignment.pharaoh import Gold, read_gold, read_links
    from weam_ray.alignment.quality import AER, aer
    from weam_ray.alignment.shuffling import shuffle_links
    from weam_ray.alignment.symmetrisation import symmetrise
    from weam_ray.alignment.table import align_table

_HOMES = {
    "Alignment": "align",
    "align_encoded": "align",
    "align_words": "align",
    "AER": "quality",
    "aer": "quality",
    "Links": "links",
    "Gold": "pharaoh",
    "read_gold": "pharaoh",
    "read_links": "pharaoh",
    "write_links": "files",
    "shuffle_links": "shuffling",
    "symmetrise": "symmetrisation",
    "align_table": "table",
}

__all__ = [
    "AER",
    "Alignment",
    "AlignmentConfig",
    "Gold",
    "Links",
    "Symmetrisation",
    "aer",
    "align_encoded",
    "align_table",
    "align_words",
    "read_gold",
    "read_links",
    "shuffle_links",
    "symmetrise",
    "write_links",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
