"""An error says what, where and what to do, also on the other side of a process."""

from __future__ import annotations

import multiprocessing
import pickle

import pytest

from weam_ray.errors import AlignerError, ConfigError, DataError, ResourceError, WeamError

KINDS = [ConfigError, DataError, AlignerError, ResourceError]


def test_a_message_names_the_place_then_the_value_then_the_cure() -> None:
    error = DataError("sides of 3 and 4 lines", place="a.en:4", cure="Align them first.")
    assert str(error) == "a.en:4: sides of 3 and 4 lines. Align them first."
    assert str(DataError("no pairs left")) == "no pairs left"
    assert str(DataError("Is it text?", cure="Look.")) == "Is it text? Look."


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_pickles_with_all_its_parts(kind: type[WeamError]) -> None:
    back = pickle.loads(pickle.dumps(kind("what", place="where", cure="Do this.")))
    assert type(back) is kind
    assert (back.what, back.place, back.cure) == ("what", "where", "Do this.")
    assert str(back) == "where: what. Do this."


def _raise_it(_: int) -> None:
    raise ResourceError("9 GiB wanted", place="links", cure="Use shards.")


def test_an_error_raised_in_a_worker_process_arrives_whole() -> None:
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(ResourceError, match=r"^links: 9 GiB wanted\. Use shards\.$"),
    ):
        pool.map(_raise_it, [0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_the_one_error_of_the_package(kind: type[WeamError]) -> None:
    assert issubclass(kind, WeamError)
    assert not issubclass(kind, (ValueError, OSError)), "pydantic would swallow it as a bad value"
