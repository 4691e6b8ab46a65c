"""``python -m weam_ray.on_ray.spot``: hear that a spot machine is to go, and tell its work.

Cluster files start it beside Ray on every worker. It asks the cloud's metadata service, which is
reached from the machine alone; where none answers it ends at once. On a notice Ray is told to place
nothing more here, and every worker process is sent SIGTERM: a cell in training saves its state and
goes on elsewhere (:mod:`weam_ray.notice`). With ``--now`` somebody else has had the notice: Slurm,
or Kubernetes.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_SECONDS = 2.0
"""How long the service may take: it is on the machine's own host."""
_BETWEEN = 5.0
"""Amazon's advice; its notice comes two minutes before, Google's thirty seconds."""
AMAZON = "http://169.254.169.254"
GOOGLE = "http://metadata.google.internal"


@dataclass(frozen=True)
class Cloud:
    """A metadata service, and how to ask it."""

    name: str
    noticed: Callable[[], bool]
    """Whether the machine is to be taken away.

    Raises:
        OSError: the service does not answer.
    """


def amazon(base: str = AMAZON) -> Cloud:
    """EC2: ``spot/instance-action`` is there once the instance is to be stopped (IMDSv2)."""

    def noticed() -> bool:
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = _asked(f"{base}/latest/api/token", lifetime, method="PUT")
        header = {"X-aws-ec2-metadata-token": token or ""}
        return _asked(f"{base}/latest/meta-data/spot/instance-action", header) is not None

    return Cloud("Amazon", noticed)


def google(base: str = GOOGLE) -> Cloud:
    """Compute Engine: ``instance/preempted`` turns to TRUE."""

    def noticed() -> bool:
        place = f"{base}/computeMetadata/v1/instance/preempted"
        return _asked(place, {"Metadata-Flavor": "Google"}) == "TRUE"

    return Cloud("Google", noticed)


def _asked(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return str(answer.read().decode()).strip()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def find_cloud(clouds: tuple[Cloud, ...]) -> Cloud | None:
    """The first whose service answers; None on a machine of one's own."""
    for cloud in clouds:
        try:
            cloud.noticed()
        except OSError:
            continue
        return cloud
    return None


def wait_for_notice(cloud: Cloud, between: float = _BETWEEN) -> None:
    """Return once the machine is to be taken away; a service that fails for a while is asked on."""
    while True:
        try:
            if cloud.noticed():
                return
        except OSError as error:
            print(f"{cloud.name}'s metadata service: {error}", file=sys.stderr)
        time.sleep(between)


def tell_work(processes: Iterable[psutil.Process]) -> int:
    """Send SIGTERM to those that are workers of Ray; returns how many there were."""
    told = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            title = "".join(process.cmdline()[:1])
            # Without its agents Ray would end on this machine, and the workers with it.
            if title.startswith("ray::") and "Agent" not in title:
                process.send_signal(signal.SIGTERM)
                told += 1
    return told


def drain(ray: str) -> None:
    """Have Ray place nothing more on this machine."""
    subprocess.run(
        [ray, "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        + ["--reason-message", "the cloud takes this machine away"]
        + ["--deadline-remaining-seconds", "25"],
        check=False,  # an older Ray lacks it; the work is told in any case
        timeout=15,
    )


def main() -> int:
    """Wait for the notice and pass it on."""
    parser = argparse.ArgumentParser(prog="python -m weam_ray.on_ray.spot")
    parser.add_argument("--amazon", default=AMAZON, help="the service's address")
    parser.add_argument("--google", default=GOOGLE, help="the service's address")
    parser.add_argument("--now", action="store_true", help="the notice is here; ask nobody")
    parsed = parser.parse_args()
    if not parsed.now:
        cloud = find_cloud((amazon(parsed.amazon), google(parsed.google)))
        if cloud is None:
            print("no cloud's metadata service answers: nobody takes this machine away")
            return 0
        print(f"listening to {cloud.name}", flush=True)
        wait_for_notice(cloud)
    print("this machine is to be taken away", flush=True)
    drain(str(Path(sys.executable).with_name("ray")))
    print(f"told {tell_work(psutil.process_iter())} workers", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
