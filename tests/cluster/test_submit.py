"""``weam-ray submit`` without a cluster: its files, Ray's commands in order, the sweep's life."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import yaml

from weam_ray.errors import ConfigError, ResourceError
from weam_ray.on_ray import on_head
from weam_ray.on_ray import submit as submitting
from weam_ray.on_ray.machines import code_digest
from weam_ray.on_ray.on_head import Running, lacking, studies_running
from weam_ray.on_ray.submit import Cluster, make_token, submit
from weam_ray.study.config import ResourcesConfig

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "cluster"
DEMO = REPOSITORY / "sweeps" / "demo.yaml"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_cluster_file_says_its_name_its_storage_and_how_many_machines_it_always_has(
    tmp_path: Path,
) -> None:
    on_premises = Cluster.read(FILES / "cluster.yaml", tmp_path)
    assert (on_premises.name, on_premises.storage) == ("weam_ray", "/mnt/weam_ray")
    workers = yaml.safe_load((FILES / "cluster.yaml").read_text())["provider"]["worker_ips"]
    assert on_premises.machines == 1 + len(workers)
    assert Cluster.read(FILES / "aws.yaml", tmp_path).machines == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("a: [", "not YAML"),
        ("", "not a cluster file"),
        ("cluster_name: x\nprovider: {type: local}\n", "metadata.storage is None"),
        (
            "cluster_name: x\nprovider: {type: local}\nmetadata: {storage: /s}\n"
            "file_mounts: {~/a: not-here}\n",
            "copies not-here",
        ),
    ],
)
def test_a_wrong_cluster_file_is_refused_by_name(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        Cluster.read(path, tmp_path)
    assert refused.value.place == str(path)


def with_storage(storage: str, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text((FILES / "cluster.yaml").read_text().replace("/mnt/weam_ray", storage))
    return path


def test_machines_may_share_a_bucket_and_the_report_is_then_fetched_from_the_head(
    ray: Path, tmp_path: Path
) -> None:
    bucket = "s3://bucket/prefix?region=eu-central-1"
    path = with_storage(bucket, tmp_path)
    assert submit(path, DEMO, folder=tmp_path / "kept") == 0
    said = (ray / "calls").read_text()
    assert f"--running '{bucket}'" in said and f"--set 'storage={bucket}'" in said
    fetched = f"~/weam_ray/storage/studies/demo/report.html {tmp_path}/kept/weam_ray/demo/report"
    assert fetched in said


def test_a_bucket_with_a_key_in_it_is_refused_before_it_is_in_a_command_line(
    ray: Path, tmp_path: Path
) -> None:
    path = with_storage("s3://KEY:planted@bucket/prefix", tmp_path)
    with pytest.raises(ConfigError, match="holds a key") as refused:
        submit(path, DEMO, folder=tmp_path / "kept")
    assert "planted" not in str(refused.value)
    assert not (ray / "calls").exists()


def test_manifests_for_kubectl_are_no_cluster_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kubectl"):
        Cluster.read(FILES / "kuberay.yaml", tmp_path)


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = make_token()
    assert path == tmp_path / ".ray" / "auth_token"
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text()
    path.chmod(0o644)
    assert make_token().read_text() == token
    assert path.stat().st_mode & 0o777 == 0o600


FAKE_RAY = """#!/usr/bin/env bash
# Stands in for `ray`: notes its arguments, and answers as a cluster would.
printf '%s\\n' "$*" >> {folder}/calls
case "$1 $*" in
  "exec "*"--running"*) [ -e {folder}/up ] || {{ echo 'no head node'; exit 1; }}
                        cat {folder}/running ;;
  "exec "*on_head*)     cat {folder}/said ;;
  "up "*)               touch {folder}/up ;;
  "get-auth-token "*)   mkdir -p ~/.ray; echo secret > ~/.ray/auth_token; echo secret ;;
esac
"""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a fake ``ray``: write ``said`` and ``running``, read ``calls``."""
    folder = tmp_path / "ray"
    folder.mkdir()
    program = folder / "ray"
    program.write_text(FAKE_RAY.format(folder=folder))
    program.chmod(0o755)
    (folder / "running").write_text(
        'weam_ray= {"running": [], "code": "old", "machines": 3, "status": 0}\n'
    )
    (folder / "said").write_text('Ray says\nweam_ray> 6 cells\r\n\nweam_ray= {"status": 0}\n')
    monkeypatch.setattr(submitting, "ray_program", lambda: str(program))
    return folder


def calls(ray: Path) -> list[str]:
    """Ray's verbs in order, with what tells two of a kind apart."""
    lines = (ray / "calls").read_text().splitlines()
    short = [line.split()[0] for line in lines]
    return [
        "running?" if "--running" in line else verb for line, verb in zip(lines, short, strict=True)
    ]


