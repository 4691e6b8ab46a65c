"""One command from a laptop to a study on a cluster: ``weam-ray submit CLUSTER STUDY``.

``ray up``, the sweep on the head, its lines as they come, the report back, and ``ray down`` if you
say so. The sweep doesn't depend on the laptop: after a lost connection, or Ctrl-C, the same command
follows it again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from weam_ray.bucket import Bucket, is_url
from weam_ray.errors import ConfigError, ResourceError
from weam_ray.on_ray.machines import code_digest
from weam_ray.on_ray.on_head import ENDED, SAID
from weam_ray.study.reading import read_study

FETCHED = ("report.html", "results.csv", "results.parquet")
INTERRUPTED = 130
_TAIL = 25  # lines of a failed command that are shown
_CODE = "~/weam_ray"
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster file, and Ray's own commands on it."""

    path: Path
    name: str
    storage: str
    """What the cluster's machines share: a folder's path there, or a bucket's address."""
    machines: int
    """How many machines it always has."""
    log: Path = field(repr=False)
    """Where everything that Ray's commands print goes."""

    @classmethod
    def read(cls, path: Path, folder: Path) -> Cluster:
        """Read a cluster file.

        Args:
            folder: what is kept of clusters on this machine: logs, reports.

        Raises:
            ConfigError: it is no cluster file, names no storage, or copies files that are not here.
        """
        config = _load(path)
        storage = (config.get("metadata") or {}).get("storage")
        if not isinstance(storage, str) or not (storage.startswith("/") or is_url(storage)):
            raise ConfigError(
                f"metadata.storage is {storage!r}, neither the path of a folder nor a bucket",
                place=str(path),
                cure="Name what all machines of the cluster share: storage: /mnt/…, or s3://…",
            )
        if is_url(storage):
            Bucket(storage)  # a key in it would be in every command line from here on
        for here in (config.get("file_mounts") or {}).values():
            if not Path(here).expanduser().exists() and here != TOKEN_MOUNT:
                raise ConfigError(
                    f"file_mounts copies {here}, which is not here",
                    place=str(path),
                    cure="Run the command from the repository's root.",
                )
        name = str(config["cluster_name"])
        return cls(
            path=path,
            name=name,
            storage=storage,
            machines=1 + _least_workers(config),
            log=folder / name / "ray.log",
        )

    def ray(self, verb: str, *arguments: str) -> str:
        """Run ``ray VERB FILE …`` to its end; returns what it printed.

        Raises:
            ResourceError: it failed; its last lines are in the message.
        """
        lines = list(self.stream(verb, *arguments))
        status = int(lines.pop())
        if status:
            raise ResourceError(
                "\n".join([f"ray {verb} failed:", *lines[-_TAIL:]]),
                place=str(self.path),
                cure=f"All of it is in {self.log}.",
            )
        return "\n".join(lines)

    def stream(self, verb: str, *arguments: str) -> Iterator[str]:
        """The lines that ``ray VERB FILE …`` prints, as they come, and last its exit status."""
        options = ["-y"] if verb in ("up", "down") else []
        command = [ray_program(), verb, *options, str(self.path)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a", encoding="utf8") as log:
            print(f"$ {shlex.join([*command[1:], *arguments])}", file=log)
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                umask=0o077,
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"},
            )
            assert process.stdout is not None
            with process, process.stdout:
                try:
                    for raw in process.stdout:
                        line = _TERMINAL_CODES.sub("", raw).rstrip("\n")
                        print(line, file=log, flush=True)
                        yield line
                except BaseException:
                    process.terminate()
                    raise
            yield str(process.returncode)

    def on_head(self, command: str) -> list[str]:
        """The argument of ``ray exec`` for a command in the folder of the copied code."""
        return [f"cd {_CODE} && {command}"]

    def state(self) -> dict[str, Any] | None:
        """Which studies run on it, a hash of its code, its machines; None when it is not up."""
        command = f"python -m weam_ray.on_ray.on_head --running {shlex.quote(self.storage)}"
        for line in self.stream("exec", *self.on_head(command)):
            if line.startswith(ENDED):
                state: dict[str, Any] = json.loads(line.removeprefix(ENDED))
                return state if state["status"] == 0 else None
        return None


TOKEN_MOUNT = "~/.ray/auth_token"


