"""Words to links in one call: both directions, joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import em, growing
from weam_ray.alignment.config import AlignmentConfig, Symmetrisation
from weam_ray.alignment.encoding import Side, encode_words
from weam_ray.alignment.links import Links
from weam_ray.alignment.model import AlignmentModel, DirectionModel, direction_model
from weam_ray.alignment.spilling import Memory, Shelf
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
    hire: em.Hire | None = None,
    scores: bool = False,
    models: bool = False,
    report: Report = silent,
) -> Alignment:
    """As :func:`align_words`, for sides that are numbers already.

    The result is the same bit for bit for any number of ``shards`` and ``threads``, and for any
    team that ``hire`` brings together in their place.
    """
    hire = hire or em.threads_of(shards, threads)
    found = find_links(source, target, config, hire, scores=scores, models=models, report=report)
    return found.alignment(config.symmetrisation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Both directions' links as they come, not yet joined."""

    forward: NDArray[np.int16]
    """int16[target words]: the source position that explains each, or -1."""
    reverse: NDArray[np.int16]
    """int16[source words]: the target position that explains each, or -1."""
    source_starts: NDArray[np.int64]
    """int64[n + 1]: where each source sentence begins."""
    target_starts: NDArray[np.int64]
    tensions: dict[str, float]
    history: dict[str, list[em.Iteration]]
    unlinked: dict[str, int]
    scores: NDArray[np.float64] | None
    models: tuple[DirectionModel, DirectionModel] | None
    """As in :class:`Alignment`."""

    def joined(self, method: Symmetrisation, rows: int) -> Iterator[Links]:
        """The links of ``rows`` pairs at a time, joined."""
        for first in range(0, len(self.source_starts) - 1, rows):
            yield symmetrise(*self._both(first, first + rows), method)

    def alignment(self, method: Symmetrisation) -> Alignment:
        """All in one record."""
        ahead, back = self._both(0, len(self.source_starts) - 1)
        return Alignment(
            links=symmetrise(ahead, back, method),
            forward=ahead,
            reverse=back,
            tensions=self.tensions,
            history=self.history,
            unlinked=self.unlinked,
            scores=self.scores,
            models=self.models,
        )

    def _both(self, first: int, last: int) -> tuple[Links, Links]:
        ahead = direction_links(self.forward, self.target_starts[first : last + 1], reverse=False)
        back = direction_links(self.reverse, self.source_starts[first : last + 1], reverse=True)
        return ahead, back


def find_links(
    source: Side,
    target: Side,
    config: AlignmentConfig,
    hire: em.Hire,
    *,
    shelf: Shelf | None = None,
    scores: bool = False,
    models: bool = False,
    report: Report = silent,
) -> Found:
    """Train both directions, one after the other.

    Args:
        shelf: where the first direction's links lie meanwhile.
    """
    shelf = shelf or Memory()
    ways: list[em.Trained] = []
    columns, kept = [], []
    reasons: dict[str, int] = {}
    for given, explained in ((source, target), (target, source)):
        text, reasons = make_text(given, explained, config.max_words)
        distinct = ways[0].met if ways else None
        tick = _ticker(report, len(ways) * config.iterations, 2 * config.iterations)
        way = em.train(
            text, config, hire, scores=scores, entries=models, distinct=distinct, tick=tick
        )
        if way.scores is not None:
            columns.append(_scores(text, way.scores, text.length_ratio))
        if models:
            kept.append(direction_model(text, way))
        ways.append(replace(way, links=shelf.mapped(way.links), scores=None, entries=[]))
        shelf.release()
    forward, reverse = ways
    return Found(
        forward=forward.links,
        reverse=reverse.links,
        source_starts=source.starts,
        target_starts=target.starts,
        tensions={
            "forward": forward.parameters.tension,
            "reverse": reverse.parameters.tension,
        },
        history={"forward": forward.history, "reverse": reverse.history},
        unlinked=reasons,
        scores=np.stack(columns, axis=1) if columns else None,
        models=(kept[0], kept[1]) if kept else None,
    )


def apply_model(
    model: AlignmentModel,
    source: Side,
    target: Side,
    config: AlignmentConfig,
    *,
    scores: bool = False,
    report: Report = silent,
) -> Found:
    """Align new text, numbered as the model's words are and beyond them where it knows none.

    Of ``config``, only the symmetrisation and ``max_words`` may differ from the model's.
    """
    null = model.config.null_probability
    links, columns = [], []
    reasons: dict[str, int] = {}
    for given, explained, way in ((source, target, model.forward), (target, source, model.reverse)):
        text, reasons = make_text(given, explained, config.max_words)
        best, of_pairs = way.links(text, null, scores=scores)
        links.append(best)
        if of_pairs is not None:
            columns.append(_scores(text, of_pairs, way.length_ratio))
        report(Progress(stage="align", done=len(links), total=2))
    return Found(
        forward=links[0],
        reverse=links[1],
        source_starts=source.starts,
        target_starts=target.starts,
        tensions={"forward": model.forward.tension, "reverse": model.reverse.tension},
        history={},
        unlinked=reasons,
        scores=np.stack(columns, axis=1) if columns else None,
        models=None,
    )


def direction_links(best: NDArray[np.int16], starts: NDArray[np.int64], *, reverse: bool) -> Links:
    """One direction's links, as (source, target) of the bitext whichever way it went.

    Args:
        best: int16[explained words], the position that explains each, or -1.
        starts: int64[n + 1], where each of n consecutive explained sentences begins.
        reverse: the source side is explained.
    """
    part = best[starts[0] : starts[-1]]
    room = int(np.count_nonzero(part >= 0)) + 1
    source, target = np.empty(room, np.int32), np.empty(room, np.int32)
    offsets = np.zeros(len(starts), np.int64)
    used = growing.collect(part, starts - starts[0], reverse, offsets, source, target)
    return Links(offsets, source[:used], target[:used])


def _ticker(report: Report, before: int, total: int) -> em.Tick:
    def tick(iterations: int, share: float) -> None:
        report(Progress(stage="align", done=before + iterations, total=total, share=share))

    return tick


def _scores(text: Text, of_pairs: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    # The words' probabilities times a Poisson of the length, as fast_align's -s.
    lengths = text.target.lengths
    expected = 0.05 + text.source.lengths * ratio
    poisson = np.log(expected) * lengths - _log_factorial(lengths) - expected
    return np.where(text.shape >= 0, of_pairs + poisson, -np.inf)


def _log_factorial(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.cumsum(np.log(np.maximum(1.0, np.arange(int(numbers.max(initial=0)) + 1))))
    return np.asarray(table[numbers], np.float64)
