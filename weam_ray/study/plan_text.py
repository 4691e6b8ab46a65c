"""A plan as a person reads it: what there is to do, why, how long and for how much."""

from __future__ import annotations

from collections.abc import Sequence

from weam_ray.artifacts import Step, Store
from weam_ray.study.config import StudyConfig
from weam_ray.study.estimate import Estimate, StageEstimate, in_bytes
from weam_ray.study.plan import Plan
from weam_ray.study.reasons import difference

_HEADINGS = ("stage", "all", "done", "to run", "steps", "tokens ≤", "each", "together", "disk")


def noise_of_workers(study: StudyConfig) -> str | None:
    """What a plan says where the number of workers decides which noise an encoder has."""
    training, workers = study.pretraining, study.resources.cell_workers
    rate = study.base.dropout if training.dropout is None else training.dropout
    own = study.base.model is not None and training.dropout is None
    if (workers == 1 and training.micro_batch is None) or not (rate or own):
        return None
    return (
        "dropout: every worker and micro-batch draws noise of its own, so that another number of"
        " them gives other encoders, as another seed does; pretraining.dropout: 0 gives the same"
    )


def plan_text(plan: Plan, estimate: Estimate, store: Store, *, every_step: bool = False) -> str:
    """The whole of ``weam-ray plan``.

    Args:
        every_step: a line with its reason for each step that will run, not one a stage.
    """
    parts = [plan.summary(), "", _table(estimate.stages)]
    if plan.missing:
        parts += ["", *_reasons(plan, estimate, store, every_step), "", _totals(estimate)]
    parts += [f"can't run: {problem}" for problem in estimate.problems]
    return "\n".join(parts)


def _table(stages: Sequence[StageEstimate]) -> str:
    rows = [_HEADINGS, *(_row(one) for one in stages)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(one: StageEstimate) -> tuple[str, ...]:
    run = one.to_run
    return (
        one.stage,
        f"{one.total:,}",
        f"{one.total - run:,}",
        f"{run:,}",
        in_thousands(one.optimiser_steps) if run else "",
        in_thousands(one.tokens) if run else "",
        in_time(None if one.seconds is None else one.seconds / max(1, one.working)) if run else "",
        in_time(one.seconds) if run else "",
        ("?" if one.bytes is None else in_bytes(one.bytes)) if run else "",
    )


def _reasons(plan: Plan, estimate: Estimate, store: Store, every_step: bool) -> list[str]:
    if every_step:
        steps = [step for address, step in plan.steps.items() if address in plan.missing]
        return [f"run {step.address}: {_reason(plan, step, store)}" for step in steps]
    lines = ["why"]
    for stage in estimate.stages:
        first = {plan.why(step): step for step in reversed(plan.missing_of(stage.stage))}
        for reason, count in stage.reasons.items():
            lines.append(f"  {stage.stage} ({count:,}): {_reason(plan, first[reason], store)}")
    return lines


def _reason(plan: Plan, step: Step, store: Store) -> str:
    reason = plan.why(step)
    if any(needed.address in plan.missing for needed in step.upstream.values()):
        return reason
    changed = difference(step, store)
    return f"{reason}: {changed}" if changed else reason


def _totals(estimate: Estimate) -> str:
    bases = {basis for one in estimate.stages if one.to_run for basis in one.basis.split(", ")}
    # A calibration knows the arithmetic alone, and counts every row at its full length.
    about = "roughly, and mostly less than," if "calibrated" in bases else "about"
    known = any(one.seconds is not None for one in estimate.stages if one.to_run)
    time = f"{about} {in_time(estimate.wall_seconds)}" if known else "time not known"
    parts = [
        f"{time} with {estimate.at_once} cell{'s' if estimate.at_once > 1 else ''} at once",
        f"{in_bytes(estimate.bytes)} of disk",
    ]
    if estimate.cost is not None:
        parts.append(f"cost {estimate.cost:,.2f}")
    text = ", ".join(parts)
    if estimate.unknown:
        text += f"; without {', '.join(estimate.unknown)}, whose time is not known yet"
    return f"{text} (times: {', '.join(sorted(bases - {'not known', ''})) or 'none known'})"


def in_thousands(number: int | None) -> str:
    """``12,300,000`` → ``12.3M``."""
    if number is None:
        return ""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= 10 * size:
            return f"{number / size:,.1f}{unit}"
    return f"{number:,}"


def in_time(seconds: float | None) -> str:
    """``3700`` → ``1 h 2 min``; ``?`` for None."""
    if seconds is None:
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
