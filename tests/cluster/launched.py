"""A cluster brought up on test hosts with ``ray up`` and a copy of ``cluster/cluster.yaml``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hosts import COMPILED, HOME, REPOSITORY, SHARED, Host, Lan, share_kernels

CLUSTER_FILE = REPOSITORY / "cluster" / "cluster.yaml"
ENVIRONMENT = "~/weam_ray_env"
LEAVES = "RAY_gcs_rpc_server_reconnect_timeout_s=15"
"""After ``ray down`` a worker waits so long for its head, and not a minute."""


def for_hosts(head: Host, workers: list[Host], *, cpus: int = 1) -> dict[str, Any]:
    """``cluster/cluster.yaml`` as a user would edit it, and what a test must have otherwise.

    The environment is the one that runs this test, seen read-only from every host, in place of the
    one that pip would install: the hosts reach no package index, and three installations of the
    pinned packages would take longer than all else here. The code under test is the copy that
    ``ray up`` made.
    """
    config: dict[str, Any] = yaml.safe_load(CLUSTER_FILE.read_text())
    config["provider"].update(head_ip=head.address, worker_ips=[host.address for host in workers])
    config["auth"]["ssh_user"] = "root"
    installing = [
        item for item in config["setup_commands"] if "-m venv" in item or "-m pip" in item
    ]
    assert len(installing) == 2, "the file installs the environment in another way than it did"
    others = [item for item in config["setup_commands"] if item not in installing]
    copied = "grep -qs PYTHONPATH ~/.bashrc || echo 'export PYTHONPATH=~/weam_ray' >> ~/.bashrc"
    config["setup_commands"] = [f"ln -sfn {sys.prefix} {ENVIRONMENT}", *others, copied]
    listening = config["worker_start_ray_commands"][1]
    assert "weam_ray.on_ray.spot" in listening
    config["worker_start_ray_commands"][1] = f"export PYTHONPATH=$HOME/weam_ray; {listening}"
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        commands[-1] = (
            f"export PYTHONPATH=$HOME/weam_ray NUMBA_CACHE_DIR={COMPILED}; {LEAVES} {commands[-1]}"
            f" --num-cpus={cpus} --object-store-memory=200000000"
        )
    return config


@dataclass(kw_only=True)
class Launched:
    """The cluster, commanded from the laptop as a user would."""

    lan: Lan
    file: str = "~/cluster.yaml"
    said: str = ""
    """What ``weam-ray submit`` said, which brought it up."""
    seen: dict[str, set[str]] = field(default_factory=dict)
    """Hosts that were seen to make artifacts of a stage."""

    def prepare(self, config: dict[str, Any]) -> None:
        """Check the code out and write the cluster file, as a user does before the one command."""
        self._check_out(config)
        share_kernels(self.lan.folder / "shared", HOME / "weam_ray" / "weam_ray")
        self.lan.laptop.inside("cluster.yaml").write_text(yaml.safe_dump(config))

    def _check_out(self, config: dict[str, Any]) -> None:
        # The laptop's own copy: a tree that changes while the tests run changes no address.
        ignored = shutil.ignore_patterns("__pycache__")
        self.lan.laptop.inside("checkout").mkdir()
        for here in config["file_mounts"].values():
            source, target = REPOSITORY / here, self.lan.laptop.inside("checkout") / here
            if here.startswith("~"):
                continue
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy(source, target)

    def run_on_head(
        self, command: str, *, timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``ray exec``, in the folder that the code was copied to."""
        inner = shlex.quote(f"cd ~/weam_ray && {command}")
        return self._ray("exec", inner, timeout=timeout, check=check)

    def submit(self, script: str, *, timeout: float = 300) -> str:
        """``ray submit`` of a Python program; returns what it printed."""
        self.lan.laptop.inside("program.py").write_text(script)
        return self._ray("submit", "~/program.py", timeout=timeout).stdout

    @contextmanager
    def study(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """``weam-ray submit`` of the tiny study that lasts, from the laptop, into ``log``."""
        options = " ".join(shlex.quote(setting) for setting in (*TINY, *LASTING))
        command = f"cd ~/checkout && exec python ~/submit.py {self.file} {options}"
        self.lan.laptop.inside("submit.py").write_text(_SUBMIT)
        with self.lan.laptop.start(command, log, PYTHONPATH=f"{HOME}/checkout") as submitted:
            try:
                yield submitted
            finally:
                submitted.kill()

    def down(self) -> str:
        """``ray down``; returns what it printed."""
        return self._ray("down -y", timeout=120).stdout

    def _ray(
        self, verb: str, argument: str = "", *, timeout: float, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        # From the checkout, as a user does: the file names what it copies relative to it.
        command = f"cd ~/checkout && ray {verb} {self.file} {argument}"
        return self.lan.laptop.run(
            command, timeout=timeout, check=check, RAY_USAGE_STATS_ENABLED="0"
        )

    def nodes_script(self) -> str:
        """A program that waits for a CPU of every node and prints where tasks ran, as JSON."""
        return _WHERE.format(nodes=len(self.lan.nodes), shared=SHARED)


TINY = (
    "base.steps=20",
    "pretraining.steps=10",
    "transfer.steps=10",
    "grid.size=[250]",
    "grid.seed=[0,1]",
    "grid.method=[none,weam]",
    "extra=[]",
)
"""Settings that make ``sweeps/demo.yaml`` four cells of a few steps: seconds, and no sense."""
LASTING = ("grid.seed=[0,1,2]", "transfer.steps=200")
"""With these as well, cells last about as long as a worker takes to start: one that is there
already would else make them all before another host's is up."""
CELLS = 6
"""Of the two together."""


@contextmanager
def hosts_at_work(store: Path) -> Iterator[dict[str, set[str]]]:
    """Which hosts were seen to make artifacts of a stage: a draft is named after its maker.

    Args:
        store: the store's root, as the machine outside sees it.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for draft in (store / "tmp").glob("*.*.*"):
                stage, _, _ = draft.name.partition("-")
                seen[stage].add(draft.name.split(".")[1])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def predictions(store: Path) -> dict[str, bytes]:
    """The predictions of every finished cell, by its address: what every result is made from."""
    found = sorted(store.glob("transfer/*/predictions.parquet"))
    return {path.parent.name: path.read_bytes() for path in found}


_SUBMIT = """
import sys
from pathlib import Path
from weam_ray.on_ray.submit import submit

cluster, *settings = sys.argv[1:]
folder = Path.home() / "clusters"
sys.exit(submit(Path(cluster), Path("sweeps/demo.yaml"), settings, folder=folder))
"""

_WHERE = """
import json, os, pathlib, socket, time
import ray

ray.init(address="auto", log_to_driver=False)
deadline = time.monotonic() + 90
while sum(node["Alive"] for node in ray.nodes()) < {nodes} and time.monotonic() < deadline:
    time.sleep(0.2)

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def where():
    import weam_ray
    name = socket.gethostname()
    pathlib.Path("{shared}", name).write_text(name)
    time.sleep(0.5)
    return {{
        "host": name,
        "code": weam_ray.__file__,
        "mode": os.environ.get("RAY_AUTH_MODE"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }}

print("WHERE", json.dumps(ray.get([where.remote() for _ in range(4 * {nodes})])))
"""
