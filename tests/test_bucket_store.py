"""Artifacts in a bucket, against a real S3 server: whole or not at all, and the same everywhere."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Annotated

import pytest
from s3_server import SECRET, S3Server

from weam_ray import bucket as buckets
from weam_ray import doctor
from weam_ray.artifacts import Step, Store, Work, ensure
from weam_ray.bucket import Bucket, home_of
from weam_ray.bucket_store import CACHE_VARIABLE, BucketStore, cache_folder, open_store
from weam_ray.errors import ConfigError, DataError, ResourceError
from weam_ray.identity import Placement, StageConfig
from weam_ray.record import RECORD


class Words(StageConfig):
    text: str = "a b"
    folder: Annotated[Path | None, Placement()] = None


def step(text: str = "a b", folder: Path | None = None, **upstream: Step) -> Step:
    return Step(stage="words", version=1, config=Words(text=text, folder=folder), upstream=upstream)


def write_words(work: Work) -> None:
    assert isinstance(work.step.config, Words)
    (work.out / "deep").mkdir()
    (work.out / "deep" / "words.txt").write_text(work.step.config.text)
    (work.out / "large.bin").write_bytes(bytes(200_000))
    work.facts["words"] = len(work.step.config.text.split())


def never(_: Work) -> None:
    raise AssertionError("made again")


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A bucket's address: of a mounted one, and of one on a server."""
    if request.param == "file":
        return (tmp_path / "mounted bucket").as_uri()
    url: str = request.getfixturevalue("bucket_url")
    return url


def machine(storage: str, tmp_path: Path, name: str = "one") -> BucketStore:
    """The store as a machine with a cache of its own sees it."""
    return BucketStore(Bucket(storage), tmp_path / "caches" / name)


def test_what_one_machine_made_another_finds_and_reads(storage: str, tmp_path: Path) -> None:
    one, two = machine(storage, tmp_path), machine(storage, tmp_path, "two")
    assert two.find(step()) is None
    made = one.make(step(), write_words, {})
    assert made.path.is_relative_to(one.root)
    two._missing.clear()
    found = two.make(step(), never, {})
    assert found.record == made.record and found.facts["words"] == 2
    assert (found.path / "deep" / "words.txt").read_text() == "a b"
    assert found.path.is_relative_to(two.root)


def test_a_study_names_folders_and_buckets_alike(tmp_path: Path, bucket_url: str) -> None:
    assert type(open_store(tmp_path)) is Store and open_store(tmp_path).root == tmp_path / "store"
    assert isinstance(open_store(bucket_url), BucketStore)
    assert (home_of(tmp_path), home_of(bucket_url)) == (tmp_path, Path("storage"))


def test_the_cache_is_where_the_machine_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket_url: str
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "disk"))
    assert open_store(bucket_url).root.parent == tmp_path / "disk"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(bucket_url).parent == tmp_path / ".cache" / "weam_ray"
    assert cache_folder(bucket_url) != cache_folder(bucket_url + "2")


def test_files_travel_when_they_are_used_and_one_may_come_alone(
    storage: str, tmp_path: Path
) -> None:
    machine(storage, tmp_path).make(step(), write_words, {})
    two = machine(storage, tmp_path, "two")
    found = two.find(step())
    assert found is not None and not two.root.exists()
    assert found.file("deep/words.txt").read_text() == "a b"
    assert not list(two.root.rglob("large.bin"))
    assert (found.path / "large.bin").stat().st_size == 200_000


def test_a_store_and_its_artifacts_reach_another_machine_as_what_they_are_there(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine(storage, tmp_path)
    made = one.make(step(), write_words, {})
    assert made.path.exists()
    sent = pickle.dumps((one, made))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "caches" / "two"))
    store, artifact = pickle.loads(sent)
    assert store.root == cache_folder(storage) != one.root
    assert artifact.path.is_relative_to(store.root)
    assert (artifact.path / "deep" / "words.txt").read_text() == "a b"


def test_a_cached_copy_is_used_and_a_spoilt_one_is_fetched_again(
    storage: str, tmp_path: Path
) -> None:
    made = machine(storage, tmp_path).make(step(), write_words, {})
    (made.path / "mark").touch()
    again = machine(storage, tmp_path).find(step())
    assert again is not None and (again.path / "mark").exists(), "it was fetched again"
    (made.path / "large.bin").write_bytes(b"cut")
    mended = machine(storage, tmp_path).find(step())
    assert mended is not None and (mended.path / "large.bin").stat().st_size == 200_000
    shutil.rmtree(made.path.parents[1])
    last = machine(storage, tmp_path).find(step())
    assert last is not None and (last.path / "deep" / "words.txt").read_text() == "a b"


