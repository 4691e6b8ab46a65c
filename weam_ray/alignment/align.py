"""Words to links in one call: both directions, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import em, growing
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.encoding import Side, encode_words
from weam_ray.alignment.links import Links
from weam_ray.alignment.symmetrisation import symmetrise
from weam_ray.alignment.text import Text, make_text
from weam_ray.errors import AlignerError
from weam_ray.progress import Progress, Report, silent


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """The links of a bitext of n pairs, and what EM went through."""

    links: Links
    """Both directions joined, as the settings say."""
    forward: Links
    """Target words explained by source words."""
    reverse: Links
    """Source words explained by target words; as (source, target) all the same."""
    history: dict[str, list[em.Iteration]]
    """``forward`` and ``reverse``: one entry a counting iteration."""
    unlinked: dict[str, int]
    """Pairs that could not be aligned, by reason: ``blank_side``, ``too_long``."""
    scores: NDArray[np.float64] | None = None
    """float64[n, 2]: log-probability of the target given the source and the reverse, NaN-free;
    minus infinity for pairs that could not be aligned. None where not asked for."""

    @property
    def tensions(self) -> dict[str, float]:
        """The final diagonal tension of each direction."""
        return {name: steps[-1].tension for name, steps in self.history.items()}


def align_words(
    source: Sequence[Sequence[str]],
    target: Sequence[Sequence[str]],
    config: AlignmentConfig,
    *,
    threads: int = 1,
    scores: bool = False,
    report: Report = silent,
) -> Alignment:
    """Align sentences given as lists of words; pair p is ``source[p]``, ``target[p]``.

    A pair with an empty side, or one longer than ``config.max_words``, gets no links and is counted
    in ``unlinked``; it has no influence on the others.

    Raises:
        AlignerError: the sides have different numbers of sentences.
    """
    if len(source) != len(target):
        raise AlignerError(
            f"{len(source)} source sentences and {len(target)} target sentences",
            cure="Give as many of one as of the other.",
        )
    given, explained = (encode_words(side, config.casefold)[0] for side in (source, target))
    return align_encoded(given, explained, config, threads=threads, scores=scores, report=report)


def align_encoded(
    source: Side,
    target: Side,
    config: AlignmentConfig,
    *,
    shards: int = 1,
    threads: int = 1,
    scores: bool = False,
    report: Report = silent,
) -> Alignment:
    """As :func:`align_words`, for sides that are numbers already.

    The result is the same bit for bit for any number of ``shards`` and ``threads``.
    """
    total = 2 * config.iterations
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        report(Progress(stage="align", done=done, total=total))

    text, reasons = make_text(source, target, config.max_words)
    turned, _ = make_text(target, source, config.max_words)
    forward = em.train(text, config, shards=shards, threads=threads, scores=scores, tick=tick)
    ahead = direction_links(forward, text, reverse=False)
    reverse = em.train(
        turned,
        config,
        shards=shards,
        threads=threads,
        scores=scores,
        distinct=forward.met,
        tick=tick,
    )
    back = direction_links(reverse, turned, reverse=True)
    return Alignment(
        links=symmetrise(ahead, back, config.symmetrisation),
        forward=ahead,
        reverse=back,
        history={"forward": forward.history, "reverse": reverse.history},
        unlinked=reasons,
        scores=pair_scores(text, forward, turned, reverse) if scores else None,
    )


def direction_links(trained: em.Trained, text: Text, *, reverse: bool) -> Links:
    """One direction's links, as (source, target) of the bitext whichever way it went."""
    room = int(np.count_nonzero(trained.links >= 0)) + 1
    source, target = np.empty(room, np.int32), np.empty(room, np.int32)
    offsets = np.zeros(len(text.target) + 1, np.int64)
    used = growing.collect(trained.links, text.target.starts, reverse, offsets, source, target)
    return Links(offsets, source[:used], target[:used])


def pair_scores(
    text: Text, forward: em.Trained, turned: Text, reverse: em.Trained
) -> NDArray[np.float64]:
    """Log-probability of each pair's target side given its source side and the reverse.

    The words' probabilities times a Poisson of the length, as fast_align's ``-s``; minus infinity
    for pairs that could not be aligned. float64[S, 2].
    """
    columns = []
    for direction, trained in ((text, forward), (turned, reverse)):
        assert trained.scores is not None
        lengths = direction.target.lengths
        pair = np.repeat(np.arange(len(lengths)), lengths)
        sums = np.bincount(pair, trained.scores, len(lengths))
        expected = 0.05 + direction.source.lengths * direction.length_ratio
        poisson = np.log(expected) * lengths - _log_factorial(lengths) - expected
        columns.append(np.where(direction.shape >= 0, sums + poisson, -np.inf))
    return np.stack(columns, axis=1)


def _log_factorial(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.cumsum(np.log(np.maximum(1.0, np.arange(int(numbers.max(initial=0)) + 1))))
    return np.asarray(table[numbers], np.float64)
