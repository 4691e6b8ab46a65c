"""What a sweep costs beside its cells' own work, and what it survives.

    python benchmarks/sweep.py overhead      # a grid against its cells in plain processes, and
                                             # against a TorchTrainer in every Tune trial
    python benchmarks/sweep.py sharing       # a grid against a chain a cell
    python benchmarks/sweep.py kills         # SIGKILL at random moments, then the same command
    python benchmarks/sweep.py scale         # thousands of cells of no work at all

Each writes its table into docs/sweep.md between its own marks, with the machine, the versions and
the command that gave it. All but ``kills`` want a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from machine import processor
from sweep_runs import ROOT, Meter, grid, measured, settings, sweep_words

HERE = Path(__file__).resolve().parent
DOCUMENT = ROOT / "docs" / "sweep.md"

# --- overhead


def overhead(given: argparse.Namespace) -> Iterator[str]:
    """Grid time less the same cells' time in plain processes, a cell."""
    cells = given.cells
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="weam-bench-") as name:
        folder = Path(name)
        shared = folder / "shared"
        measured(sweep_words(shared, grid=grid("[none, weam]", 1)))
        wanted = grid("weam", cells + 1)  # seed 0 is there already
        for one in ("grid", "plain", "standard"):
            shutil.copytree(shared, folder / one)
        whole = measured(sweep_words(folder / "grid", grid=wanted))
        spans = stage_spans(folder / "grid", seeds_from=1)
        own = max(end for _, end in spans) - min(start for start, _ in spans)
        plain = plainly(folder / "plain", wanted, cells, cores)
        standard = standardly(folder / "standard", wanted, given.standard_cells, cores)
    a_core = cells / cores
    # Of the standard way the time of Tuner.fit, without Ray's start: each trial starts processes of
    # its own, so there is no first start that could be left out.
    few = given.standard_cells / cores
    yield f"{cells} cells of WEAM on {cores} cores, {plain / a_core:.2f} s of one core each, all of"
    yield "what they share made before. A core runs its cells one after the other; overhead is what"
    yield "each takes longer than in a plain process with nothing but the chain's functions.\n"
    yield "| | seconds | overhead a cell, seconds of its core |"
    yield "|-|-|-|"
    yield f"| {cores} plain processes, imports left out | {plain:.1f} | – |"
    yield (
        f"| the sweep, first cell's start to last cell's end | {own:.1f} |"
        f" {(own - plain) / a_core:.2f} |"
    )
    yield (
        f"| the sweep whole: Python, plan, Ray, MLflow, report | {whole.wall:.1f} |"
        f" {(whole.wall - plain) / a_core:.2f} |"
    )
    ours, theirs = (own - plain) / a_core, (standard - plain / a_core * few) / few
    yield (
        f"| a TorchTrainer in every Tune trial, {given.standard_cells} cells | {standard:.1f} |"
        f" {theirs:.2f} |"
    )
    if ours > 0:
        yield f"\nThe standard way's overhead is {theirs / ours:.0f} times the sweep's."


def stage_spans(storage: Path, seeds_from: int) -> list[tuple[float, float]]:
    """(start, end) of the encoders and fine-tunings that were made, by their records."""
    found = []
    for path in (storage / "store").glob("*/*/record.json"):
        record = json.loads(path.read_text(encoding="utf8"))
        seed = record["config"].get("pretraining", record["config"]).get("seed", -1)
        if record["stage"] in ("encoder", "transfer") and seed >= seeds_from:
            end = path.stat().st_mtime
            found.append((end - record["seconds"], end))
    return found


def plainly(storage: Path, wanted: str, cells: int, cores: int) -> float:
    """Seconds in which so many plain processes, side by side, do the cells' work."""
    processes = []
    for core in range(cores):
        words = [sys.executable, str(HERE / "sweep_peers.py"), "plain", str(core), str(cores)]
        words += settings(storage, grid=wanted)
        processes.append(
            subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        )
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
    started = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
    if any(process.wait() for process in processes):
        raise SystemExit("a plain process failed")
    return time.monotonic() - started


