"""The address of work follows what it is, never where or on what it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from weam_ray.errors import DataError
from weam_ray.identity import Placement, StageConfig, WhenSet, content_hash, digest


class Inner(StageConfig):
    rate: float = 0.3
    workers: Annotated[int, Placement()] = 1


class Outer(StageConfig):
    inner: Inner = Field(default_factory=Inner)
    folder: Annotated[Path | None, Placement()] = None
    sizes: tuple[int, ...] = (1, 2)
    named: dict[str, Inner] = Field(default_factory=dict)


def test_settings_decide_the_identity() -> None:
    base = Outer().identity()
    assert Outer(sizes=(1, 3)).identity() != base
    assert Outer(inner=Inner(rate=0.15)).identity() != base
    assert Outer(named={"a": Inner()}).identity() != base


def test_paths_and_resources_do_not_at_any_depth() -> None:
    base = Outer(named={"a": Inner()}).identity()
    moved = Outer(folder=Path("/elsewhere"), inner=Inner(workers=8), named={"a": Inner(workers=3)})
    assert moved.identity() == base
    assert "folder" not in base and "workers" not in base["inner"]


def test_a_later_setting_counts_only_where_it_is_set() -> None:
    class Grown(Outer):
        later: Annotated[Inner | None, WhenSet()] = None

    assert Grown().identity() == Outer().identity()
    assert Grown(later=Inner()).identity() == {**Outer().identity(), "later": Inner().identity()}


def test_a_number_written_as_an_integer_is_the_same_setting() -> None:
    whole, spelt = Inner.model_validate({"rate": 1}), Inner.model_validate({"rate": "1.0"})
    assert digest(whole.identity()) == digest(spelt.identity())


def test_settings_cannot_be_changed_or_misspelt() -> None:
    with pytest.raises(ValidationError):
        Inner().rate = 0.5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="rat"):
        Inner.model_validate({"rat": 0.5})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_digest_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    assert digest(reversed_keys(value)) == digest(value)
    assert len(digest(value)) == 20


def test_a_digest_is_the_same_in_another_process_whatever_its_hash_seed() -> None:
    value = {"b": ["é", 0.1, None], "a": {"z": 1, "y": True}}
    code = f"from weam_ray.identity import digest; print(digest({value!r}))"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == digest(value)


def test_a_file_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"text\n")
    two.write_bytes(b"text\n")
    assert content_hash(one) == content_hash(two)
    two.write_bytes(b"other text\n")
    assert content_hash(one) != content_hash(two)


def test_a_file_changed_between_two_looks_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"aaaa")
    os.utime(path, ns=(1, 1))
    before = content_hash(path)
    path.write_bytes(b"bbbb")
    os.utime(path, ns=(2, 2))
    assert content_hash(path) != before


def test_a_folder_is_known_by_names_and_contents_wherever_it_stands(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "a").write_bytes(b"1")
        (tmp_path / name / "b").write_bytes(b"2")
    here, there = tmp_path / "here", tmp_path / "there"
    assert content_hash(here) == content_hash(there)
    (there / "b").rename(there / "c")
    assert content_hash(here) != content_hash(there)


def test_nothing_there_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "absent", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="no such file") as raised:
            content_hash(path)
        assert raised.value.place == str(path)


def test_what_cannot_be_read_is_an_error_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("x")

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("weam_ray.identity._file_hash", refuse)
    with pytest.raises(DataError, match="can't be read"):
        content_hash(path)
