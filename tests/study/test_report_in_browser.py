"""The report in a real browser: nothing on the console, nothing asked of the network, no overflow.

Needs Debian's ``chromium`` (or ``google-chrome``) on the PATH; skipped, and says so, without one.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from test_report import source

from weam_ray.study.report import write_report

CHROMIUM = next(
    (path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH (apt-get install chromium)"),
]

BROWSERS_OWN = re.compile(r"^(http://)?(update\.googleapis|(clients2|accounts)\.google)\.com[:/]")
"""Chromium's updater, clock and sign-in, which it asks whatever the page is."""

PROBE = """<!doctype html><html><body><iframe id="page" src="report.html"
style="width:{width}px;height:900px;border:0"></iframe><pre id="found"></pre><script>
document.getElementById("page").addEventListener("load", (event) => {{
  const page = event.target.contentDocument, root = page.documentElement;
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.clientWidth,
    needed: root.scrollWidth,
    page: getComputedStyle(page.body).backgroundColor,
    first: page.querySelector(".warning").getBoundingClientRect().top,
    charts: [...page.querySelectorAll("svg.chart")].map((one) => one.clientHeight),
    titles: [...page.querySelectorAll("h2")].map((title) => title.textContent),
  }});
}});
</script></body></html>"""


class Loopback:
    """Serves a folder, and as the browser's proxy notes whatever is asked of anybody else."""

    def __init__(self, folder: Path) -> None:
        self.served: list[str] = []
        self.outside: list[str] = []
        seen = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type]

            def do_GET(self) -> None:
                if self.path.startswith("/"):
                    seen.served.append(self.path)
                    super().do_GET()
                else:
                    self._refuse()

            def _refuse(self) -> None:
                if not BROWSERS_OWN.search(self.path):
                    seen.outside.append(self.path)
                self.send_error(403)

            do_CONNECT = do_POST = _refuse

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Loopback, Path]]:
    folder = tmp_path / "site"
    folder.mkdir()
    loopback = Loopback(folder)
    yield loopback, folder
    loopback.server.shutdown()
    loopback.server.server_close()


def browse(loopback: Loopback, profile: Path, page: str, *flags: str) -> tuple[str, list[str]]:
    """The page's final DOM, and the lines of its console."""
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-default-apps",
            "--disable-features=OptimizationHints,MediaRouter,Translate,NetworkTimeServiceQuerying",
            f"--proxy-server=http://{loopback.address}",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            *flags,
            "--dump-dom",
            f"http://{loopback.address}/{page}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def look(site: tuple[Loopback, Path], width: int, *flags: str) -> dict[str, object]:
    loopback, folder = site
    write_report(source(demonstration=True), folder / "report.html")
    (folder / "probe.html").write_text(PROBE.format(width=width))
    dom, console = browse(loopback, folder.parent / "profile", "probe.html", *flags)
    assert console == []
    assert loopback.outside == []
    assert [path for path in loopback.served if "favicon" not in path] == [
        "/probe.html",
        "/report.html",
    ]
    text = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert text is not None
    found: dict[str, object] = json.loads(unescape(text[1]))
    return found


def test_the_page_is_quiet_on_a_desktop(site: tuple[Loopback, Path]):
    found = look(site, 1200)
    assert found["needed"] == found["width"]
    assert found["page"] == "rgb(251, 250, 248)"
    charts = found["charts"]
    assert isinstance(charts, list) and len(charts) == 2 and min(charts) > 150
    assert "Accuracy per language" in str(found["titles"])


def test_the_page_fits_a_phone_in_the_dark(site: tuple[Loopback, Path]):
    found = look(site, 360, "--blink-settings=preferredColorScheme=0")
    assert found["needed"] == found["width"] == 360
    assert found["page"] == "rgb(22, 21, 20)"
    first = found["first"]
    assert isinstance(first, float | int) and 0 <= first < 60


def test_a_page_that_asks_the_network_would_be_caught(site: tuple[Loopback, Path]):
    """The instrument itself: a request and a console error are seen."""
    loopback, folder = site
    (folder / "bad.html").write_text(
        '<img src="http://example.invalid/x.png"><script>console.error("seen")</script>'
    )
    _, console = browse(loopback, folder.parent / "profile", "bad.html")
    assert any("seen" in line for line in console)
    assert any("example.invalid" in path for path in loopback.outside)
