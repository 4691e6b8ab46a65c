"""``weam-ray align`` and ``weam-ray aer`` on files, good and bad."""

from __future__ import annotations

import gzip
import io

import alignment_oracle as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from test_em_against_dictionaries import bitext

from weam_ray.alignment import AlignmentConfig, align_words, files, memory, read_links, shard
from weam_ray.alignment.command import run_aer, run_align
from weam_ray.alignment.interning import Vocabulary
from weam_ray.errors import DataError, ResourceError, WeamError
from weam_ray.terminal import Line

PLAIN = AlignmentConfig(casefold=False)


@pytest.fixture
def work(tmp_path):
    """A folder with a bitext of 150 pairs, and what run_align wants to be told."""
    pairs = bitext(150, 30, 11)
    (tmp_path / "a").write_text("".join(" ".join(source) + "\n" for source, _ in pairs))
    (tmp_path / "b").write_text("".join(" ".join(target) + "\n" for _, target in pairs))
    return tmp_path, pairs


def settings(folder, **more):
    paths = {"source": folder / "a", "target": folder / "b", "output": folder / "links"}
    return {**paths, "config": PLAIN, "say": lambda _: None, **more}


def of_words(pairs: oracle.Pairs, **more):
    return align_words([a for a, _ in pairs], [b for _, b in pairs], PLAIN, **more)


def test_files_are_aligned_as_their_words_are(work):
    folder, pairs = work
    said = []
    done = run_align(**settings(folder, say=said.append))
    assert read_links(folder / "links") == of_words(pairs).links
    assert done.pairs == 150
    assert done.unlinked == {
        "blank_side": 0,
        "too_long": 0,
        "none_found": done.unlinked["none_found"],
    }
    assert said[:2] == [f"reading {folder / 'a'}", f"reading {folder / 'b'}"]
    assert said[2].startswith("150 pairs")
    assert said[3].startswith("memory: about")


def test_an_iteration_of_minutes_says_how_far_it_is_and_no_more_than_every_ten_seconds(
    work, monkeypatch
):
    folder, _ = work
    monkeypatch.setattr(shard, "BLOCK_ENTRIES", 50)
    out, reports = io.StringIO(), []
    line = Line("iterations", file=out, clock=lambda: 3.0 * len(reports))

    def report(progress):
        reports.append(progress)  # a block takes three seconds
        line.report(progress)

    done = run_align(**settings(folder, report=report))
    *said, last = out.getvalue().splitlines()
    assert last.startswith("align: 10 of 10 iterations (")
    # Every fourth report is said: 12 seconds are the first multiple of 3 that is 10 or more.
    assert len(said) == (len(reports) - 1) // 4
    assert sum("% of the next (" in each for each in said) > 10
    assert done.pairs == 150


def test_gzip_in_and_out_changes_no_link(work):
    folder, _ = work
    run_align(**settings(folder))
    for name in "ab":
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    packed = {name: folder / f"{path}.gz" for name, path in (("source", "a"), ("target", "b"))}
    run_align(**settings(folder, **packed, output=folder / "packed.gz"))
    assert gzip.decompress((folder / "packed.gz").read_bytes()) == (folder / "links").read_bytes()


def test_a_saved_model_gives_its_own_text_the_same_links_and_scores(work):
    folder, _ = work
    run_align(**settings(folder, model_out=folder / "model", scores=folder / "scores"))
    again = {"output": folder / "again", "scores": folder / "scores2"}
    run_align(**settings(folder, model=folder / "model", **again))
    assert (folder / "again").read_bytes() == (folder / "links").read_bytes()
    assert (folder / "scores2").read_bytes() == (folder / "scores").read_bytes()


def test_new_text_with_unknown_words_is_linked_by_what_is_known_and_by_place(work):
    folder, _ = work
    run_align(**settings(folder, model_out=folder / "model"))
    (folder / "a").write_text("s1 never s3\nunheard of\n\n")
    (folder / "b").write_text("t3 t1\nnie gesehen\nx\n")
    union = PLAIN.model_copy(update={"symmetrisation": "union"})
    run_align(**settings(folder, model=folder / "model", config=union))
    first, second, third = read_links(folder / "links")
    assert {(0, 1), (2, 0)} <= set(first)
    assert second == [(0, 0), (1, 1)]
    assert third == []


