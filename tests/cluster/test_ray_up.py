"""``ray up`` with the project's own cluster file, on two hosts: what a user does, in order.

The tests share one cluster, brought up by the first that needs it; the last one takes it down.
Run it with ``-s`` for the measured seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hosts import HOME, SHARED, Lan
from launched import Launched, for_hosts, hosts_at_work, tiny_study

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

RAY_PORTS = {6379, 6380, 6381, 6382, 6383, 6384}
"""What ``cluster.yaml`` fixes; its comment tells users to let them pass between the machines."""


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"\n{what}: {time.monotonic() - started:.1f} s")


@pytest.fixture(scope="module")
def cluster(lan: Lan) -> Launched:
    launched = Launched(lan=lan)
    head, *workers = lan.nodes
    with timed("ray up"):
        launched.up(for_hosts(head, workers))
    return launched


def test_work_runs_on_both_hosts_with_the_copied_code_and_the_settings_of_the_file(
    cluster: Launched,
) -> None:
    with timed("ray submit until both hosts worked"):
        said = cluster.submit(cluster.nodes_script())
    (line,) = [line for line in said.splitlines() if line.startswith("WHERE ")]
    ran = json.loads(line.removeprefix("WHERE "))
    assert {place["host"] for place in ran} == {"node1", "node2"}
    assert {place["code"] for place in ran} == {f"{HOME}/weam_ray/weam_ray/__init__.py"}
    assert {place["mode"] for place in ran} == {"token"}


def test_who_has_no_token_is_refused(cluster: Launched) -> None:
    laptop, head = cluster.lan.laptop, cluster.lan.nodes[0]
    status = f"ray status --address {head.address}:6379"
    assert "Active" in laptop.run(status, RAY_AUTH_MODE="token").stdout
    wrong = laptop.run(status, check=False, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="guess")
    none = laptop.run(status, check=False, RAY_AUTH_MODE="disabled")
    for refused in (wrong, none):
        assert refused.returncode != 0
        assert "Active" not in refused.stdout


def test_a_study_runs_on_both_hosts_and_its_report_comes_back(
    cluster: Launched,
) -> None:
    storage = cluster.lan.folder / "shared" / "storage"
    sweep = f"RAY_ADDRESS=auto weam-ray sweep sweeps/demo.yaml {tiny_study(f'{SHARED}/storage')}"
    with timed("a tiny study"), hosts_at_work(storage / "store") as seen:
        said = cluster.run_on_head(sweep, timeout=300).stdout
    assert "6 of 6 cells done" in said
    print(f"\nstages seen per host: {dict(seen)}")
    assert seen["transfer"] == {"node1", "node2"}
    report = f"{SHARED}/storage/studies/demo/report.html"
    cluster.fetch(report, "report.html")
    page = cluster.lan.laptop.inside("report.html").read_text()
    assert page == (storage / "studies/demo/report.html").read_text()
    assert "demonstration" in page.lower()


def test_a_third_host_finds_only_the_ports_that_the_file_names(cluster: Launched) -> None:
    for node in cluster.lan.nodes:
        found = cluster.lan.laptop.run(f"python - <<'END'\n{_SCAN}\nEND", HOST=node.address)
        open_ports = set(json.loads(found.stdout))
        print(f"\nopen on {node.name}: {sorted(open_ports)}")
        assert open_ports - {22} <= RAY_PORTS | set(range(10002, 11000))
        assert 22 in open_ports


_SCAN = """
import json, os, socket

found = []
for port in range(1, 65536):
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex((os.environ["HOST"], port)) == 0:
            found.append(port)
print(json.dumps(found))
"""


def test_the_token_is_in_no_log_and_no_command_line(cluster: Launched) -> None:
    token = cluster.lan.laptop.inside(".ray/auth_token").read_text().strip()
    assert len(token) >= 32
    for node in cluster.lan.nodes:
        mode = node.run("stat -c %a ~/.ray/auth_token").stdout.strip()
        assert mode == "600"
        seen = node.run(
            "grep -rlaF -f ~/.ray/auth_token /tmp /mnt/weam_ray ~/weam_ray ~/.bashrc"
            "; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -aF -f ~/.ray/auth_token",
            check=False,
        )
        assert seen.stdout == ""


def test_ray_down_ends_the_cluster(cluster: Launched) -> None:
    with timed("ray down"):
        cluster.down()
    head, *workers = cluster.lan.nodes
    assert "raylet" not in head.run("ps -eo args").stdout
    # Ray stops the head of on-premises machines; a worker's Ray ends when it misses the head.
    with timed("until the workers noticed"):
        deadline = time.monotonic() + 120
        while any("raylet" in worker.run("ps -eo args").stdout for worker in workers):
            assert time.monotonic() < deadline, "a worker still runs Ray two minutes later"
            time.sleep(1)
