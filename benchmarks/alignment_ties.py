"""Where two aligners' links differ: what does each one's own model give both candidates?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from alignment_peers import METHOD, measured

from weam_ray.alignment import AlignmentConfig, Links, read_links
from weam_ray.alignment.command import run_align
from weam_ray.alignment.model import AlignmentModel, DirectionModel, load_model

OURS_WITHIN, THEIRS_WITHIN = 1e-6, 1e-4
"""Relative differences up to which candidates tie. fast_align prints its logarithms to six digits,
so its probabilities are known to about 1e-5."""

Probability = Callable[[str | None, str], float]
"""p(explained word | explaining word), None being the null word."""


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Target words (or source words, in reverse) that are linked differently."""

    words: int
    """In all, the same or not."""
    different: int
    tied_in_ours: int
    tied_in_theirs: int
    unexplained: int
    """Tied in neither model."""


@dataclass(frozen=True)
class _Model:
    tension: float
    probability: Probability

    def score(self, given: list[str], word: str, j: int, m: int, i: int, null: float) -> float:
        """Of explaining place i from 0, or -1 for the null word; j is counted from 1."""
        if i < 0:
            return null * self.probability(None, word)
        n = len(given)
        slopes = [math.exp(-self.tension * abs(k / n - j / m)) for k in range(1, n + 1)]
        prior = (1 - null) * slopes[i] / sum(slopes)
        return prior * self.probability(given[i], word)


def differences(fast_align: Path, folder: Path) -> dict[str, Differences]:
    """Both directions of the text in ``folder``, trained again by both so that they tell all."""
    config = AlignmentConfig.model_validate({"casefold": False, "symmetrisation": METHOD})
    run_align(
        source=folder / "source",
        target=folder / "target",
        output=folder / "ours",
        model_out=folder / "model",
        config=config,
        say=lambda _: None,
    )
    saved = load_model(folder / "model")
    source, target = (
        [line.split(" ") for line in (folder / name).read_text("utf8").split("\n")[:-1]]
        for name in ("source", "target")
    )
    found = {}
    for name, reverse in (("forward", False), ("reverse", True)):
        given, explained = (target, source) if reverse else (source, target)
        ours = _best(folder / f"ours.{name}", explained, reverse)
        theirs = _best(folder / f"fa.{name}", explained, reverse)
        cases = [
            (s, j, one, other)
            for s, (left, right) in enumerate(zip(ours, theirs, strict=True))
            for j, (one, other) in enumerate(zip(left, right, strict=True))
            if one != other
        ]
        wanted = {
            (given[s][i] if i >= 0 else None, explained[s][j])
            for s, j, *both in cases
            for i in both
        }
        models = (
            _our_model(saved, reverse),
            _their_model(fast_align, folder, reverse, wanted),
        )
        null = config.null_probability
        ties = np.zeros((len(cases), 2), bool)
        for row, (s, j, *both) in enumerate(cases):
            for column, (model, within) in enumerate(
                zip(models, (OURS_WITHIN, THEIRS_WITHIN), strict=True)
            ):
                one, other = (
                    model.score(given[s], explained[s][j], j + 1, len(explained[s]), i, null)
                    for i in both
                )
                ties[row, column] = abs(one - other) <= within * max(one, other)
        found[name] = Differences(
            words=sum(map(len, explained)),
            different=len(cases),
            tied_in_ours=int(ties[:, 0].sum()),
            tied_in_theirs=int(ties[:, 1].sum()),
            unexplained=int((~ties.any(axis=1)).sum()),
        )
    return found


def _best(path: Path, explained: list[list[str]], reverse: bool) -> list[list[int]]:
    links: Links = read_links(path)
    rows = []
    for words, pairs in zip(explained, links, strict=True):
        best = [-1] * len(words)
        for i, j in pairs:
            best[i if reverse else j] = j if reverse else i
        rows.append(best)
    return rows


def _our_model(saved: AlignmentModel, reverse: bool) -> _Model:
    way: DirectionModel = saved.reverse if reverse else saved.forward
    sides = (saved.source_words, saved.target_words)
    given, explained = (
        {word.decode(): number for number, word in enumerate(side, 1)}
        for side in (sides[::-1] if reverse else sides)
    )

    def probability(e: str | None, f: str) -> float:
        t = explained[f]
        if e is None:
            return float(way.null_prob[t - 1])
        begin, end = way.row_ptr[t - 1 : t + 1]
        (at,) = np.nonzero(way.row_word[begin:end] == given[e])
        return float(way.row_prob[begin + at[0]] if len(at) else way.floor[given[e]])

    return _Model(way.tension, probability)


def _their_model(
    binary: Path, folder: Path, reverse: bool, wanted: set[tuple[str | None, str]]
) -> _Model:
    table = folder / "fa.table"
    command = [str(binary), "-i", "both", "-d", "-o", "-v", "-p", str(table), "-t", "-1e9"]
    measured([[*command, *(["-r"] if reverse else [])]], folder)
    said = (folder / "said").read_text("utf8")
    tension = float(re.findall(r"final tension: (\S+)", said)[-1])
    keys = {("<eps>" if e is None else e, f) for e, f in wanted}
    found = {}
    with open(table, encoding="utf8", newline="\n") as stream:
        for line in stream:
            e, f, logarithm = line.rstrip("\n").split("\t")
            if (e, f) in keys:
                found[e, f] = math.exp(float(logarithm))
    table.unlink()
    return _Model(tension, lambda e, f: found.get(("<eps>" if e is None else e, f), 1e-9))
