"""Fine-tuning and evaluation: against a run_xnli-style loop, and what one encoder really scores.

Two sections, each on its own::

    python benchmarks/transfer.py peer --data ../shared/data --write docs/transfer.md
    python benchmarks/transfer.py table --data ../shared/data --encoder FOLDER --write …

``peer`` does what Hugging Face's ``run_xnli.py`` does: ``Trainer`` over inputs that are all padded
to 128, and one run per test language, each loading the model and tokenising its own items. Trainer
needs ``accelerate``, which this project does not, so it is installed apart::

    pip install --no-deps --target /tmp/accelerate accelerate
    PYTHONPATH=/tmp/accelerate:. python benchmarks/transfer.py peer …

Both sides start from the same weights, head included, and take turns in one process, so that a
busy machine slows both. ``table`` takes an encoder folder: ``base/…`` or ``encoder/…`` of a study's
store.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import processor
from transfer_peer import peer_section
from transfer_table import table_section
from transformers.utils import logging as transformers_logging


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as scratch:
        text = arguments.section(arguments, Path(scratch)) + provenance(arguments)
    print(text)
    if arguments.write:
        write(arguments.write, arguments.name, text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sections = parser.add_subparsers(dest="name", required=True)
    for name, section in (("peer", peer_section), ("table", table_section)):
        part = sections.add_parser(name)
        part.set_defaults(section=section)
        part.add_argument("--data", type=Path, required=True, help="folder with nli/ and qa/")
        part.add_argument("--encoder", type=Path, help="folder; peer: an untrained one without")
        part.add_argument("--train-items", type=int, help="default: all")
        part.add_argument("--dev-items", type=int, help="a language; default: all")
        part.add_argument("--epochs", type=float, default=1.0)
        part.add_argument("--seeds", type=int, default=3)
        part.add_argument("--threads", type=int, default=2)
        part.add_argument("--learning-rate", type=float, default=2e-4)
        part.add_argument("--write", type=Path, help="put the text between this file's markers")
    sections.choices["peer"].add_argument(
        "--shape", nargs=2, type=int, default=(4, 256), metavar=("LAYERS", "WIDTH")
    )
    sections.choices["peer"].add_argument(
        "--precisions",
        nargs="+",
        choices=("fp32", "bf16"),
        default=["fp32", "bf16"],
        help="of our side; bf16 is slow where the processor has no such arithmetic",
    )
    table = sections.choices["table"]
    table.add_argument("--qa-epochs", type=float, default=2.0)
    table.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    table.add_argument("--test-items", type=int, help="a language; default: all")
    return parser.parse_args()


def provenance(arguments: argparse.Namespace) -> str:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")
    )
    if arguments.name == "peer":
        versions += f", accelerate {importlib.metadata.version('accelerate')}"
    return (
        f"{processor()}, {arguments.threads} thread(s); {versions}; {time.strftime('%Y-%m-%d')};"
        f" `python benchmarks/transfer.py {command(sys.argv[1:])}`"
    )


def command(words: Sequence[str]) -> str:
    """What was typed, less where the page and the encoder happened to lie."""
    named = {"--encoder": "FOLDER", "--write": "docs/transfer.md"}
    return shlex.join(
        named.get(before, word) for before, word in zip(["", *words], words, strict=False)
    )


def write(path: Path, name: str, text: str) -> None:
    page = path.read_text(encoding="utf8")
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf8")


if __name__ == "__main__":
    main()
