"""The finished corpus does not depend on the order, number or size of blocks, and adds up."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from bitexts import moses, raw_block, sentences

from weam_ray.corpus import (
    PAIRS_SCHEMA,
    ContaminationIndex,
    CorpusConfig,
    build_corpus,
    clean_block,
    finish_corpus,
    pairs,
    read_blocks,
    read_corpus,
    spans_to_words,
    write_corpus,
)
from weam_ray.errors import DataError


@pytest.fixture
def messy(tmp_path: Path) -> CorpusConfig:
    source, target = sentences(600)
    source += source[:100] + ["", "same", "in 1984", source[0] + "\u200b"]
    target += target[:100] + ["leer", "same", "damals", "  " + target[0]]
    return moses(tmp_path, source, target)


def test_read_is_kept_and_dropped_exactly(messy: CorpusConfig) -> None:
    index = ContaminationIndex.from_texts({"en": [sentences(600)[0][3]]})
    corpus = build_corpus(messy, index)
    assert corpus.rows_read == 704 == len(corpus.table) + sum(corpus.dropped.values())
    expected = {"blank": 1, "untranslated": 1, "number_mismatch": 1, "evaluation_sentence": 2}
    # The evaluation sentence was there twice; the other 99 repetitions and one in disguise remain.
    assert corpus.dropped == expected | {"duplicate": 100}
    ids = corpus.table["pair_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert corpus.table.schema == PAIRS_SCHEMA


@pytest.mark.parametrize("bucket_rows", [7, 100, 500_000])
def test_blocks_in_any_order_and_size_make_the_same_corpus(
    messy: CorpusConfig, monkeypatch: pytest.MonkeyPatch, bucket_rows: int
) -> None:
    whole = build_corpus(messy)
    monkeypatch.setattr(pairs, "_BUCKET_ROWS", bucket_rows)
    rng = random.Random(3)
    for block_rows in (50, 333, 10_000):
        blocks = list(read_blocks(messy, block_rows))
        rng.shuffle(blocks)
        cleaned = [clean_block(block, messy) for block in blocks]
        dropped = sum((counts for _, counts in cleaned), start=Counter())
        corpus = finish_corpus((table for table, _ in cleaned), dropped, messy)
        assert corpus.table.equals(whole.table)
        assert (corpus.dropped, corpus.rows_read) == (whole.dropped, whole.rows_read)


def test_lines_in_another_order_make_the_same_corpus(messy: CorpusConfig, tmp_path: Path) -> None:
    whole = build_corpus(messy)
    table = pa.concat_tables(read_blocks(messy))
    order = random.Random(5).sample(range(len(table)), len(table))
    (tmp_path / "other").mkdir()
    other = moses(
        tmp_path / "other",
        [table["source"][row].as_py() for row in order],
        [table["target"][row].as_py() for row in order],
    )
    assert build_corpus(other).table.equals(whole.table)


def test_copies_with_other_gold_links_are_settled_whatever_came_first(tmp_path: Path) -> None:
    config = moses(tmp_path, [], [], gold=tmp_path / "g", segmenter="whitespace")
    blocks = [
        clean_block(raw_block(["a b"], ["c d"], [gold]), config)[0]
        for gold in ("0-0", "0-1 1-0", "0-0 1-1", "")
    ]
    for turn in range(4):
        corpus = finish_corpus(blocks[turn:] + blocks[:turn], {}, config)
        assert corpus.table["gold"].to_pylist() == [[0, 0, 1, 1]]
        assert corpus.dropped == {"duplicate": 3}


def test_nothing_left_is_refused_with_the_counts(tmp_path: Path) -> None:
    config = moses(tmp_path, ["", "", "same"], ["a", "b", "same"])
    with pytest.raises(DataError) as raised:
        build_corpus(config)
    assert "no pair is left of 3 after cleaning (blank 2, untranslated 1)" in str(raised.value)
    assert str(config.source) in str(raised.value)
    with pytest.raises(DataError, match="there are no lines"):
        build_corpus(moses(tmp_path, [], []))


def test_a_written_corpus_reads_back_and_its_facts_are_right(
    messy: CorpusConfig, tmp_path: Path
) -> None:
    corpus = build_corpus(messy)
    facts = write_corpus(corpus, tmp_path)
    assert read_corpus(tmp_path).equals(corpus.table)
    words = [
        spans_to_words(text, cut)
        for text, cut in zip(
            corpus.table["source"].to_pylist(),
            corpus.table["source_spans"].to_pylist(),
            strict=True,
        )
    ]
    assert facts["rows_read"] == 704 == facts["rows_kept"] + sum(facts["dropped"].values())
    assert facts["source_words"] == sum(map(len, words))
    assert facts["source_words_mean"] == pytest.approx(sum(map(len, words)) / len(words), abs=1e-3)
    assert facts["source_vocabulary"] == len({word for row in words for word in row})
    assert list(facts["dropped"])[0] == "duplicate"  # the most frequent reason first


def test_blocks_are_drawn_one_by_one(messy: CorpusConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading does not run ahead of cleaning: memory holds one raw block."""
    events: list[str] = []

    def told(config: CorpusConfig) -> Iterator[pa.Table]:
        for block in read_blocks(config, 300):
            events.append("read")
            yield block

    def cleaning(block: pa.Table, *rest: object) -> tuple[pa.Table, Counter[str]]:
        events.append("clean")
        return clean_block(block, messy)

    monkeypatch.setattr("weam_ray.corpus.read_blocks", told)
    monkeypatch.setattr("weam_ray.corpus.clean_block", cleaning)
    build_corpus(messy)
    assert events == ["read", "clean"] * 3


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "language", "kept"),
    [
        ("web-discourse.en-th", "th", 0.9),
        ("religion-quran.en-ar", "ar", 0.9),
        ("wiki-indiancrowd.en-hi", "hi", 0.9),
        ("medical-tico19.en-zh", "zh", 0.9),
        ("mixed-opennmt10k.en-de", "de", 0.9),
    ],
)
def test_real_text_survives_cleaning_and_every_word_is_whole(
    shared_data: Path, name: str, language: str, kept: float
) -> None:
    """Good corpora lose few pairs to any rule but duplication; Indic marks never stand alone."""
    folder = shared_data / "parallel"
    config = CorpusConfig(
        domain="test",
        source_language="en",
        target_language=language,
        source=folder / f"{name}.en.gz",
        target=folder / f"{name}.{language}.gz",
    )
    block = next(read_blocks(config, 1500))
    table, dropped = clean_block(block, config)
    assert len(table) + dropped.total() == len(block)
    assert len(table) >= kept * len(block), dropped
    for text, cut in zip(
        table["target"].to_pylist(), table["target_spans"].to_pylist(), strict=True
    ):
        assert "".join(spans_to_words(text, cut)) == text.replace(" ", "")
