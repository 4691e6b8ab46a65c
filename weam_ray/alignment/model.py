"""A trained aligner that is kept, and new text aligned with it.

On the text it was trained on, a saved model gives the links that training gave. That is where it
differs from fast_align's ``force_align``, which takes 1e-9 for every pair of words that it has
pruned from its table: here two words that are both known, but have no entry, get what the
Dirichlet prior leaves to words never seen together. A word that is unknown gets 1e-9 with
any other, as there; a target word that is unknown is therefore linked by its place alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import em, kernels
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.files import created
from weam_ray.alignment.numerics import frozen
from weam_ray.alignment.text import Text, sort_records
from weam_ray.errors import AlignerError, DataError

FORMAT = 1
_HEAD = "aligner.json"
_ARRAYS = "aligner.npz"


@dataclass(frozen=True, eq=False)
class DirectionModel:
    """p(target word | source word) of one direction, by target type, and the diagonal."""

    row_ptr: NDArray[np.int64]
    """int64[T + 1]: the entries of target type t are those from ``row_ptr[t - 1]`` on."""
    row_word: NDArray[np.int32]
    row_prob: NDArray[np.float64]
    null_prob: NDArray[np.float64]
    """float64[T]"""
    floor: NDArray[np.float64]
    """float64[V + 1]: probability of a target word with which a source word has no entry."""
    tension: float
    length_ratio: float

    def links(
        self, text: Text, null_probability: float, *, scores: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.float64] | None]:
        """The best source position of each target word of a text in the model's numbers.

        Types beyond the model's are unknown words. Returns int32[target words], -1 for the null
        word, and float64[target words] log-probabilities if ``scores``.
        """
        types = text.target.types
        unknown = types - (len(self.row_ptr) - 1)
        row_ptr = np.concatenate([self.row_ptr, np.full(unknown, self.row_ptr[-1])])
        null_prob = np.concatenate([self.null_prob, np.zeros(unknown)])
        strange = np.full(text.source.types + 1 - len(self.floor), kernels.UNSEEN)
        floor = np.concatenate([self.floor, strange])
        links = np.full(len(text.target.tokens), -1, np.int32)
        of_words = np.zeros(len(links)) if scores else np.empty(0)
        kernels.link(
            text.given, text.shapes.prior(self.tension, null_probability),
            sort_records(text, 1, types + 1), text.target.starts,
            row_ptr, self.row_word, self.row_prob, null_prob, floor,
            np.arange(types) < types - unknown, null_probability, floor.copy(),
            np.empty(text.longest), links, of_words,
        )  # fmt: skip
        return links, of_words if scores else None


def direction_model(text: Text, trained: em.Trained) -> DirectionModel:
    """What is worth keeping of a trained direction."""
    entries = trained.entries
    counts = [np.diff(part.row_ptr) for part in entries]
    row_ptr = np.zeros(text.target.types + 1, np.int64)
    np.cumsum(np.concatenate([*counts, np.empty(0, np.int64)]), out=row_ptr[1:])
    return DirectionModel(
        row_ptr=row_ptr,
        row_word=np.concatenate([*(part.row_word for part in entries), np.empty(0, np.int32)]),
        row_prob=np.concatenate([*(part.row_prob for part in entries), np.empty(0)]),
        null_prob=np.concatenate([*(part.null_prob for part in entries), np.empty(0)]),
        floor=trained.floor,
        tension=trained.parameters.tension,
        length_ratio=text.length_ratio,
    )


@dataclass(frozen=True, eq=False)
class AlignmentModel:
    """Both directions' models and the words of their numbers, type 1 first."""

    config: AlignmentConfig
    forward: DirectionModel
    reverse: DirectionModel
    source_words: list[bytes]
    target_words: list[bytes]


def save_model(model: AlignmentModel, folder: Path) -> None:
    """Write a model: ``aligner.npz`` and, last, ``aligner.json``; neither can run code.

    Raises:
        DataError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't make a folder: {error.strerror}", place=str(folder)) from None
    arrays: dict[str, NDArray[Any]] = {}
    head: dict[str, Any] = {"format": FORMAT, "config": model.config.model_dump(mode="json")}
    for name, direction in (("forward", model.forward), ("reverse", model.reverse)):
        for field in ("row_ptr", "row_word", "row_prob", "null_prob", "floor"):
            arrays[f"{name}_{field}"] = getattr(direction, field)
        head[name] = {"tension": direction.tension, "length_ratio": direction.length_ratio}
    for name, words in (("source", model.source_words), ("target", model.target_words)):
        lengths = np.array([len(word) for word in words], np.int64)
        arrays[f"{name}_lengths"] = lengths
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(words), np.uint8)
    with created(folder / _ARRAYS) as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    with created(folder / _HEAD) as stream:
        stream.write(json.dumps(head, indent=1).encode())


def load_model(folder: Path) -> AlignmentModel:
    """Read a model that :func:`save_model` wrote.

    Raises:
        AlignerError: there is none, it is damaged, or another version wrote it.
    """
    try:
        head = json.loads((folder / _HEAD).read_text(encoding="utf8"))
        if head["format"] != FORMAT:
            raise AlignerError(
                f"aligner format {head['format']}, and this version reads {FORMAT}",
                place=str(folder),
                cure="Train it again.",
            )
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            return AlignmentModel(
                config=AlignmentConfig.model_validate(head["config"]),
                forward=_direction(head["forward"], arrays, "forward"),
                reverse=_direction(head["reverse"], arrays, "reverse"),
                source_words=_words(arrays, "source"),
                target_words=_words(arrays, "target"),
            )
    except FileNotFoundError as error:
        raise AlignerError(
            "no aligner here", place=str(error.filename), cure="Make one with --model-out."
        ) from None
    except (KeyError, ValueError, EOFError) as error:
        raise AlignerError(
            f"damaged aligner: {error}", place=str(folder), cure="Train it again."
        ) from None


def _direction(head: dict[str, float], arrays: Any, name: str) -> DirectionModel:
    fields = ("row_ptr", "row_word", "row_prob", "null_prob", "floor")
    values = {field: frozen(arrays[f"{name}_{field}"]) for field in fields}
    return DirectionModel(
        **values, tension=float(head["tension"]), length_ratio=float(head["length_ratio"])
    )


def _words(arrays: Any, name: str) -> list[bytes]:
    text = arrays[f"{name}_bytes"].tobytes()
    ends = np.cumsum(arrays[f"{name}_lengths"]).tolist()
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
