"""Several processes and one store: each piece of work is done once, whoever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_steps import step, write_words

from weam_ray.artifacts import Store, Work


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


_WORKER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_artifacts import step
from weam_ray.artifacts import Store, ensure

root, diary, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

def maker(work):
    (work.out / "words.txt").write_text("half")
    with open(diary, "a") as stream:
        stream.write(f"made by {{os.getpid()}}\\n")
    time.sleep(seconds)
    (work.out / "words.txt").write_text("whole")

print("ready", flush=True)
artifact = ensure(step(), Store(root), {{"words": maker}})
print((artifact.path / "words.txt").read_text(), flush=True)
"""


@contextmanager
def worker(store: Store, diary: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    code = _WORKER.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(store.root), str(diary), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(happened: Callable[[], bool], seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.01)


def test_two_processes_that_want_the_same_step_make_it_once(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with worker(store, diary, 0.5) as one, worker(store, diary, 0.5) as two:
        said = [process.communicate(timeout=60)[0].split() for process in (one, two)]
    assert said == [["ready", "whole"], ["ready", "whole"]]
    assert len(diary.read_text().splitlines()) == 1


def test_a_process_killed_in_the_middle_blocks_nobody_and_its_draft_is_cleared(
    store: Store, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    with worker(store, diary, 600) as victim:
        wait_for(diary.exists)
        drafts = list((store.root / "tmp").glob("*/words.txt"))
        assert len(drafts) == 1 and drafts[0].read_text() == "half"
        assert store.find(step()) is None, "a half-written artifact was read"
        victim.send_signal(signal.SIGKILL)
        victim.wait(timeout=30)
    made = store.make(step(), write_words, {})
    assert (made.path / "words.txt").read_text() == "a b"
    assert list((store.root / "tmp").iterdir()) == []


def test_only_drafts_of_the_dead_are_cleared(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with worker(store, diary, 600) as victim:
        wait_for(diary.exists)
        store.clear_drafts(patience=0.2)
        assert len(list((store.root / "tmp").iterdir())) == 1, "a draft was taken from the living"
        threading.Timer(0.3, victim.kill).start()
        store.clear_drafts(patience=30)
        assert list((store.root / "tmp").iterdir()) == []


def test_a_waiting_process_takes_over_from_one_that_is_killed(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with worker(store, diary, 600) as victim:
        wait_for(diary.exists)
        with worker(store, diary, 0) as heir:
            assert heir.stdout is not None and heir.stdout.readline() == "ready\n"
            victim.send_signal(signal.SIGKILL)
            assert heir.communicate(timeout=60)[0] == "whole\n"
    assert len(diary.read_text().splitlines()) == 2


def test_threads_of_one_process_take_turns_too(store: Store) -> None:
    made: list[int] = []

    def maker(work: Work) -> None:
        made.append(threading.get_ident())
        time.sleep(0.1)
        write_words(work)

    threads = [threading.Thread(target=store.make, args=(step(), maker, {})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_different_steps_do_not_wait_for_each_other(store: Store) -> None:
    def outer(work: Work) -> None:
        inner = store.make(step("inner"), write_words, {})
        (work.out / "inner").write_text(inner.address)

    made = store.make(step("outer"), outer, {})
    assert (made.path / "inner").read_text() == step("inner").address


def _never(_: Work) -> None:
    raise AssertionError("made again")
