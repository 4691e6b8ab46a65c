"""What ``weam-ray align`` and ``weam-ray aer`` do, as plain functions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from weam_ray.alignment import files, memory
from weam_ray.alignment.align import Found, apply_model, find_links
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.em import Hire, threads_of
from weam_ray.alignment.encoding import Side, frequency_ranks, renumber
from weam_ray.alignment.interning import Vocabulary
from weam_ray.alignment.links import Links
from weam_ray.alignment.memory import Layout
from weam_ray.alignment.model import AlignmentModel, files_of, load_model, save_model
from weam_ray.alignment.outputs import check_folder, check_outputs, is_stream
from weam_ray.alignment.pharaoh import check_bounds, read_gold, read_links
from weam_ray.alignment.quality import AER, aer
from weam_ray.alignment.spans import merge_types
from weam_ray.alignment.spilling import Shelf, shelf_of
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
    hire: Hire | None = None,
    memory_limit: int | None = None,
    work_folder: Path | None = None,
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
        hire: another team than ``threads`` of this process; it answers for its own memory.
        memory_limit: bytes to use at most; None: what is there.
        work_folder: for work files where memory does not suffice; None: the system's for
            temporary files.
        say: is told what a person wants to know before and after.

    Raises:
        DataError: unreadable or undecodable files, sides with unequal numbers of lines.
        ResourceError: not enough memory, and not enough disk for work files instead.
        AlignerError: a damaged model.
    """
    _check_places(source, target, output, scores, model, model_out)
    room = _Room.of(memory_limit, work_folder)
    scored, kept = scores is not None, model_out is not None
    learnt = load_model(model, room.memory) if model else None
    casefold = (learnt.config if learnt else config).casefold
    with ExitStack() as stack:
        bitext = _read_both(source, target, casefold, room, stack, say)
        held = learnt.nbytes if learnt else 0
        needs = memory.layouts(
            *bitext.sides, config, threads=threads, scores=scored, models=kept, held=held
        )
        bitext = bitext.laid_out(room.choose(needs, say), room.folder, stack)
        hire = hire or threads_of(threads=threads, shelf=bitext.shelf)
        found = _align(bitext, config, learnt or hire, scores=scored, models=kept, report=report)
        _save(found, bitext, config, model_out, scores, say)
        return _write(found, config, output, say)


def scores_beside(output: Path) -> Path:
    """Where the scores go when nobody says: ``a.links`` to ``a.links.scores``, packed as it is.

    Raises:
        DataError: the links go to no file.
    """
    if is_stream(output):
        raise DataError(
            "scores are written beside the links, and these go to no file",
            place=str(output),
            cure="Name a file with --output.",
        )
    packed = output.suffix == ".gz"
    name = output.stem if packed else output.name
    return output.with_name(f"{name}.scores{'.gz' if packed else ''}")


def _check_places(
    source: Path,
    target: Path,
    output: Path,
    scores: Path | None,
    model: Path | None,
    model_out: Path | None,
) -> None:
    if model is not None and model_out is not None:
        raise DataError("a saved model is used, so there is none to save", cure="Drop --model-out.")
    folder = model or model_out
    others = [source, target, *(files_of(folder) if folder else ())]
    check_outputs([output, *([scores] if scores else ())], others)
    if model_out is not None:
        check_folder(model_out)


@dataclass(frozen=True)
class _Room:
    """What may be used: bytes of memory, and a folder for work files where they don't suffice."""

    memory: int
    folder: Path
    by_hand: bool
    """The memory is a person's wish, not what the machine has."""

    @classmethod
    def of(cls, memory_limit: int | None, work_folder: Path | None) -> _Room:
        return cls(
            memory.available() if memory_limit is None else memory_limit,
            work_folder or Path(tempfile.gettempdir()),
            memory_limit is not None,
        )

    def choose(self, options: tuple[Layout, Layout], say: Say) -> Layout:
        layout = memory.choose(options, self.memory, self.folder, by_hand=self.by_hand)
        say(memory.say(layout, self.memory, self.folder))
        return layout


@dataclass(frozen=True, eq=False)
class _Read:
    side: Side
    words: list[bytes]
    """Of the types 1, 2, ..."""

    def on(self, shelf: Shelf) -> _Read:
        """The same, its text on another shelf if that one is on disk."""
        if not shelf.on_disk:
            return self
        return _Read(replace(self.side, tokens=shelf.mapped(self.side.tokens)), self.words)


