"""A trained aligner that is kept, and new text aligned with it.

On the text it was trained on, a saved model gives the links that training gave. That is where it
differs from fast_align's ``force_align``, which takes 1e-9 for every pair of words that it has
pruned from its table: here two words that are both known, but have no entry, get what the
Dirichlet prior leaves to words never seen together. A word that is unknown gets 1e-9 with
any other, as there; a target word that is unknown is therefore linked by its place alone.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weam_ray.alignment import em, kernels
from weam_ray.alignment.config import AlignmentConfig
from weam_ray.alignment.memory import size
from weam_ray.alignment.numerics import frozen
from weam_ray.alignment.outputs import created
from weam_ray.alignment.text import Text, in_order_of_text, sort_records
from weam_ray.errors import AlignerError, DataError, ResourceError

FORMAT = 2
_HEAD = "aligner.json"
_ARRAYS = "aligner.npz"
_TYPES: dict[str, type[np.generic]] = {
    "row_ptr": np.int64,
    "row_word": np.int32,
    "row_prob": np.float64,
    "null_prob": np.float64,
    "floor": np.float64,
}
_DAMAGE = (
    LookupError, ValueError, TypeError, AttributeError, EOFError, MemoryError, RuntimeError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What json, zipfile and numpy make of a file that is not what it should be."""


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
    ) -> tuple[NDArray[np.int16], NDArray[np.float64] | None]:
        """The best source position of each target word of a text in the model's numbers.

        Types beyond the model's are unknown words. Returns int16[target words], -1 for the null
        word, and if ``scores`` the log-probability of each pair's words, float64[S].
        """
        types = text.target.types
        unknown = types - (len(self.row_ptr) - 1)
        row_ptr = np.concatenate([self.row_ptr, np.full(unknown, self.row_ptr[-1])])
        null_prob = np.concatenate([self.null_prob, np.zeros(unknown)])
        strange = np.full(text.source.types + 1 - len(self.floor), kernels.UNSEEN)
        floor = np.concatenate([self.floor, strange])
        records = sort_records(text, 1, types + 1)
        links = np.empty(len(records.sentence), np.int16)
        of_records = np.empty(len(links) if scores else 0)
        kernels.link(
            text.ground.given, text.shapes.prior(self.tension, null_probability), records,
            row_ptr, self.row_word, self.row_prob, null_prob, floor,
            np.arange(types) < types - unknown, null_probability, floor.copy(),
            np.empty(text.ground.longest), links, of_records,
        )  # fmt: skip
        return in_order_of_text(text, links, of_records if scores else None)


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

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and words."""
        ways = (self.forward, self.reverse)
        arrays = int(sum(vars(way)[field].nbytes for way in ways for field in _TYPES))
        # A word is also a Python object and a place in a list.
        return arrays + sum(41 + len(word) for word in (*self.source_words, *self.target_words))


def save_model(model: AlignmentModel, folder: Path) -> None:
    """Write a model: ``aligner.npz`` and, last, ``aligner.json``; neither can run code.

    The former holds the latter, too, so that two files of different trainings are told.

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
        for field in _TYPES:
            arrays[f"{name}_{field}"] = getattr(direction, field)
        head[name] = {"tension": direction.tension, "length_ratio": direction.length_ratio}
    for name, words in (("source", model.source_words), ("target", model.target_words)):
        lengths = np.array([len(word) for word in words], np.int64)
        arrays[f"{name}_lengths"] = lengths
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(words), np.uint8)
    text = json.dumps(head, indent=1).encode()
    arrays["head"] = np.frombuffer(text, np.uint8)
    with created(folder / _ARRAYS) as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    with created(folder / _HEAD) as stream:
        stream.write(text)


def files_of(folder: Path) -> tuple[Path, Path]:
    """The files that a model in a folder consists of."""
    return folder / _ARRAYS, folder / _HEAD


