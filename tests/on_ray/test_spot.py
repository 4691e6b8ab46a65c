"""Spot machines: the cloud's notice is heard, and reaches the work."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from weam_ray.on_ray.spot import amazon, find_cloud, google, tell_work, wait_for_notice


class Metadata(BaseHTTPRequestHandler):
    """Both services on one address; ``taken`` is what they know."""

    taken = False
    asked = 0

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200, "a-token")

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers["X-aws-ec2-metadata-token"] != "a-token":
                self._answer(401, "")
            elif self.taken:
                self._answer(200, '{"action": "terminate", "time": "2026-01-01T00:00:00Z"}')
            else:
                self._answer(404, "")
        elif self.path == "/computeMetadata/v1/instance/preempted":
            flavour = self.headers["Metadata-Flavor"] == "Google"
            self._answer(200 if flavour else 403, "TRUE" if self.taken else "FALSE")
        else:
            self._answer(500, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def service() -> Iterator[str]:
    Metadata.taken, Metadata.asked = False, 0
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("cloud", [amazon, google])
def test_a_clouds_notice_is_heard_and_nothing_before(service: str, cloud: type) -> None:
    here = cloud(service)
    assert not here.noticed()
    Metadata.taken = True
    assert here.noticed()


def test_a_machine_of_ones_own_has_no_cloud() -> None:
    nowhere = "http://127.0.0.1:9"
    assert find_cloud((amazon(nowhere), google(nowhere))) is None


def test_the_cloud_that_answers_is_the_one(service: str) -> None:
    found = find_cloud((amazon("http://127.0.0.1:9"), google(service)))
    assert found is not None and found.name == "Google"


def test_waiting_ends_with_the_notice_and_outlives_a_service_that_fails(
    service: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here = amazon(service)
    waiting = threading.Thread(target=wait_for_notice, args=(here, 0.01))
    waiting.start()
    while Metadata.asked < 2:
        assert waiting.is_alive()
    Metadata.taken = True
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_workers_alone_are_told() -> None:
    with (
        subprocess.Popen(["bash", "-c", "exec -a ray::job sleep 60"]) as worker,
        subprocess.Popen(["bash", "-c", "exec -a ray::DashboardAgent sleep 60"]) as agent,
        subprocess.Popen(["sleep", "60"]) as other,
    ):
        everyone = [psutil.Process(one.pid) for one in (worker, agent, other)]
        # A process between its old program and the new one has no command line for a moment.
        while ["".join(one.cmdline()[:1])[:5] for one in everyone] != ["ray::"] * 2 + ["sleep"]:
            pass
        # Of these alone: other people's Ray may run on this machine.
        assert tell_work(everyone) == 1
        assert worker.wait(timeout=10) == -signal.SIGTERM
        for spared in (agent, other):
            assert spared.poll() is None
            spared.kill()