# --- whole or not at all


def test_a_writer_killed_before_its_record_left_nothing_that_is_read(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = machine(storage, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.make(step(), write_words, {})
    left = Bucket(storage).names("store")
    assert len(left) == 2 and not any(name.endswith(RECORD) for name in left)
    two = machine(storage, tmp_path, "two")
    assert two.find(step()) is None and two.addresses("words") == []
    assert two.make(step(), write_words, {}).facts["words"] == 2


def test_two_machines_that_make_one_step_at_a_time_leave_one_whole_artifact(
    storage: str, tmp_path: Path
) -> None:
    both = threading.Barrier(2)

    def maker(work: Work) -> None:
        both.wait(30)
        write_words(work)

    stores = [machine(storage, tmp_path, name) for name in ("one", "two")]
    threads = [threading.Thread(target=one.make, args=(step(), maker, {})) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = {
        json.dumps(found.record)
        for name in ("three", "four")
        if (found := machine(storage, tmp_path, name).find(step())) is not None
    }
    assert len(records) == 1
    writer = json.loads(records.pop())["writer"]
    kept = Bucket(storage).names(f"store/{step().address}/{writer}")
    assert [name.rpartition(f"{writer}/")[2] for name in kept] == ["deep/words.txt", "large.bin"]


def test_who_comes_second_takes_the_work_of_the_first_and_its_own_away(
    storage: str, tmp_path: Path
) -> None:
    def overtaken(work: Work) -> None:
        machine(storage, tmp_path, "quick").make(step(), write_words, {})
        write_words(work)

    slow = machine(storage, tmp_path).make(step(), overtaken, {})
    quick = machine(storage, tmp_path, "quick").find(step())
    assert quick is not None and slow.record == quick.record
    assert len(Bucket(storage).names("store")) == 3
    assert (slow.path / "deep" / "words.txt").read_text() == "a b"


@pytest.mark.parametrize("damage", ["lost", "cut", "record"])
def test_damage_in_the_bucket_is_said_and_never_read(
    storage: str, tmp_path: Path, damage: str
) -> None:
    machine(storage, tmp_path).make(step(), write_words, {})
    bucket = Bucket(storage).below("store")
    (large,) = [name for name in bucket.names() if name.endswith("large.bin")]
    if damage == "lost":
        bucket.remove([large])
    elif damage == "cut":
        bucket.write(large, b"cut")
    else:
        bucket.write(f"{step().address}/{RECORD}", b"{}")
    two = machine(storage, tmp_path, "two")
    with pytest.raises(DataError, match="it was whole when it was written") as raised:
        found = two.find(step())
        assert found is not None and found.path
    assert raised.value.place == bucket.named(step().address)


# --- many steps


def test_a_snapshot_answers_thousands_of_questions_from_one_listing(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine(storage, tmp_path)
    for number in range(3):
        one.make(step(str(number)), write_words, {})
    two = machine(storage, tmp_path, "two")
    asked: list[str] = []
    read = Bucket.read
    monkeypatch.setattr(
        Bucket, "read", lambda self, name: (asked.append(name), read(self, name))[1]
    )
    with two.snapshot():
        assert [two.find(step(str(number))) is not None for number in range(5)] == [
            *[True] * 3,
            *[False] * 2,
        ]
        assert two.addresses("words") == sorted(step(str(number)).address for number in range(3))
    assert len(asked) == 3, "each record is read once, and nothing else"
    assert two.find(step("0")) is not None and len(asked) == 3


def test_a_chain_is_made_on_two_machines_each_from_what_the_other_made(
    storage: str, tmp_path: Path
) -> None:
    base = step("base")
    ensure(base, machine(storage, tmp_path), {"words": write_words})

    def join(work: Work) -> None:
        text = (work.upstream["base"].path / "deep" / "words.txt").read_text()
        (work.out / "joined").write_text(text + "!")

    top = ensure(step("top", base=base), machine(storage, tmp_path, "two"), {"words": join})
    assert (top.path / "joined").read_text() == "base!"


def test_files_that_settings_name_in_one_cache_are_fetched_into_that_of_the_next(
    storage: str, tmp_path: Path
) -> None:
    """The world of the demo: its texts are named by their place in the cache."""
    one = machine(storage, tmp_path)
    world = one.make(step("world"), write_words, {})
    wanted = step("reader", folder=world.path / "deep")
    shutil.rmtree(one.root)  # the same place on another machine, where nothing is yet

    def reader(work: Work) -> None:
        assert isinstance(work.step.config, Words) and work.step.config.folder
        (work.out / "read").write_text((work.step.config.folder / "words.txt").read_text())

    assert (one.make(wanted, reader, {}).path / "read").read_text() == "world"


def test_the_studys_own_files_are_kept_beside_the_artifacts(storage: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("page")
    machine(storage, tmp_path).keep([tmp_path / "report.html"], "studies/demo")
    assert Bucket(storage).read("studies/demo/report.html") == b"page"


# --- what goes wrong


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA:{SECRET}@bucket/prefix",
        f"s3://bucket/prefix?secret_key={SECRET}",
        f"abfs://account:{SECRET}@container/x",
    ],
)
def test_a_key_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="holds a key") as refused:
        Bucket(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", ["ftp://host/x", "s3:///prefix"])
def test_an_address_that_can_not_be_one_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Bucket(url)


def test_a_bucket_that_does_not_exist_is_said_before_anything_is_computed(
    s3_server: S3Server, bucket_url: str, tmp_path: Path
) -> None:
    store = machine(s3_server.address("no-such-bucket"), tmp_path)
    with pytest.raises(ResourceError, match="NO_SUCH_BUCKET.*weam-ray doctor") as said:
        store.check()
    assert said.value.place is not None and said.value.place.startswith("s3://no-such-bucket/")
    machine(bucket_url, tmp_path).check()
    assert Bucket(bucket_url).names() == [], "the check leaves nothing"


def test_a_network_that_fails_for_a_moment_fails_nothing(
    bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(buckets.time, "sleep", waited.append)
    bucket = Bucket(bucket_url)
    failures = iter([OSError("NETWORK_CONNECTION"), OSError("SLOW_DOWN")])
    put = Bucket._put

    def flaky(self: Bucket, *arguments: object) -> None:
        for error in failures:
            raise error
        put(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Bucket, "_put", flaky)
    bucket.write("name", b"content")
    assert bucket.read("name") == b"content"
    assert waited == [0.5, 1.0]


def test_a_service_that_stays_away_is_said_with_the_object(
    bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets.time, "sleep", lambda _: None)

    def gone(*_: object) -> None:
        raise OSError("NETWORK_CONNECTION: nobody there")

    monkeypatch.setattr(Bucket, "_put", gone)
    with pytest.raises(ResourceError, match="nobody there") as said:
        Bucket(bucket_url).write("name", b"")
    assert str(said.value.place).endswith("/studies/of/mine/name")


def test_doctor_says_whether_a_bucket_can_be_used(
    s3_server: S3Server, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def found(url: str) -> doctor.Finding:
        (line,) = [one for one in doctor.check(url) if one.name == "storage"]
        return line

    only_storage(monkeypatch)
    assert found(bucket_url).ok
    missing = found(s3_server.address("no-such-bucket"))
    assert not missing.ok and "NO_SUCH_BUCKET" in missing.detail and "credentials" in missing.cure


def only_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and has tests of its own."""
    fine = doctor.Finding(name="other", ok=True, detail="")
    for look in ("_torch", "_aligner", "_loopback", "_packages"):
        monkeypatch.setattr(doctor, look, lambda: fine)


# --- checkpoints


def test_a_checkpoint_reaches_the_machine_that_goes_on_and_is_gone_with_the_step(
    storage: str, tmp_path: Path
) -> None:
    class Lost(Exception):
        pass

    def dies(work: Work) -> None:
        assert work.scratch.folder is not None
        for number in (1, 2):
            path = work.scratch.folder / f"step-{number}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"state {number}")
            work.scratch.saved(path, number)
        raise Lost

    with pytest.raises(Lost):
        machine(storage, tmp_path).make(step(), dies, {})

    def goes_on(work: Work) -> None:
        assert work.scratch.folder is not None
        left = {path.name: path.read_text() for path in work.scratch.folder.iterdir()}
        assert left == {"step-2.pt": "state 2"}
        write_words(work)

    two = machine(storage, tmp_path, "two")
    two.make(step(), goes_on, {})
    assert Bucket(storage).names("tmp") == []
    assert not list((two.root / "tmp").iterdir())
