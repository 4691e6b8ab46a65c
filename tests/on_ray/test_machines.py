"""What machines must prove before a sweep; Ray's part, the sending, is played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_study import small_study

from weam_ray.bucket import Bucket
from weam_ray.errors import ResourceError
from weam_ray.on_ray import machines
from weam_ray.on_ray.machines import _Answer, _answer, check_machines, refuse_unfit_machines

NODES = {"n1": "10.0.0.1", "n2": "10.0.0.2"}
Machine = Callable[[Bucket, str, str], _Answer]


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """A cluster of two machines; says what the second one does when it is asked."""
    alive = [{"NodeID": node, "NodeManagerAddress": address} for node, address in NODES.items()]
    monkeypatch.setattr(machines, "_alive", lambda: alive)

    def play(machine: Machine) -> None:
        def ask(
            asked: dict[str, str], probe: Bucket, said: str, seconds: float
        ) -> dict[str, _Answer]:
            return {"n1": _answer(probe, "n1", said), "n2": machine(probe, "n2", said)}

        monkeypatch.setattr(machines, "_ask", ask)

    return play


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "shared folder")
    url: str = request.getfixturevalue("bucket_url")
    return url


def elsewhere(probe: Bucket) -> Bucket:
    """The same place on a machine that sees another storage under it."""
    return Bucket(probe.url.replace("/tmp/", "/elsewhere/"))


def test_machines_that_share_storage_code_and_packages_may_take_part_and_leave_nothing(
    second: Callable[[Machine], None], storage: str
) -> None:
    second(_answer)
    assert check_machines(storage) == ["10.0.0.1", "10.0.0.2"]
    left = Bucket(storage if "://" in storage else Path(storage).as_uri()).names()
    assert left == []


def lacks_it(probe: Bucket, node: str, said: str) -> _Answer:
    return _answer(elsewhere(probe), node, said)


def sees_another(probe: Bucket, node: str, said: str) -> _Answer:
    elsewhere(probe).write("driver", b"something else")
    return _answer(elsewhere(probe), node, said)


def writes_elsewhere(probe: Bucket, node: str, said: str) -> _Answer:
    elsewhere(probe).write("driver", said.encode())
    return _answer(elsewhere(probe), node, said)


def has_old_code(probe: Bucket, node: str, said: str) -> _Answer:
    honest = _answer(probe, node, said)
    return _Answer("", "another", honest.packages)


def has_old_packages(probe: Bucket, node: str, said: str) -> _Answer:
    honest = _answer(probe, node, said)
    return _Answer("", honest.code, tuple((name, "0.1") for name, _ in honest.packages))


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (lacks_it, "the sweep's own file is not there"),
        (sees_another, "another content"),
        (writes_elsewhere, "not seen by the sweep"),
        (has_old_code, "another state of weam_ray's code"),
        (has_old_packages, "torch 0.1 instead of"),
    ],
)
def test_a_machine_that_can_not_take_part_is_named_with_why(
    second: Callable[[Machine], None], storage: str, machine: Machine, words: str
) -> None:
    second(machine)
    with pytest.raises(ResourceError, match=words) as refused:
        check_machines(storage)
    assert "10.0.0.2: " in str(refused.value) and "10.0.0.1: " not in str(refused.value)


def test_a_machine_that_is_lost_while_it_is_asked_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alive = [{"NodeID": node, "NodeManagerAddress": address} for node, address in NODES.items()]

    def ask(asked: dict[str, str], probe: Bucket, said: str, seconds: float) -> dict[str, _Answer]:
        assert asked == NODES
        alive.pop()
        return {"n1": _answer(probe, "n1", said), "n2": _Answer("The task is not schedulable")}

    monkeypatch.setattr(machines, "_alive", lambda: list(alive))
    monkeypatch.setattr(machines, "_ask", ask)
    assert check_machines(tmp_path / "shared") == ["10.0.0.1"]


def test_a_folder_that_the_sweeps_own_machine_can_not_write_is_said_as_such(
    second: Callable[[Machine], None], tmp_path: Path
) -> None:
    second(_answer)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ResourceError, match="the machine that runs the sweep can't write here"):
        check_machines(tmp_path / "file")


def test_encoders_trained_by_machines_together_need_a_folder(
    second: Callable[[Machine], None], bucket_url: str, tmp_path: Path
) -> None:
    second(_answer)
    together = {"resources__cell_workers": "2"}
    with pytest.raises(ResourceError, match="resources.cell_workers is 2.*shared folder"):
        refuse_unfit_machines(small_study(bucket_url, **together))
    refuse_unfit_machines(small_study(tmp_path / "shared", **together))
    refuse_unfit_machines(small_study(bucket_url))


def test_one_machine_alone_proves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machines, "_alive", lambda: [{}])
    refuse_unfit_machines(small_study(tmp_path / "own"))
    assert not (tmp_path / "own").exists()
