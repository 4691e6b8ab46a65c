"""This aligner beside fast_align and eflomal: CPU seconds, wall time, memory, agreement, AER.

    python benchmarks/alignment.py --source a.en --target a.de \
        --fast-align build/fast_align --eflomal bin/eflomal-align \
        --gold hansards:gold.src:gold.tgt:gold.talp --write docs/alignment.md

Every aligner runs as one process a run, with one thread: both directions, joined by
grow-diag-final-and, reading and writing included. Runs are interleaved, so that a busy machine is
busy for all; medians are shown. CPU is user + system of the process and its children. ``in
process`` is this aligner without the interpreter's start and the loading of compiled kernels.

With ``--pairs 30000,100000`` the first n pairs are taken; more than there are is made by splicing
pairs end to end. With ``--gold`` the gold text is appended to the training text for every aligner
alike, and the error rate is that of its lines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weam_ray.alignment import AlignmentConfig, aer, read_gold, read_links
from weam_ray.artifacts import package_versions

METHOD = "grow-diag-final-and"
Pairs = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one aligner."""

    cpu: float
    wall: float
    peak_mib: float


def measured(commands: Sequence[Sequence[str]], folder: Path) -> Run:
    """CPU and wall seconds of commands run one after the other, and the largest one's memory."""
    cpu = wall = peak = 0.0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in commands:
        begun = time.monotonic()
        output = open(command[-1], "wb") if command[-2] == ">" else subprocess.DEVNULL
        words = command[:-2] if command[-2] == ">" else command
        process = subprocess.Popen(
            words, stdout=output, stderr=subprocess.DEVNULL, cwd=folder, env=environment
        )
        peak = max(peak, _watch(process.pid))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"failed with {process.returncode}: {' '.join(words)}")
        wall += time.monotonic() - begun
        cpu += used.ru_utime + used.ru_stime
    return Run(cpu=cpu, wall=wall, peak_mib=peak)


def _watch(pid: int) -> float:
    # The kernel's own figure at exit counts this process, too, from which the other was forked.
    peak = 0.0
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except FileNotFoundError:
            break
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) / 1024)
        time.sleep(0.02)
    return peak


def ours(folder: Path) -> Run:
    """This aligner in a process of its own; leaves ``ours.json`` with what it saw inside."""
    return measured([[sys.executable, __file__, "--inside", str(folder)]], folder)


def inside(folder: Path) -> None:
    """What the process of :func:`ours` does."""
    from weam_ray.alignment import files
    from weam_ray.alignment.command import run_align

    config = AlignmentConfig(casefold=False, symmetrisation=METHOD)
    before = time.process_time()
    source, target = folder / "source", folder / "target"
    run_align(
        source=source, target=target, output=folder / "ours", config=config, say=lambda _: None
    )
    seen = {"cpu": time.process_time() - before}
    if not (folder / "ours.forward").exists():
        from weam_ray.alignment.align import align_encoded
        from weam_ray.alignment.encoding import by_frequency
        from weam_ray.alignment.interning import Vocabulary

        given, explained = (
            by_frequency(files.read_side(path, Vocabulary()))[0] for path in (source, target)
        )
        alignment = align_encoded(given, explained, config)
        files.write_links(alignment.forward, folder / "ours.forward")
        files.write_links(alignment.reverse, folder / "ours.reverse")
    (folder / "ours.json").write_text(json.dumps(seen))


def fast_align(binary: Path, folder: Path) -> Run:
    """fast_align in both directions, and its atools."""
    common = [str(binary), "-i", "both", "-d", "-o", "-v"]
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
    """Its default, model 3, and atools."""
    files = ["-s", "source", "-t", "target", "-f", "ef.forward", "-r", "ef.reverse"]
    joining = [str(join), "-i", "ef.forward", "-j", "ef.reverse", "-c", METHOD]
    commands = [[str(binary), "--model", "3", *files], [*joining, ">", str(folder / "ef")]]
    return measured(commands, folder)


def read_pairs(source: Path, target: Path) -> Pairs:
    """Pairs of lines with words on both sides; fast_align can't do others."""
    made = []
    with open(source, encoding="utf8", newline="\n") as left:
        with open(target, encoding="utf8", newline="\n") as right:
            for lines in zip(left, right, strict=True):
                given, explained = (_words(line) for line in lines)
                if given and explained and "|||" not in given + explained:
                    made.append((given, explained))
    return made


def _words(line: str) -> str:
    # The same words for all three: split where bytes.split does, nowhere else.
    return b" ".join(line.encode().split()).decode()


def resized(pairs: Pairs, size: int) -> Pairs:
    """The first ``size`` pairs, or as many by splicing pairs end to end."""
    made = pairs[:size]
    step = 7
    while len(made) < size:
        for at in range(min(len(pairs), size - len(made))):
            one, two = pairs[at], pairs[(at * step + 13) % len(pairs)]
            made.append((f"{one[0]} {two[0]}", f"{one[1]} {two[1]}"))
        step += 6
    return made


