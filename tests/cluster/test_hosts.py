"""The test hosts themselves: apart from each other, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts import REPOSITORY, SHARED, Lan, why_not

pytestmark = pytest.mark.cluster


def test_hosts_share_one_folder_and_nothing_else(lan: Lan) -> None:
    one, two = lan.nodes
    for place in ("~", "/tmp", "/dev/shm", str(SHARED)):
        one.run(f"echo one > {place}/mark")
    seen = two.run(f"ls ~/mark /tmp/mark /dev/shm/mark {SHARED}/mark 2>/dev/null", check=False)
    assert seen.stdout.split() == [f"{SHARED}/mark"]
    assert one.run("hostname").stdout.strip() == "node1"
    one.run("setsid sleep 654 >/dev/null 2>&1 & exec sleep 0.1")
    assert "sleep 654" in one.run("ps -eo args").stdout
    assert "sleep 654" not in two.run("ps -eo args").stdout


def test_a_host_cannot_change_the_machine_it_runs_on(lan: Lan) -> None:
    mark = REPOSITORY / "written-from-a-test-host"
    tried = lan.nodes[0].run(f"touch {mark}", check=False)
    assert "Read-only file system" in tried.stdout
    assert not mark.exists()


def test_hosts_reach_each_other_by_ssh_but_not_the_world(lan: Lan) -> None:
    ssh = "ssh -o StrictHostKeyChecking=no -i ~/.ssh/weam_ray root@node2 hostname"
    assert lan.laptop.run(ssh).stdout.split()[-1] == "node2"
    world = lan.nodes[0].run("timeout 2 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'", check=False)
    assert world.returncode != 0


def test_a_host_dies_with_all_it_started(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with Lan(folder=tmp_path / "hosts", servers=1) as short:
        (node,) = short.nodes
        node.run("setsid sleep 987 >/dev/null 2>&1 & exec sleep 0.1")
        inside = node.run("ps -eo pid,args").stdout
        assert "sleep 987" in inside
        processes = _processes_of(node.pid)
        assert len(processes) >= 3
        node.close()
        assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]


def _processes_of(first: int) -> list[int]:
    space = Path(f"/proc/{first}/ns/pid").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns" / "pid").readlink() == space:
                    found.append(int(entry.name))
            except (
                FileNotFoundError,
                PermissionError,
            ):  # ended meanwhile; a sandbox's own first process
                continue
    return found
