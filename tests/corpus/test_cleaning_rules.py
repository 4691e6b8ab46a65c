"""Each rule drops what it names, counts it, and can be switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bitexts import moses, raw_block, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from weam_ray.corpus import (
    PAIRS_SCHEMA,
    REASONS,
    CorpusConfig,
    clean_block,
    pair_ids,
    word_spans,
)
from weam_ray.corpus.cleaning import digit_similarity
from weam_ray.errors import DataError

LONG = " ".join(["word"] * 160)
OFF: dict[str, Any] = {
    "drop_control_characters": False,
    "max_characters": None,
    "drop_untranslated": False,
    "min_letter_share": None,
    "min_script_share": None,
    "min_number_similarity": None,
    "same_url_count": False,
    "max_words": None,
    "max_word_characters": None,
    "max_length_ratio": None,
}


def config_of(source: str = "en", target: str = "de", **settings: Any) -> CorpusConfig:
    return CorpusConfig(
        domain="test",
        source_language=source,
        target_language=target,
        source=Path("a"),
        target=Path("b"),
        **settings,
    )


@pytest.mark.parametrize(
    ("reason", "source", "target", "language"),
    [
        ("blank", "a cat", " \u00a0\u200b ", "de"),
        ("control_characters", "a cat\x07", "eine Katze", "de"),
        ("control_characters", "a cat", "eine gro\ufffde Katze", "de"),
        ("too_many_characters", "a " * 600, "eine Katze", "de"),
        ("untranslated", "Edit the File (2)!", "edit the file 3", "de"),
        ("untranslated", "...", "...", "de"),
        ("few_letters", "1,234", "1.234", "de"),
        ("few_letters", "3 - 5 = -2 , ok", "3 - 5 = -2 , gut", "de"),
        ("wrong_script", "press the button", "press le bouton", "ru"),
        ("number_mismatch", "in 1984 and 1985", "in den Jahren danach", "de"),
        ("number_mismatch", "page 17", "Seite 25", "de"),
        ("url_mismatch", "see https://a.org/b", "siehe dort oben", "de"),
        ("too_few_words", "a cat", "Katzen", "de"),
        ("too_many_words", LONG, LONG.replace("word", "Wort"), "de"),
        ("long_word", "a cat", "eine " + "x" * 41, "de"),
        ("length_ratio", "a cat", "eine Katze und noch viel mehr davon als gut", "de"),
    ],
)
def test_a_rule_drops_and_counts_what_it_names(
    reason: str, source: str, target: str, language: str
) -> None:
    rules = {"min_words": 2} if reason == "too_few_words" else {}
    block = raw_block([source, "a small dog"], [target, "маленькая собака"])
    config = config_of(target=language, cleaning=rules)
    if language != "ru":
        block = raw_block([source, "a small dog"], [target, "ein kleiner Hund"])
    table, dropped = clean_block(block, config)
    assert dropped == {reason: 1}
    assert table["source"].to_pylist() == ["a small dog"]
    off = clean_block(block, config_of(target=language, cleaning=OFF))
    assert off[1] == ({"blank": 1} if reason == "blank" else {})


@pytest.mark.parametrize(
    ("source", "target", "language"),
    [
        ("Yes.", "Oui, bien sûr !", "fr"),
        ("two cats", "2 Katzen", "de"),
        ("it cost 1,000.50", "es kostete 1.000,50", "de"),
        ("in 1984", "في عام ١٩٨٤", "ar"),
        ("see https://en.a.org/b", "siehe https://de.a.org/b", "de"),
        ("Added the *timeout* parameter.", "添加了 *timeout* 形参。", "zh"),
        ("I told you so and you would not listen to me", "قلتلكم فلم تسمعوني", "ar"),
        (f"go to https://a.org/{'x' * 60}", f"gehe zu https://a.org/{'x' * 60}", "de"),
    ],
)
def test_good_pairs_pass(source: str, target: str, language: str) -> None:
    table, dropped = clean_block(raw_block([source], [target]), config_of(target=language))
    assert (len(table), dropped) == (1, {})


def test_numbers_are_compared_as_the_docstring_says() -> None:
    assert digit_similarity("1000", "1") == 1.0
    assert digit_similarity("", "12") == 1.0
    assert digit_similarity("", "123") == 0.0
    assert digit_similarity("१२३", "321") == 1.0
    assert digit_similarity("12", "13") == 0.5


def test_a_clean_row_holds_normalised_text_words_and_its_content_hash() -> None:
    block = raw_block(["  It's\u00a0a cafe\u0301 ."], ["C'est un café .\r"])
    table, dropped = clean_block(block, config_of(target="fr"))
    assert table.schema == PAIRS_SCHEMA and not dropped
    row = table.to_pylist()[0]
    assert (row["source"], row["target"]) == ("It's a café .", "C'est un café .")
    for side, language in (("source", "en"), ("target", "fr")):
        flat = [offset for span in word_spans(row[side], language) for offset in span]
        assert row[f"{side}_spans"] == flat
    assert row["pair_id"] == pair_ids(["It's a café ."], ["C'est un café ."])[0]
    assert row["gold"] is None


def test_pair_ids_are_the_same_on_every_machine() -> None:
    """A golden value: subsets, masks and links of finished studies hang on it."""
    assert pair_ids(["a cat", "a"], ["eine Katze", "b"]).tolist() == [
        0x6313F0E463F8A0E6,
        pair_ids(["a"], ["b"])[0],
    ]


def test_gold_links_are_kept_in_order_and_each_once(tmp_path: Path) -> None:
    config = moses(tmp_path, [], [], gold=tmp_path / "g", segmenter="whitespace")
    block = raw_block(["a b c.", "d"], ["e f", "g"], ["2-1 0-0 2-1 1-0", ""])
    table, _ = clean_block(block, config)
    assert table["gold"].to_pylist() == [[0, 0, 1, 0, 2, 1], []]
    assert table["source_spans"].to_pylist()[0] == [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ("0-0 3-1", "link 3-1 is outside its pair of 3 and 2 words. Indices count from 0"),
        ("0-2", "link 0-2 is outside"),
        ("0-0 1p1", "malformed link '1p1'"),
        ("0-0,1-1", "malformed link"),
        ("0--1", "malformed link"),
    ],
)
def test_a_wrong_gold_link_is_told_by_file_and_line(
    tmp_path: Path, links: str, message: str
) -> None:
    config = moses(tmp_path, [], [], gold=tmp_path / "g", segmenter="whitespace")
    block = raw_block(["x", "a b c."], ["y", "e f"], ["0-0", links])
    with pytest.raises(DataError) as raised:
        clean_block(block, config)
    assert str(raised.value).startswith(f"{tmp_path / 'g'}:2: ")
    assert message in str(raised.value)


def test_a_word_of_invisible_characters_would_shift_gold_links(tmp_path: Path) -> None:
    config = moses(tmp_path, [], [], gold=tmp_path / "g", segmenter="whitespace")
    with pytest.raises(DataError, match=r"a\.en:1: a word of the source side"):
        clean_block(raw_block(["a \u200b b"], ["c d"], ["2-1"]), config)


TEXTS = st.text(
    st.sampled_from("ab cd1 2\t.,é\x07\u200b\ufffdня https://x.y") | st.characters(codec="utf8"),
    max_size=30,
)


@settings(deadline=None, max_examples=80)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=12), cut=st.integers(0, 12))
def test_every_row_is_kept_or_counted_and_blocks_decide_nothing(
    pairs: list[tuple[str, str]], cut: int
) -> None:
    source, target = sentences(4)
    source += [one.replace("\0", "") for one, _ in pairs]
    target += [two.replace("\0", "") for _, two in pairs]
    config = config_of()
    block = raw_block(source, target)
    whole, dropped = clean_block(block, config)
    assert len(whole) + dropped.total() == len(block)
    assert set(dropped) <= set(REASONS)
    parts = [clean_block(part, config) for part in (block.slice(0, cut), block.slice(cut))]
    assert sum((counts for _, counts in parts), start=type(dropped)()) == dropped
    assert [row for table, _ in parts for row in table.to_pylist()] == whole.to_pylist()
