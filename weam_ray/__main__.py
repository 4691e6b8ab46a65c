"""``weam-ray``: one verb a command. Bad input ends in one message and exit status 2."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from weam_ray.errors import WeamError

DEFAULT_STUDY = Path("sweeps/demo.yaml")

app = typer.Typer(
    help="How much domain-specific bilingual text before zero-shot transfer improves?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(help="The study file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: pretraining.steps=200."),
]


@app.command("sweep")
def sweep_command(file: StudyFile = DEFAULT_STUDY, settings: Overrides = None) -> None:
    """Run a study, resume it, or extend it; write its report."""
    from weam_ray.study.reading import read_study
    from weam_ray.sweep import INTERRUPTED, sweep
    from weam_ray.terminal import Board

    study = read_study(file, settings or ())
    command = shlex.join(["weam-ray", *sys.argv[1:]])
    try:
        status = sweep(study, command, Board())
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        status = INTERRUPTED
    raise typer.Exit(status)


@app.command("plan")
def plan_command(file: StudyFile = DEFAULT_STUDY, settings: Overrides = None) -> None:
    """Say what a study would run and why, what is done, and which cells can't exist."""
    from weam_ray.artifacts import Store
    from weam_ray.study.data import find_data
    from weam_ray.study.plan import make_plan
    from weam_ray.study.reading import read_study

    study = read_study(file, settings or ())
    store = Store(study.storage / "store")
    plan = make_plan(study, find_data(study, store), store)
    typer.echo(plan.summary())
    for address in sorted(plan.missing):
        typer.echo(f"run {address}: {plan.why(plan.steps[address])}")


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of study files."""
    from weam_ray.study.reading import schema

    typer.echo(schema())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0; 1 when a cell failed; 2 for bad input; 130 after Ctrl-C.
    """
    try:
        app(args=None if arguments is None else list(arguments))
    except WeamError as error:
        print(f"weam-ray: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