def lay_out(pairs: Pairs, folder: Path) -> None:
    """Write the text as each aligner wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "source", "w", encoding="utf8") as source:
        source.writelines(f"{given}\n" for given, _ in pairs)
    with open(folder / "target", "w", encoding="utf8") as target:
        target.writelines(f"{explained}\n" for _, explained in pairs)
    with open(folder / "both", "w", encoding="utf8") as both:
        both.writelines(f"{given} ||| {explained}\n" for given, explained in pairs)


def agreement(one: Path, two: Path) -> float:
    """F1 of two files of links."""
    rate = aer(read_links(one), read_links(two))
    total = rate.precision + rate.recall
    return 2 * rate.precision * rate.recall / total if total else 0.0


def middle(values: list[float]) -> float:
    """The median."""
    return float(np.median(values))


def race(aligners: dict[str, Callable[[], Run]], repeats: int) -> dict[str, Run]:
    """Medians of interleaved runs."""
    runs: dict[str, list[Run]] = {name: [] for name in aligners}
    for _ in range(repeats):
        for name, aligner in aligners.items():
            runs[name].append(aligner())
    return {
        name: Run(
            cpu=middle([run.cpu for run in of_name]),
            wall=middle([run.wall for run in of_name]),
            peak_mib=middle([run.peak_mib for run in of_name]),
        )
        for name, of_name in runs.items()
    }


def aligners_of(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[], Run]]:
    """What runs, by name."""
    found: dict[str, Callable[[], Run]] = {"weam_ray": lambda: ours(folder)}
    if options.fast_align:
        found["fast_align"] = lambda: fast_align(options.fast_align, folder)
        if options.eflomal:
            atools = options.fast_align.parent / "atools"
            found["eflomal"] = lambda: eflomal(options.eflomal, atools, folder)
    return found


def speed_rows(options: argparse.Namespace, work: Path) -> list[str]:
    """A table row for each size and aligner."""
    pairs = read_pairs(options.source, options.target)
    rows = []
    for size in options.pairs or [len(pairs)]:
        folder = work / str(size)
        lay_out(resized(pairs, size), folder)
        medians = race(aligners_of(options, folder), options.repeats)
        mine = medians["weam_ray"]
        within = json.loads((folder / "ours.json").read_text())["cpu"]
        rows.append(_row(size, "weam_ray, in process", f"{within:.2f}", "", "", "", ""))
        for name, run in medians.items():
            short = {"fast_align": "fa", "eflomal": "ef"}.get(name)
            ratio = f"{run.cpu / within:.1f} / {run.cpu / mine.cpu:.1f}" if short else ""
            f1 = ""
            if short == "fa":
                sides = ("", ".forward", ".reverse")
                f1 = " / ".join(
                    f"{agreement(folder / f'ours{side}', folder / f'fa{side}'):.5f}"
                    for side in sides
                    if (folder / f"ours{side}").exists()
                )
            rows.append(
                _row(
                    size,
                    name,
                    f"{run.cpu:.2f}",
                    f"{run.wall:.2f}",
                    f"{run.peak_mib:.0f}",
                    ratio,
                    f1,
                )
            )
    return rows


def _row(size: int, *cells: str) -> str:
    return f"| {size:,} | " + " | ".join(cells) + " |"


def quality_rows(options: argparse.Namespace, work: Path) -> list[str]:
    """A table row for each gold set."""
    extra = read_pairs(options.source, options.target)[: options.extra]
    rows = []
    for text in options.gold:
        name, source, target, links = text.split(":")
        gold_pairs = list(
            zip(
                *(Path(p).read_text(encoding="utf8").splitlines() for p in (source, target)),
                strict=True,
            )
        )
        lengths = [(len(a.split()), len(b.split())) for a, b in gold_pairs]
        gold = read_gold(Path(links), lengths=lengths)
        folder = work / name
        lay_out([*gold_pairs, *extra], folder)
        cells = []
        for aligner, run in aligners_of(options, folder).items():
            run()
            file = folder / {"weam_ray": "ours", "fast_align": "fa", "eflomal": "ef"}[aligner]
            found = read_links(file).select(range(len(gold)))
            cells.append(f"{aligner} {aer(found, gold).aer:.4f}")
        rows.append(f"| {name} | {len(gold)} | {len(extra):,} | " + " | ".join(cells) + " |")
    return rows


def header() -> str:
    """Machine, versions and date."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    versions = package_versions()
    shown = ", ".join(f"{name} {versions[name]}" for name in ("python", "numpy", "numba"))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"Measured {time.strftime('%Y-%m-%d')} on {processor}, {os.cpu_count()} CPUs, "
        f"{memory:.0f} GiB, {platform.platform(terse=True)}; {shown}."
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--fast-align", type=lambda p: Path(p).absolute())
    parser.add_argument("--eflomal", type=lambda p: Path(p).absolute())
    parser.add_argument(
        "--pairs", type=lambda text: [int(part) for part in text.split(",")], default=[]
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gold", action="append", default=[], metavar="NAME:SRC:TGT:TALP")
    parser.add_argument("--extra", type=int, default=29_000, help="pairs added to gold text")
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--write", type=Path, help="a markdown file to replace the tables in")
    return parser.parse_args(arguments)


BEGIN, END = "<!-- benchmark -->", "<!-- end of benchmark -->"


def main() -> None:
    options = parsed()
    if options.inside:
        inside(options.inside)
        return
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    lines = [header(), "", f"`python benchmarks/{command}`", ""]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if not options.no_speed:
            lines += [
                "| pairs | aligner | CPU s | wall s | peak MiB | CPU ratio (in process / whole) |"
                " F1 with weam_ray (joined / forward / reverse) |",
                "|---|---|---|---|---|---|---|",
                *speed_rows(options, work),
                "",
            ]
        if options.gold:
            lines += [
                "| gold | pairs | extra text | AER | | |",
                "|---|---|---|---|---|---|",
                *quality_rows(options, work),
                "",
            ]
    text = "\n".join(lines)
    print(text)
    if options.write:
        old = options.write.read_text(encoding="utf8")
        before, rest = old.split(BEGIN, 1)
        options.write.write_text(
            f"{before}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf8"
        )


if __name__ == "__main__":
    main()
