"""This aligner beside fast_align and eflomal, by sections; each writes its table into a document.

    python benchmarks/alignment.py --fast-align FAST_ALIGN --eflomal EFLOMAL_ALIGN \\
        --corpus multi30k:a.en.gz:a.de.gz --corpus ntrex:b.en.gz:b.de.gz \\
        --gold hansards:gold.src:gold.tgt:gold.talp:multi30k,ntrex \\
        --sections speed,memory,aer,parity,workers,out-of-core --write docs/alignment.md

speed        CPU and wall seconds of processes with one thread: both directions, joined by
             grow-diag-final-and, reading and writing included. Runs are interleaved, so that a busy
             machine is busy for all, and medians are shown. CPU is user + system. ``in process`` is
             this aligner without the interpreter's start and the loading of compiled kernels.
profile      Where the CPU time goes, by stages of one run in this process.
memory       Peak resident memory, one run each; seconds of the first use, which compiles kernels.
aer          Error rates on gold text, to which the same extra text is added for every aligner.
parity       F1 with fast_align on each corpus by itself, and what both models give the two
             candidates wherever links differ.
workers      Bytes between Ray actors, the speed-up of two, and a model of 16 and 128.
out-of-core  A corpus beyond the memory limit: peak memory and time.

Corpora are put end to end for all sections but aer and parity; a size beyond them is made by
splicing (``alignment_text.resized``).
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import alignment_peers as peers
from alignment_text import Pairs, lay_out, read_pairs, resized
from machine import processor

from weam_ray.alignment import aer, read_gold, read_links
from weam_ray.alignment.memory import parse_size
from weam_ray.artifacts import package_versions

Rows = Iterator[str]


@dataclass
class Bench:
    """What was asked for, and the text."""

    options: argparse.Namespace
    work: Path
    corpora: dict[str, Pairs] = field(default_factory=dict)

    def text(self, size: int, *, both: bool = True) -> Path:
        """A folder with so many pairs."""
        folder = self.work / f"pairs-{size}"
        if not (folder / ("both" if both else "source")).exists():
            every = [pair for pairs in self.corpora.values() for pair in pairs]
            lay_out(resized(every, size), folder, both=both)
        return folder

    def aligners(self, folder: Path, *options: str) -> peers.Aligners:
        """What runs on a folder's text."""
        binaries = (self.options.fast_align, self.options.eflomal)
        return peers.aligners(*binaries, folder, *options)


