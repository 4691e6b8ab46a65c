"""How the report says numbers and names. A value that isn't known is a dash, never ``nan``."""

from __future__ import annotations

import math

MISSING = "–"
_METHODS = {
    "none": "no pre-training",
    "random": "random encoder",
    "mlm": "MLM",
    "tlm": "TLM",
    "weam": "WEAM",
    "word-aligned": "word-aligned",
    "weam-shuffled-links": "WEAM, shuffled links",
    "tlm-shuffled-pairs": "TLM, shuffled pairs",
    "tlm-doubled": "TLM, loss doubled",
    "weam-aligned-only": "WEAM, aligned words only",
}
_SYSTEMS = {
    "majority": "majority class",
    "hypothesis-only": "hypothesis only",
    "premise-only": "premise only",
    "word-overlap-only": "word overlap only",
    "random": "random encoder",
}
ORACLE = "target-dev-oracle"
"""The checkpoint rule that looks at each target language's own dev items."""
_METRICS = {"accuracy": "accuracy", "exact_match": "exact match", "f1": "F1"}
_MINUS = "\u2212"
_THIN = "\u202f"


def method_name(method: str, regime: str = "") -> str:
    """What a method is called; with its aligner regime where several are compared."""
    name = _METHODS.get(method, method)
    return f"{name} ({regime} links)" if regime else name


def system_name(system: str) -> str:
    """What a sanity row is called."""
    return _SYSTEMS.get(system.replace("_", "-"), system.replace("_", " ").replace("-", " "))


def metric_name(metric: str) -> str:
    """What a measurement is called."""
    return _METRICS.get(metric, metric.replace("_", " "))


def rule_name(selection: str) -> str:
    """What a checkpoint rule is called; one that no zero-shot result may use says so."""
    mark = " (an oracle: an upper bound, no result)" if selection == ORACLE else ""
    return f"{selection}{mark}"


def known(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def percent(share: float | None, digits: int = 1) -> str:
    """An accuracy: 0.4567 is ``45.7``."""
    if share is None or not math.isfinite(share):
        return MISSING
    text = f"{abs(100 * share):.{digits}f}"
    return f"{_MINUS}{text}" if share < 0 and float(text) else text


def points(share: float | None, digits: int = 1) -> str:
    """A signed difference in points: -0.0123 is ``−1.2``."""
    if share is None or not math.isfinite(share):
        return MISSING
    text = f"{abs(100 * share):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if share > 0 else _MINUS}{text}"


def span(low: float | None, high: float | None, *, signed: bool = True, digits: int = 1) -> str:
    """An interval: ``+0.3 to +2.1``."""
    show = points if signed else percent
    return f"{show(low, digits)} to {show(high, digits)}"


def probability(p: float | None) -> str:
    """A p value: ``0.034``, ``< 0.001``."""
    if p is None or not math.isfinite(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float | None) -> str:
    """A whole number in groups of three, to three significant digits when it is an estimate."""
    if number is None or not math.isfinite(number):
        return MISSING
    return f"{round(number):,}".replace(",", _THIN)


def about(number: float) -> str:
    """An estimated number of pairs, two significant digits: ``2 400``."""
    if not math.isfinite(number) or number <= 0:
        return MISSING
    scale = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return count(round(number / scale) * scale)


def short_size(size: int) -> str:
    """A corpus size on an axis: ``250``, ``4k``, ``1.5M``."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            value = size / unit
            return f"{value:.0f}{name}" if value == int(value) else f"{value:.1f}{name}"
    return str(size)


def duration(seconds: float | None) -> str:
    """``47 s``, ``12 min``, ``3 h 20 min``."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def listing(names: list[str] | tuple[str, ...]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
