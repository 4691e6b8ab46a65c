"""On the cluster's head: run a sweep apart from the connection that asked for it, and follow it.

``python -m weam_ray.on_ray.on_head STUDY --set storage=FOLDER …`` starts the sweep as a process of
its own, or finds the one that runs already, and prints what it says until it ends. Whoever is cut
off says the same command again. :mod:`weam_ray.on_ray.submit` calls it from a laptop.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from weam_ray.bucket import home_of
from weam_ray.errors import ResourceError, WeamError
from weam_ray.study.config import ResourcesConfig, StudyConfig
from weam_ray.study.reading import read_study

SAID = "weam_ray> "
"""Begins a line that is meant for a person; a launcher's own lines lack it."""
ENDED = "weam_ray= "
"""Begins the last line: the exit status."""
_SECONDS_BETWEEN_LOOKS = 0.3
_IN_BACKGROUND = '{ "$@"; echo $? >"$STATUS.new"; mv "$STATUS.new" "$STATUS"; } &'


@dataclass(frozen=True)
class Running:
    """A sweep as a process of its own: its folder holds what it says, a lock and its end."""

    folder: Path

    @classmethod
    def of(cls, study: StudyConfig) -> Running:
        """The place of a study's sweep; it need not exist."""
        return cls(study.folder.absolute() / "submitted")

    @property
    def log(self) -> Path:
        """What the sweep printed."""
        return self.folder / "output.log"

    @property
    def status(self) -> Path:
        """The exit status, once there is one."""
        return self.folder / "status"

    def start(self, command: Sequence[str]) -> bool:
        """Start the sweep unless it runs; True when it was started now.

        The lock is the child's as long as it lives, whatever becomes of this process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.status.unlink(missing_ok=True)
            with open(self.log, "wb") as log:
                # The shell that is waited for ends at once; the one in the background is nobody's
                # child, keeps the lock, and notes how the sweep ended.
                subprocess.run(
                    ["bash", "-c", _IN_BACKGROUND, "bash", *command],
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[lock.fileno()],
                    env={**os.environ, "STATUS": str(self.status), "PYTHONUNBUFFERED": "1"},
                )
        return True

    def follow(self) -> Iterator[str]:
        """What the sweep said and says, line by line, until it ends."""
        with open(self.log, encoding="utf8", errors="replace") as log:
            while True:
                ended = not self.runs()  # asked first: what came before the end is still read
                yield from log
                if ended:
                    return
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def runs(self) -> bool:
        """Whether its process lives."""
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def exit_status(self) -> int:
        """How it ended.

        Raises:
            ResourceError: it was killed before it could say.
        """
        try:
            return int(self.status.read_text(encoding="utf8"))
        except FileNotFoundError:
            raise ResourceError(
                "the sweep's process was killed",
                place=str(self.log),
                cure="Run the same command again: it goes on from what is done.",
            ) from None

    def _lock(self) -> IO[str]:
        return open(self.folder / "lock", "a", encoding="utf8")


def studies_running(storage: str | Path) -> list[str]:
    """Names of the studies whose sweep runs, of a storage as a study names it."""
    folders = sorted(home_of(storage).glob("studies/*/submitted"))
    return [folder.parent.name for folder in folders if Running(folder).runs()]


def lacking(resources: ResourcesConfig, there: Mapping[str, float]) -> dict[str, float]:
    """What the study's largest job asks for and no cluster of this size has."""
    wanted = {
        "CPU": float(max(resources.base_threads, resources.cell_threads)),
        "GPU": float(resources.cell_gpus),
    }
    return {kind: amount for kind, amount in wanted.items() if amount > there.get(kind, 0.0)}