def speed(bench: Bench) -> Rows:
    """CPU and wall seconds."""
    yield "| pairs | aligner | CPU s | wall s | CPU / ours in process | CPU / ours as a whole |"
    yield "|---|---|---|---|---|---|"
    for size in bench.options.sizes:
        folder = bench.text(size)
        peers.ours(folder)  # kernels are compiled, files are in the cache
        within: list[float] = []

        def ours(folder: Path = folder, within: list[float] = within) -> peers.Run:
            run = peers.ours(folder)
            within.append(peers.inside(folder))
            return run

        runners = {**bench.aligners(folder), "weam_ray": ours}
        fewer = {"eflomal": bench.options.eflomal_repeats}
        medians = peers.race(runners, bench.options.repeats, fewer)
        inside = sorted(within)[len(within) // 2]
        whole = medians["weam_ray"].cpu
        yield f"| {size:,} | weam_ray, in process | {inside:.2f} | | | |"
        for name, run in medians.items():
            ratios = f"{run.cpu / inside:.1f} | {run.cpu / whole:.1f}"
            yield f"| {size:,} | {name} | {run.cpu:.2f} | {run.wall:.2f} | {ratios} |"


def profile(bench: Bench) -> Rows:
    """CPU seconds by stages."""
    from alignment_profile import profile_rows

    folder = bench.text(bench.options.profile_size, both=False)
    together = bench.options.profile_join
    if together > 1:
        pairs = read_pairs([folder / "source"], [folder / "target"])
        groups = (pairs[at : at + together] for at in range(0, len(pairs), together))
        folder = bench.work / "joined"
        rows = [tuple(map(" ".join, zip(*group, strict=True))) for group in groups]
        lay_out(((given, explained) for given, explained in rows), folder, both=False)
    sides = [(folder / side).read_bytes().split(b"\n")[:-1] for side in ("source", "target")]
    cells = sum(len(a.split()) * len(b.split()) for a, b in zip(*sides, strict=True))
    yield from profile_rows(folder, cells)
    yield ""
    yield f"{len(sides[0]):,} pairs, {cells:,} cells."


def memory(bench: Bench) -> Rows:
    """Peak memory, and the first use."""
    yield "| pairs | aligner | peak MiB | kB a pair |"
    yield "|---|---|---|---|"
    iterations = bench.options.memory_iterations
    for size in bench.options.memory_sizes:
        folder = bench.text(size)
        runners = bench.aligners(folder)
        if binary := bench.options.fast_align:
            # Its tables have their full size once all words have met.
            fewer = ("-I", str(iterations))
            runners["fast_align"] = functools.partial(peers.fast_align, binary, folder, *fewer)
        for name, run in runners.items():
            peak = run().peak_mib
            yield f"| {size:,} | {name} | {peak:.0f} | {peak * 1048.576 / size:.2f} |"
    if bench.options.fast_align:
        yield f"\nfast_align ran {iterations} iterations of each direction, one after the other."
    yield ""
    cpu, wall = _first_use(bench)
    yield f"First use, which compiles kernels: {cpu:.1f} s CPU, {wall:.1f} s wall; later cached."


def _first_use(bench: Bench) -> tuple[float, float]:
    cache = bench.work / "cache"
    code = "from weam_ray.alignment import align_words"
    runs = []
    for _ in range(2):
        command = ["env", f"NUMBA_CACHE_DIR={cache}", sys.executable, "-c", code]
        runs.append(peers.measured([command], bench.work))
    return runs[0].cpu - runs[1].cpu, runs[0].wall - runs[1].wall


def error_rates(bench: Bench) -> Rows:
    """AER on gold sets."""
    names = list(bench.aligners(bench.work))
    yield "| gold | pairs | extra pairs | " + " | ".join(names) + " | ours - fast_align |"
    yield "|---" * (len(names) + 4) + "|"
    for place, (name, source, target, links, *extra) in enumerate(bench.options.gold):
        texts = [Path(path).read_text("utf8").split("\n")[:-1] for path in (source, target)]
        pairs = list(zip(*texts, strict=True))
        lengths = [(len(a.split()), len(b.split())) for a, b in pairs]
        gold = read_gold(Path(links), lengths=lengths)
        more = [pair for corpus in extra for pair in bench.corpora[corpus]]
        folder = bench.work / f"gold-{place}"
        lay_out([*pairs, *more], folder)
        rates = []
        for aligner, run in bench.aligners(folder).items():
            run()
            found = read_links(folder / peers.SHORT[aligner]).select(range(len(gold)))
            rates.append(aer(found, gold).aer)
        cells = " | ".join(f"{rate:.4f}" for rate in rates)
        apart = f"{rates[0] - rates[1]:+.4f}" if len(rates) > 1 else ""
        yield f"| {name} | {len(gold):,} | {len(more):,} | {cells} | {apart} |"


def parity(bench: Bench) -> Rows:
    """Agreement with fast_align, and ties where they differ."""
    from alignment_ties import differences

    if bench.options.fast_align is None:
        raise SystemExit("parity needs --fast-align")
    yield (
        "| corpus | pairs | F1 joined | direction | F1 | words | linked differently |"
        " tied in our model | tied in its model | in neither |"
    )
    yield "|---" * 10 + "|"
    for name, pairs in bench.corpora.items():
        folder = bench.work / f"parity-{name}"
        lay_out(pairs, folder)
        for run in peers.aligners(bench.options.fast_align, None, folder, "--directions").values():
            run()
        joined = peers.agreement(folder / "ours", folder / "fa")
        for direction, seen in differences(bench.options.fast_align, folder).items():
            f1 = peers.agreement(folder / f"ours.{direction}", folder / f"fa.{direction}")
            yield (
                f"| {name} | {len(pairs):,} | {joined:.5f} | {direction} | {f1:.5f} |"
                f" {seen.words:,} | {seen.different:,} | {seen.tied_in_ours:,} |"
                f" {seen.tied_in_theirs:,} | {seen.unexplained:,} |"
            )


def workers(bench: Bench) -> Rows:
    """What travels, and what workers gain."""
    from alignment_workers import model_rows, speed_rows, traffic_rows

    folders = {size: bench.text(size, both=False) for size in bench.options.traffic_sizes}
    yield from traffic_rows(folders)
    yield ""
    yield from speed_rows(folders[max(folders)], bench.options.repeats)
    yield ""
    yield from model_rows(folders[max(folders)])


def out_of_core(bench: Bench) -> Rows:
    """A corpus with a memory limit."""
    size, limit = bench.options.out_of_core, bench.options.memory_limit
    folder = bench.text(size, both=False)
    counts = [_counts(folder / side) for side in ("source", "target")]
    before = shutil.disk_usage(folder).free
    run = peers.ours(folder, "--threads", "2", "--memory-limit", str(parse_size(limit)))
    written = (before - shutil.disk_usage(folder).free) >> 20
    yield "| pairs | words, source and target | limit | peak MiB | CPU s | wall s | links MiB |"
    yield "|---|---|---|---|---|---|---|"
    yield (
        f"| {size:,} | {counts[0]:,}, {counts[1]:,} | {limit} | {run.peak_mib:,.0f} |"
        f" {run.cpu:,.0f} | {run.wall:,.0f} | {written:,} |"
    )


def _counts(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(len(line.split()) for line in stream)


SECTIONS: dict[str, Callable[[Bench], Rows]] = {
    "speed": speed,
    "profile": profile,
    "memory": memory,
    "aer": error_rates,
    "parity": parity,
    "workers": workers,
    "out-of-core": out_of_core,
}


def header() -> str:
    """Machine, versions and date."""
    versions = {**package_versions(), "ray": importlib.metadata.version("ray")}
    shown = ", ".join(f"{name} {versions[name]}" for name in ("python", "numpy", "numba", "ray"))
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"Measured {time.strftime('%Y-%m-%d')} on {processor()}, {os.cpu_count()} CPUs, "
        f"{size:.0f} GiB, {platform.platform(terse=True)}; {shown}; commit {_commit()}."
    )


def _commit() -> str:
    here = Path(__file__).parent
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True
    ).stdout.strip()


