"""``ray up`` with the project's own cluster file, on two hosts: what a user does, in order.

The tests share one cluster, brought up by the first that needs it; the last one takes it down.
Run it with ``-s`` for the measured seconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import HOME, SHARED, Host, Lan
from launched import CELLS, Launched, for_hosts, hosts_at_work, predictions

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

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


@pytest.fixture(scope="module")
def both(cluster: Launched) -> list[dict[str, str]]:
    """What tasks on both hosts said of themselves, as soon as both were there."""
    with timed("ray submit until both hosts worked"):
        said = cluster.submit(cluster.nodes_script())
    (line,) = [line for line in said.splitlines() if line.startswith("WHERE ")]
    answers: list[dict[str, str]] = json.loads(line.removeprefix("WHERE "))
    return answers


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Launched, both: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store of a tiny study that nothing happened to, submitted from the laptop."""
    store = cluster.lan.folder / "shared" / "store"
    log = tmp_path_factory.mktemp("submit") / "log"
    with timed("weam-ray submit, cluster up and idle"), hosts_at_work(store) as seen:
        with cluster.study(log) as submitted:
            status = submitted.wait(timeout=550)
    said = log.read_text()
    assert status == 0, said
    assert f"{CELLS} of {CELLS} cells done" in said
    print(f"stages seen per host: {dict(seen)}")
    assert seen["transfer"] == {"node1", "node2"}
    kept = tmp_path_factory.mktemp("undisturbed") / "store"
    shutil.copytree(store, kept)
    return kept


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


@pytest.mark.usefixtures("both")
def test_storage_that_is_not_shared_is_refused_before_anything_runs(cluster: Launched) -> None:
    on_head = "python -m weam_ray.on_ray.on_head sweeps/demo.yaml --set storage=/tmp/own"
    said = cluster.run_on_head(on_head, check=False).stdout
    head, worker = cluster.lan.nodes
    assert f"{worker.address}: the sweep's own file is not there" in said
    assert f"{head.address}: " not in said
    assert not (head.folder / "tmp" / "own" / "store").exists()


@pytest.mark.usefixtures("both")
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


def test_a_submitted_study_runs_on_both_hosts_and_its_report_comes_back(
    cluster: Launched, undisturbed: Path
) -> None:
    laptop = cluster.lan.laptop
    page = laptop.inside("clusters/weam_ray/demo/report.html").read_text()
    there = cluster.lan.folder / "shared" / "studies" / "demo"
    assert page == (there / "report.html").read_text()
    assert "demonstration" in page.lower()
    assert len(predictions(undisturbed)) == CELLS


@pytest.mark.usefixtures("both")
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


@pytest.mark.usefixtures("both")
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


def test_a_worker_killed_in_mid_cell_changes_no_result(
    cluster: Launched, undisturbed: Path, tmp_path: Path
) -> None:
    store = forget_cells(cluster)
    worker = cluster.lan.nodes[1]
    with cluster.study(tmp_path / "log") as sweep:
        wait_for(lambda: drafts(store, "transfer", worker), sweep)
        started = time.monotonic()
        kill(worker, "raylet/raylet")
        assert sweep.wait(timeout=500) == 0, (tmp_path / "log").read_text()
    print(f"\nworker killed in mid-cell: sweep ended {time.monotonic() - started:.1f} s later")
    assert predictions(store) == predictions(undisturbed)


def test_a_worker_that_was_lost_joins_again(cluster: Launched) -> None:
    alive = "ray.init(log_to_driver=False); print('ALIVE', sum(n['Alive'] for n in ray.nodes()))"
    with timed("until the killed worker is back, after the sweep"):
        deadline = time.monotonic() + 180
        while "ALIVE 2" not in cluster.run_on_head(f'python -c "import ray; {alive}"').stdout:
            assert time.monotonic() < deadline


def test_after_the_head_was_killed_the_same_command_goes_on(
    cluster: Launched, undisturbed: Path, tmp_path: Path
) -> None:
    store = forget_cells(cluster)
    head, worker = cluster.lan.nodes
    with cluster.study(tmp_path / "first") as sweep:
        wait_for(lambda: predictions(store) and drafts(store, "transfer", head, worker), sweep)
        kill(head, "python", "raylet", "gcs_server", "ray::")
        assert sweep.wait(timeout=120) != 0, (tmp_path / "first").read_text()
    done = predictions(store)
    assert 0 < len(done) < CELLS
    what = f"head killed: the same command again, {len(done)} of {CELLS} cells done before"
    with timed(what), cluster.study(tmp_path / "again") as sweep:
        assert sweep.wait(timeout=550) == 0, (tmp_path / "again").read_text()
    assert predictions(store) == predictions(undisturbed)


def forget_cells(cluster: Launched) -> Path:
    """The shared store without its cells: what cells share stays, so that tests are short."""
    store = cluster.lan.folder / "shared" / "store"
    for stage in ("encoder", "transfer"):
        shutil.rmtree(store / stage, ignore_errors=True)
    return store


def drafts(store: Path, stage: str, *hosts: Host) -> list[Path]:
    return [path for host in hosts for path in (store / "tmp").glob(f"{stage}-*.{host.name}.*")]


def wait_for(what: Callable[[], object], sweep: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 400
    while not what():
        assert sweep.poll() is None, "the sweep ended before what the test waits for"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(host: Host, *names: str) -> None:
    """End the host's processes whose command line has one of the names, as a power cut would."""
    listed = host.run("ps -eo pid=,args=").stdout.splitlines()
    rows = [line.strip().partition(" ") for line in listed]
    doomed = [pid for pid, _, args in rows if any(name in args for name in names)]
    assert doomed, f"{host.name} runs none of {names}"
    host.run(f"kill -KILL {' '.join(doomed)}", check=False)


@pytest.mark.usefixtures("both")
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
