"""Machines for a test: network namespaces on one bridge, each with its own home, /tmp and sshd.

A :class:`Lan` is a laptop and some servers on ``10.77.0.0/24``. The bridge lies in the laptop's
network namespace, so nothing of it is seen, and no packet of it travels, outside the test. All
hosts see the machine's files read-only, the interpreter among them, and one shared folder at
``/mnt/weam_ray`` for writing. Nothing outlives the test process: see ``host.sh``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path("/mnt/weam_ray")
"""Where every host sees the shared folder."""
HOME = Path(pwd.getpwuid(0).pw_dir)
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
_SSHD = """\
ListenAddress {address}
HostKey /run/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


def why_not() -> str | None:
    """What this machine lacks for hosts of its own; None when nothing."""
    if not sys.platform.startswith("linux"):
        return "hosts as network namespaces need Linux"
    if os.geteuid() != 0:
        return "hosts as network namespaces need root"
    programs = ("ip", "unshare", "nsenter", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")
    if missing := [name for name in programs if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)} (bash .ci/system-packages)"
    tried = subprocess.run(
        ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "sh", "-c"]
        + ["ip link add weam0 type bridge && mount -t tmpfs tmpfs /mnt"],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


COMPILED = SHARED / "compiled"
"""NUMBA_CACHE_DIR of every host."""


def share_kernels(shared: Path, package: Path) -> None:
    """Give hosts the aligner's kernels as this machine compiled them, which takes half a minute.

    Args:
        shared: the hosts' shared folder, as the machine outside sees it.
        package: where hosts have the code.
    """
    from numba.core.caching import UserProvidedCacheLocator

    source = str(package / "alignment" / "kernels.py")
    place = UserProvidedCacheLocator.get_suitable_cache_subpath(source)
    target = shared / COMPILED.name / place
    target.mkdir(parents=True, exist_ok=True)
    for kernel in (REPOSITORY / "weam_ray" / "alignment" / "__pycache__").glob("*.nb?"):
        shutil.copy(kernel, target)


