"""Ray that does not come up is one message; any other mistake of Ray's keeps its traceback."""

from __future__ import annotations

import pytest

from weam_ray.errors import ResourceError
from weam_ray.on_ray.cluster import ray_runtime

pytestmark = pytest.mark.ray

LATE = "The current node timed out during startup. This could happen because the GCS is overloaded."


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [(LATE, ResourceError, "run the same command again"), ("a mistake", RuntimeError, "a mistake")],
)
def test_a_machine_too_busy_to_start_ray_is_told_so(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception], words: str
) -> None:
    def init(**_: object) -> None:
        raise RuntimeError(said)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(kind, match=words), ray_runtime():
        pytest.fail("it never started")
