"""``weam-ray``: one verb a command. Bad input ends in one message and exit status 2."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weam_ray.alignment.config import AlignmentConfig, Symmetrisation
from weam_ray.errors import WeamError

if TYPE_CHECKING:
    from weam_ray.artifacts import Store
    from weam_ray.study.config import StudyConfig
    from weam_ray.study.plan import Plan

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
def plan_command(
    file: StudyFile = DEFAULT_STUDY,
    settings: Overrides = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of this machine, for the cost.")
    ] = None,
    every_step: Annotated[bool, typer.Option(help="A line for every step that will run.")] = False,
    calibrate: Annotated[bool, typer.Option(help="Measure this machine for the time.")] = True,
) -> None:
    """Say what a study would run and why, what is done, what it needs, and what can't exist."""
    from weam_ray.study.calibration import this_machine
    from weam_ray.study.estimate import estimate
    from weam_ray.study.plan_text import plan_text

    study, plan, store = _planned(file, settings)
    machine = this_machine(study, plan, store, calibrate=calibrate)
    figures = estimate(plan, store, study.resources, machine, price_per_hour=price_per_hour)
    typer.echo(plan_text(plan, figures, store, every_step=every_step))
    figures.refuse_what_cannot_fit()


@app.command("status")
def status_command(file: StudyFile = DEFAULT_STUDY, settings: Overrides = None) -> None:
    """Say how far a study is, from another terminal too."""
    from weam_ray.study.status import status_text, study_status

    study, plan, _ = _planned(file, settings)
    typer.echo(status_text(study_status(study, plan)))


def _planned(file: Path, settings: list[str] | None) -> tuple[StudyConfig, Plan, Store]:
    from weam_ray.artifacts import Store
    from weam_ray.study.data import find_data
    from weam_ray.study.plan import make_plan
    from weam_ray.study.reading import read_study

    study = read_study(file, settings or ())
    store = Store(study.storage / "store")
    return study, make_plan(study, find_data(study, store), store), store


@app.command("doctor")
def doctor_command(
    storage: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("storage"),
    tracking_uri: Annotated[str | None, typer.Option(help="An MLflow tracking URI.")] = None,
) -> None:
    """Check this machine, or the cluster of RAY_ADDRESS: each line is ok or names the cure."""
    from weam_ray.doctor import check, exit_status

    findings = check(storage, tracking_uri)
    for finding in findings:
        typer.echo(finding)
    raise typer.Exit(exit_status(findings))


@app.command("align")
def align_command(
    source: Annotated[Path, typer.Option(help="Source text, a sentence a line, plain or .gz.")],
    target: Annotated[Path, typer.Option(help="Target text, line by line its translation.")],
    output: Annotated[Path, typer.Option(help="Pharaoh links, a line per line.")],
    symmetrisation: Annotated[
        Symmetrisation, typer.Option(help="How the two directions become one.")
    ] = "grow-diag-final-and",
    model: Annotated[Path | None, typer.Option(help="Align with this saved model.")] = None,
    model_out: Annotated[Path | None, typer.Option(help="Save the model here.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Write a score a line here.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads; the links don't change.")] = 1,
    casefold: Annotated[
        bool, typer.Option(help="Count words without regard to case; fast_align does not.")
    ] = False,
) -> None:
    """Word-align two files with fast_align's model."""
    from weam_ray.alignment.command import run_align

    run_align(
        source=source,
        target=target,
        output=output,
        config=AlignmentConfig(symmetrisation=symmetrisation, casefold=casefold),
        model=model,
        model_out=model_out,
        scores=scores,
        threads=workers,
        say=_aside,
    )


@app.command("aer")
def aer_command(
    gold: Annotated[Path, typer.Option(help="Gold links: sure i-j, possible ipj or i?j.")],
    links: Annotated[Path, typer.Option(help="The links to score, 0-based Pharaoh.")],
    index_base: Annotated[
        int | None, typer.Option(min=0, max=1, help="Number of gold's first word; found if unsaid.")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Source text, to check bounds.")] = None,
    target: Annotated[Path | None, typer.Option(help="Target text, to check bounds.")] = None,
) -> None:
    """Alignment error rate of links against gold."""
    from weam_ray.alignment.command import run_aer

    run_aer(
        gold=gold, links=links, index_base=index_base, source=source, target=target, say=typer.echo
    )


@app.command("submit")
def submit_command(
    cluster: Annotated[Path, typer.Argument(help="A cluster file: cluster/cluster.yaml.")],
    file: StudyFile = DEFAULT_STUDY,
    settings: Overrides = None,
) -> None:
    """Bring a cluster up, run a study on it, follow it, and fetch the report."""
    from weam_ray.on_ray.submit import submit

    ask = sys.stdin.isatty()
    raise typer.Exit(
        submit(
            cluster,
            file,
            settings or (),
            say=typer.echo,
            take_down=lambda: ask and typer.confirm("Take the cluster down?"),
        )
    )


def _aside(line: str) -> None:
    # Standard output may be where the links go.
    typer.echo(line, err=True)


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
