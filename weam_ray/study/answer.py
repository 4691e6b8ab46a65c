"""The answer in words: the first line, and three sentences that a reader can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weam_ray.study import wording
from weam_ray.study.analysis import Analysis
from weam_ray.study.columns import detectable_text
from weam_ray.study.comparisons import Comparison
from weam_ray.study.lines import Line
from weam_ray.study.report_input import ReportInput
from weam_ray.study.results import BASELINE
from weam_ray.study.scaling import REACH, PairsNeeded
from weam_ray.study.slopes import Slope


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the page opens with."""

    first_line: str
    """"" when nothing has to be said before the answer."""
    sentences: tuple[str, ...]
    claims: bool
    """False: no curve, no comparison, no claim is shown."""


def answer(source: ReportInput, analysis: Analysis) -> Answer:
    """The first line and the sentences; no claim where a gate fails or nothing has finished."""
    warning = "Demonstration, not evidence." if source.demonstration else ""
    if not analysis.grid.cells:
        nothing = "No cell has finished, so nothing can be said yet."
        return Answer(first_line=warning, sentences=(nothing,), claims=False)
    if source.failed_gates:
        failed = f"The base fails the gates and no claim is made. {warning}".strip()
        return Answer(first_line=failed, sentences=_why_no_claim(source), claims=False)
    if not analysis.lines:
        alone = "Only cells without bilingual text have finished, so there is no gain to speak of."
        return Answer(first_line=warning, sentences=(alone,), claims=False)
    said = sentences(source, analysis.lines, analysis.methods, analysis.slopes)
    return Answer(first_line=warning, sentences=said, claims=True)


def sentences(
    source: ReportInput,
    lines: Sequence[Line],
    methods: Sequence[Comparison],
    slopes: Sequence[Slope],
) -> tuple[str, ...]:
    """What was found, where anything can be claimed: the gain, its growth, WEAM's rivals."""
    main = _main(lines)
    said = (_gain(source, main, methods), _growth(main, slopes), _rivals(methods))
    return tuple(one for one in said if one)


def _why_no_claim(source: ReportInput) -> tuple[str, ...]:
    gates = source.failed_gates
    reasons = [f"{_sentence(gate.name)}: fails ({gate.detail or 'no figures'})." for gate in gates]
    last = (
        "Below are the accuracies as they came out beside what needs no inference at all; a curve "
        "over sizes would show noise as if it were an answer."
    )
    return (*reasons, last)


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:].rstrip(".")


def effect_text(one: Comparison, digits: int = 1) -> str:
    """``+13.0 points (95 % interval +9.9 to +16.1, Holm-adjusted p < 0.001)``."""
    assert one.effect is not None
    span = wording.span(one.effect.low, one.effect.high, digits=digits)
    text = f"{wording.points(one.effect.value, digits)} points (95 % interval {span}"
    if one.p_holm is None:
        return f"{text}, items only)" if one.spread and one.spread.seeds == 1 else f"{text})"
    p = wording.probability(one.p_holm)
    return f"{text}, Holm-adjusted p {p if p.startswith('<') else f'= {p}'})"


def _gain(source: ReportInput, line: str, methods: Sequence[Comparison]) -> str:
    name = f"{line} against {wording.method_name(BASELINE)}"
    one = next((c for c in methods if c.question.name == name), None)
    if one is None or one.effect is None:
        reason = one.reason if one else "it was not measured"
        return f"Whether {line} gains over no pre-training can't be said: {reason}."
    where = f"At {wording.count(one.question.a.size)} sentence pairs"
    over = _over(source, one)
    if one.identical:
        return (
            f"{where}, {line} and no pre-training answer every item alike {over}: these items "
            "can't tell them apart."
        )
    if not one.claimable:
        return (
            f"{where}, {line} stands {effect_text(one)} from no pre-training {over}, but nothing "
            f"can be claimed: {one.too_little}."
        )
    if one.found:
        word = "gains" if one.effect.value > 0 else "loses"
        return f"{where}, {line} {word} {effect_text(one)} over no pre-training {over}."
    return f"{where}, no difference between {line} and no pre-training is detectable {over}: " + (
        _could_have_seen(one)
    )


