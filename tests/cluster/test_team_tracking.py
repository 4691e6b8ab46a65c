"""MLflow for a team: ``cluster/tracking.sh``, Debian's PostgreSQL, logins, and no secret seen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hosts import REPOSITORY

from weam_ray.doctor import _tracking
from weam_ray.on_ray.mlflow_runs import CellFacts, CellOutcome, CurvePoint
from weam_ray.on_ray.tracking import Tracker

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DATABASE_SECRET = "planted-database-4d1f0a77"
ADMIN_SECRET = "planted-admin-93b2c6e1"


def postgres_programs() -> Path | None:
    """The folder of Debian's server programs, which it keeps out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root; as whom it runs then."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """A database server on loopback; yields its port."""
    programs = postgres_programs()
    assert programs is not None
    password = folder / "password"
    password.write_text(DATABASE_SECRET)
    if os.geteuid() == 0:
        for path in (folder, password):
            shutil.chown(path, "postgres")
    port = free_port()

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [*unprivileged(), str(programs / name), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "weam_ray", "-A", "scram-sha-256", f"--pwfile={password}")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories=''"
    run("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        yield port
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@dataclass(frozen=True, kw_only=True)
class Server:
    """The tracking server, up."""

    uri: str
    process: psutil.Process
    log: Path
    folder: Path
    database: int
    """The database's port."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if postgres_programs() is None:
        pytest.skip("not installed: postgresql (bash .ci/system-packages)")
    # Not pytest's folder, which PostgreSQL's account may not enter.
    with tempfile.TemporaryDirectory(prefix="weam_ray-team-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "database").mkdir(mode=0o700)
        database = stack.enter_context(postgres(folder / "database"))
        yield stack.enter_context(tracking_server(folder, database))


@contextmanager
def tracking_server(folder: Path, database: int) -> Iterator[Server]:
    """The shipped script, as its head says to use it."""
    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "pgpass").write_text(f"127.0.0.1:{database}:*:weam_ray:{DATABASE_SECRET}\n")
    (secrets / "admin_password").write_text(ADMIN_SECRET + "\n")
    for path in secrets.iterdir():
        path.chmod(0o600)
    environment = {**os.environ, "PGPASSFILE": str(secrets / "pgpass")}
    for name in ("weam_ray_runs", "weam_ray_logins"):
        subprocess.run(
            ["createdb", "-h", "127.0.0.1", "-p", str(database), "-U", "weam_ray", name],
            check=True,
            env=environment,
        )
    port, log = free_port(), folder / "server.log"
    programs = Path(sys.executable).parent
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            ["bash", str(REPOSITORY / "cluster" / "tracking.sh")],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "WEAM_RAY_SECRETS": str(secrets),
                "WEAM_RAY_DATABASE": f"postgresql+psycopg2://weam_ray@127.0.0.1:{database}",
                "WEAM_RAY_PORT": str(port),
                "WEAM_RAY_ARTIFACTS": str(folder / "artifacts"),
            },
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(uri, process, log)
        top = psutil.Process(process.pid)
        yield Server(uri=uri, process=top, log=log, folder=folder, database=database)
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait(timeout=30)


def wait_until_it_answers(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``~/.mlflow/credentials`` says, said in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_SECRET)


def track(uri: str, folder: Path) -> Tracker:
    """One invocation with one cell, as a sweep writes it."""
    tracker = Tracker(uri, folder, "team", {"weam_ray.title": "A team's study"})
    cell = CellFacts(
        address="transfer/12ab",
        name="home.en-de.30.weam.s0",
        factors={"size": 30, "method": "weam"},
    )
    tracker.start_cell(cell)
    page = folder / "report.html"
    page.write_text("<p>a report</p>")
    curve = [CurvePoint("weam/loss", 2.0 / step, step) for step in (1, 2)]
    tracker.finish_cell(cell, lambda: CellOutcome(curves=curve, scores={}, files=[page]))
    tracker.end("FINISHED")
    return tracker


@pytest.mark.usefixtures("login")
def test_a_team_sees_runs_metrics_and_files_behind_a_login(server: Server, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    assert track(server.uri, tmp_path).problem is None
    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("team")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "params.method = 'weam'")
    assert [run.info.status for run in runs] == ["FINISHED"]
    curve = client.get_metric_history(runs[0].info.run_id, "weam/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]
    assert [file.path for file in client.list_artifacts(runs[0].info.run_id)] == ["report.html"]


def test_who_has_no_login_is_refused_and_a_sweep_goes_on_without_tracking(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.uri}/api/2.0/mlflow/experiments/get?experiment_id=0")
    problem = track(server.uri, tmp_path).problem
    assert problem is not None and "401" in problem
    assert _tracking(tmp_path, server.uri).ok, "doctor asks whether somebody answers"


@pytest.mark.usefixtures("login")
def test_the_servers_listen_on_the_address_they_were_given_alone(server: Server) -> None:
    everyone = [server.process, *server.process.children(recursive=True)]
    listening = {
        (one.laddr.ip, one.laddr.port)
        for process in everyone
        for one in process.net_connections(kind="inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert {ip for ip, _ in listening} == {"127.0.0.1"}


@pytest.mark.usefixtures("login")
def test_no_secret_is_in_a_command_line_a_log_or_what_was_tracked(
    server: Server, tmp_path: Path
) -> None:
    track(server.uri, tmp_path)
    secrets = (DATABASE_SECRET, ADMIN_SECRET)
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        assert not any(secret in command for secret in secrets)
    written = [server.log, server.folder / "database" / "log", *tmp_path.rglob("*")]
    written += (server.folder / "artifacts").rglob("*")
    for path in written:
        if path.is_file():
            text = path.read_bytes()
            assert not any(secret.encode() in text for secret in secrets), path
    dumped = subprocess.run(
        ["pg_dump", "-h", "127.0.0.1", "-p", str(server.database), "-U", "weam_ray"]
        + ["weam_ray_runs"],
        check=True,
        capture_output=True,
        env={**os.environ, "PGPASSFILE": str(server.folder / "secrets" / "pgpass")},
    ).stdout
    assert b"weam/loss" in dumped
    assert not any(secret.encode() in dumped for secret in secrets)
