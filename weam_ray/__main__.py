"""``weam-ray``: one verb a command. Bad input ends in one message and exit status 2."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weam_ray.alignment.config import AlignmentConfig, Symmetrisation
from weam_ray.errors import ConfigError, WeamError

if TYPE_CHECKING:
    from weam_ray.alignment.em import Hire
    from weam_ray.artifacts import Store
    from weam_ray.study.bundle import Bundle
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

Offline = Annotated[
    bool, typer.Option("--offline", help="Never touch the network: what was fetched before.")
]


@app.command("sweep")
def sweep_command(
    file: StudyFile = DEFAULT_STUDY,
    settings: Overrides = None,
    max_hours: Annotated[
        float | None,
        typer.Option(min=0, help="End after so many hours, and report what is done by then."),
    ] = None,
    offline: Offline = False,
) -> None:
    """Run a study, resume it, or extend it; write its report."""
    from weam_ray.sweep import interruptible, sweep
    from weam_ray.terminal import Board

    study = _study(file, settings, offline)
    command = shlex.join(["weam-ray", *sys.argv[1:]])
    with interruptible():
        status = sweep(study, command, Board(), max_hours=max_hours, file=file)
    raise typer.Exit(status)


@app.command("plan")
def plan_command(
    file: StudyFile = DEFAULT_STUDY,
    settings: Overrides = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of this machine, for the cost.")
    ] = None,
    every_step: Annotated[bool, typer.Option(help="A line for every step that will run.")] = False,
    offline: Offline = False,
    calibrate: Annotated[bool, typer.Option(help="Measure this machine for the time.")] = True,
) -> None:
    """Say what a study would run and why, what is done, what it needs, and what can't exist."""
    from weam_ray.study.calibration import this_machine
    from weam_ray.study.estimate import estimate
    from weam_ray.study.gates import study_gates
    from weam_ray.study.guard_text import gate_plan
    from weam_ray.study.ledger import study_view
    from weam_ray.study.loss_gate import NAME, asks_for_losses
    from weam_ray.study.methods import planned_methods
    from weam_ray.study.plan_text import noise_of_workers, plan_text
    from weam_ray.study.planned_power import planned_power, power_text
    from weam_ray.study.search import outline

    study, plan, store = _planned(file, settings, offline)
    machine = this_machine(study, plan, store, calibrate=calibrate)
    figures = estimate(plan, store, study.resources, machine, price_per_hour=price_per_hour)
    typer.echo(plan_text(plan, figures, store, every_step=every_step))
    if noise := noise_of_workers(study):
        typer.echo(noise)
    if study.search is not None:
        typer.echo(outline(study, plan, figures))
    if study.adaptive is not None:
        typer.echo("adaptive: of the cells with bitext only those that tell most, up to its budget")
    for line in gate_plan(study_gates(study, study_view(study)), planned_methods(study)):
        typer.echo(line)
    if asks_for_losses(study):
        typer.echo(f"  {NAME}")
    typer.echo(f"\n{power_text(planned_power(study, plan, store))}")
    figures.refuse_what_cannot_fit()


@app.command("status")
def status_command(
    file: StudyFile = DEFAULT_STUDY, settings: Overrides = None, offline: Offline = False
) -> None:
    """Say how far a study is, from another terminal too."""
    from weam_ray.study.status import status_text, study_status

    study, plan, _ = _planned(file, settings, offline)
    typer.echo(status_text(study_status(study, plan)))


@app.command("report")
def report_command(
    file: StudyFile = DEFAULT_STUDY, settings: Overrides = None, offline: Offline = False
) -> None:
    """Write a study's page, tables and figures again from what is finished; run nothing."""
    from weam_ray.study.publish import report_again

    study, plan, store = _planned(file, settings, offline)
    written = report_again(study, plan, store, shlex.join(["weam-ray", *sys.argv[1:]]))
    typer.echo(f"tables: {study.folder / 'tables'}")
    if written.figures:
        typer.echo(f"figures: {study.folder / 'figures'}")
    typer.echo(f"report: {written.page}")


@app.command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(help="A study file, or a folder that `export` wrote.")],
    second: Annotated[Path, typer.Argument(help="The other; differences are it less the first.")],
    settings: Overrides = None,
    every_cell: Annotated[bool, typer.Option(help="A line for every configuration.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write tables (CSV, LaTeX) here.")] = None,
    offline: Offline = False,
) -> None:
    """Set two studies side by side: what both measured, how sure, and what can't be compared."""
    from weam_ray.study.compare import compare_studies
    from weam_ray.study.compare_text import compare_text, write_comparison

    _refuse_file(out)
    found = compare_studies(*(_bundle(path, settings, offline) for path in (first, second)))
    typer.echo(compare_text(found, every_cell=every_cell))
    if out is not None:
        write_comparison(found, out)
        typer.echo(f"\ntables: {out}")