def _over(source: ReportInput, one: Comparison) -> str:
    names = [source.language_names.get(code, code) for code in one.languages]
    languages = wording.listing(names) if len(names) <= 4 else f"{len(names)} languages"
    seeds = one.spread.seeds if one.spread else 0
    return f"in {languages} ({seeds} seed{'s' if seeds != 1 else ''})"


def _could_have_seen(one: Comparison) -> str:
    return f"{effect_text(one)}. {_seen(one)}."


def _seen(one: Comparison, digits: int = 1) -> str:
    if one.detectable is None or one.detectable >= 1:
        return "No effect, however large, would be sure to be found"
    return f"One of {wording.percent(one.detectable, digits)} would be found (80 % probability)"


def _main(lines: Sequence[Line]) -> str:
    weam = [line for line in lines if line.method == "weam"]
    return (weam or list(lines))[0].name


def _growth(name: str, slopes: Sequence[Slope]) -> str:
    slope = next((s for s in slopes if s.line.name == name), None)
    if slope is None or slope.comparison.effect is None:
        reason = slope.comparison.reason if slope else "too few sizes have finished"
        return f"How the gain grows with size can't be said: {reason}."
    one = slope.comparison
    if not one.claimable:
        return f"How the gain grows with size can't be claimed: {one.too_little}."
    if one.identical:
        return "There is no slope: at every size the difference is the same, item by item."
    if not one.found:
        return (
            f"No slope is detectable: {effect_text(one, 2)} a doubling of the text. "
            f"{_seen(one, 2)}. {needed_text(slope)}"
        )
    assert one.effect is not None
    word = "rises" if one.effect.value > 0 else "falls"
    return f"Its gain {word} by {effect_text(one, 2)} with each doubling of the text. " + (
        needed_text(slope)
    )


def needed_text(slope: Slope) -> str:
    """How many pairs the target gain takes, as a sentence, or that the data can't say."""
    needed = slope.needed
    if needed is None:
        return ""
    gain = wording.points(needed.gain).removesuffix(".0")
    if needed.at_most is not None:
        text = f"For {gain} points, {wording.count(needed.at_most)} pairs are enough"
        if needed.more_than is not None:
            text += f" and {wording.count(needed.more_than)} are too few"
        return f"{text}."
    if needed.sizes is None:
        return f"How many pairs {gain} points take, the data can't say: {needed.reason}."
    return f"For {gain} points it takes about {_range(needed)}."


def _range(needed: PairsNeeded) -> str:
    assert needed.sizes is not None
    low, high = needed.sizes.low, needed.sizes.high
    least = "less than one" if low <= 1 else wording.about(low)
    most = wording.about(high) if wording.known(high) else "no upper bound in sight"
    text = f"{wording.about(needed.sizes.value)} pairs (95 % interval {least} to {most})"
    if needed.extrapolated:
        text += f", beyond the sizes measured: an extrapolation, good to {REACH:.0f} times at best"
    return text


def _rivals(methods: Sequence[Comparison]) -> str:
    wanted = ("WEAM against TLM", "WEAM against WEAM, shuffled links")
    parts = []
    for one in methods:
        if not one.question.name.startswith(wanted) or one.effect is None:
            continue
        rival = one.question.name.split(" against ", 1)[1]
        if not one.claimable:
            parts.append(f"against {rival} nothing can be claimed, {one.too_little}")
        elif one.identical:
            parts.append(f"it answers every item as {rival} does")
        elif one.found:
            word = "better" if one.effect.value > 0 else "worse"
            parts.append(f"it is {word} than {rival} by {effect_text(one)}")
        else:
            parts.append(
                f"no difference from {rival} is detectable, {effect_text(one)}, and "
                f"{detectable_text(one)} found"
            )
    return f"As for WEAM itself: {'; '.join(parts)}." if parts else ""
