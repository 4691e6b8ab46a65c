"""What ``weam-ray align`` and ``weam-ray aer`` do, as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weam_ray.alignment import files, memory
from weam_ray.alignment.align import Alignment, align_encoded, apply_model
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.encoding import Side, by_frequency, renumber
from weam_ray.alignment.interning import Vocabulary
from weam_ray.alignment.model import AlignmentModel, load_model, save_model
from weam_ray.alignment.pharaoh import read_gold, read_links
from weam_ray.alignment.quality import AER, aer
from weam_ray.alignment.spans import fold_case
from weam_ray.errors import DataError
from weam_ray.progress import Report, silent

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What :func:`run_align` did."""

    pairs: int
    links: int
    unlinked: dict[str, int]
    """Lines without links, by reason: ``blank_side``, ``too_long``, ``none_found``."""
    tensions: dict[str, float]


def run_align(
    *,
    source: Path,
    target: Path,
    output: Path,
    config: AlignmentConfig,
    model: Path | None = None,
    model_out: Path | None = None,
    scores: Path | None = None,
    threads: int = 1,
    report: Report = silent,
    say: Say = print,
) -> Done:
    """Align two text files, line by line; one line of links out for every line in.

    Files may be gzipped, by their names. Output appears whole or not at all.

    Args:
        model: a folder that ``model_out`` filled before: its parameters are used, none learnt, and
            of ``config`` only the symmetrisation and ``max_words`` count.
        scores: where to write each line's log-probabilities, target given source and reverse,
            separated by a tab, both empty where there are none.
        say: is told what a person wants to know before and after.

    Raises:
        DataError: unreadable or undecodable files, sides with unequal numbers of lines.
        ResourceError: not enough memory.
        AlignerError: a damaged model.
    """
    if model is not None and model_out is not None:
        raise DataError("a saved model is used, so there is none to save", cure="Drop --model-out.")
    learnt = load_model(model) if model else None
    casefold = learnt.config.casefold if learnt else config.casefold
    sides = [_read(path, casefold) for path in (source, target)]
    (given, given_words), (explained, explained_words) = sides
    files.same_length(given, explained, (source, target))
    say(f"{len(given):,} pairs, {len(given.tokens):,} and {len(explained.tokens):,} words")
    needed, available = memory.needed(given, explained, config, threads), memory.available()
    say(memory.say(needed, available))
    memory.check(needed, available)
    if learnt:
        alignment = apply_model(
            learnt,
            renumber(given, given_words, learnt.source_words),
            renumber(explained, explained_words, learnt.target_words),
            config,
            scores=scores is not None,
            report=report,
        )
    else:
        alignment = align_encoded(
            given,
            explained,
            config,
            threads=threads,
            scores=scores is not None,
            models=model_out is not None,
            report=report,
        )
    if alignment.models is not None and model_out is not None:
        save_model(
            AlignmentModel(config, *alignment.models, given_words, explained_words), model_out
        )
    if alignment.scores is not None and scores is not None:
        files.write_scores(alignment.scores, scores)
    files.write_links(alignment.links, output)
    return _done(alignment, say)


def _read(path: Path, casefold: bool) -> tuple[Side, list[bytes]]:
    vocabulary = Vocabulary()
    side = files.read_side(path, vocabulary)
    words = vocabulary.words()
    if casefold:
        side, words = fold_case(side, words)
    side, old = by_frequency(side)
    return side, [words[number - 1] for number in old.tolist()]


def _done(alignment: Alignment, say: Say) -> Done:
    links = alignment.links
    empty = int((links.counts == 0).sum()) - sum(alignment.unlinked.values())
    unlinked = {**alignment.unlinked, "none_found": empty}
    say(f"{len(links.source):,} links")
    for reason, lines in unlinked.items():
        if lines:
            say(f"{lines:,} lines without links: {reason.replace('_', ' ')}")
    return Done(
        pairs=len(links),
        links=len(links.source),
        unlinked=unlinked,
        tensions=alignment.tensions,
    )


def run_aer(
    *,
    gold: Path,
    links: Path,
    index_base: int | None = None,
    source: Path | None = None,
    target: Path | None = None,
    say: Say = print,
) -> AER:
    """Alignment error rate of a Pharaoh file against gold.

    Args:
        index_base: number of the first word in the gold file, 0 or 1; None to find out.
        source: with ``target``, the text itself, whose lengths then bound every index.

    Raises:
        DataError: malformed files, or an index base that can't be.
        AlignerError: the files have different numbers of lines.
    """
    lengths = None
    if source is not None and target is not None:
        given, explained = (files.read_side(path, Vocabulary()) for path in (source, target))
        files.same_length(given, explained, (source, target))
        lengths = list(zip(given.lengths.tolist(), explained.lengths.tolist(), strict=True))
    known = read_gold(gold, index_base, lengths)
    say(f"{gold}: words are counted from {known.index_base} ({known.evidence})")
    rate = aer(read_links(links), known)
    say(f"AER {rate.aer:.4f}, precision {rate.precision:.4f}, recall {rate.recall:.4f}")
    say(f"{rate.links:,} links, {rate.sure:,} sure and {rate.possible:,} possible ones")
    return rate
