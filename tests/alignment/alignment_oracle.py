"""Slow and obvious versions: EM on dictionaries, and symmetrisation on sets."""

from __future__ import annotations

import math
from collections import defaultdict

from scipy.special import digamma

from weam_ray.alignment import AlignmentConfig

Pairs = list[tuple[list[str], list[str]]]
NULL = "<null>"


def prior(m: int, n: int, j: int, tension: float) -> list[float]:
    """Of the source words 1..n for the target word j of 1..m."""
    heights = [math.exp(-tension * abs(i / n - j / m)) for i in range(1, n + 1)]
    return [height / sum(heights) for height in heights]


def expected_feature(m: int, n: int, j: int, tension: float) -> float:
    """What fast_align takes for the expected feature: the normaliser has the lengths exchanged."""
    value = sum(
        -abs(i / n - j / m) * math.exp(-tension * abs(i / n - j / m)) for i in range(1, n + 1)
    )
    return value / geometric_z(j, n, m, tension)


def geometric_z(j: int, m: int, n: int, tension: float) -> float:
    """The closed form of the normaliser, also where j is beyond m and it is no sum any more."""
    ratio = math.exp(-tension / n)
    floor = int(j * n / m)
    z = 0.0
    if n != floor:
        power = ratio ** (n - floor) if n > floor else 0.0
        z += math.exp(-tension * abs((floor + 1) / n - j / m)) * (1 - power) / (1 - ratio)
    if floor:
        z += math.exp(-tension * abs(floor / n - j / m)) * (1 - ratio**floor) / (1 - ratio)
    return z


def posteriors(source, target, j, table, tension, null, uniform):
    """Of null and the source words, not normalised."""
    around = prior(len(target), len(source), j, tension)
    word = target[j - 1]
    weights = [null * (1e-9 if uniform else table[NULL, word])]
    for e, p in zip(source, around, strict=True):
        weights.append((1 - null) * p * (1e-9 if uniform else table[e, word]))
    return weights


def train(pairs: Pairs, config: AlignmentConfig):
    """Returns links as sets, the tension and the log-likelihood after each counting iteration."""
    tension, null = config.initial_tension, config.null_probability
    alpha = config.alpha if config.variational_bayes else 0.0
    table: dict[tuple[str, str], float] = {}
    words = sum(len(target) for _, target in pairs)
    history = []
    for iteration in range(config.iterations - 1):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        feature = likelihood = 0.0
        for source, target in pairs:
            for j, word in enumerate(target, 1):
                weights = posteriors(source, target, j, table, tension, null, iteration == 0)
                total = sum(weights)
                likelihood += math.log(total)
                counts[NULL, word] += weights[0] / total
                for i, e in enumerate(source, 1):
                    share = weights[i] / total
                    counts[e, word] += share
                    # As fast_align has it: here the target word is counted from 0.
                    feature -= share * abs(i / len(source) - (j - 1) / len(target))
        if iteration and config.optimise_tension:
            for _ in range(8):
                expected = sum(
                    expected_feature(len(target), len(source), j, tension)
                    for source, target in pairs
                    for j in range(1, len(target) + 1)
                )
                tension += (feature - expected) / words * 20
                tension = min(max(tension, 0.1), 14)
        totals: dict[str, float] = defaultdict(float)
        for (e, _), count in counts.items():
            totals[e] += count + alpha
        for (e, word), count in counts.items():
            if alpha:
                table[e, word] = math.exp(digamma(count + alpha) - digamma(totals[e]))
            else:
                table[e, word] = count / totals[e]
        history.append((likelihood, tension))
    links = [viterbi(source, target, table, tension, null) for source, target in pairs]
    return links, history, table


def viterbi(source, target, table, tension, null):
    """The best source word of each target word, null first, then the leftmost, on a tie."""
    links = set()
    for j in range(1, len(target) + 1):
        weights = posteriors(source, target, j, table, tension, null, False)
        best = next(i for i, w in enumerate(weights) if w * (1 + 1e-9) >= max(weights))
        if best:
            links.add((best - 1, j - 1))
    return links


def join(forward: set, reverse: set, method: str) -> set:
    """Koehn, Och and Marcu's heuristics on sets of links."""
    if method in ("forward", "reverse"):
        return forward if method == "forward" else reverse
    if method == "union":
        return forward | reverse
    taken = forward & reverse
    if method == "intersection":
        return taken

    def free(i: int, j: int) -> tuple[bool, bool]:
        return all(i != a for a, _ in taken), all(j != b for _, b in taken)

    grown = True
    while grown:
        grown = False
        for i, j in sorted((forward | reverse) - taken):
            near = any(max(abs(i - a), abs(j - b)) == 1 for a, b in taken)
            if near and any(free(i, j)):
                taken.add((i, j))
                grown = True
    if "final" in method:
        wanted = all if method.endswith("and") else any
        for direction in (forward, reverse):
            for i, j in sorted(direction):
                if (i, j) not in taken and wanted(free(i, j)):
                    taken.add((i, j))
    return taken
