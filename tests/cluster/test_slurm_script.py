"""``cluster/slurm.sh`` on two hosts, with two of Slurm's commands played by SSH."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from hosts import COMPILED, REPOSITORY, SHARED, Host, Lan, share_kernels
from launched import TINY, hosts_at_work

pytestmark = [pytest.mark.cluster, pytest.mark.thorough, pytest.mark.slow, pytest.mark.timeout(600)]

SCONTROL = """#!/usr/bin/env bash
[ "$1 $2" = "show hostnames" ] && tr , '\\n' <<<"$3"
"""

# As srun does, it takes its environment along, and ends the whole step when it is ended itself.
SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do
  case "$1" in --nodelist=*) machine="${1#*=}" ;; esac
  shift
done
settings="$(mktemp -p SHARED)"
export -p >"$settings"
remote() { ssh -tt -o StrictHostKeyChecking=no -o LogLevel=ERROR -i ~/.ssh/weam_ray \
  "root@$machine" "source $settings; cd $PWD; $*" </dev/null; }
trap 'remote ray stop --force >/dev/null; kill "$step"; exit 143' TERM
remote "$(printf '%q ' "$@")" > >(tr -d '\r') &
step=$!
wait "$step"
"""


@pytest.fixture
def allocation(lan: Lan) -> Host:
    """The first machine of an allocation of two."""
    first = lan.nodes[0]
    shutil.copy(lan.folder / "key", first.inside(".ssh/weam_ray"))
    commands = first.inside("bin")
    commands.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN.replace("SHARED", str(SHARED)))):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return first


def test_a_study_runs_on_both_machines_of_an_allocation_and_no_secret_is_left(
    allocation: Host, lan: Lan, tmp_path: Path
) -> None:
    settings = (*TINY, "grid.method=[none]", "resources.base_threads=1")
    options = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
    script = f"cd {REPOSITORY} && PATH=~/bin:$PATH bash cluster/slurm.sh sweeps/demo.yaml {options}"
    shared = lan.folder / "shared"
    share_kernels(shared, REPOSITORY / "weam_ray")
    with hosts_at_work(shared / "storage" / "store") as seen:
        said = allocation.run(
            script,
            timeout=500,
            SLURM_JOB_ID="7",
            SLURM_JOB_NODELIST="node1,node2",
            SLURM_CPUS_PER_TASK="1",
            NUMBA_CACHE_DIR=str(COMPILED),
            WEAM_RAY_ENVIRONMENT=sys.prefix,
            WEAM_RAY_STORAGE=f"{SHARED}/storage",
        ).stdout
    assert "2 of 2 cells done" in said
    assert {host for hosts in seen.values() for host in hosts} == {"node1", "node2"}
    assert list((shared / "storage" / "slurm").iterdir()) == []
    for node in lan.nodes:
        assert "raylet" not in node.run("ps -eo args").stdout