def test_scores_are_a_line_a_pair_and_empty_where_there_is_none(work):
    folder, pairs = work
    (folder / "a").write_text((folder / "a").read_text() + "\n")
    (folder / "b").write_text((folder / "b").read_text() + "x\n")
    run_align(**settings(folder, scores=folder / "scores"))
    lines = (folder / "scores").read_text().split("\n")
    assert lines[-2:] == ["\t", ""]
    expected = of_words(pairs, scores=True).scores
    made = np.array([[float(field) for field in line.split("\t")] for line in lines[:-2]])
    assert made == pytest.approx(expected, abs=1e-6)


def test_odd_lines_keep_their_place(work):
    folder, _ = work
    odd = ["", "\0 \x07", "\ufeff", "word " * 10**6, "a\u2028b\x85c", "\t \r", "x"]
    (folder / "a").write_text("\n".join(odd) + "\nno line feed at the end", newline="")
    (folder / "b").write_text("\n".join("x" for _ in odd) + "\nhere neither", newline="")
    done = run_align(**settings(folder))
    assert (folder / "links").read_text().count("\n") == len(odd) + 1
    assert done.unlinked["blank_side"] == 2
    assert done.unlinked["too_long"] == 1
    assert read_links(folder / "links")[len(odd)]


def test_sides_with_unequal_numbers_of_lines_are_refused_with_both(work):
    folder, _ = work
    (folder / "b").write_text("x\n" * 149)
    with pytest.raises(DataError, match="150 lines in .*a, 149 in .*b"):
        run_align(**settings(folder))
    assert not (folder / "links").exists()


def test_invalid_utf8_is_named_with_file_and_line(work, monkeypatch):
    folder, _ = work
    monkeypatch.setattr(files, "CHUNK", 64)
    (folder / "b").write_bytes(b"fine\n" * 100 + b"not \xff fine\n" + b"fine\n" * 49)
    with pytest.raises(DataError, match="invalid UTF-8") as caught:
        run_align(**settings(folder))
    assert caught.value.place == f"{folder / 'b'}:101"


def test_a_missing_file_is_named(work):
    folder, _ = work
    with pytest.raises(DataError, match="can't open"):
        run_align(**settings(folder, source=folder / "nowhere"))


def test_an_empty_file_that_is_named_as_packed_is_a_download_cut_short(work):
    folder, _ = work
    for name in ("none.gz", "nothing.gz"):
        (folder / name).touch()
    empty = {"source": folder / "none.gz", "target": folder / "nothing.gz"}
    with pytest.raises(DataError, match="damaged gzip file: it is empty"):
        run_align(**settings(folder, **empty))


def test_packed_text_without_its_name_is_told_from_other_bytes(work):
    folder, _ = work
    (folder / "a").write_bytes(gzip.compress((folder / "a").read_bytes()))
    with pytest.raises(DataError, match="Let its name end in .gz"):
        run_align(**settings(folder))


def test_what_does_not_fit_in_memory_is_refused_with_the_figure(work, monkeypatch):
    folder, _ = work
    monkeypatch.setattr(memory, "available", lambda: 10 << 20)
    with pytest.raises(
        ResourceError, match=r"needs \d+ MiB even with work files, and 10 MiB are a"
    ):
        run_align(**settings(folder))
    with pytest.raises(ResourceError, match="20 MiB are allowed"):
        run_align(**settings(folder, memory_limit=20 << 20))


def test_nothing_half_written_is_left_when_writing_fails(work, monkeypatch):
    folder, _ = work

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "format_links", full)
    before = sorted(folder.iterdir())
    with pytest.raises(DataError, match="No space left"):
        run_align(**settings(folder))
    assert sorted(folder.iterdir()) == before


