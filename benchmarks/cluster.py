"""The cluster's figures, measured on hosts made of network namespaces, into ``docs/cluster.md``.

    python benchmarks/cluster.py tests --keep /tmp/measured   # make cluster-test, and its figures
    python benchmarks/cluster.py speed --keep /tmp/measured   # a study on one host and on two
    python benchmarks/cluster.py write --keep /tmp/measured --write docs/cluster.md

Root, sshd, iproute2, rsync and two free cores are needed; each host of ``speed`` is pinned to one.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "cluster"))

from by_hand import ByHand, ended  # noqa: E402
from hosts import SHARED, Lan, why_not  # noqa: E402
from launched import CELLS, predictions  # noqa: E402
from measured import PLACE, note, read, timed  # noqa: E402

from weam_ray.artifacts import Store, package_versions  # noqa: E402

BLOCK = ("<!-- benchmark -->", "<!-- end of benchmark -->")
STUDY = ("grid.size=[300]", "grid.seed=[0,1,2]", "grid.method=[none,weam]", "extra=[]")
"""Six cells of the demo at full length."""
Figures = Mapping[str, Mapping[str, object]]


def run_tests() -> None:
    """All cluster tests, as ``make cluster-test`` runs them."""
    with timed("make cluster-test"):
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "cluster", "tests/cluster"],
            cwd=REPOSITORY,
            check=True,
        )


def measure_speed() -> None:
    """The same study on one host and on two, each with a core of its own."""
    results = [_sweep(hosts) for hosts in (1, 2)]
    assert results[0] == results[1], "two hosts gave other predictions than one"
    note("one host and two", equal=True, cells=len(results[0]))


def _sweep(hosts: int) -> dict[str, bytes]:
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:2]]
    with tempfile.TemporaryDirectory(prefix="weam_ray-speed-") as name:
        folder = Path(name)
        with Lan(folder=folder / "hosts", servers=hosts, cores=cores) as lan:
            cluster = ByHand(lan=lan, head_cpus=1)
            cluster.start()
            log, store = folder / "log", lan.folder / "shared" / "study" / "store"
            started = time.monotonic()
            with cluster.sweep(log, f"{SHARED}/study", STUDY) as sweep:
                if status := ended(sweep, log, 280):
                    raise SystemExit(f"the sweep ended with {status}:\n{log.read_text()}")
            seconds = time.monotonic() - started
            note(f"hosts: {hosts}", seconds=round(seconds, 1), **_work(Store(store)))
            return predictions(store)


def _work(store: Store) -> dict[str, object]:
    """What the sweep consisted of: seconds of what cells share, and of each cell."""
    seconds: dict[str, list[float]] = {}
    for stage in ("world", "items", "corpus", "links", "vocabulary", "base", "tokens", "sanity"):
        found = [store.find(address) for address in store.addresses(stage)]
        seconds[stage] = [one.record["seconds"] for one in found if one is not None]
    cells = []
    for address in store.addresses("transfer"):
        cell = store.find(address)
        assert cell is not None
        encoder = store.find(cell.record["upstream"]["encoder"])
        own = encoder is not None and encoder.record["stage"] == "encoder"
        trained = encoder.record["seconds"] if own and encoder is not None else 0.0
        cells.append(round(cell.record["seconds"] + trained, 2))
    shared = {stage: round(sum(values), 2) for stage, values in seconds.items() if values}
    return {"shared": shared, "cells": sorted(cells, reverse=True)}


def page(figures: Figures) -> str:
    """The tables of the document, from what was kept."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    versions = package_versions()
    when = time.strftime("%Y-%m-%d", time.gmtime())
    parts = [f"{when}, {machine}, torch {versions['torch']}; `python benchmarks/cluster.py`."]
    return "\n\n".join([*parts, _times(figures), _speed(figures), _faults(figures)])


def _times(figures: Figures) -> str:
    names = {
        "submit, to ray up's end": "`weam-ray submit` until `ray up` has ended",
        "submit, to first cell running": "`weam-ray submit` until the first cell runs",
        "submit, to the report": f"the same until the report is on the laptop ({CELLS} cells)",
        "ray submit, eight tasks on both hosts": "`ray submit`, eight tasks on both hosts",
        "a killed worker is started again": "Ray killed on a worker, until the head restarted it",
        "ray down": "`ray down`",
        "after ray down, until the workers noticed": "after it, until Ray on the workers ended",
        "make cluster-test": "all of `make cluster-test`",
    }
    found = {text: figures[name] for name, text in names.items() if name in figures}
    rows = [f"| {text} | {figure['seconds']} |" for text, figure in found.items()]
    ports = [
        f"open on {name.removeprefix('open on ')}: {figure['ports']}"
        for name, figure in figures.items()
        if name.startswith("open on ")
    ]
    head = ["| what | seconds |", "|---|---|"]
    scan = ["", "What a third host found open (all of 65,535 ports):", "", "```", *ports, "```"]
    return "\n".join([*head, *rows, *scan])


def _speed(figures: Figures) -> str:
    one, two = (float(str(figures[f"hosts: {hosts}"]["seconds"])) for hosts in (1, 2))
    return "\n".join(
        [
            "Six cells of the demo at full length, each host pinned to a core of its own, sweep",
            "and Ray's services on the first, predictions equal byte for byte:",
            "",
            "| hosts | seconds | speed-up |",
            "|---|---|---|",
            f"| 1 | {one:.0f} | |",
            f"| 2 | {two:.0f} | {one / two:.2f}× |",
        ]
    )


def _faults(figures: Figures) -> str:
    rows = ["| killed | when | seconds | of these lost | results equal |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        if name.startswith("fault: "):
            equal = "yes" if figure["equal"] else "NO"
            what, lost = name.removeprefix("fault: "), figure.get("lost", "")
            rows.append(f"| {what} | {figure['when']} | {figure['seconds']} | {lost} | {equal} |")
    return "\n".join(rows)


def write(path: Path, text: str) -> None:
    """Put the text between the marks of a document."""
    begin, end = BLOCK
    document = path.read_text(encoding="utf8")
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path} has no place for the figures: {begin} … {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["tests", "speed", "write"])
    parser.add_argument("--keep", type=Path, required=True, help="file of what was measured")
    parser.add_argument("--write", type=Path, default=REPOSITORY / "docs" / "cluster.md")
    parsed = parser.parse_args()
    os.environ[PLACE] = str(parsed.keep.absolute())
    if parsed.what == "write":
        write(parsed.write, page(read(parsed.keep)))
        return
    if reason := why_not():
        raise SystemExit(reason)
    run_tests() if parsed.what == "tests" else measure_speed()


if __name__ == "__main__":
    main()
