"""Question and context as overlapping windows of subwords, and spans back to text.

Shapes: Q questions, W windows, T subwords of all windows together, L those of a batch's longest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer.tokenised import open_tokenizer, with_passages

_CHUNK = 512
_FILE, _ASKED = "windows.npz", "asked.parquet"
_ARRAYS = ("ids", "types", "offsets", "question", "characters", "answers")
_KEPT = ["task", "split", "language", "context_language", "question_language", "item"]
_NEVER = -1e9


@dataclass(frozen=True, eq=False)
class Windows:
    """W windows in the order of their questions; arrays of subwords are window after window."""

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    """Window w is ``ids[offsets[w]:offsets[w + 1]]``: (W + 1,)."""

    pad: int
    question: NDArray[np.int64]
    """The question of each window: (W,)."""

    characters: NDArray[np.int32]
    """Where each subword begins and ends in the context: (T, 2); -1 outside the context."""

    answers: NDArray[np.int64]
    """First and last subword of the answer within each window; both 0, which is [CLS], where the
    window lacks a part of it: (W, 2)."""

    asked: pa.Table
    """task, split, language, context_language, question_language, item and passage (which context)
    of each question: (Q,)"""

    truncated: int = 0
    """Questions that lost subwords to ``max_question``."""

    def __len__(self) -> int:
        return len(self.question)

    @property
    def units(self) -> NDArray[np.int64]:
        """The question of each window: (W,)."""
        return self.question

    def column(self, name: str) -> NDArray[np.object_]:
        """A column of :attr:`asked` for each window: (W,)."""
        values = np.asarray(self.asked[name].to_pylist(), dtype=object)
        return np.asarray(values[self.question], dtype=object)

    def among(self, languages: Collection[str]) -> NDArray[np.bool_]:
        """True where both languages of a window are among these: (W,)."""
        names = np.asarray(sorted(languages), object)
        sides = [self.column(f"{side}_language") for side in ("context", "question")]
        return np.isin(sides[0], names) & np.isin(sides[1], names)

    def write(self, folder: Path) -> None:
        """Write the windows, from which :meth:`read` makes the same object."""
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        arrays |= {name: np.int64(getattr(self, name)) for name in ("pad", "truncated")}
        np.savez_compressed(folder / _FILE, **arrays)
        pq.write_table(self.asked, folder / _ASKED, compression="zstd")

    @classmethod
    def read(cls, folder: Path) -> Windows:
        """Read what :meth:`write` wrote.

        Raises:
            DataError: the files are missing.
        """
        if not (folder / _FILE).is_file() or not (folder / _ASKED).is_file():
            raise DataError("no windows of questions here", place=str(folder))
        with np.load(folder / _FILE, allow_pickle=False) as found:
            return cls(
                ids=found["ids"],
                types=found["types"] if "types" in found else None,
                offsets=found["offsets"],
                pad=int(found["pad"]),
                truncated=int(found["truncated"]),
                question=found["question"],
                characters=found["characters"],
                answers=found["answers"],
                asked=pq.read_table(folder / _ASKED),
            )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Subwords of each window: (W,)."""
        return np.diff(self.offsets)


class Cut(Protocol):
    """How contexts are cut: part of :class:`QaConfig`."""

    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def stride(self) -> int: ...  # noqa: D102
    @property
    def max_question(self) -> int: ...  # noqa: D102