def submit(
    cluster_file: Path,
    study_file: Path,
    settings: Sequence[str] = (),
    *,
    say: Say = print,
    take_down: Callable[[], bool] = lambda: False,
    folder: Path = Path("storage/clusters"),
) -> int:
    """Bring a cluster up if it is not, run a study on it, and fetch the report.

    Args:
        settings: ``key.path=value`` overrides of the study file.
        say: is given each line for a person.
        take_down: asked at the end whether to run ``ray down``.
        folder: reports and logs go to ``folder/CLUSTER/STUDY``.

    Returns:
        The sweep's exit status, or 130 after Ctrl-C, which leaves the sweep running.

    Raises:
        WeamError: a file is wrong, or the cluster can't be brought up or reached.
    """
    cluster = Cluster.read(cluster_file, folder)
    settings = [*settings, f"storage={cluster.storage}"]
    study = read_study(study_file, settings)
    make_token()
    _bring_up(cluster, say)
    # Beside the studies that `ray up` copied; on the head alone, which is where it is read.
    remote = f"{_CODE}/sweeps/{study_file.name}"
    cluster.ray("rsync-up", str(study_file), remote)
    try:
        status = _follow(cluster, remote, settings, say)
    except KeyboardInterrupt:
        say("no longer following; the sweep goes on, and the same command follows it again")
        return INTERRUPTED
    if status in (0, 1):
        # With a bucket, the study's own folder is on the head, below the copied code.
        where = str(study.folder) if study.folder.is_absolute() else f"{_CODE}/{study.folder}"
        _fetch(cluster, where, folder / cluster.name / study.name, say)
    if take_down():
        cluster.ray("down")
        say(f"the cluster is down; what was computed is in {cluster.storage}")
    else:
        say(f"the cluster is still up: ray down {cluster.path}")
    return status


def ray_program() -> str:
    """Ray's own command, of the environment that this runs in."""
    return str(Path(sys.executable).with_name("ray"))


def make_token() -> Path:
    """The file of the secret that your clusters' machines share; made on first use, mode 600."""
    path = Path(TOKEN_MOUNT).expanduser()
    if not path.exists():
        subprocess.run(
            [ray_program(), "get-auth-token", "--generate"],
            check=True,
            stdout=subprocess.DEVNULL,  # it prints the token
            stderr=subprocess.DEVNULL,
            umask=0o077,
        )
    path.chmod(0o600)
    return path


def _load(path: Path) -> dict[str, Any]:
    try:
        config, *_ = [*yaml.safe_load_all(path.read_text(encoding="utf8")), None]
    except FileNotFoundError:
        raise ConfigError(
            "no such file", place=str(path), cure="Name a cluster file: cluster/cluster.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", place=str(path)) from None
    if not isinstance(config, dict) or "provider" not in config or "cluster_name" not in config:
        raise ConfigError(
            "this is not a cluster file of `ray up`",
            place=str(path),
            cure="kuberay.yaml is for kubectl, slurm.sh for sbatch.",
        )
    return config


def _least_workers(config: dict[str, Any]) -> int:
    if "worker_ips" in config["provider"]:
        return int(config.get("min_workers", len(config["provider"]["worker_ips"])))
    kinds = config.get("available_node_types") or {}
    return sum(
        int(kind.get("min_workers", 0))
        for name, kind in kinds.items()
        if name != config.get("head_node_type")
    )


def _bring_up(cluster: Cluster, say: Say) -> None:
    started = time.monotonic()
    state = cluster.state()
    # The file as `ray up` last saw it from here: tells an edited one from one that is in force.
    applied = cluster.log.with_name("applied.yaml")
    if state is not None and state["running"]:
        # Nothing is copied over code that a sweep may still import.
        say(f"cluster {cluster.name} runs {', '.join(state['running'])}; it is left as it is")
        return
    asked = cluster.path.read_text(encoding="utf8")
    in_force = {"code": code_digest(), "file": asked}
    if state is not None and in_force == {"code": state["code"], "file": _text(applied)}:
        # Ray never tries a worker again whose start failed once; only `ray up` does.
        if state["machines"] >= cluster.machines:
            say(f"cluster {cluster.name} is up, with this code")
            return
    # Not with --no-restart: that would leave old code on the workers.
    say(f"bringing up cluster {cluster.name} (all that Ray says: {cluster.log})")
    cluster.ray("up")
    applied.write_text(asked, encoding="utf8")
    say(f"cluster {cluster.name} is up after {time.monotonic() - started:.0f} s")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf8") if path.exists() else None


def _follow(cluster: Cluster, study: str, settings: Sequence[str], say: Say) -> int:
    options = shlex.join(part for setting in settings for part in ("--set", setting))
    command = f"python -m weam_ray.on_ray.on_head {study} --machines {cluster.machines} {options}"
    last: list[str] = []
    for line in cluster.stream("exec", *cluster.on_head(command)):
        if line.startswith(SAID):
            say(line.removeprefix(SAID))
        elif line.startswith(ENDED):
            status: int = json.loads(line.removeprefix(ENDED))["status"]
            return status
        else:
            last = [*last, line][-_TAIL:]
    raise ResourceError(
        "\n".join(["the connection to the head ended before the sweep did:", *last]),
        place=str(cluster.path),
        cure="The sweep doesn't depend on it; run the same command again to follow it.",
    )


def _fetch(cluster: Cluster, remote: str, folder: Path, say: Say) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FETCHED:
        cluster.ray("rsync-down", f"{remote}/{name}", str(folder / name))
    say(f"report: {folder / FETCHED[0]}")
