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


@pytest.mark.parametrize("offline", [True, False])
def test_workers_of_a_cluster_are_told_to_stay_offline(
    monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    asked: dict[str, object] = {}

    def init(**settings: object) -> None:
        asked.update(settings)
        raise ConnectionError("nobody there")

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ResourceError, match="no Ray cluster answers"), ray_runtime():
        pytest.fail("it never started")
    told = {"env_vars": {"HF_HUB_OFFLINE": "1"}} if offline else None
    assert asked["runtime_env"] == told