def command(section: str, options: argparse.Namespace) -> str:
    """The command that makes a section's table, without the places of files on this machine."""
    words = ["python benchmarks/alignment.py", "--sections", section]
    words += ["--fast-align FAST_ALIGN"] if options.fast_align else []
    words += ["--eflomal EFLOMAL_ALIGN"] if options.eflomal else []
    for flag, rows in (("corpus", options.corpus), ("gold", options.gold)):
        if flag == "corpus" or section == "aer":
            for name, *rest in rows:
                named = [Path(part).name for part in rest]
                words.append(
                    f"--{flag} {':'.join([name, *named[:3], ','.join(named[3:])])}".rstrip(":")
                )
    for flag, of_section in (
        ("sizes", "speed"), ("repeats", "speed"), ("eflomal-repeats", "speed"),
        ("profile-size", "profile"), ("profile-join", "profile"), ("memory-sizes", "memory"),
        ("memory-iterations", "memory"),
        ("traffic-sizes", "workers"), ("out-of-core", "out-of-core"),
        ("memory-limit", "out-of-core"),
    ):  # fmt: skip
        if of_section == section:
            value = getattr(options, flag.replace("-", "_"))
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{flag} {shown}")
    return " ".join(words)


def write(path: Path, section: str, text: str) -> None:
    """Put a section's table between its markers; where there are none they are added."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    old = path.read_text(encoding="utf8")
    if begin not in old:
        old += f"\n{begin}\n{end}\n"
    before, rest = old.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}{end}{rest.split(end, 1)[1]}", encoding="utf8")


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parts(text: str) -> list[str]:
    name, *rest = text.split(":")
    return [name, *rest[:3], *(part for names in rest[3:] for part in names.split(",") if part)]


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus", action="append", type=_parts, default=[], metavar="NAME:SRC:TGT"
    )
    parser.add_argument(
        "--gold", action="append", type=_parts, default=[], metavar="NAME:SRC:TGT:TALP:CORPORA"
    )
    parser.add_argument("--fast-align", type=lambda text: Path(text).absolute())
    parser.add_argument("--eflomal", type=lambda text: Path(text).absolute())
    parser.add_argument("--sections", type=lambda text: text.split(","), default=list(SECTIONS))
    parser.add_argument("--sizes", type=_sizes, default=[100_000, 300_000])
    parser.add_argument("--profile-size", type=int, default=30_000)
    parser.add_argument("--profile-join", type=int, default=1, help="so many lines made one")
    parser.add_argument("--memory-sizes", type=_sizes, default=[300_000, 1_000_000])
    parser.add_argument(
        "--memory-iterations", type=int, default=5, help="fast_align's: fewer are as large"
    )
    parser.add_argument("--traffic-sizes", type=_sizes, default=[30_000, 100_000, 1_000_000])
    parser.add_argument("--out-of-core", type=int, default=10_000_000)
    parser.add_argument("--memory-limit", default="8GiB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--eflomal-repeats", type=int, default=5, help="fewer, for it takes longest"
    )
    parser.add_argument("--work", type=Path, help="a folder for text and links; it is kept")
    parser.add_argument("--write", type=Path, help="a markdown file to put the tables in")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the sections that are asked for."""
    options = parsed()
    with tempfile.TemporaryDirectory() as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(options, work.absolute())
        for corpus, source, target in options.corpus:
            bench.corpora[corpus] = read_pairs([Path(source)], [Path(target)])
        for section in options.sections:
            lines = [header(), "", f"`{command(section, options)}`", ""]
            lines += [*SECTIONS[section](bench), ""]
            text = "\n".join(lines)
            print(text, flush=True)
            if options.write:
                write(options.write, section, text)


if __name__ == "__main__":
    main()