def wait_for_room(resources: ResourcesConfig, minutes: float) -> None:
    """Ask the autoscaler for a first machine that fits, where all machines start from zero.

    Raises:
        ResourceError: none came.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    if not (missing := lacking(resources, ray.cluster_resources())):
        return
    wish = ", ".join(f"{amount:g} {kind}" for kind, amount in missing.items())
    _say(f"waiting for a machine with {wish}")
    request_resources(bundles=[missing])
    deadline = time.monotonic() + 60 * minutes
    try:
        while missing := lacking(resources, ray.cluster_resources()):
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"no machine with {wish} joined the cluster in {minutes:g} minutes",
                    cure="Look at the autoscaler's log (ray exec FILE 'tail -n 50"
                    " /tmp/ray/session_latest/logs/monitor.log'), or lower resources in the study.",
                )
            time.sleep(2)
    finally:
        request_resources(bundles=[])


def _wait_for_machines(count: int, seconds: float) -> None:
    """Wait for those that the cluster file always has; a sweep can do without one that is ill."""
    import ray

    deadline = time.monotonic() + seconds
    while (there := sum(node["Alive"] for node in ray.nodes())) < count:
        if time.monotonic() > deadline:
            _say(f"{there} of {count} machines are there after {seconds:.0f} s; going on with them")
            return
        time.sleep(0.5)


def _check_cluster(study: StudyConfig, arguments: argparse.Namespace) -> None:
    from weam_ray.on_ray.cluster import ray_runtime
    from weam_ray.on_ray.machines import check_machines

    _refuse_dead_head()
    with ray_runtime():
        _wait_for_machines(arguments.machines, arguments.seconds)
        wait_for_room(study.resources, arguments.minutes)
        machines = check_machines(study.storage)
    _say(f"machines with the same storage, code and packages: {', '.join(machines)}")


def _state(storage: str) -> dict[str, Any]:
    """What ``submit`` asks of a cluster before it touches it."""
    from weam_ray.on_ray.machines import code_digest

    running = studies_running(storage)
    # A sweep is left alone whatever Ray says; and joining takes seconds.
    machines = 0 if running else _count_machines()
    return {"running": running, "code": code_digest(), "machines": machines}


def _count_machines() -> int:
    import ray

    from weam_ray.on_ray.cluster import ray_runtime

    _refuse_dead_head()
    with ray_runtime():
        return sum(node["Alive"] for node in ray.nodes())


def _refuse_dead_head() -> None:
    # Killed, Ray leaves its address behind, and whoever joins would try that one for ever.
    if os.environ["RAY_ADDRESS"] != "auto":
        return
    if not any("gcs_server" in process.info["name"] for process in psutil.process_iter(["name"])):
        raise ResourceError(
            "Ray does not run on this machine", cure="Start the cluster: ray up FILE"
        )


def _say(line: str) -> None:
    print(SAID + line, flush=True)


def _run(arguments: argparse.Namespace) -> int:
    study = read_study(arguments.study, arguments.settings)
    running = Running.of(study)
    if not (running.folder.exists() and running.runs()):
        _check_cluster(study, arguments)
    settings = [part for setting in arguments.settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "weam_ray.sweep", str(arguments.study.absolute()), *settings]
    if not running.start(command):
        _say("this study runs already; following it")
    for line in running.follow():
        _say(line.rstrip("\n"))
    return running.exit_status()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or follow a study on this cluster; returns the sweep's exit status."""
    parser = argparse.ArgumentParser(prog="python -m weam_ray.on_ray.on_head")
    parser.add_argument("study", type=Path, nargs="?", help="the study file")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=20, help="to wait for a first worker")
    parser.add_argument("--machines", type=int, default=1, help="how many the cluster always has")
    parser.add_argument("--seconds", type=float, default=180, help="to wait for those")
    parser.add_argument("--running", metavar="STORAGE", help="say which studies run")
    parsed = parser.parse_args(arguments)
    os.environ.setdefault("RAY_ADDRESS", "auto")
    if parsed.study is None and parsed.running is None:
        parser.error("name a study file")
    try:
        if parsed.running is not None:
            end = {"status": 0, **_state(parsed.running)}
        else:
            end = {"status": _run(parsed)}
    except WeamError as error:
        _say(str(error))
        end = {"status": 2}
    print(ENDED + json.dumps(end), flush=True)
    return int(end["status"])


if __name__ == "__main__":
    sys.exit(main())