@app.command("export")
def export_command(
    file: Annotated[Path, typer.Argument(help="A study file, or an exported folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    settings: Overrides = None,
    predictions: Annotated[
        bool, typer.Option(help="Copy predictions too, for paired comparisons by others.")
    ] = False,
    merge_with: Annotated[
        list[Path] | None,
        typer.Option("--merge", help="An exported folder to merge into merged.parquet; repeat."),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(help="Push to this tracking server; cells it has are left alone."),
    ] = None,
    offline: Offline = False,
) -> None:
    """Write tidy tables that merge with others' by content hash, or push to an MLflow server."""
    if out is None and mlflow is None:
        raise ConfigError("nowhere to export to", cure="Name a folder, --out DIR, or --mlflow URI.")
    _refuse_file(out)
    if out is not None:
        own = _bundle(file, settings, offline)
        others = [_bundle(path, None, offline) for path in merge_with or ()]
        _export_tables(own, out, predictions, others)
    if mlflow is not None:
        from weam_ray.on_ray.pushing import push_study

        raise typer.Exit(push_study(_study(file, settings, offline), mlflow, typer.echo))


def _export_tables(own: Bundle, out: Path, predictions: bool, others: list[Bundle]) -> None:
    from weam_ray.study.bundle import write_bundle, write_merged

    for path in write_bundle(own, out, predictions=predictions):
        typer.echo(path)
    if others:
        merged, path = write_merged([own, *others], out)
        typer.echo(f"{path}: {len(merged.rows):,} rows, {merged.same:,} were in several")


def _refuse_file(out: Path | None) -> None:
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", place="--out", cure="Name a folder.")


def _bundle(path: Path, settings: list[str] | None, offline: bool) -> Bundle:
    from weam_ray.study.bundle import bundle_of, read_bundle

    if path.is_dir():
        return read_bundle(path)
    return bundle_of(*_planned(path, settings, offline))


def _study(file: Path, settings: list[str] | None, offline: bool) -> StudyConfig:
    from weam_ray.study.inputs import without_network
    from weam_ray.study.reading import read_study

    study = read_study(file, settings or ())
    return without_network(study) if offline else study


def _planned(
    file: Path, settings: list[str] | None, offline: bool
) -> tuple[StudyConfig, Plan, Store]:
    from weam_ray.study.data import find_data
    from weam_ray.study.plan import make_plan

    study = _study(file, settings, offline)
    store = study.open_store()
    return study, make_plan(study, find_data(study, store), store), store


@app.command("doctor")
def doctor_command(
    storage: Annotated[
        str, typer.Option(help="Where studies are kept: a folder, or s3://bucket/prefix.")
    ] = "storage",
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
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Write OUTPUT.scores: a line per line, log-probabilities of both directions.",
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads; the links don't change.")] = 1,
    actors: Annotated[
        int,
        typer.Option(min=0, help="Ray actors of so many workers each; RAY_ADDRESS says where."),
    ] = 0,
    memory_limit: Annotated[
        str | None, typer.Option(help="Use no more memory than this: 8GiB. Default: all there is.")
    ] = None,
    work_folder: Annotated[
        Path | None, typer.Option(help="For work files, where memory does not suffice.")
    ] = None,
    casefold: Annotated[
        bool, typer.Option(help="Count words without regard to case; fast_align does not.")
    ] = False,
    max_words: Annotated[
        int, typer.Option(min=1, max=32767, help="Lines with a longer side get no links.")
    ] = 2000,
) -> None:
    """Word-align two files with fast_align's model."""
    from weam_ray.alignment.command import run_align, scores_beside
    from weam_ray.alignment.memory import parse_size
    from weam_ray.terminal import Line

    if model and actors:
        raise ConfigError("a saved model is used on this machine alone", cure="Drop --actors.")
    # To standard error, for standard output may be where the links go.
    line = Line("directions" if model else "iterations", file=sys.stderr)
    with line.live(), ExitStack() as stack:
        run_align(
            source=source,
            target=target,
            output=output,
            config=AlignmentConfig(
                symmetrisation=symmetrisation, casefold=casefold, max_words=max_words
            ),
            model=model,
            model_out=model_out,
            scores=scores_beside(output) if scores else None,
            threads=workers,
            hire=_crew(stack, actors, workers) if actors else None,
            memory_limit=parse_size(memory_limit) if memory_limit else None,
            work_folder=work_folder,
            report=line.report,
            say=line.say,
        )


def _crew(stack: ExitStack, actors: int, threads: int) -> Hire:
    from weam_ray.on_ray.cluster import ray_runtime

    stack.enter_context(ray_runtime())
    from weam_ray.on_ray.alignment import Crew

    return stack.enter_context(Crew(actors, threads=threads))


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