@dataclass(kw_only=True, eq=False)
class Host:
    """A machine of the test."""

    name: str
    address: str
    folder: Path
    """What is the host's own, seen from outside: ``home``, ``tmp``, ``run``."""
    process: subprocess.Popen[str]
    pid: int
    """The host's first process, as the machine outside counts it."""
    cores: str | None
    """CPU list that everything on this host is pinned to, as ``taskset`` reads it."""

    def inside(self, path: Path | str) -> Path:
        """A file of the host's home, as the machine outside sees it."""
        return self.folder / "home" / path

    def _entered(self, command: str, environment: dict[str, str]) -> list[str]:
        spaces = [f"{name}=/proc/{self.pid}/ns/{_FILES[name]}" for name in _NAMESPACES]
        settings = {
            "HOME": str(HOME),
            "USER": "root",
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            **environment,
        }
        pinned = ["taskset", "-c", self.cores] if self.cores else []
        return (
            ["nsenter", *spaces, "--wd=" + str(HOME), "env", "-i"]
            + [f"{key}={value}" for key, value in settings.items()]
            + [*pinned, "bash", "-c", command]
        )

    def run(
        self, command: str, *, timeout: float = 60.0, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host; its output (both streams) is in ``stdout``.

        Raises:
            AssertionError: it failed, with all it printed.
        """
        done = subprocess.run(
            self._entered(command, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{self.name}$ {command}\n{done.stdout}"
        return done

    def start(self, command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a shell command on the host and leave it running; its output goes to ``log``."""
        with open(log, "wb") as stream:
            return subprocess.Popen(
                self._entered(command, environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def close(self) -> None:
        """Switch the host off, as a power cut does."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()  # unshare --kill-child takes the host's first process with it
            self.process.wait(timeout=5)
        assert self.process.stdout is not None
        self.process.stdout.close()


_FILES = {"--mount": "mnt", "--uts": "uts", "--ipc": "ipc", "--net": "net", "--pid": "pid"}


@dataclass(kw_only=True)
class Lan:
    """A laptop and servers that reach each other and nothing else."""

    folder: Path
    servers: int = 2
    cores: Sequence[str | None] = ()
    """CPU list of each server; without it servers share all cores."""
    laptop: Host = field(init=False)
    nodes: list[Host] = field(init=False, default_factory=list)

    def __enter__(self) -> Lan:
        names = ["laptop"] + [f"node{place}" for place in range(1, self.servers + 1)]
        addresses = {name: f"10.77.0.{place}" for place, name in enumerate(names, 1)}
        (self.folder / "shared").mkdir(parents=True)
        key = self.folder / "key"
        _keygen(key)
        try:
            for name, address in addresses.items():
                host = self._boot(name, address, addresses, key)
                if name == "laptop":
                    self.laptop = host
                    _outside(host, "ip link add lan type bridge && ip link set lan up")
                    _outside(host, f"ip addr add {address}/24 dev lan")
                else:
                    self.nodes.append(host)
                    self._plug_in(host)
                _say(host, "network")
                _hear(host, "ready")
            self._wait_for_sshd()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in [*self.nodes, *([self.laptop] if hasattr(self, "laptop") else [])]:
            host.close()

    @property
    def hosts(self) -> list[Host]:
        """The laptop, then the servers."""
        return [self.laptop, *self.nodes]

    def _boot(self, name: str, address: str, names: dict[str, str], key: Path) -> Host:
        folder = self.folder / name
        (folder / "home" / ".ssh").mkdir(parents=True)
        shutil.copy(key.with_suffix(".pub"), folder / "home" / ".ssh" / "authorized_keys")
        if name == "laptop":
            shutil.copy(key, folder / "home" / ".ssh" / "weam_ray")
        _keygen(folder / "host_key")
        (folder / "sshd_config").write_text(_SSHD.format(address=address, home=HOME))
        table = ["127.0.0.1 localhost", *(f"{where} {who}" for who, where in names.items())]
        (folder / "hosts").write_text("\n".join(table) + "\n")
        visible = {
            str(REPOSITORY),
            sys.prefix,
            sys.base_prefix,
            str(Path(sys.base_prefix).resolve()),
        }
        place = len(self.nodes)
        cores = self.cores[place] if name != "laptop" and place < len(self.cores) else None
        pinned = ["taskset", "-c", cores] if cores else []
        process = subprocess.Popen(
            [*pinned, "unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
            + ["bash", str(Path(__file__).with_name("host.sh"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "HOST_NAME": name,
                "HOST_FOLDER": str(folder),
                "HOST_HOME": str(HOME),
                "HOST_SHARED": str(self.folder / "shared"),
                "HOST_VISIBLE": "\n".join(sorted(visible)),
                "HOST_SSHD": "0" if name == "laptop" else "1",
            },
        )
        host = Host(name=name, address=address, folder=folder, process=process, pid=0, cores=cores)
        try:
            _hear(host, "mounted")
            host.pid = _only_child(process.pid)
        except BaseException:
            host.close()
            raise
        return host

    def _plug_in(self, host: Host) -> None:
        port = f"to-{host.name}"
        _outside(
            self.laptop,
            f"ip link add {port} type veth peer name eth0 netns {host.pid}"
            f" && ip link set {port} master lan up",
        )
        _outside(host, f"ip addr add {host.address}/24 dev eth0 && ip link set eth0 up")
        # Ray asks the routing table for the host's own address; the laptop forwards nothing.
        _outside(host, f"ip route add default via {self.laptop.address}")

    def _wait_for_sshd(self, seconds: float = 10.0) -> None:
        check = "exec 3<>/dev/tcp/{}/22"
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            while self.laptop.run(check.format(node.address), check=False).returncode != 0:
                log = (node.folder / "run" / "sshd.log").read_text()
                assert time.monotonic() < deadline, f"sshd of {node.name} does not answer: {log}"
                time.sleep(0.1)


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _outside(host: Host, command: str) -> None:
    """Run a command of the machine outside in the network namespace of a host."""
    entered = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "sh", "-c"]
    done = subprocess.run(
        [*entered, f"ip link set lo up; {command}"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{host.name}: {command}: {done.stderr}"


def _only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _say(host: Host, line: str) -> None:
    stream: IO[str] | None = host.process.stdin
    assert stream is not None
    stream.write(line + "\n")
    stream.flush()


def _hear(host: Host, line: str) -> None:
    assert host.process.stdout is not None
    said = host.process.stdout.readline().strip()
    assert said == line, f"{host.name} said {said!r} instead of {line!r}"
