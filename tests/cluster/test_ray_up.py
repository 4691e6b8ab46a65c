"""``ray up`` with the project's own cluster file, on two hosts: what a user does, in order.

The tests share one cluster, brought up by the first that needs it; the last one takes it down.
"""

from __future__ import annotations

import json
import re
import time

import pytest
from by_hand import kill, wait_for
from hosts import HOME, SHARED, Lan
from launched import CELLS, Launched, for_hosts, hosts_at_work, predictions
from measured import note, timed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

RAY_PORTS = {6379, 6380, 6381, 6382, 6383, 6384}
"""What ``cluster.yaml`` fixes; its comment tells users to let them pass between the machines."""


@pytest.fixture(scope="module")
def cluster(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """One command from the laptop: hosts without Ray, and at the end a study's report."""
    launched = Launched(lan=lan)
    head, *workers = lan.nodes
    launched.prepare(for_hosts(head, workers))
    log = tmp_path_factory.mktemp("submit") / "log"
    begun = time.monotonic()
    with hosts_at_work(lan.folder / "shared" / "store") as seen, launched.study(log) as submitted:
        wait_for(lambda: seen["encoder"] or seen["transfer"], submitted, log)
        note("submit, to first cell running", seconds=round(time.monotonic() - begun, 1))
        status = submitted.wait(timeout=550)
    launched.said, launched.seen = log.read_text(), dict(seen)
    assert status == 0, launched.said
    note("submit, to the report", seconds=round(time.monotonic() - begun, 1))
    return launched


@pytest.fixture(scope="module")
def both(cluster: Launched) -> list[dict[str, str]]:
    """What tasks on both hosts said of themselves, sent with Ray's own command."""
    with timed("ray submit, eight tasks on both hosts"):
        said = cluster.submit(cluster.nodes_script())
    (line,) = [line for line in said.splitlines() if line.startswith("WHERE ")]
    answers: list[dict[str, str]] = json.loads(line.removeprefix("WHERE "))
    return answers


def test_a_submitted_study_runs_on_both_hosts_and_its_report_comes_back(cluster: Launched) -> None:
    (up,) = re.findall(r"cluster weam_ray is up after (\d+) s", cluster.said)
    note("submit, to ray up's end", seconds=int(up))
    assert f"{CELLS} of {CELLS} cells done" in cluster.said
    assert cluster.seen["encoder"] | cluster.seen["transfer"] == {"node1", "node2"}
    note("hosts seen", **{stage: sorted(hosts) for stage, hosts in cluster.seen.items()})
    page = cluster.lan.laptop.inside("clusters/weam_ray/demo/report.html").read_text()
    shared = cluster.lan.folder / "shared"
    assert page == (shared / "studies" / "demo" / "report.html").read_text()
    assert "demonstration" in page.lower()
    assert len(predictions(shared / "store")) == CELLS


def test_work_runs_on_both_hosts_with_the_copied_code_and_the_settings_of_the_file(
    both: list[dict[str, str]],
) -> None:
    assert {place["host"] for place in both} == {"node1", "node2"}
    assert {place["code"] for place in both} == {f"{HOME}/weam_ray/weam_ray/__init__.py"}
    assert {place["mode"] for place in both} == {"token"}


def test_who_has_no_token_is_refused(cluster: Launched) -> None:
    laptop, head = cluster.lan.laptop, cluster.lan.nodes[0]
    status = f"ray status --address {head.address}:6379"
    assert "Active" in laptop.run(status, RAY_AUTH_MODE="token").stdout
    wrong = laptop.run(status, check=False, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="guess")
    none = laptop.run(status, check=False, RAY_AUTH_MODE="disabled")
    for refused in (wrong, none):
        assert refused.returncode != 0
        assert "Active" not in refused.stdout


def test_storage_that_is_not_shared_is_refused_before_anything_runs(cluster: Launched) -> None:
    on_head = "python -m weam_ray.on_ray.on_head sweeps/demo.yaml --set storage=/tmp/own"
    said = cluster.run_on_head(on_head, check=False).stdout
    head, worker = cluster.lan.nodes
    assert f"{worker.address}: the sweep's own file is not there" in said
    assert f"{head.address}: " not in said
    assert not (head.folder / "tmp" / "own" / "store").exists()


def test_a_worker_with_other_code_is_refused_before_anything_runs(cluster: Launched) -> None:
    on_head = f"python -m weam_ray.on_ray.on_head sweeps/demo.yaml --set storage={SHARED}/refused"
    worker = cluster.lan.nodes[1]
    worker.run("echo '# old' >> ~/weam_ray/weam_ray/errors.py")
    try:
        said = cluster.run_on_head(on_head, check=False).stdout
    finally:
        worker.run("sed -i '$ d' ~/weam_ray/weam_ray/errors.py")
    assert f"{worker.address}: another state of weam_ray's code" in said
    assert not (cluster.lan.folder / "shared" / "refused" / "store").exists()


def test_a_third_host_finds_only_the_ports_that_the_file_names(cluster: Launched) -> None:
    for node in cluster.lan.nodes:
        found = cluster.lan.laptop.run(f"python - <<'END'\n{_SCAN}\nEND", HOST=node.address)
        open_ports = set(json.loads(found.stdout))
        note(f"open on {node.name}", ports=sorted(open_ports))
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


def test_a_machine_of_ones_own_listens_to_no_cloud(cluster: Launched) -> None:
    said = cluster.lan.nodes[1].inside("weam_ray-spot.log").read_text()
    assert "nobody takes this machine away" in said


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


@pytest.mark.thorough
def test_a_worker_whose_ray_was_killed_is_started_again_by_the_head(cluster: Launched) -> None:
    kill(cluster.lan.nodes[1], "raylet/raylet")
    alive = "ray.init(log_to_driver=False); print('ALIVE', sum(n['Alive'] for n in ray.nodes()))"
    with timed("a killed worker is started again"):
        time.sleep(10)  # it takes the head some seconds to miss it
        deadline = time.monotonic() + 180
        while "ALIVE 2" not in cluster.run_on_head(f'python -c "import ray; {alive}"').stdout:
            assert time.monotonic() < deadline


def test_ray_down_ends_the_cluster(cluster: Launched) -> None:
    with timed("ray down"):
        cluster.down()
    head, *workers = cluster.lan.nodes
    assert "raylet" not in head.run("ps -eo args").stdout
    # Ray stops the head of on-premises machines; a worker's Ray ends when it misses the head.
    with timed("after ray down, until the workers noticed"):
        deadline = time.monotonic() + 120
        while any("raylet" in worker.run("ps -eo args").stdout for worker in workers):
            assert time.monotonic() < deadline, "a worker still runs Ray two minutes later"
            time.sleep(1)