def load_model(folder: Path, limit: int | None = None) -> AlignmentModel:
    """Read a model that :func:`save_model` wrote.

    Args:
        limit: bytes of memory that it may take; None: any number.

    Raises:
        AlignerError: there is none, it is damaged, or another version wrote it.
        ResourceError: it takes more than ``limit``.
    """
    try:
        head = json.loads((folder / _HEAD).read_bytes())
        if head["format"] != FORMAT:
            raise AlignerError(
                f"aligner format {head['format']}, and this version reads {FORMAT}",
                place=str(folder),
                cure="Train it again.",
            )
        _refuse_large(folder / _ARRAYS, limit)
        # Checksums first: until they are right nothing that numpy reads is worth believing.
        with zipfile.ZipFile(folder / _ARRAYS) as whole:
            if broken := whole.testzip():
                raise ValueError(f"{broken} in {_ARRAYS}")
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            if json.loads(arrays["head"].tobytes()) != head:
                raise ValueError(f"{_HEAD} and {_ARRAYS} are not of the same training")
            source, target = _words(arrays, "source"), _words(arrays, "target")
            return AlignmentModel(
                config=AlignmentConfig.model_validate(head["config"]),
                forward=_direction(head, arrays, "forward", len(source), len(target)),
                reverse=_direction(head, arrays, "reverse", len(target), len(source)),
                source_words=source,
                target_words=target,
            )
    except OSError as error:
        raise AlignerError(
            f"can't read an aligner here: {error.strerror}",
            place=str(error.filename or folder),
            cure="Make one with --model-out.",
        ) from None
    except _DAMAGE as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise AlignerError(
            f"damaged aligner: {said[0]}", place=str(folder), cure="Train it again."
        ) from None


def _refuse_large(path: Path, limit: int | None) -> None:
    # It is not packed.
    needed = path.stat().st_size
    if limit is not None and needed > limit:
        raise ResourceError(
            f"the aligner takes {size(needed)}, of which {size(limit)} are there",
            place=str(path),
            cure="Use a machine with more memory.",
        )


def _direction(
    head: dict[str, Any], arrays: Any, name: str, given: int, explained: int
) -> DirectionModel:
    # Kernels trust what they are given: what does not fit would make them read anywhere.
    values = {field: _array(arrays, f"{name}_{field}", kind) for field, kind in _TYPES.items()}
    row_ptr, row_word = values["row_ptr"], values["row_word"]
    sizes = {
        "row_ptr": explained + 1,
        "null_prob": explained,
        "floor": given + 1,
        "row_word": int(row_ptr[-1]) if len(row_ptr) else 0,
        "row_prob": len(row_word),
    }
    wrong = [field for field, wanted in sizes.items() if len(values[field]) != wanted]
    probs = [values[field] for field in ("row_prob", "null_prob", "floor")]
    if wrong or row_ptr[0] != 0 or (np.diff(row_ptr) < 0).any():
        raise ValueError(f"{name}: sizes that don't fit ({', '.join(wrong) or 'row_ptr'})")
    if len(row_word) and not 0 <= row_word.min() <= row_word.max() <= given:
        raise ValueError(f"{name}: words that it does not have")
    if not all(np.isfinite(prob).all() and (prob >= 0).all() for prob in probs):
        raise ValueError(f"{name}: probabilities that are none")
    tension, ratio = (float(head[name][key]) for key in ("tension", "length_ratio"))
    low, high = em.TENSION_BOUNDS
    if not (low <= tension <= high and 0 < ratio < np.inf):
        raise ValueError(f"{name}: a tension of {tension}, a length ratio of {ratio}")
    return DirectionModel(**values, tension=tension, length_ratio=ratio)


def _array(arrays: Any, name: str, kind: type[np.generic]) -> NDArray[Any]:
    array = arrays[name]
    if array.dtype != kind or array.ndim != 1:
        raise ValueError(f"{name}: {array.ndim} dimensions of {array.dtype}")
    return frozen(np.ascontiguousarray(array))


def _words(arrays: Any, name: str) -> list[bytes]:
    text = _array(arrays, f"{name}_bytes", np.uint8).tobytes()
    lengths = _array(arrays, f"{name}_lengths", np.int64)
    if (lengths < 0).any() or lengths.sum() != len(text):
        raise ValueError(f"{name}: words of {lengths.sum()} bytes in {len(text)}")
    ends = np.cumsum(lengths).tolist()
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
