"""Words to links in one call: both directions, joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import em, growing
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.encoding import Side, encode_words
from weam_ray.alignment.links import Links
from weam_ray.alignment.model import AlignmentModel, DirectionModel, direction_model
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
    tensions: dict[str, float]
    """The final diagonal tension of each direction, ``forward`` and ``reverse``."""
    history: dict[str, list[em.Iteration]]
    """For each direction, one entry a counting iteration; none from a saved model."""
    unlinked: dict[str, int]
    """Pairs that could not be aligned, by reason: ``blank_side``, ``too_long``."""
    scores: NDArray[np.float64] | None = None
    """float64[n, 2]: log-probability of the target given the source and the reverse, NaN-free;
    minus infinity for pairs that could not be aligned. None where not asked for."""
    models: tuple[DirectionModel, DirectionModel] | None = None
    """The forward and the reverse model, where asked for."""


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
    models: bool = False,
    report: Report = silent,
) -> Alignment:
    """As :func:`align_words`, for sides that are numbers already.

    The result is the same bit for bit for any number of ``shards`` and ``threads``.
    """
    text, reasons = make_text(source, target, config.max_words)
    turned, _ = make_text(target, source, config.max_words)
    tick = _ticker(report, 2 * config.iterations)

    def train(direction: Text, distinct: NDArray[np.int64] | None) -> em.Trained:
        return em.train(
            direction, config, shards=shards, threads=threads,
            scores=scores, entries=models, distinct=distinct, tick=tick,
        )  # fmt: skip

    forward = train(text, None)
    reverse = train(turned, forward.met)
    ahead = direction_links(forward.links, text, reverse=False)
    back = direction_links(reverse.links, turned, reverse=True)
    ratios = (text.length_ratio, turned.length_ratio)
    return Alignment(
        links=symmetrise(ahead, back, config.symmetrisation),
        forward=ahead,
        reverse=back,
        tensions={
            "forward": forward.parameters.tension,
            "reverse": reverse.parameters.tension,
        },
        history={"forward": forward.history, "reverse": reverse.history},
        unlinked=reasons,
        scores=_scores((text, turned), (forward.scores, reverse.scores), ratios),
        models=(direction_model(text, forward), direction_model(turned, reverse))
        if models
        else None,
    )


def apply_model(
    model: AlignmentModel,
    source: Side,
    target: Side,
    config: AlignmentConfig,
    *,
    scores: bool = False,
    report: Report = silent,
) -> Alignment:
    """Align new text, numbered as the model's words are and beyond them where it knows none.

    Of ``config``, only the symmetrisation and ``max_words`` may differ from the model's.
    """
    text, reasons = make_text(source, target, config.max_words)
    turned, _ = make_text(target, source, config.max_words)
    tick = _ticker(report, 2)
    null = model.config.null_probability
    forward, of_target = model.forward.links(text, null, scores=scores)
    tick()
    reverse, of_source = model.reverse.links(turned, null, scores=scores)
    tick()
    ahead = direction_links(forward, text, reverse=False)
    back = direction_links(reverse, turned, reverse=True)
    ratios = (model.forward.length_ratio, model.reverse.length_ratio)
    return Alignment(
        links=symmetrise(ahead, back, config.symmetrisation),
        forward=ahead,
        reverse=back,
        tensions={"forward": model.forward.tension, "reverse": model.reverse.tension},
        history={},
        unlinked=reasons,
        scores=_scores((text, turned), (of_target, of_source), ratios),
    )


def direction_links(best: NDArray[np.int32], text: Text, *, reverse: bool) -> Links:
    """One direction's links, as (source, target) of the bitext whichever way it went.

    Args:
        best: int32[target words of ``text``], the position that explains each, or -1.
        reverse: ``text`` is the bitext with its sides exchanged.
    """
    room = int(np.count_nonzero(best >= 0)) + 1
    source, target = np.empty(room, np.int32), np.empty(room, np.int32)
    offsets = np.zeros(len(text.target) + 1, np.int64)
    used = growing.collect(best, text.target.starts, reverse, offsets, source, target)
    return Links(offsets, source[:used], target[:used])


def _ticker(report: Report, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        report(Progress(stage="align", done=done, total=total))

    return tick


def _scores(
    texts: tuple[Text, Text],
    of_words: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None],
    ratios: tuple[float, float],
) -> NDArray[np.float64] | None:
    # The words' probabilities times a Poisson of the length, as fast_align's -s.
    columns = []
    for text, words, ratio in zip(texts, of_words, ratios, strict=True):
        if words is None:
            return None
        lengths = text.target.lengths
        pair = np.repeat(np.arange(len(lengths)), lengths)
        sums = np.bincount(pair, words, len(lengths))
        expected = 0.05 + text.source.lengths * ratio
        poisson = np.log(expected) * lengths - _log_factorial(lengths) - expected
        columns.append(np.where(text.shape >= 0, sums + poisson, -np.inf))
    return np.stack(columns, axis=1)


def _log_factorial(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.cumsum(np.log(np.maximum(1.0, np.arange(int(numbers.max(initial=0)) + 1))))
    return np.asarray(table[numbers], np.float64)
