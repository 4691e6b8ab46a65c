"""Python's collector of cycles, kept from what it can't find there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles meanwhile; also a decorator.

    For building what stays: thousands of cells make millions of objects, all reachable, and the
    collector would walk them again and again. What is not in a cycle is freed as ever.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
