"""Saved models: what damage is refused, and what never reaches the kernels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from test_align_command import settings
from test_em_against_dictionaries import bitext

from weam_ray.alignment.command import run_align
from weam_ray.alignment.model import AlignmentModel, load_model
from weam_ray.errors import AlignerError, ResourceError

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with texts ``a`` and ``b``, their links and a model of them."""
    folder = tmp_path_factory.mktemp("trained")
    pairs = bitext(30, 12, 11)
    (folder / "a").write_text("".join(" ".join(source) + "\n" for source, _ in pairs))
    (folder / "b").write_text("".join(" ".join(target) + "\n" for _, target in pairs))
    run_align(**settings(folder, model_out=folder / "model"))
    return folder


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


def said_of(model: Path) -> str:
    with pytest.raises(AlignerError) as caught:
        load_model(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_is_none_is_refused(model, trained):
    (model / "aligner.json").unlink()
    assert "No such file" in said_of(model)
    assert "No such file" in said_of(model / "nowhere")
    assert "Not a directory" in said_of(trained / "a")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '"x"', "[" * 100_000, "\udcff"])
def test_a_head_that_is_none_is_refused(model, text):
    (model / "aligner.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "damaged" in said_of(model)


@pytest.mark.parametrize("version", [1, 99, "2"])
def test_another_version_is_named(model, version):
    head = json.loads((model / "aligner.json").read_text())
    (model / "aligner.json").write_text(json.dumps({**head, "format": version}))
    assert f"format {version}, and this version reads 2" in said_of(model)


def test_files_of_two_trainings_are_not_taken_for_one(model, trained, tmp_path):
    more = settings(trained, output=tmp_path / "links", source=trained / "b", target=trained / "a")
    run_align(**more, model_out=tmp_path / "other")
    shutil.copy(tmp_path / "other/aligner.npz", model)
    assert "not of the same training" in said_of(model)


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: {name: arrays[name] for name in arrays if name != "reverse_floor"},
        changed("forward_row_prob", lambda array: array[:-1]),
        changed("forward_row_prob", lambda array: array.astype(np.float32)),
        changed("forward_row_prob", lambda array: array.reshape(1, -1)),
        changed("forward_row_prob", lambda array: array * np.nan),
        changed("forward_null_prob", lambda array: array - 2),
        changed("forward_row_word", lambda array: array + 10**8),
        changed("forward_row_word", lambda array: array - 10**8),
        changed("forward_row_ptr", lambda array: array * 1000),
        changed("forward_row_ptr", lambda array: array[::-1]),
        changed("forward_row_ptr", lambda array: array[:0]),
        changed("reverse_floor", lambda array: array[:2]),
        changed("source_lengths", lambda array: array + 1),
        changed("source_lengths", lambda array: array * -1),
        changed("source_lengths", lambda array: array[:-1]),
        changed("target_bytes", lambda array: array.astype(object)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model, damage):
    with np.load(model / "aligner.npz") as arrays:
        np.savez(model / "aligner.npz", **damage(dict(arrays)))
    assert "damaged" in said_of(model)


def same(one: AlignmentModel, other: AlignmentModel) -> bool:
    ways = ((one.forward, other.forward), (one.reverse, other.reverse))
    return (one.config, one.source_words, one.target_words) == (
        other.config, other.source_words, other.target_words
    ) and all(
        np.array_equal(array, vars(theirs)[name])
        for mine, theirs in ways
        for name, array in vars(mine).items()
    )  # fmt: skip


@pytest.mark.parametrize("name", ["aligner.npz", "aligner.json"])
def test_whatever_byte_is_damaged_it_is_refused_or_changes_nothing(trained, tmp_path, name):
    whole = load_model(trained / "model")
    sound = (trained / "model" / name).read_bytes()
    model = Path(shutil.copytree(trained / "model", tmp_path / "model"))

    @examples(deadline=None, max_examples=300)
    @given(st.integers(0, len(sound) - 1), st.integers(0, 255), st.booleans())
    def damage(at: int, flip: int, cut: bool) -> None:
        bad = sound[:at] if cut else sound[:at] + bytes([sound[at] ^ flip]) + sound[at + 1 :]
        (model / name).write_bytes(bad)
        try:
            assert same(load_model(model), whole)
        except AlignerError as error:
            assert "\n" not in str(error)

    damage()


def test_a_model_larger_than_the_limit_is_refused_with_both_figures(model, trained):
    with pytest.raises(ResourceError, match=r"takes \d+ MiB, of which 0 MiB are there"):
        load_model(model, 1 << 10)
    # What it takes beside the text is counted, too.
    need = 400 << 20
    held = load_model(model)
    assert held.nbytes > sum(len(word) for word in held.source_words)
    with pytest.raises(ResourceError, match="20 MiB are allowed"):
        run_align(**settings(trained, model=model, memory_limit=20 << 20))
    run_align(**settings(trained, output=model / "links", model=model, memory_limit=need))
