"""Overlap with the evaluation items, against a version made of sets of tuples."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from bitexts import ENGLISH, raw_block, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from weam_ray.corpus import (
    ContaminationConfig,
    ContaminationIndex,
    CorpusConfig,
    clean_block,
    word_spans,
)
from weam_ray.corpus.contamination import comparable
from weam_ray.errors import ConfigError

ITEM = "The cat sees a small dog near the old house while cold rain falls on green hills."


def config_of(source: str = "en", target: str = "de", **settings: object) -> CorpusConfig:
    base = {"domain": "test", "source": Path("a"), "target": Path("b"), **settings}
    return CorpusConfig(source_language=source, target_language=target, **base)


def key(text: str, language: str = "en") -> tuple[str, ...]:
    cut = [comparable(text[start:end]) for start, end in word_spans(text, language)]
    return tuple(word for word in cut if word)


def runs(words: tuple[str, ...], width: int) -> set[tuple[str, ...]]:
    return {words[i : i + width] for i in range(len(words) - width + 1)}


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text, "en")]


FEW = st.lists(st.sampled_from("a b c . Don't B ,".split()), max_size=9).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(items=st.lists(FEW, max_size=6), texts=st.lists(FEW, max_size=8), width=st.integers(2, 5))
def test_hashes_find_what_sets_of_tuples_find(
    items: list[str], texts: list[str], width: int
) -> None:
    index = ContaminationIndex.from_texts({"en": items}, ContaminationConfig(ngram=width))
    exact, shared = index.overlaps([words_of(text) for text in texts], "en")
    known = {key(item) for item in items} - {()}
    known_runs = set().union(*(runs(key(item), width) for item in items))
    assert exact.tolist() == [key(text) in known for text in texts]
    assert shared.tolist() == [bool(runs(key(text), width) & known_runs) for text in texts]


def test_a_planted_sentence_is_dropped_in_either_language() -> None:
    source, target = sentences(50)
    index = ContaminationIndex.from_texts({"en": ["The cat sees"], "de": ["Die Katze, sieht!"]})
    block = raw_block(
        [*source, "the CAT sees .", "a dog runs here", "a dog runs"],
        [*target, "der Hund bellt", "die Katze sieht", "ein Hund läuft"],
    )
    table, dropped = clean_block(block, config_of(), index)
    assert dropped == {"evaluation_sentence": 2}
    assert len(table) == 51


def test_thirteen_words_in_a_row_are_dropped_and_twelve_are_not() -> None:
    index = ContaminationIndex.from_texts({"en": [ITEM]})
    item = ITEM.rstrip(".").split()
    texts = [
        "She said: “" + " ".join(item[2:15]).upper() + "” — twice",  # case and punctuation aside
        "She said " + " ".join(item[2:14]) + " twice",
        " ".join(item[:12]) + " and " + " ".join(item[12:]),  # no run goes across the gap
    ]
    block = raw_block(texts, ["Sie sagte das zu ihm und ging dann fort und kam nie zurück"] * 3)
    table, dropped = clean_block(block, config_of(), index)
    assert dropped == {"evaluation_ngram": 1}
    assert table["source"].to_pylist() == texts[1:]


def test_a_run_never_goes_from_one_row_into_the_next() -> None:
    index = ContaminationIndex.from_texts({"en": [ITEM]})
    halves = [" ".join(ITEM.split()[:9]), " ".join(ITEM.split()[9:])]
    exact, shared = index.overlaps([half.split() for half in halves], "en")
    assert not exact.any() and not shared.any()


CHINESE = "我们明天去北京看朋友，然后坐火车回上海的老家过年和吃饺子。"
THAI = "ฉันไปโรงเรียนทุกวันกับเพื่อนและกินข้าวที่บ้านของแม่ตอนเย็นก่อนไปนอน"
JAPANESE = "明日は友達と北京へ行って、それから電車で上海の実家に帰ります。"


@pytest.mark.parametrize(
    ("language", "item", "text", "found"),
    [
        ("zh", CHINESE, f"他说：{CHINESE}真的。", True),
        ("zh", CHINESE, CHINESE[:16] + "。", False),  # too few words in a row
        ("zh-TW", "我们明天去北京", "我们明天去北京!", True),
        ("th", THAI, f"เขาพูดว่า {THAI} จริง", True),
        ("th", THAI, THAI[:24], False),
        ("ja", JAPANESE, f"彼は「{JAPANESE}」と言った", True),
        ("ja", JAPANESE, JAPANESE[:22], False),  # 21 characters: 26 are asked for
    ],
)
def test_languages_without_spaces_are_compared_in_their_words(
    language: str, item: str, text: str, found: bool
) -> None:
    index = ContaminationIndex.from_texts({language.split("-")[0]: [item]})
    cut = [text[start:end] for start, end in word_spans(text, language)]
    exact, shared = index.overlaps([cut], language)
    assert bool(exact[0] or shared[0]) is found


def test_words_that_come_in_whitespace_are_compared_with_the_items_words() -> None:
    index = ContaminationIndex.from_texts({"en": ["It's a cat, isn't it?"]})
    config = config_of(segmenter="whitespace")
    table, dropped = clean_block(
        raw_block(["it's a cat, isn't it"], ["ja das ist so"]), config, index
    )
    assert (len(table), dropped) == (0, {"evaluation_sentence": 1})


def test_switched_off_or_without_items_in_the_language_nothing_is_dropped() -> None:
    rng = random.Random(1)
    item = " ".join(rng.choice(ENGLISH) for _ in range(20))
    off = ContaminationConfig(exact=False, ngram=None)
    index = ContaminationIndex.from_texts({"en": [item]}, off)
    block = raw_block([item], ["die Katze sieht einen kleinen Hund bei dem alten Haus"])
    assert clean_block(block, config_of(contamination=off), index)[1] == {}
    french = ContaminationIndex.from_texts({"fr": [item]})
    assert not french.covers("en") and french.covers("fr_CA")
    assert clean_block(block, config_of(), french)[1] == {}


def test_an_index_of_other_settings_is_refused() -> None:
    index = ContaminationIndex.from_texts({"en": [ITEM]}, ContaminationConfig(ngram=8))
    with pytest.raises(ConfigError, match="other contamination settings"):
        clean_block(raw_block(["a"], ["b"]), config_of(), index)


def test_an_index_is_small_and_can_be_sent_to_workers() -> None:
    source, _ = sentences(2_000)
    index = ContaminationIndex.from_texts({"en": source})
    sent = pickle.dumps(index)
    assert len(sent) < 8 * 2_000 * 3
    again = pickle.loads(sent)
    words = [words_of(text) for text in source[:5]]
    assert again.overlaps(words, "en")[0].all()
