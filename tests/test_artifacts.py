"""The store: finished work is whole, made once, and found again wherever the store is moved."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_steps import Words, everything_below, step, write_words

from weam_ray.artifacts import Resources, Step, Store, Work, ensure, package_versions
from weam_ray.errors import DataError, ResourceError
from weam_ray.progress import Progress
from weam_ray.record import RECORD


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# --- addresses


def test_an_address_is_known_before_anything_runs_and_follows_what_the_work_is() -> None:
    words = step()
    assert words.address.startswith("words/") and len(words.address) == len("words/") + 20
    others = [
        step("a c"),
        step(version=2),
        step(stage="other"),
        step(inputs={"file": "1"}),
        step(upstream={"base": step("b")}),
        step(upstream={"base": step("c")}),
    ]
    assert len({words.address, *(other.address for other in others)}) == len(others) + 1


def test_an_address_does_not_follow_paths_or_the_order_of_its_inputs() -> None:
    assert step(folder="there").address == step(folder="here").address
    one = step(inputs={"a": "1", "b": "2"}, upstream={"x": step("x"), "y": step("y")})
    two = step(inputs={"b": "2", "a": "1"}, upstream={"y": step("y"), "x": step("x")})
    assert one.address == two.address


def test_a_changed_input_far_upstream_changes_every_address_below() -> None:
    def chain(content: str) -> Step:
        corpus = step("corpus", inputs={"source": content})
        return step("encoder", upstream={"links": step("links", upstream={"corpus": corpus})})

    assert chain("1").address != chain("2").address


def test_a_step_keeps_its_address_on_its_way_to_a_worker() -> None:
    sent = step(upstream={"base": step("b", inputs={"file": "1"})})
    assert pickle.loads(pickle.dumps(sent)).address == sent.address


def test_a_chain_lists_each_step_once_with_what_comes_first_first() -> None:
    corpus = step("corpus")
    links = step("links", upstream={"corpus": corpus})
    encoder = step("encoder", upstream={"links": links, "corpus": corpus})
    assert list(encoder.chain()) == [corpus.address, links.address, encoder.address]


# --- making and finding


def test_finished_work_is_found_with_its_facts_and_not_made_again(store: Store) -> None:
    made = store.make(step(), write_words, {})
    assert made.facts["words"] == 2
    again = store.make(step(), _never, {})
    assert again.path == made.path and (again.path / "words.txt").read_text() == "a b"
    found = store.find(step().address)
    assert found is not None and found.record == made.record


def test_a_record_says_what_the_work_was_made_of(store: Store) -> None:
    base = store.make(step("b"), write_words, {})
    wanted = step(upstream={"base": step("b")}, inputs={"file": "1234"})
    record = store.make(wanted, write_words, {"base": base}).record
    assert record["address"] == wanted.address
    assert record["upstream"] == {"base": base.address}
    assert record["inputs"] == {"file": "1234"}
    assert record["config"] == {"text": "a b", "folder": "here"}
    assert record["files"] == {"words.txt": 3}
    assert record["seconds"] >= 0 and record["finished"].endswith("Z")
    assert record["packages"] == package_versions() and "python" in record["packages"]


def test_a_maker_is_given_its_resources_and_someone_to_report_to(store: Store) -> None:
    heard: list[Progress] = []

    def maker(work: Work) -> None:
        assert work.resources == Resources(threads=2, device="cuda:1")
        assert list(work.out.iterdir()) == []
        work.report(Progress(stage="words", done=1, total=1))

    store.make(step(), maker, {}, heard.append, Resources(threads=2, device="cuda:1"))
    assert [progress.done for progress in heard] == [1]


def test_a_chain_is_made_in_order_and_only_what_is_missing(store: Store) -> None:
    made: list[str] = []

    def maker(work: Work) -> None:
        assert isinstance(work.step.config, Words)
        assert sorted(work.upstream) == sorted(work.step.upstream)
        made.append(work.step.config.text)
        write_words(work)

    base = step("base")
    ensure(step("one", upstream={"base": base}), store, {"words": maker})
    ensure(step("two", upstream={"base": base}), store, {"words": maker})
    assert made == ["base", "one", "two"]


def test_what_finished_work_was_built_on_may_be_cleared_away(store: Store) -> None:
    base = step("base")
    top = step("top", upstream={"base": base})
    ensure(top, store, {"words": write_words})
    shutil.rmtree(store.root / base.address)
    assert ensure(top, store, {}).address == top.address


# --- what goes wrong


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), DataError("bad")])
def test_a_maker_that_raises_leaves_nothing_behind(store: Store, error: BaseException) -> None:
    def maker(work: Work) -> None:
        write_words(work)
        raise error

    with pytest.raises(type(error)):
        store.make(step(), maker, {})
    assert store.find(step()) is None
    assert everything_below(store.root) == []
    assert store.make(step(), write_words, {}).facts["words"] == 2


def test_a_folder_without_a_record_is_no_artifact_and_is_made_anew(store: Store) -> None:
    leftover = store.root / step().address
    leftover.mkdir(parents=True)
    (leftover / "words.txt").write_text("half")
    (leftover / "junk").write_text("of an interrupted copy")
    assert store.find(step()) is None
    made = store.make(step(), write_words, {})
    assert (made.path / "words.txt").read_text() == "a b"
    assert not (made.path / "junk").exists()


def _cut_a_file(path: Path) -> None:
    (path / "words.txt").write_text("a")


def _lose_a_file(path: Path) -> None:
    (path / "words.txt").unlink()


def _cut_the_record(path: Path) -> None:
    (path / RECORD).write_bytes((path / RECORD).read_bytes()[:50])


def _zero_the_record(path: Path) -> None:
    (path / RECORD).write_bytes(b"\0" * 100)


def _garble_the_record(path: Path) -> None:
    (path / RECORD).write_bytes(b"\xff\xfe{")


def _empty_the_record(path: Path) -> None:
    (path / RECORD).write_text("{}")


def _list_the_record(path: Path) -> None:
    (path / RECORD).write_text("[]")


def _spoil_the_record(path: Path) -> None:
    (path / RECORD).write_text(json.dumps({"files": None, "facts": {}, "seconds": 1}))


@pytest.mark.parametrize(
    "damage",
    [
        _cut_a_file,
        _lose_a_file,
        _cut_the_record,
        _zero_the_record,
        _garble_the_record,
        _empty_the_record,
        _list_the_record,
        _spoil_the_record,
    ],
)
def test_damage_is_said_with_the_folder_to_remove_and_never_read(
    store: Store, damage: Callable[[Path], None]
) -> None:
    path = store.make(step(), write_words, {}).path
    damage(path)
    with pytest.raises(DataError, match="it was whole when it was written") as raised:
        store.find(step())
    assert raised.value.place == str(path)
    assert f"Remove the folder {path}" in str(raised.value)
    with pytest.raises(DataError):
        ensure(step(), store, {"words": write_words})
    shutil.rmtree(path)
    assert ensure(step(), store, {"words": write_words}).facts["words"] == 2


def test_a_measurement_that_is_no_number_is_refused_with_what_it_was(store: Store) -> None:
    def maker(work: Work) -> None:
        work.facts["loss"] = float("nan")

    with pytest.raises(DataError, match=r"'loss': nan.*learning rate"):
        store.make(step(), maker, {})
    assert everything_below(store.root) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_what_is_finished_and_says_so(store: Store, number: int) -> None:
    store.make(step("first"), write_words, {})

    def maker(work: Work) -> None:
        (work.out / "half").write_text("x")
        raise OSError(number, os.strerror(number))

    with pytest.raises(ResourceError, match="the disk is full"):
        store.make(step("second"), maker, {})
    assert store.find(step("first")) is not None
    assert not [name for name in everything_below(store.root) if "half" in name]


def test_a_store_nobody_may_write_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match=r"can't be written.*--set storage="):
        store.make(step(), write_words, {})


def test_an_input_nobody_may_read_is_not_blamed_on_the_store(store: Store) -> None:
    def maker(_: Work) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/text.en")

    with pytest.raises(PermissionError, match=r"text\.en"):
        store.make(step(), maker, {})


def test_a_store_that_is_a_file_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    assert Store(tmp_path / "store").find(step()) is None


@pytest.mark.parametrize("below", [(), ("store",), ("deep", "store")])
def test_storage_that_is_a_file_is_named_before_and_when_it_is_written(
    tmp_path: Path, below: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    store = Store(file.joinpath(*below))
    writes: list[Callable[[], object]] = [
        store.check,
        lambda: store.make(step(), write_words, {}),
    ]
    for write in writes:
        with pytest.raises(ResourceError, match=rf"{file} is a file\. .*--set storage="):
            write()
    assert file.read_text() == "mine"


def test_a_check_leaves_no_file_behind(store: Store) -> None:
    store.check()
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


# --- what a successor goes on from


def test_what_a_killed_maker_kept_is_there_for_the_next_and_gone_with_the_step(
    store: Store,
) -> None:
    def dies(work: Work) -> None:
        assert work.scratch.folder is not None
        work.scratch.folder.mkdir(parents=True)
        (work.scratch.folder / "state").write_text("half way")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.make(step(), dies, {})
    assert store.find(step()) is None

    def goes_on(work: Work) -> None:
        assert work.scratch.folder is not None
        assert (work.scratch.folder / "state").read_text() == "half way"
        write_words(work)

    store.make(step(), goes_on, {})
    assert list((store.root / "tmp").iterdir()) == []


# --- moved stores


def test_a_moved_store_still_reads(store: Store, tmp_path: Path) -> None:
    base = step("base")
    top = step("top", upstream={"base": base})
    ensure(top, store, {"words": write_words})
    store.root.rename(tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    found = ensure(top, moved, {})
    assert found.path.is_relative_to(tmp_path / "elsewhere")
    assert (found.path / "words.txt").read_text() == "top"
    assert str(store.root) not in (found.path / RECORD).read_text()


def test_a_store_named_by_a_relative_path_survives_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("store")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert store.make(step(), write_words, {}).path.is_relative_to(tmp_path / "store")


def _never(_: Work) -> None:
    raise AssertionError("made again")
