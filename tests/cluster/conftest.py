"""Test hosts, and the cluster on them, one a test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import Lan, why_not


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    """A laptop and two servers; skips, saying why, where the machine can't have them."""
    if reason := why_not():
        pytest.skip(reason)
    with Lan(folder=tmp_path_factory.mktemp("lan") / "hosts") as up:
        yield up
