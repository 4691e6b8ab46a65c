"""Pharaoh files in and out, the index base, and the error rate."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weam_ray.alignment import Links, aer, read_gold, read_links, write_links
from weam_ray.errors import AlignerError, DataError

pairs = st.lists(st.sets(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=9), max_size=9)


@pytest.mark.parametrize("name", ["links.pharaoh", "links.pharaoh.gz"])
def test_what_is_written_is_read(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("links") / name

    @settings(deadline=None)
    @given(pairs)
    def round_trip(rows):
        links = Links.from_pairs(rows)
        write_links(links, path)
        assert read_links(path) == links

    round_trip()


def test_equal_links_make_equal_gzip_files(tmp_path):
    links = Links.from_pairs([[(0, 1)]])
    write_links(links, tmp_path / "a.gz")
    write_links(links, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"0-1\n"


@pytest.mark.parametrize(
    "bad", ["0-1 2", "0-1 a-b", "1--2", "-1-2", "0-1p", "0p1", "1-99999999999"]
)
def test_a_malformed_link_is_named_with_file_and_line(tmp_path, bad):
    path = tmp_path / "bad.pharaoh"
    path.write_text(f"0-0\n{bad}\n")
    with pytest.raises(DataError) as caught:
        read_links(path)
    assert caught.value.place == f"{path}:2"


def test_bytes_that_are_no_text_are_named_with_file_and_line(tmp_path):
    path = tmp_path / "bad.pharaoh"
    path.write_bytes(b"0-0\n0-\xff\n")
    with pytest.raises(DataError, match="invalid UTF-8") as caught:
        read_links(path)
    assert caught.value.place == f"{path}:2"


def test_a_missing_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(DataError, match="can't open"):
        read_links(tmp_path / "nowhere")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"0-0\n" * 99)[:-9])
    with pytest.raises(DataError, match="damaged gzip"):
        read_links(tmp_path / "cut.gz")


def test_gold_tells_sure_from_possible(tmp_path):
    path = tmp_path / "gold"
    path.write_text("0-0 1p2\n2?0 1-1\n")
    gold = read_gold(path)
    assert list(gold.sure) == [[(0, 0)], [(1, 1)]]
    assert list(gold.possible) == [[(0, 0), (1, 2)], [(1, 1), (2, 0)]]


@pytest.mark.parametrize(
    ("text", "lengths", "base", "why"),
    [
        ("1-1 0-2\n", None, 0, "line 1 has an index of 0"),
        ("1-1 2-2\n", None, 1, "no index is 0"),
        ("1-1\n2-2\n", [(3, 3), (2, 5)], 1, "line 2 has an index that is the number of words"),
        ("1-1 2-2\n", [(3, 3)], 0, "no index is the number of words"),
    ],
)
def test_the_index_base_is_found_and_said(tmp_path, text, lengths, base, why):
    path = tmp_path / "gold"
    path.write_text(text)
    gold = read_gold(path, lengths=lengths)
    assert gold.index_base == base
    assert why in gold.evidence
    assert (1 - base, 1 - base) in gold.sure[0]


@pytest.mark.parametrize(
    ("base", "lengths", "message"),
    [
        (1, None, "an index of 0"),
        (0, [(3, 2), (9, 9)], "link 1-2 of a pair of 3 and 2 words"),
        (0, [(9, 9)], "2 lines of links for 1 pairs"),
        (2, None, "index base 2"),
    ],
)
def test_an_index_base_that_can_not_be_is_refused(tmp_path, base, lengths, message):
    path = tmp_path / "gold"
    path.write_text("0-0 1-2\n0-1\n")
    with pytest.raises(DataError, match=message):
        read_gold(path, base, lengths)


def test_the_error_rate_is_och_and_neys():
    sure = Links.from_pairs([[(0, 0), (1, 1)], [(0, 0)]])
    found = Links.from_pairs([[(0, 0), (2, 1)], [(1, 1)]])
    rate = aer(found, sure)
    assert (rate.precision, rate.recall, rate.aer) == (1 / 3, 1 / 3, 1 - 2 / 6)


def test_possible_links_count_for_precision_only(tmp_path):
    (tmp_path / "gold").write_text("0-0 1p1\n")
    gold = read_gold(tmp_path / "gold")
    rate = aer(Links.from_pairs([[(0, 0), (1, 1)]]), gold)
    assert (rate.precision, rate.recall, rate.aer) == (1.0, 1.0, 0.0)
    rate = aer(Links.from_pairs([[(1, 1)]]), gold)
    assert (rate.precision, rate.recall, rate.aer) == (1.0, 0.0, 0.5)


def test_the_error_rate_of_nothing_is_a_number():
    rate = aer(Links.from_pairs([[]]), Links.from_pairs([[]]))
    assert (rate.precision, rate.recall, rate.aer) == (1.0, 1.0, 0.0)


def test_links_of_another_text_are_refused():
    with pytest.raises(AlignerError, match="1 pairs of links against 2"):
        aer(Links.from_pairs([[]]), Links.from_pairs([[], []]))