def standardly(storage: Path, wanted: str, cells: int, cores: int) -> float:
    words = [sys.executable, str(HERE / "sweep_peers.py"), "standard", str(cells), str(cores)]
    done = subprocess.run(
        [*words, *settings(storage, grid=wanted)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return float(done.stdout.splitlines()[-1])


# --- sharing


def sharing(given: argparse.Namespace) -> Iterator[str]:
    """CPU time of a grid and of as many chains that share nothing."""
    cells = given.cells // 3
    wanted = grid("[tlm, weam, weam-shuffled-links]", cells)
    with tempfile.TemporaryDirectory(prefix="weam-bench-") as name:
        together = measured(sweep_words(Path(name) / "grid", grid=wanted))
        apart = chains(Path(name), wanted, cells * 3)
    yield f"{cells * 3} cells ({cells} seeds × 3 methods, one corpus, one base), CPU seconds of"
    yield "everything that was started.\n"
    yield "| | CPU seconds | wall seconds |"
    yield "|-|-|-|"
    yield f"| one grid | {together.cpu:.0f} | {together.wall:.0f} |"
    yield f"| {cells * 3} runs of the whole chain | {apart.cpu:.0f} | {apart.wall:.0f} |"
    yield f"\nSaved: {100 * (1 - together.cpu / apart.cpu):.0f} % of the CPU time."


def chains(folder: Path, wanted: str, count: int) -> Meter:
    """Every cell in a process and a store of its own, as many at a time as there are cores."""
    total, started, lock = Meter(), time.monotonic(), threading.Lock()
    left = iter(range(count))

    def work() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            storage = folder / f"chain{number}"
            words = [sys.executable, str(HERE / "sweep_peers.py"), "chain", str(number), "0"]
            one = measured([*words, *settings(storage, grid=wanted)])
            shutil.rmtree(storage, ignore_errors=True)
            with lock:
                total._cpu[number, 0.0] = one.cpu

    threads = [threading.Thread(target=work) for _ in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total.wall = time.monotonic() - started
    return total


# --- kills


def kills(given: argparse.Namespace) -> Iterator[str]:
    """The driver is killed at random moments; in the end everything is as if it had not been."""
    # The demo's own grid, its trainings shortened.
    changes = {
        "extra": "[{domain: home, pair: en-qaa, size: 1000, method: [tlm, weam-shuffled-links],"
        " seed: [0, 1, 2]}, {domain: home, pair: en-qaa, size: 1000, method: random, seed: 0}]",
        "grid": grid("[none, weam]", 3, "30, 300, 1000"),
    }
    draws = random.Random(given.seed)
    moments: list[str] = []
    again, rounds, resumed = 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="weam-bench-") as name:
        whole = measured(sweep_words(Path(name) / "undisturbed", **changes))
        expected = outcome(Path(name) / "undisturbed")
        while len(moments) < given.kills:
            storage = Path(name) / f"round{rounds}"
            rounds += 1
            known: dict[str, int] = {}
            while len(moments) < given.kills:
                seconds = draws.uniform(1.0, given.latest)
                if not killed(sweep_words(storage, **changes), seconds):
                    break
                moments.append(f"{seconds:.1f}")
                print(
                    f"kill {len(moments)} after {seconds:.1f} s, {len(known)} recorded", flush=True
                )
                again += compare(known, storage)
            measured(sweep_words(storage, **changes))
            again += compare(known, storage)
            found = outcome(storage)
            resumed += found == expected
            for made in sorted({*found, *expected}):
                if found.get(made) != expected.get(made):
                    print(f"differs: {made}", flush=True)
    same = "yes, bit for bit" if resumed == rounds else f"no: {rounds - resumed} differ"
    yield "The demo's grid of 19 cells, trainings shortened; an undisturbed run takes"
    yield f"{whole.wall:.0f} s. {len(moments)} SIGKILLs of the driver, each followed at once by the"
    yield "same command; when one came to its end before its kill, the next began from an empty"
    yield f"store ({rounds} in all).\n"
    yield "| | |"
    yield "|-|-|"
    yield f"| seconds after each start (seed {given.seed}) | {', '.join(moments)} |"
    yield f"| predictions and result rows equal to an undisturbed run | {same} |"
    yield f"| stages recorded as done and computed again | {again} |"


def killed(words: Sequence[str], seconds: float) -> bool:
    """Start a command and kill it after so long; False when it ended before."""
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def compare(known: dict[str, int], storage: Path) -> int:
    """Records that are newer than when they were seen first; what is new is noted."""
    found = {
        str(path.parent.relative_to(storage)): path.stat().st_mtime_ns
        for path in (storage / "store").glob("*/*/record.json")
    }
    changed = sum(found.get(name, -1) != when for name, when in known.items())
    known.update(found)
    return changed


_SPEEDS = ("tokens_per_second", "wait_share")


def outcome(storage: Path) -> dict[str, str]:
    """Hashes of the predictions, scores, curves and weights, and of the result rows; without
    what says how fast the machine was (the seconds, two metrics of the curves, the model cards).
    """
    import pandas as pd

    found = {}
    for stage in ("transfer", "encoder", "retrieval", "base", "links", "corpus"):
        for path in sorted((storage / "store" / stage).rglob("*")):
            name = path.relative_to(storage).as_posix()
            if path.name == "curve.parquet":
                curve = pd.read_parquet(path)
                found[name] = curve[~curve["metric"].isin(_SPEEDS)].to_csv(index=False)
            elif path.is_file() and path.name not in ("record.json", "README.md"):
                found[name] = hashlib.blake2b(path.read_bytes()).hexdigest()
    rows = pd.read_parquet(storage / "studies" / "bench" / "results.parquet")
    found["rows"] = rows.drop(columns="seconds").to_csv(index=False)
    return found


# --- scale


SHAPES = {"deep": "by seeds", "wide": "by configurations"}
PHASES = ("plan", "half", "resume", "report")


def scale(given: argparse.Namespace) -> Iterator[str]:
    """Planning, resuming and reporting cells that cost nothing."""
    yield "A chain of no-ops: every record, score and predictions file is there, no work was done."
    yield "Seconds of `weam-ray plan` with nothing done, of `weam-ray sweep` up to its first job"
    yield "with half of the cells done and with all of them, and of `weam-ray report`; each one a"
    yield "process of its own, with the most memory it ever had. The study grows by its seeds, then"
    yield "by its configurations, at three seeds each.\n"
    yield "| | cells | plan | half done | all done | report |"
    yield "|-|-|-|-|-|-|"
    starts: dict[str, list[dict[str, float]]] = {phase: [] for phase in PHASES}
    for shape, grows in SHAPES.items():
        with tempfile.TemporaryDirectory(prefix="weam-bench-") as name:
            phase_of_scale("make", name, shape, given.cells // 8)
            for cells in (given.cells // 4, given.cells // 2, given.cells):
                phase_of_scale("write", name, shape, cells)
                told = [grows, f"{cells:,}"]
                for phase in PHASES:
                    if phase == "resume":
                        phase_of_scale("make", name, shape, cells)
                    found = phase_of_scale(phase, name, shape, cells)
                    starts[phase].append(found["start"])
                    told.append(_in_short(found["own"]))
                yield f"| {' | '.join(told)} |"
    apart = "; ".join(
        f"{phase} {_in_short(min(found, key=lambda one: one['seconds']))}"
        for phase, found in starts.items()
    )
    yield f"\nBefore that, on 56 cells of the same kind, imports and first uses: {apart}."


def phase_of_scale(phase: str, folder: str, shape: str, cells: int) -> Any:
    """Run one phase of benchmarks/sweep_scale.py, and return what it measured."""
    words = [sys.executable, str(HERE / "sweep_scale.py"), phase, folder, shape, str(cells)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


def _in_short(found: dict[str, float]) -> str:
    return f"{found['seconds']:.1f} s, {found['memory'] / 2**20:,.0f} MiB"


# --- the document


def write(document: Path, section: str, lines: Sequence[str], command: str) -> None:
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("ray", "torch", "mlflow", "optuna")
    )
    machine = (
        f"{len(os.sched_getaffinity(0))} cores of {processor()}, Python {platform.python_version()}"
    )
    stamp = f"`{command}`, {time.strftime('%Y-%m-%d')}: {machine}, {versions}."
    text = document.read_text(encoding="utf8")
    block = "\n".join([begin, *lines, "", stamp, end])
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    document.write_text(pattern.sub(lambda _: block, text), encoding="utf8")


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "overhead": overhead,
    "sharing": sharing,
    "kills": kills,
    "scale": scale,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--cells", type=int, help="cells of the grid (24; sharing 48; scale 5000)")
    parser.add_argument("--standard-cells", type=int, default=4, help="of the standard way")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--latest", type=float, default=25.0, help="seconds up to a kill")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the table goes")
    given = parser.parse_args()
    given.cells = given.cells or {"sharing": 48, "scale": 5000}.get(given.section, 24)
    lines = []
    for line in SECTIONS[given.section](given):
        print(line, flush=True)
        lines.append(line)
    command = shlex.join(["python", "benchmarks/sweep.py", *sys.argv[1:]])
    write(given.document, given.section, lines, command)


if __name__ == "__main__":
    main()
