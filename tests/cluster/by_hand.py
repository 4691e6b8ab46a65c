"""Ray on test hosts by its own commands: what ``ray up`` brings about, in seconds.

The first server is the head and runs no cells unless it is told to; the others have one CPU each
and can be killed and come back. Nothing restarts them but the test.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hosts import COMPILED, REPOSITORY, Host, Lan, share_kernels

TOKEN = "0123456789abcdef" * 4
_START = "ray start --node-ip-address={address} {options} --object-store-memory=200000000"


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """The cluster; use :meth:`start`."""

    lan: Lan
    head_cpus: int = 0

    @property
    def head(self) -> Host:
        """Runs the sweep and Ray's own services."""
        return self.lan.nodes[0]

    @property
    def workers(self) -> list[Host]:
        """Run cells."""
        return self.lan.nodes[1:]

    @property
    def environment(self) -> dict[str, str]:
        """Settings of everything that is started on a host."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            "NUMBA_CACHE_DIR": str(COMPILED),
        }

    def start(self, workers: Sequence[Host] | None = None) -> None:
        """Start the head, and these workers or all."""
        share_kernels(self.lan.folder / "shared", REPOSITORY / "weam_ray")
        self._ray(
            self.head, f"--head --port=6379 --num-cpus={self.head_cpus} --include-dashboard=false"
        )
        for worker in self.workers if workers is None else workers:
            self.join(worker)

    def join(self, worker: Host) -> None:
        """Start Ray on a worker; it has joined when this returns."""
        self._ray(worker, f"--address={self.head.address}:6379 --num-cpus=1")

    def _ray(self, host: Host, options: str) -> None:
        (host.inside(".ray")).mkdir(exist_ok=True)
        host.inside(".ray/auth_token").write_text(TOKEN)
        host.inside(".ray/auth_token").chmod(0o600)
        # To a file: the processes that stay would keep a pipe open.
        command = _START.format(address=host.address, options=options)
        started = host.run(f"{command} >~/ray.log 2>&1", check=False, **self.environment)
        assert started.returncode == 0, host.inside("ray.log").read_text()

    def stop(self) -> None:
        """End whatever of Ray is left, on all hosts."""
        for host in self.lan.nodes:
            kill(host, *EVERYTHING, required=False)

    @contextmanager
    def sweep(
        self, log: Path, storage: str, settings: Sequence[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """``weam-ray sweep`` on the head, its lines in ``log``; ended with the block."""
        options = " ".join(f"--set {shlex.quote(one)}" for one in (*settings, f"storage={storage}"))
        study = REPOSITORY / "sweeps" / "demo.yaml"
        command = f"exec python -m weam_ray sweep {study} {options}"
        environment = {**self.environment, "RAY_ADDRESS": "auto"}
        with self.head.start(command, log, **environment) as process:
            try:
                yield process
            finally:
                process.kill()


EVERYTHING = ("raylet", "gcs_server", "ray::", "weam_ray sweep", "ray/_private", "ray/dashboard")


def kill(host: Host, *names: str, signal: str = "KILL", required: bool = True) -> None:
    """Send a signal to the host's processes whose command line has one of the names."""
    listed = host.run("ps -eo pid=,args=").stdout.splitlines()
    rows = [line.strip().partition(" ") for line in listed]
    doomed = [pid for pid, _, args in rows if any(name in args for name in names)]
    assert doomed or not required, f"{host.name} runs none of {names}"
    if doomed:
        host.run(f"kill -{signal} {' '.join(doomed)}", check=False)


def drafts(store: Path, stage: str, *hosts: Host) -> list[Host]:
    """Which of the hosts make artifacts of a stage just now: a draft is named after its maker."""
    return [host for host in hosts if any((store / "tmp").glob(f"{stage}-*.{host.name}.*"))]


def wait_for(
    what: Callable[[], object], process: subprocess.Popen[bytes], log: Path, seconds: float = 240
) -> None:
    """Wait until something is so, while a process runs."""
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, f"the sweep ended before:\n{log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def forget(store: Path, *stages: str) -> None:
    """Take stages out of a store; what else cells share stays, so that tests are short."""
    for stage in stages:
        shutil.rmtree(store / stage, ignore_errors=True)


def ended(process: subprocess.Popen[bytes], log: Path, seconds: float = 150) -> int:
    """Wait for a sweep's end; returns its status."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"no end after {seconds} s:\n{log.read_text()}") from None
