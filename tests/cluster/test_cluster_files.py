"""The cluster files, offline: Ray's own schema, the services' fields, and what each must hold."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from api_fields import EC2_NODE, GCP_NODE, RAY_CLUSTER, RAY_JOB, VOLUME_CLAIM
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "cluster"
LAUNCHED = ("cluster.yaml", "aws.yaml", "gcp.yaml")
KINDS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB, "PersistentVolumeClaim": VOLUME_CLAIM}


def launched(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((FILES / name).read_text())
    return config


def manifests() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((FILES / "kuberay.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(prepare_config(launched(name)))


def test_ray_would_refuse_a_misspelt_key() -> None:
    config = prepare_config(launched("aws.yaml"))
    config["idle_timeout_minute"] = 5
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(config)


@pytest.mark.parametrize(("name", "fields"), [("aws.yaml", EC2_NODE), ("gcp.yaml", GCP_NODE)])
def test_the_cloud_knows_every_field_of_its_machines(name: str, fields: dict[str, Any]) -> None:
    config = launched(name)
    for machine in config["available_node_types"].values():
        jsonschema.validate(machine["node_config"], fields)
    wrong = copy.deepcopy(config["available_node_types"]["gpu"]["node_config"])
    wrong["InstanceTypes"] = "g6.2xlarge"
    with pytest.raises(jsonschema.ValidationError, match="InstanceTypes"):
        jsonschema.validate(wrong, fields)


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_clouds_start_no_gpu_before_there_is_work_and_give_no_public_address(name: str) -> None:
    config = launched(name)
    gpu = config["available_node_types"]["gpu"]
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == config["max_workers"]
    assert config["provider"]["use_internal_ips"] is True
    assert config["idle_timeout_minutes"] <= 10
    head = config["available_node_types"]["head"]["node_config"]
    assert "spot" not in str(head).lower()
    assert "spot" in str(gpu["node_config"]).lower()


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_machine_gets_the_pinned_environment_and_the_shared_folder(name: str) -> None:
    config = launched(name)
    setup = "\n".join(config["setup_commands"])
    assert "--constraint ~/weam_ray/constraints.txt --editable ~/weam_ray" in setup
    storage = config["metadata"]["storage"]
    assert f"test -w {storage} ||" in setup
    assert config["file_mounts"]["~/weam_ray/constraints.txt"] == "constraints.txt"
    for there, here in config["file_mounts"].items():
        assert there.startswith("~/")
        if not here.startswith("~"):
            assert (REPOSITORY / here).exists(), f"{name} copies {here}, which is not there"


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_starts_with_token_threads_and_fixed_ports_and_nothing_open_to_all(name: str) -> None:
    config = launched(name)
    for start in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token" in start
        assert "OMP_NUM_THREADS=" in start
        assert {int(port) for port in re.findall(r"-port=(\d+)", start)} >= {6380, 6381, 6382}
        assert "0.0.0.0" not in start
    assert "--include-dashboard=false" in config["head_start_ray_commands"][-1]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_the_files_differ_only_where_the_machines_do() -> None:
    first, *others = (launched(name) for name in LAUNCHED)
    shared = ("file_mounts", "rsync_exclude", "setup_commands", "metadata", "cluster_name")
    starts = ("head_start_ray_commands", "worker_start_ray_commands")
    for other in others:
        assert {key: other[key] for key in (*shared, *starts)} == {
            key: first[key] for key in (*shared, *starts)
        }


@pytest.mark.parametrize("kind", KINDS)
def test_kubernetes_knows_every_field_of_the_manifest(kind: str) -> None:
    document = manifests()[kind]
    jsonschema.validate(document, KINDS[kind])
    wrong = copy.deepcopy(document)
    wrong["spec"]["misspelt"] = True
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        jsonschema.validate(wrong, KINDS[kind])


def test_pods_of_cluster_and_job_are_the_same_and_see_the_claimed_folder() -> None:
    documents = manifests()
    cluster = documents["RayCluster"]["spec"]
    assert documents["RayJob"]["spec"]["rayClusterSpec"] == cluster
    assert cluster["authOptions"] == {"mode": "token"}
    claim = documents["PersistentVolumeClaim"]["metadata"]["name"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == 0
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        (container,) = pod["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/mnt/weam_ray"}]
        assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]


def test_one_version_of_ray_everywhere() -> None:
    (pinned,) = re.findall(r"^ray==(.+)$", (REPOSITORY / "constraints.txt").read_text(), re.M)
    assert manifests()["RayCluster"]["spec"]["rayVersion"] == pinned
    assert f"ray[default]=={pinned}" in (FILES / "Dockerfile").read_text()


def test_the_slurm_script_is_sound_bash_with_its_secret_in_a_file() -> None:
    script = FILES / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=" in text
    assert "umask 077" in text
    assert "OMP_NUM_THREADS" in text


@pytest.mark.parametrize("name", [*LAUNCHED, "kuberay.yaml", "slurm.sh"])
def test_what_a_user_must_fill_in_is_marked_and_no_secret_is_in_the_file(name: str) -> None:
    text = (FILES / name).read_text()
    assert len(re.findall(r"\bEDIT\b", text)) >= 4
    assert not re.search(
        r"(?i)(AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|token: ?[0-9a-f]{16})", text
    )