def make_windows(questions: pa.Table, tokenizer_dir: Path, config: Cut) -> Windows:
    """Cut each question's context into windows that overlap by ``stride`` subwords.

    Raises:
        DataError: no tokenizer there.
        ConfigError: ``max_length`` is above what the encoder can take.
    """
    tokenizer = open_tokenizer(tokenizer_dir)
    if config.max_length > tokenizer.model_max_length:
        raise ConfigError(
            f"max_length {config.max_length} is above the encoder's {tokenizer.model_max_length}",
            place="qa.max_length",
            cure=f"Set it to {tokenizer.model_max_length} or less.",
        )
    texts, truncated = _short_questions(
        tokenizer, questions["question"].to_pylist(), config.max_question
    )
    contexts = questions["context"].to_pylist()

    def chunks() -> Iterator[tuple[Any, NDArray[np.int64]]]:
        # One at a time: the tokenizer's own objects take far more memory than what is kept of them.
        for start in range(0, len(texts), _CHUNK):
            encoded = tokenizer(
                texts[start : start + _CHUNK],
                contexts[start : start + _CHUNK],
                truncation="only_second",
                max_length=config.max_length,
                stride=config.stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            yield encoded, np.asarray(encoded["overflow_to_sample_mapping"], np.int64) + start

    made = _assemble(chunks(), questions, int(tokenizer.pad_token_id))
    return replace(made, truncated=truncated)


def best_spans(
    starts_BL: torch.Tensor, ends_BL: torch.Tensor, context_BL: torch.Tensor, max_answer: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best span of at most ``max_answer`` context subwords in each window.

    Returns:
        First subword, last subword, the sum of both logits, by which windows are compared, and the
        log-probability within the window: (B,) each.
    """
    starts_BL = starts_BL.float().masked_fill(~context_BL, _NEVER)
    ends_BL = ends_BL.float().masked_fill(~context_BL, _NEVER)
    # A span of d + 1 subwords pairs start i with end i + d: so many shifted sums, and no L x L.
    best, first = (starts_BL + ends_BL).max(dim=1)
    extra = torch.zeros_like(first)
    for further in range(1, min(max_answer, starts_BL.shape[1])):
        score, place = (starts_BL[:, :-further] + ends_BL[:, further:]).max(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        first = torch.where(better, place, first)
        extra = torch.where(better, torch.full_like(place, further), extra)
    log_probability = best - starts_BL.logsumexp(dim=1) - ends_BL.logsumexp(dim=1)
    return first, first + extra, best, log_probability


def _short_questions(tokenizer: Any, questions: list[str], limit: int) -> tuple[list[str], int]:
    """Questions cut after ``limit`` subwords, and how many were; TyDiQA's begin with blanks, which
    say nothing.
    """
    stripped = [question.strip() for question in questions]
    encoded = tokenizer(stripped, add_special_tokens=False, return_offsets_mapping=True)
    places = encoded["offset_mapping"]
    cut = [
        text if len(offsets) <= limit else text[: offsets[limit - 1][1]]
        for text, offsets in zip(stripped, places, strict=True)
    ]
    return cut, sum(len(offsets) > limit for offsets in places)


def _assemble(
    chunks: Iterator[tuple[Any, NDArray[np.int64]]], questions: pa.Table, pad: int
) -> Windows:
    answers, starts = questions["answers"].to_pylist(), questions["starts"].to_pylist()
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.uint8]] = []
    characters: list[NDArray[np.int32]] = []
    spans: list[tuple[int, int]] = []
    samples: list[NDArray[np.int64]] = []
    for encoded, sample in chunks:
        samples.append(sample)
        for window, row in enumerate(sample):
            ids.append(np.asarray(encoded["input_ids"][window], np.int32))
            if "token_type_ids" in encoded:
                types.append(np.asarray(encoded["token_type_ids"][window], np.uint8))
            sequence = np.asarray([one == 1 for one in encoded.sequence_ids(window)])
            offsets = np.asarray(encoded["offset_mapping"][window], np.int32)
            characters.append(np.where(sequence[:, None], offsets, -1).astype(np.int32))
            answer, begin = answers[row][0], starts[row][0]
            blanks = len(answer) - len(answer.lstrip())
            end = begin + len(answer.rstrip())
            spans.append(_answer(characters[-1], begin + blanks, end))
    lengths = [len(one) for one in ids]
    return Windows(
        ids=np.concatenate(ids),
        types=np.concatenate(types) if types else None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pad=pad,
        question=np.concatenate(samples),
        characters=np.concatenate(characters),
        answers=np.asarray(spans, np.int64),
        asked=with_passages(questions.select(_KEPT), questions["context"]),
    )


def _answer(characters: NDArray[np.int32], begin: int, end: int) -> tuple[int, int]:
    """First and last subword that touch the answer's characters, or 0, 0."""
    inside = characters[:, 0] >= 0
    touching = inside & (characters[:, 0] < end) & (characters[:, 1] > begin)
    places = np.flatnonzero(touching)
    if not len(places):
        return 0, 0
    whole = characters[places[0], 0] <= begin and characters[places[-1], 1] >= end
    return (int(places[0]), int(places[-1])) if whole else (0, 0)
