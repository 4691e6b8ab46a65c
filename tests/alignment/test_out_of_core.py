"""Work files instead of memory: the same links, and clear words where neither suffices."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from test_alignment_stories import table_of
from test_em_against_dictionaries import bitext

from weam_ray.alignment import AlignmentConfig, align_encoded, align_table, em, memory, spilling
from weam_ray.alignment import shard as shard_module
from weam_ray.alignment.command import run_align
from weam_ray.alignment.encoding import Side, encode_words
from weam_ray.alignment.memory import Layout
from weam_ray.errors import ConfigError, ResourceError

CONFIG = AlignmentConfig(casefold=True, symmetrisation="grow-diag-final-and")
NAMES = ("links", "scores", "model/aligner.json", "model/aligner.npz")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    pairs = bitext(400, 60, 12)
    (tmp_path / "a").write_text("".join(" ".join(a) + "\n" for a, _ in pairs) + "\n")
    (tmp_path / "b").write_text("".join(" ".join(b).title() + "\n" for _, b in pairs) + "x\n")
    (tmp_path / "work").mkdir()
    return tmp_path


def aligned(folder: Path, name: str, **options: object) -> list[str]:
    said: list[str] = []
    out = folder / name
    out.mkdir()
    run_align(
        source=folder / "a",
        target=folder / "b",
        output=out / "links",
        scores=out / "scores",
        model_out=out / "model",
        config=CONFIG,
        work_folder=folder / "work",
        say=said.append,
        **options,
    )
    return said


def limit_between(folder: Path, patch: pytest.MonkeyPatch, threads: int = 1) -> int:
    """Bytes that suffice with work files only; what is worked on at a time is made small."""
    patch.setattr(shard_module, "BLOCK_ENTRIES", 60)
    patch.setattr(em, "RUN_RECORDS", 100)
    patch.setattr(memory, "_BLOCK", 0)
    patch.setattr(memory, "_RUN", 0)
    sides = [
        encode_words([line.split() for line in (folder / name).read_text().splitlines()], True)[0]
        for name in "ab"
    ]
    inside, outside = memory.layouts(*sides, CONFIG, threads=threads, scores=True, models=True)
    assert outside.memory < inside.memory
    return (outside.memory + inside.memory) // 2


@pytest.mark.parametrize("threads", [1, 3])
def test_a_limit_moves_work_to_disk_and_changes_no_byte(text, monkeypatch, threads):
    said = aligned(text, "memory")
    assert "work files" not in said[3]
    limit = limit_between(text, monkeypatch, threads)
    said = aligned(text, "disk", memory_limit=limit, threads=threads)
    assert f"of work files in {text / 'work'}" in said[3]
    for name in NAMES[:3]:
        assert (text / "disk" / name).read_bytes() == (text / "memory" / name).read_bytes(), name
    with np.load(text / "disk" / NAMES[3]) as one, np.load(text / "memory" / NAMES[3]) as other:
        assert all(np.array_equal(one[key], other[key]) for key in other)
    assert list((text / "work").iterdir()) == []


def test_text_that_is_large_beside_the_limit_is_read_to_disk(text, monkeypatch):
    aligned(text, "memory")
    mapped = []
    real = spilling.Disk.map_file
    monkeypatch.setattr(
        spilling.Disk, "map_file", lambda *given: mapped.append(real(*given)) or mapped[-1]
    )
    monkeypatch.setattr(memory, "text_fits", lambda paths, limit: False)
    aligned(text, "disk")
    # Both sides, and nothing else, since the rest fits in memory.
    assert [array.dtype.name for array in mapped] == ["int32", "int32"]
    assert (text / "disk/links").read_bytes() == (text / "memory/links").read_bytes()


def test_a_disk_too_small_is_refused_before_work_begins_with_both_figures(text, monkeypatch):
    limit = limit_between(text, monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 0, 1 << 10))
    with pytest.raises(ResourceError, match=r"MiB of work files, for which 0 MiB are free") as no:
        aligned(text, "disk", memory_limit=limit)
    assert no.value.place == str(text / "work")


def test_a_folder_for_work_files_that_is_not_there_is_named(text, monkeypatch):
    limit = limit_between(text, monkeypatch)
    (text / "work").rmdir()
    with pytest.raises(ResourceError, match="No such file or directory") as no:
        aligned(text, "disk", memory_limit=limit)
    assert no.value.place == str(text / "work")


def test_a_disk_that_fills_up_in_mid_em_is_named_and_nothing_is_left(text, monkeypatch):
    limit = limit_between(text, monkeypatch)
    real, left = os.pwrite, [40]

    def until_full(file: int, data: memoryview, at: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(file, data, at)

    monkeypatch.setattr(os, "pwrite", until_full)
    with pytest.raises(ResourceError, match="No space left on device"):
        aligned(text, "disk", memory_limit=limit)
    assert list((text / "work").iterdir()) == list((text / "disk").iterdir()) == []


def test_what_fits_in_memory_is_kept_there_and_what_fits_nowhere_is_refused(tmp_path):
    options = (
        Layout(on_disk=False, memory=100 << 20, disk=0),
        Layout(on_disk=True, memory=40 << 20, disk=1 << 20),
    )
    assert memory.choose(options, 100 << 20, tmp_path) is options[0]
    assert memory.choose(options, 99 << 20, tmp_path) is options[1]
    with pytest.raises(ResourceError, match="needs 40 MiB even with work files, and 39 MiB"):
        memory.choose(options, 39 << 20, tmp_path)


def test_two_hundred_million_words_fit_in_8_gib_with_work_files_alone():
    tokens = np.broadcast_to(np.int32(1), 200_000_000)  # takes no memory
    side = Side(tokens, np.arange(0, len(tokens) + 1, 200), 1_000_000)
    inside, outside = memory.layouts(side, side, AlignmentConfig(), threads=2)
    assert outside.memory < 8 << 30 < inside.memory
    assert outside.disk > inside.disk == 0


def documents(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    # No two shapes are equal, so that the prior has a row a word.
    return rng.permutation(np.arange(100, 180)).tolist(), rng.integers(100, 180, 80).tolist()


def sentences(rng: np.random.Generator) -> tuple[list[int], list[int]]:
    return rng.integers(1, 30, 800).tolist(), rng.integers(1, 30, 800).tolist()


@pytest.mark.parametrize("lengths", [documents, sentences])
@pytest.mark.parametrize("types", [30, 10**9])
def test_no_more_is_used_than_was_said(monkeypatch, lengths, types):
    rng = np.random.default_rng(1)
    source, target = (
        encode_words([[str(word) for word in rng.integers(0, types, size)] for size in side])[0]
        for side in lengths(rng)
    )
    monkeypatch.setattr(shard_module, "BLOCK_ENTRIES", 1 << 12)
    said, _ = memory.layouts(source, target, CONFIG, scores=True, models=True)
    align_encoded(source, target, CONFIG)  # what is made once and stays is not counted below
    tracemalloc.start()
    align_encoded(source, target, CONFIG, scores=True, models=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < said.memory - memory._INTERPRETER


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("8GiB", 8 << 30), ("500 MiB", 500 << 20), ("1.5g", 3 << 29), ("4096", 4096), ("1kb", 1024)],
)
def test_amounts_of_memory_are_read_as_people_write_them(text, bytes_):
    assert memory.parse_size(text) == bytes_


@pytest.mark.parametrize("text", ["", "much", "-1G", "8 GiB or so", "1e9"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ConfigError, match="no amount of memory"):
        memory.parse_size(text)


def test_a_cut_work_file_is_an_error_and_not_an_array_of_zeros(tmp_path):
    with spilling.Disk.opened(tmp_path) as disk:
        kept = disk.keep(np.arange(1000))
        assert np.array_equal(kept.read(), np.arange(1000))
        kept.replace(np.arange(1000)[::-1])
        assert kept.read()[0] == 999
        os.ftruncate(disk._file.fileno(), 100)
        with pytest.raises(ResourceError, match="cut short"):
            kept.read()


def test_a_table_that_does_not_fit_is_aligned_with_work_files(monkeypatch):
    table = table_of(bitext(200, 40, 3))
    links, facts = align_table(table, CONFIG)
    folders = []
    real = spilling.Disk.__init__
    monkeypatch.setattr(
        spilling.Disk, "__init__", lambda disk, folder: folders.append(folder) or real(disk, folder)
    )
    monkeypatch.setattr(memory, "choose", lambda options, *_: options[1])
    assert align_table(table, CONFIG) == (links, facts)
    assert folders
