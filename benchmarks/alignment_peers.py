"""Aligners as processes whose CPU seconds, wall time and memory are measured."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from weam_ray.alignment import aer, read_links

METHOD = "grow-diag-final-and"
SHORT = {"weam_ray": "ours", "fast_align": "fa", "eflomal": "ef"}
"""Names of the files that an aligner's links go to."""
Aligners = dict[str, Callable[[], "Run"]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one aligner."""

    cpu: float
    wall: float
    peak_mib: float
    """The largest resident memory that was seen, of a process with all its children."""


def measured(commands: Sequence[Sequence[str]], folder: Path) -> Run:
    """CPU and wall seconds of commands run one after the other, and the largest one's memory.

    A command's last two words may be ``>`` and a file for its output.
    """
    cpu = wall = peak = 0.0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in commands:
        words = command[:-2] if command[-2] == ">" else command
        output = command[-1] if command[-2] == ">" else os.devnull
        begun = time.monotonic()
        with open(output, "wb") as stream, open(folder / "said", "wb") as said:
            process = subprocess.Popen(
                words, stdout=stream, stderr=said, cwd=folder, env=environment
            )
            watch = _Watch(process.pid)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = max(peak, watch.stop())
        if process.returncode:
            raise SystemExit(f"failed with {process.returncode}: {' '.join(words)}")
        wall += time.monotonic() - begun
        cpu += used.ru_utime + used.ru_stime
    return Run(cpu=cpu, wall=wall, peak_mib=peak)


class _Watch(threading.Thread):
    # The kernel's own figure at exit counts this process, too, from which the other was forked;
    # so its peak is read while it lives, 20 times a second. Children are added.
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._peak = 0.0
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._done.wait(0.05):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self._peak = max(self._peak, sum(_resident(member.pid) for member in family))
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self._peak


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def ours(folder: Path, *options: str) -> Run:
    """This aligner in a process of its own; leaves ``ours.json`` with what it saw inside."""
    return measured([[sys.executable, __file__, str(folder), *options]], folder)


def inside(folder: Path) -> float:
    """CPU seconds that the last process of :func:`ours` took, start and loading apart."""
    return float(json.loads((folder / "ours.json").read_text())["cpu"])


def _inside(options: argparse.Namespace) -> None:
    # What the process of ``ours`` does.
    from weam_ray.alignment import AlignmentConfig
    from weam_ray.alignment.command import run_align

    def align(method: str, name: str) -> None:
        run_align(
            source=folder / "source",
            target=folder / "target",
            output=folder / name,
            config=AlignmentConfig.model_validate({"casefold": False, "symmetrisation": method}),
            threads=options.threads,
            memory_limit=options.memory_limit,
            work_folder=folder,
            say=lambda _: None,
        )

    folder = options.folder
    before = time.process_time()
    align(METHOD, "ours")
    seen = {"cpu": time.process_time() - before}
    if options.directions:
        align("forward", "ours.forward")
        align("reverse", "ours.reverse")
    (folder / "ours.json").write_text(json.dumps(seen))


def fast_align(binary: Path, folder: Path, *more: str) -> Run:
    """fast_align in both directions, and its atools."""
    common = [str(binary), "-i", "both", "-d", "-o", "-v", *more]
    join = [str(binary.parent / "atools"), "-i", "fa.forward", "-j", "fa.reverse", "-c", METHOD]
    return measured(
        [
            [*common, ">", str(folder / "fa.forward")],
            [*common, "-r", ">", str(folder / "fa.reverse")],
            [*join, ">", str(folder / "fa")],
        ],
        folder,
    )


def eflomal(binary: Path, join: Path, folder: Path) -> Run:
    """``eflomal-align``, which numbers words for its binary, with model 3; and atools."""
    files = ["-s", "source", "-t", "target", "-f", "ef.forward", "-r", "ef.reverse"]
    joining = [str(join), "-i", "ef.forward", "-j", "ef.reverse", "-c", METHOD]
    aligning = [str(binary), "--overwrite", "--model", "3", *files]
    commands = [aligning, [*joining, ">", str(folder / "ef")]]
    return measured(commands, folder)


def aligners(
    fast_align_binary: Path | None, eflomal_binary: Path | None, folder: Path, *options: str
) -> Aligners:
    """What runs, by name."""
    found: Aligners = {"weam_ray": lambda: ours(folder, *options)}
    if fast_align_binary:
        found["fast_align"] = lambda: fast_align(fast_align_binary, folder)
        if eflomal_binary:
            atools = fast_align_binary.parent / "atools"
            found["eflomal"] = lambda: eflomal(eflomal_binary, atools, folder)
    return found


def race(runners: Aligners, repeats: int, fewer: Mapping[str, int] | None = None) -> dict[str, Run]:
    """Medians of interleaved runs; of those named in ``fewer``, of the first so many rounds."""
    runs: dict[str, list[Run]] = {name: [] for name in runners}
    for turn in range(repeats):
        for name, runner in runners.items():
            if turn < (fewer or {}).get(name, repeats):
                runs[name].append(runner())
    return {
        name: Run(
            cpu=float(np.median([run.cpu for run in of_name])),
            wall=float(np.median([run.wall for run in of_name])),
            peak_mib=float(np.median([run.peak_mib for run in of_name])),
        )
        for name, of_name in runs.items()
    }


def agreement(one: Path, two: Path) -> float:
    """F1 of two files of links."""
    rate = aer(read_links(one), read_links(two))
    total = rate.precision + rate.recall
    return 2 * rate.precision * rate.recall / total if total else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-limit", type=int)
    parser.add_argument("--directions", action="store_true")
    _inside(parser.parse_args())
