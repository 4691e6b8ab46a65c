"""Where ``weam-ray align`` writes: refused before there is work to lose, or whole."""

from __future__ import annotations

import gzip
import os
import stat
import threading
from pathlib import Path

import pytest
from test_align_command import settings, work  # noqa: F401

from weam_ray.__main__ import main
from weam_ray.alignment import read_links
from weam_ray.alignment.command import run_align, scores_beside
from weam_ray.alignment.outputs import check_folder, created
from weam_ray.errors import DataError


@pytest.fixture
def folder(work) -> Path:  # noqa: F811
    return work[0]


def refused(folder: Path, **options) -> DataError:
    """The refusal of a run that has read nothing yet."""
    said: list[str] = []
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(DataError) as caught:
        run_align(**settings(folder, say=said.append, **options))
    assert said == []
    assert before == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return caught.value


def test_a_place_that_can_not_be_written_is_refused_before_anything_is_read(folder):
    assert "No such file" in str(refused(folder, output=folder / "nowhere" / "links"))
    assert "Is a directory" in str(refused(folder, output=folder))
    assert "Is a directory" in str(refused(folder, output=Path(".")))
    assert "Not a directory" in str(refused(folder, output=folder / "a" / "links"))
    assert "name too long" in str(refused(folder, output=folder / ("x" * 250)))
    assert "No such file" in str(refused(folder, scores=folder / "nowhere" / "scores"))
    assert "Not a directory" in str(refused(folder, model_out=folder / "a"))
    assert "Not a directory" in str(refused(folder, model_out=folder / "a" / "model"))


def test_a_loop_of_symbolic_links_is_no_place(folder):
    (folder / "loop").symlink_to("loop")
    assert refused(folder, output=folder / "loop" / "links").place == str(folder / "loop/links")


def test_text_and_models_are_never_overwritten(folder):
    (folder / "same").symlink_to("b")
    run_align(**settings(folder, model_out=folder / "model"))
    (folder / "links").unlink()
    for clash in (
        {"output": folder / "a"},
        {"output": folder / "same"},
        {"scores": folder / "b"},
        {"scores": folder / "links"},
        {"output": folder / "model/aligner.npz", "model": folder / "model"},
        {"output": folder / "model/aligner.json", "model_out": folder / "model"},
    ):
        assert "named twice" in str(refused(folder, **clash))


def test_a_model_folder_may_lie_in_folders_that_are_not_there_yet(folder):
    check_folder(folder / "some/where")
    assert not (folder / "some").exists()
    run_align(**settings(folder, model_out=folder / "some/where"))
    assert (folder / "some/where/aligner.json").exists()


def test_a_symbolic_link_stays_one_and_its_file_gets_the_links(folder):
    (folder / "target").write_text("old")
    (folder / "links").symlink_to("target")
    run_align(**settings(folder))
    assert (folder / "links").is_symlink()
    assert len(read_links(folder / "target")) == 150


def test_standard_output_gets_the_links_and_nothing_else(folder, capfd):
    run_align(**settings(folder))
    run_align(**settings(folder, output=Path("/dev/stdout")))
    assert capfd.readouterr().out == (folder / "links").read_text()
    assert Path("/dev/stdout").is_symlink()


def test_a_device_stays_one(folder):
    run_align(**settings(folder, output=Path("/dev/null"), scores=Path("/dev/null")))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_text_may_come_from_pipes_and_links_go_to_one(folder):
    run_align(**settings(folder, output=folder / "plain"))
    for name in ("from a", "from b", "links"):
        os.mkfifo(folder / name)
    got: list[bytes] = []
    ends = [
        threading.Thread(target=lambda: got.append((folder / "links").read_bytes())),
        *(
            threading.Thread(
                target=lambda name=name: (folder / f"from {name}").write_bytes(
                    (folder / name).read_bytes()
                )
            )
            for name in "ab"
        ),
    ]
    for end in ends:
        end.start()
    pipes = {"source": folder / "from a", "target": folder / "from b"}
    run_align(**settings(folder, **pipes))
    for end in ends:
        end.join()
    assert got == [(folder / "plain").read_bytes()]


@pytest.mark.parametrize("name", ["full", "full.gz"])
def test_a_full_disk_is_said_and_not_a_traceback(tmp_path, name):
    (tmp_path / name).symlink_to("/dev/full")
    with (
        pytest.raises(DataError, match="No space left on device") as caught,
        created(tmp_path / name) as stream,
    ):
        stream.write(b"0-0\n" * 10_000)
    assert caught.value.place == str(tmp_path / name)


def test_a_reader_that_has_left_is_said_and_not_a_traceback(folder):
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(DataError, match="Broken pipe"):
        run_align(**settings(folder, output=Path(f"/dev/fd/{writing}")))
    os.close(writing)


@pytest.mark.parametrize(
    ("output", "scores"),
    [("links", "links.scores"), ("a.b.gz", "a.b.scores.gz"), ("links.gz", "links.scores.gz")],
)
def test_scores_lie_beside_the_links(output, scores):
    assert scores_beside(Path("x") / output) == Path("x") / scores


def command(folder: Path, *more: str, output: str = "links") -> list[str]:
    paths = {"--source": "a", "--target": "b", "--output": output}
    return ["align", *(f"{key}={folder / name}" for key, name in paths.items()), *more]


def test_the_flag_writes_scores_beside_the_links_and_says_where(folder, capsys):
    assert main(command(folder, "--scores", output="links.gz")) == 0
    with gzip.open(folder / "links.scores.gz", "rt") as stream:
        rows = [[float(score) for score in line.split("\t")] for line in stream]
    assert len(rows) == 150
    assert all(len(row) == 2 and max(row) < 0 for row in rows)
    said = capsys.readouterr()
    assert f"scores in {folder / 'links.scores.gz'}" in said.err
    assert "align: 10 of 10 iterations" in said.err
    assert said.out == ""


def test_a_saved_model_counts_directions(folder, capsys):
    assert main(command(folder, f"--model-out={folder / 'model'}")) == 0
    capsys.readouterr()
    assert main(command(folder, f"--model={folder / 'model'}")) == 0
    assert "align: 2 of 2 directions" in capsys.readouterr().err


def test_longer_lines_are_aligned_when_asked_for(folder, capsys):
    for name in "ab":
        (folder / name).write_text((folder / name).read_text() + "s1 " * 2001 + "\n")
    assert main(command(folder)) == 0
    assert "1 lines without links: too long" in capsys.readouterr().err
    assert main(command(folder, "--max-words", "2001")) == 0
    assert "too long" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "output", "message"),
    [
        (["--scores"], "../../../../../../../../dev/null", "go to no file"),
        (["--model=m", "--actors=2"], "links", "Drop --actors"),
        (["--model=m", "--model-out=n"], "links", "Drop --model-out"),
        (["--memory-limit=1MiB"], "links", "1 MiB are allowed"),
        (["--memory-limit=lots"], "links", "'lots' is no amount of memory"),
        (["--symmetrisation=grow"], "links", "'grow'"),
        (["--workers=0"], "links", "greater than or equal to 1"),
        ([], "nowhere/links", "can't write"),
    ],
)
def test_what_can_not_be_is_one_message_and_status_2(folder, capsys, options, output, message):
    assert main(command(folder, *options, output=output)) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