@dataclass(frozen=True, eq=False)
class _Bitext:
    given: _Read
    explained: _Read
    shelf: Shelf
    """For what is made of it."""

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.given.side, self.explained.side

    def laid_out(self, layout: Layout, folder: Path, stack: ExitStack) -> _Bitext:
        """The same where the layout wants it, for as long as ``stack`` is open."""
        if layout.on_disk == self.shelf.on_disk:
            return self
        # Text that was read to disk stays there, mapped, though the rest fits in memory.
        shelf = stack.enter_context(shelf_of(not layout.on_disk, folder))
        return _Bitext(self.given.on(shelf), self.explained.on(shelf), shelf)


def _read_both(
    source: Path, target: Path, casefold: bool, room: _Room, stack: ExitStack, say: Say
) -> _Bitext:
    in_memory = memory.text_fits((source, target), room.memory)
    shelf = stack.enter_context(shelf_of(in_memory, room.folder))
    given, explained = (_read(path, casefold, shelf, say) for path in (source, target))
    bitext = _Bitext(given, explained, shelf)
    files.same_length(*bitext.sides, (source, target))
    words = (len(side.tokens) for side in bitext.sides)
    say("{:,} pairs, {:,} and {:,} words".format(len(given.side), *words))
    return bitext


def _read(path: Path, casefold: bool, shelf: Shelf, say: Say) -> _Read:
    say(f"reading {path}")
    vocabulary = Vocabulary()
    numbered = files.number_words(path, vocabulary, shelf)
    merged, words = merge_types(vocabulary.words(), casefold)
    counts = np.zeros(len(words) + 1, np.int64)
    np.add.at(counts, merged, numbered.counts)
    new, old = frequency_ranks(counts[1:])
    side = Side(numbered.tokens.finish(new[merged]), numbered.starts, len(words))
    return _Read(side, [words[number - 1] for number in old.tolist()])


def _align(
    bitext: _Bitext,
    config: AlignmentConfig,
    by: AlignmentModel | Hire,
    *,
    scores: bool,
    models: bool,
    report: Report,
) -> Found:
    given, explained = bitext.given, bitext.explained
    if isinstance(by, AlignmentModel):
        source = renumber(given.side, given.words, by.source_words)
        target = renumber(explained.side, explained.words, by.target_words)
        return apply_model(by, source, target, config, scores=scores, report=report)
    shelf = bitext.shelf
    return find_links(
        *bitext.sides, config, by, shelf=shelf, scores=scores, models=models, report=report
    )


def _save(
    found: Found,
    bitext: _Bitext,
    config: AlignmentConfig,
    model_out: Path | None,
    scores: Path | None,
    say: Say,
) -> None:
    if found.models is not None and model_out is not None:
        words = (bitext.given.words, bitext.explained.words)
        save_model(AlignmentModel(config, *found.models, *words), model_out)
        say(f"model in {model_out}")
    if found.scores is not None and scores is not None:
        files.write_scores(found.scores, scores)
        say(f"scores in {scores}")


def _write(found: Found, config: AlignmentConfig, output: Path, say: Say) -> Done:
    pairs = links = empty = 0

    def counted() -> Iterator[Links]:
        nonlocal pairs, links, empty
        for part in found.joined(config.symmetrisation, files.ROWS):
            pairs += len(part)
            links += len(part.source)
            empty += int((part.counts == 0).sum())
            yield part

    files.write_parts(counted(), output)
    unlinked = {**found.unlinked, "none_found": empty - sum(found.unlinked.values())}
    say(f"{links:,} links")
    for reason, lines in unlinked.items():
        if lines:
            say(f"{lines:,} lines without links: {reason.replace('_', ' ')}")
    return Done(pairs=pairs, links=links, unlinked=unlinked, tensions=found.tensions)


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
        DataError: malformed files, links or an index base that can't be, one side of the text.
        AlignerError: the files have different numbers of lines.
    """
    lengths = None
    if (source is None) != (target is None):
        raise DataError("one side of the text bounds nothing", cure="Give --source and --target.")
    if source is not None and target is not None:
        given, explained = (files.read_side(path, Vocabulary()) for path in (source, target))
        files.same_length(given, explained, (source, target))
        lengths = list(zip(given.lengths.tolist(), explained.lengths.tolist(), strict=True))
    known = read_gold(gold, index_base, lengths)
    say(f"{gold}: words are counted from {known.index_base} ({known.evidence})")
    found = read_links(links)
    if lengths is not None:
        check_bounds(found, lengths, links)
    elif len(found.source) and min(found.source.min(), found.target.min()) > 0:
        say(f"{links}: no index is 0; if words are counted from 1, --source and --target will tell")
    rate = aer(found, known)
    say(f"AER {rate.aer:.4f}, precision {rate.precision:.4f}, recall {rate.recall:.4f}")
    say(f"{rate.links:,} links, {rate.sure:,} sure and {rate.possible:,} possible ones")
    return rate
