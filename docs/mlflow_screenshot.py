"""Takes docs/mlflow.png: what a person sees who opens MLflow after a sweep.

    python docs/mlflow_screenshot.py [--storage storage] [--study demo] [--page runs|charts]

Starts MLflow's server on the loopback address over the sweep's own database, opens the study's
experiment in headless Chromium (Debian's ``chromium`` on the PATH), and ends the server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

VIEW = "viewStateShareKey=cells&workflowType=machine_learning"
"""The page that a sweep ends with a link to."""
PAGES = {
    "runs": f"#/experiments/{{number}}/runs?{VIEW}",
    "charts": f"#/experiments/{{number}}/runs?compareRunsMode=CHART&{VIEW}",
}


@contextmanager
def server(database: Path) -> Iterator[str]:
    """MLflow on a free port of the loopback address, for the length of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            *words,
            "--backend-store-uri",
            database_uri(database),
        ],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise SystemExit("MLflow's server does not answer")
        yield address
    finally:
        process.terminate()
        process.wait()


def database_uri(database: Path) -> str:
    """As MLflow writes it."""
    return f"sqlite:///{database.absolute()}"


def experiment_number(database: Path, study: str) -> str:
    """MLflow's number of a study."""
    with closing(sqlite3.connect(database)) as opened:
        row = opened.execute(
            "select experiment_id from experiments where name = ?", (study,)
        ).fetchone()
    if row is None:
        raise SystemExit(f"{database} has no experiment {study}: run the sweep first")
    return str(row[0])


def photograph(page: str, out: Path, width: int, height: int) -> None:
    """A page as it stands after its scripts have run."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no chromium on the PATH (apt-get install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        subprocess.run(
            [
                browser,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "--virtual-time-budget=30000",
                f"--screenshot={out.absolute()}",
                page,
            ],
            check=True,
            capture_output=True,
            timeout=600,
        )


def main() -> None:
    """Take one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", type=Path, default=Path("storage"))
    parser.add_argument("--study", default="demo")
    parser.add_argument("--page", choices=PAGES, default="runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("mlflow.png"))
    parser.add_argument("--size", default="2000x760")
    given = parser.parse_args()
    database = given.storage / "mlflow.db"
    number = experiment_number(database, given.study)
    width, _, height = given.size.partition("x")
    with server(database) as address:
        page = f"{address}/{PAGES[given.page].format(number=number)}"
        photograph(page, given.out, int(width), int(height))
    print(given.out)


if __name__ == "__main__":
    main()