def test_submit_brings_up_runs_and_fetches_in_this_order(ray: Path, tmp_path: Path) -> None:
    said: list[str] = []
    status = submit(
        FILES / "cluster.yaml", DEMO, ["grid.seed=0"], say=said.append, folder=tmp_path / "kept"
    )
    assert status == 0
    assert calls(ray) == (
        ["get-auth-token", "running?", "up", "rsync-up", "exec"] + ["rsync-down"] * 3
    )
    assert "6 cells" in said
    assert "Ray says" not in said
    assert said[-1] == f"the cluster is still up: ray down {FILES / 'cluster.yaml'}"
    run = (ray / "calls").read_text()
    assert "--set grid.seed=0 --set storage=/mnt/weam_ray" in run
    assert "--machines 3" in run
    assert "secret" not in (tmp_path / "kept" / "weam_ray" / "ray.log").read_text()


def test_submit_takes_the_cluster_down_when_told_to(ray: Path, tmp_path: Path) -> None:
    submit(FILES / "cluster.yaml", DEMO, take_down=lambda: True, folder=tmp_path / "kept")
    assert calls(ray)[-1] == "down"


def test_nothing_is_copied_over_code_that_a_sweep_uses(ray: Path, tmp_path: Path) -> None:
    (ray / "up").touch()
    (ray / "running").write_text(
        'weam_ray= {"running": ["demo"], "code": "old", "machines": 3, "status": 0}\n'
    )
    submit(FILES / "cluster.yaml", DEMO, folder=tmp_path / "kept")
    assert "up" not in calls(ray)


def test_an_idle_cluster_is_brought_up_again_only_when_code_file_or_machines_say_so(
    ray: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text((FILES / "cluster.yaml").read_text())

    def ups() -> int:
        submit(mine, DEMO, folder=tmp_path / "kept")
        return calls(ray).count("up")

    assert ups() == 1
    assert ups() == 2, "the cluster's code is not this one's"
    state = {"running": [], "code": code_digest(), "machines": 3, "status": 0}
    (ray / "running").write_text(f"weam_ray= {json.dumps(state)}\n")
    assert ups() == 2
    (ray / "running").write_text(f"weam_ray= {json.dumps({**state, 'machines': 2})}\n")
    assert ups() == 3, "a worker is missing"
    (ray / "running").write_text(f"weam_ray= {json.dumps(state)}\n")
    mine.write_text(mine.read_text().replace("192.168.1.12", "192.168.1.13"))
    assert ups() == 4
    assert ups() == 4


def test_a_lost_connection_says_that_the_sweep_goes_on(ray: Path, tmp_path: Path) -> None:
    (ray / "said").write_text("weam_ray> 6 cells\nConnection reset by peer\n")
    with pytest.raises(ResourceError, match="Connection reset by peer") as lost:
        submit(FILES / "cluster.yaml", DEMO, folder=tmp_path / "kept")
    assert "same command" in str(lost.value)


def test_a_study_that_can_not_be_read_costs_no_machine(ray: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        submit(FILES / "cluster.yaml", DEMO, ["no.such=key"], folder=tmp_path / "kept")
    assert not (ray / "calls").exists()


def test_a_sweep_outlives_who_started_it_and_is_followed_to_its_end(tmp_path: Path) -> None:
    running = Running(tmp_path / "studies" / "x" / "submitted")
    assert running.start(["bash", "-c", "echo one; sleep 0.6; echo two; exit 3"])
    assert not running.start(["echo", "a second one"])
    assert studies_running(tmp_path) == ["x"]
    assert list(running.follow()) == ["one\n", "two\n"]
    assert running.exit_status() == 3
    assert studies_running(tmp_path) == []


def test_a_killed_sweep_is_no_success_and_can_be_started_again(tmp_path: Path) -> None:
    running = Running(tmp_path / "submitted")
    running.start(["bash", "-c", "ps -o pgid= $$; exec sleep 60"])
    while not (said := running.log.read_text()).endswith("\n"):
        time.sleep(0.01)
    os.killpg(int(said), signal.SIGKILL)
    assert list(running.follow()) == [said]
    with pytest.raises(ResourceError, match="was killed"):
        running.exit_status()
    assert running.start(["true"])
    assert list(running.follow()) == []
    assert running.exit_status() == 0


def test_a_head_whose_ray_was_killed_is_not_joined_but_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: iter(()))
    assert on_head.main(["--running", str(tmp_path)]) == 2
    assert "Ray does not run on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ({"CPU": 2.0}, {"GPU": 1.0}),
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 2.0}),
        ({"CPU": 2.0, "GPU": 4.0}, {}),
        ({}, {"CPU": 2.0, "GPU": 1.0}),
    ],
)
def test_what_the_largest_job_lacks(there: dict[str, float], missing: dict[str, float]) -> None:
    resources = ResourcesConfig(base_threads=2, cell_threads=1, cell_gpus=1.0)
    assert lacking(resources, there) == missing
