"""What a planned study could see, before it spends: `weam-ray plan`'s last lines.

The noise is stated in the study file, or measured on the cells that are finished (a pilot: on the
dev items, so that nothing of the test is looked at), or else assumed and called so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weam_ray.artifacts import Store
from weam_ray.study import wording
from weam_ray.study.comparisons import compare_family, measured_noise
from weam_ray.study.config import StudyConfig
from weam_ray.study.grid import Cell as PlannedCell
from weam_ray.study.item_counts import count_common, count_files
from weam_ray.study.ledger import result_rows, study_view
from weam_ray.study.lines import lines_of, method_questions
from weam_ray.study.matching import Cell, Grid, replicates
from weam_ray.study.plan import Plan
from weam_ray.study.power import Noise, detectable_effect, seeds_needed
from weam_ray.study.results import Correctness, Results, target_languages
from weam_ray.study.tasks import evaluated_languages, source_language
from weam_ray.transfer.items import ItemsConfig

ASSUMED = Noise(discordance=0.10, seed_sd=0.006)
_MOST_SEEDS = 200


@dataclass(frozen=True, kw_only=True)
class PlannedPower:
    """Effects are shares."""

    noise: Noise
    basis: str
    """Where the noise comes from, in words."""
    seeds: int
    """Matched seeds of the comparison with the fewest."""
    items: int
    comparisons: int
    """In the family that the report opens with."""
    effect: float
    """The one the study is for."""
    detectable: float
    """Found with 80 % probability, if it is the only one in the family."""
    needed: int | None
    """Seeds for the effect; None where no number of seeds makes up for the items."""


def planned_power(study: StudyConfig, plan: Plan, store: Store) -> PlannedPower | None:
    """The power of a planned study; None where it compares nothing or its items are not known."""
    grid = planned_grid(study, plan.cells)
    lines = lines_of(grid.cells)
    questions = method_questions(grid, lines)
    seeds = [n for one in questions if (n := replicates(grid, one.a, one.b))]
    items = _items(study, plan, store)
    if not seeds or not items:
        return None
    noise, basis = _noise(study, plan, store)
    sizes = {cell.size for cell in grid.cells if cell.pair}
    family = len(questions) + (len(lines) if len(sizes) > 1 else 0)
    fewest = min(seeds)
    effect = study.power.effect
    return PlannedPower(
        noise=noise,
        basis=basis,
        seeds=fewest,
        items=items,
        comparisons=family,
        effect=effect,
        detectable=detectable_effect(noise, seeds=fewest, items=items, comparisons=family),
        needed=seeds_needed(effect, noise, items=items, comparisons=family, most=_MOST_SEEDS),
    )


def planned_grid(study: StudyConfig, cells: Sequence[PlannedCell]) -> Grid:
    """The cells of the view that claims are made on, as comparisons see them, without results."""
    view = study_view(study)
    languages = frozenset(evaluated_languages(study, view.task))
    wanted = (view.setting, view.task)
    kept = [cell for cell in cells if (cell.key.setting, cell.key.task) == wanted]
    scored = (cell.config.fine_tuning.evaluated_languages or languages for cell in kept)
    return Grid(
        cells=tuple(_compared(cell) for cell in kept),
        languages={
            cell.experiment.transfer.address: languages & own
            for cell, own in zip(kept, scored, strict=True)
        },
        correct=Correctness(),
        view=view,
        source=source_language(study, view.task),
        all_languages=tuple(sorted(languages)),
    )


def _compared(cell: PlannedCell) -> Cell:
    return Cell(
        address=cell.experiment.transfer.address,
        domain=cell.key.domain,
        pair=cell.key.pair,
        size=cell.key.size,
        method=cell.key.method,
        regime=cell.key.regime,
        seeds=(cell.key.subset_seed, cell.key.pretraining_seed, cell.key.finetuning_seed),
    )


def _items(study: StudyConfig, plan: Plan, store: Store) -> int:
    """Items of the report's split that the target languages of the grid have in common; before they
    were read, about as many as the language has that has fewest.
    """
    task = study_view(study).task
    source, scored = source_language(study, task), evaluated_languages(study, task)
    pairs = {cell.key.pair for cell in plan.cells if cell.key.pair}
    own = {code for pair in pairs for code in target_languages(pair, source, scored)}
    targets = own.intersection(scored) or {code for code in scored if code != source}
    read = (one.questions.get(task, one.items) for one in (c.experiment for c in plan.cells))
    steps = {step.address: step for step in read if step is not None}
    for step in steps.values():
        if (done := store.find(step)) is not None:
            if common := count_common(done, task, study.report_split, targets):
                return common
        elif isinstance(step.config, ItemsConfig):
            counts = count_files(step.config) or {}
            wanted = [
                number
                for (split, language), number in counts.items()
                if split == study.report_split and language in targets
            ]
            if wanted:
                return min(wanted)
    return 0


def _noise(study: StudyConfig, plan: Plan, store: Store) -> tuple[Noise, str]:
    stated = study.power
    measured, words = _pilot(study, plan, store)
    base = measured or ASSUMED
    noise = replace(
        base,
        discordance=base.discordance if stated.discordance is None else stated.discordance,
        seed_sd=base.seed_sd if stated.seed_sd is None else stated.seed_sd,
    )
    if stated.discordance is not None and stated.seed_sd is not None:
        return noise, "noise as stated in the study file"
    if stated.discordance is not None or stated.seed_sd is not None:
        words = f"noise stated in part, the rest {words.removeprefix('noise ')}"
    return noise, words


def _pilot(study: StudyConfig, plan: Plan, store: Store) -> tuple[Noise | None, str]:
    """The noise of finished cells, by the dev items."""
    unknown = "noise assumed (mBERT on XNLI), for no finished cells tell it"
    waiting = {cell.key for cell in plan.cells_to_run}
    done = [cell for cell in plan.cells if cell.key not in waiting]
    if not any(cell.key.pair for cell in done):
        return None, unknown
    results = Results.read(result_rows(done, store), store.root)
    view = replace(study_view(study), split="dev")
    grid = Grid.of(results, view, source_language(study, view.task))
    answers = compare_family(grid, method_questions(grid, lines_of(grid.cells)))
    noise = measured_noise(answers)
    if noise is None:
        return None, unknown
    return noise, f"noise measured on the dev items of {len(done)} finished cells"


def power_text(found: PlannedPower | None) -> str:
    """The lines of a plan."""
    if found is None:
        return "power: can't be said, for nothing is compared or the items are not counted yet"
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    lines = [
        f"power ({seeds}, {found.items:,} items; {found.basis}: discordance "
        f"{100 * found.noise.discordance:.1f} %, sd between seeds "
        f"{100 * found.noise.seed_sd:.2f} points)",
        f"  found in 4 studies of 5: a gain of {wording.percent(found.detectable)} points, as the "
        f"only one among the answer's {found.comparisons} comparisons",
    ]
    if found.seeds == 1:
        lines.append("  with one seed nothing can be claimed: the figure holds for that seed alone")
    goal = f"{100 * found.effect:g} points"
    if found.needed is None:
        lines.append(
            f"  for {goal}: not with {_MOST_SEEDS} seeds either; it takes more items, or less noise"
        )
    else:
        lines.append(f"  for {goal}: {found.needed} seeds")
    return "\n".join(lines)