def test_a_model_can_not_be_used_and_made_at_once(work):
    folder, _ = work
    with pytest.raises(DataError, match="none to save"):
        run_align(**settings(folder, model=folder, model_out=folder))


def test_no_machine_has_less_than_nothing_available():
    assert memory.available() > 0
    assert memory.size(3 << 30) == "3.0 GiB"
    assert memory.size(1 << 20) == "1 MiB"
    assert memory.size((1 << 20) + 1, up=True) == "2 MiB"


text = st.text(st.sampled_from(list("ab é\n\r\t\x0b\x0c\x00\x1c\u3000\u2028")), max_size=40)


@examples(deadline=None)
@given(text, st.integers(1, 9))
def test_files_are_split_into_lines_and_words_as_bytes_split_does(tmp_path_factory, content, chunk):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes(content.encode())
    vocabulary = Vocabulary()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "CHUNK", chunk)
        side = files.read_side(path, vocabulary)
    lines = content.encode().split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    words = [b"", *vocabulary.words()]
    bounds = zip(side.starts, side.starts[1:], strict=False)
    assert [[words[t] for t in side.tokens[a:b]] for a, b in bounds] == [
        line.split() for line in lines
    ]


@examples(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=30))
def test_equal_words_and_no_others_get_equal_numbers(words):
    vocabulary = Vocabulary()
    buffer = np.frombuffer(b"".join(words) or b"\0", np.uint8)
    ends = np.cumsum([len(word) for word in words], dtype=np.int64)
    numbers = vocabulary.number(buffer, ends - np.array([len(w) for w in words], np.int64), ends)
    known = [b"", *vocabulary.words()]
    assert [known[number] for number in numbers] == words
    assert len(set(known[1:])) == vocabulary.types == len(set(words))


def test_a_vocabulary_outgrows_its_first_table():
    words = [str(number).encode() for number in range(9000)] * 2
    lengths = np.array([len(word) for word in words], np.int64)
    ends = np.cumsum(lengths)
    vocabulary = Vocabulary()
    numbers = vocabulary.number(np.frombuffer(b"".join(words), np.uint8), ends - lengths, ends)
    assert numbers.tolist() == [*range(1, 9001)] * 2


def test_the_error_rate_says_from_where_words_are_counted(tmp_path):
    (tmp_path / "gold").write_text("1-1 2p2\n1-2\n")
    (tmp_path / "links").write_text("0-0 1-1\n0-1\n")
    said = []
    rate = run_aer(gold=tmp_path / "gold", links=tmp_path / "links", say=said.append)
    assert (rate.aer, rate.links, rate.sure) == (0.0, 3, 2)
    assert "counted from 1 (no index is 0" in said[0]
    (tmp_path / "a").write_text("x y\nx\n")
    (tmp_path / "b").write_text("x\nx y\n")
    with pytest.raises(WeamError, match="link 2-2 of a pair of 2 and 1 words"):
        run_aer(
            gold=tmp_path / "gold",
            links=tmp_path / "links",
            source=tmp_path / "a",
            target=tmp_path / "b",
        )
    with pytest.raises(DataError, match="Give --source and --target"):
        run_aer(gold=tmp_path / "gold", links=tmp_path / "links", source=tmp_path / "a")


def test_links_counted_from_1_are_told_by_the_text(tmp_path):
    (tmp_path / "gold").write_text("1-1 2-2\n")
    (tmp_path / "links").write_text("1-1 2-2\n")
    for side in "ab":
        (tmp_path / side).write_text("x y\n")
    text = {"source": tmp_path / "a", "target": tmp_path / "b"}
    with pytest.raises(DataError, match="link 2-2 of a pair of 2 and 2 words") as caught:
        run_aer(gold=tmp_path / "gold", links=tmp_path / "links", **text)
    assert caught.value.place == f"{tmp_path / 'links'}:1"
    assert caught.value.cure == "Count words from 0."
    said: list[str] = []
    run_aer(gold=tmp_path / "gold", links=tmp_path / "links", say=said.append)
    assert "no index is 0; if words are counted from 1" in said[1]
