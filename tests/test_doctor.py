"""The doctor says of each thing a sweep needs that it is ok, or what to do."""

from __future__ import annotations

import importlib.metadata
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weam_ray import doctor
from weam_ray.doctor import Finding, check, exit_status
from weam_ray.errors import ResourceError


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def finding(name: str, storage: Path, uri: str | None = None) -> Finding:
    (found,) = [one for one in check(storage, uri) if one.name == name]
    return found


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave out the slow looks that a test is not about."""
    quick = Finding(name="left out", ok=True, detail="")
    for name in {"_torch", "_aligner", "_packages", "_memory"} - set(names):
        monkeypatch.setattr(doctor, name, lambda: quick)


def test_a_sound_machine_is_ok_in_every_line_and_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What other programs leave free, other tests among them, is not this test's to judge.
    monkeypatch.setattr(doctor, "_LEAST_MEMORY", 1)
    monkeypatch.setattr(doctor, "_LEAST_SHARED_MEMORY", 1)
    found = check(tmp_path / "new" / "storage")
    assert [str(one) for one in found if not one.ok] == []
    assert exit_status(found) == 0
    assert list(tmp_path.iterdir()) == []
    assert {one.name for one in found} >= {"Python", "packages", "torch", "storage", "aligner"}


def test_one_failure_is_the_exit_status_and_shows_its_cure() -> None:
    bad = Finding(name="disk", ok=False, detail="1 B free", cure="Free some.")
    good = Finding(name="Python", ok=True, detail="3.11.7", cure="unused")
    assert exit_status([good, bad]) == 1
    assert str(bad).split() == ["FAIL", "disk", "1", "B", "free.", "Free", "some."]
    assert "unused" not in str(good)


def test_a_look_that_breaks_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)

    def broken() -> Finding:
        raise ImportError("libnumba.so is gone")

    monkeypatch.setattr(doctor, "_aligner", broken)
    found = finding("aligner", tmp_path)
    assert not found.ok and "libnumba.so is gone" in found.detail and found.cure
    assert finding("storage", tmp_path).ok


def test_packages_outside_their_range_or_absent_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "_packages")
    version = importlib.metadata.version

    def changed(name: str) -> str:
        if name == "pyarrow":
            return "11.0"
        if name == "typer":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", changed)
    found = finding("packages", tmp_path)
    assert not found.ok
    assert "pyarrow 11.0 is not" in found.detail and "typer is not installed" in found.detail


def test_a_gpu_that_torch_does_not_see_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    only(monkeypatch, "_torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert "torch sees no GPU" in finding("torch", tmp_path).detail


@pytest.mark.parametrize(
    ("available", "shared", "cure"), [(2**20, 2**40, "end other"), (2**40, 2**20, "--shm-size")]
)
def test_too_little_memory_has_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, shared: int, cure: str
) -> None:
    import psutil

    only(monkeypatch, "_memory")
    memory = SimpleNamespace(available=available, total=2**40)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=shared))
    found = finding("memory", tmp_path)
    assert not found.ok and cure in found.cure


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    found = finding("disk", tmp_path / "not" / "yet")
    assert not found.ok and found.detail == f"1.0 MiB free at {tmp_path}"


def test_storage_that_is_no_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)
    (tmp_path / "file").write_text("x")
    found = finding("storage", tmp_path / "file" / "storage")
    assert not found.ok and "--set storage=FOLDER" in found.cure


def test_storage_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    monkeypatch.setattr(doctor.fcntl, "flock", lambda *_: None)
    found = finding("storage", tmp_path)
    assert not found.ok and "two sweeps on it would do the same work twice" in found.detail


def test_what_others_put_into_the_storage_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)
    probe = doctor._probe

    def beside(folder: Path) -> str | None:
        (folder.parent.parent / "store").mkdir()
        return probe(folder)

    monkeypatch.setattr(doctor, "_probe", beside)
    assert finding("storage", tmp_path / "storage").ok
    assert [path.name for path in (tmp_path / "storage").iterdir()] == ["store"]


# --- tracking


def test_a_tracking_database_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)
    assert "will be made" in finding("tracking", tmp_path).detail
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE runs (name)")
    database.close()
    assert finding("tracking", tmp_path).ok
    assert finding("tracking", tmp_path / "x", f"sqlite:///{tmp_path}/mlflow.db").ok
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    found = finding("tracking", tmp_path)
    assert not found.ok and "not a database" in found.detail


@contextmanager
def server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}/"
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "ok"), [(200, True), (401, True), (404, False), (500, False)])
def test_a_tracking_server_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, ok: bool
) -> None:
    only(monkeypatch)
    with server(status) as uri:
        found = finding("tracking", tmp_path, uri)
    assert found.ok is ok and str(status) in found.detail


def test_a_tracking_server_that_is_down_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)
    with server(200) as uri:
        pass
    found = finding("tracking", tmp_path, uri)
    assert not found.ok and "does not answer" in found.detail and "make ui" in found.cure


# --- the cluster


@pytest.mark.parametrize(
    ("mode", "address", "ok"),
    [
        (None, None, True),
        ("disabled", None, True),
        ("disabled", "", True),
        ("tokn", None, False),
        ("token", "10.0.0.1:6379", True),
        ("disabled", "10.0.0.1:6379", False),
        (None, "10.0.0.1:6379", False),
    ],
)
def test_a_cluster_without_a_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, address: str | None, ok: bool
) -> None:
    for name, value in (("RAY_AUTH_MODE", mode), ("RAY_ADDRESS", address)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert doctor._authentication().ok is ok


@contextmanager
def _joined() -> Iterator[dict[str, float]]:
    yield {"CPU": 8.0, "GPU": 1.0}


def test_every_machine_of_a_cluster_has_to_share_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weam_ray.on_ray import cluster, machines

    only(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(cluster, "ray_runtime", _joined)
    monkeypatch.setattr(machines, "check_machines", lambda _: ["10.0.0.1", "10.0.0.2"])
    assert "2 machines with 8 CPUs and 1 GPUs share" in finding("cluster", tmp_path).detail

    def apart(_: Path) -> list[str]:
        raise ResourceError("10.0.0.2: the sweep's own file is not there", cure="Mount it.")

    monkeypatch.setattr(machines, "check_machines", apart)
    found = finding("cluster", tmp_path)
    assert not found.ok and "10.0.0.2" in found.detail and found.cure == "Mount it."
