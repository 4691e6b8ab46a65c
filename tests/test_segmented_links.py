"""Chinese and Thai: what the segmenter cuts, the aligner links, and subwords find again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from weam_ray.alignment import AlignmentConfig, Links, align_table
from weam_ray.corpus import word_spans
from weam_ray.pretraining import (
    PretrainingConfig,
    VocabularyConfig,
    build_examples,
    load_tokenizer,
    train_vocabulary,
)

LEXICON = {
    "zh": {"Today": "今天", "rain": "下雨", "teacher": "老师", "Drinks": "喝", "tea": "茶"},
    "th": {"I": "ฉัน", "Go": "ไป", "school": "โรงเรียน", "Eats": "กิน", "rice": "ข้าว"},
}


def table(language: str) -> pa.Table:
    """Every two and three words of the lexicon side by side, written as the language does."""
    words = list(LEXICON[language])
    rows = [
        [words[(first + step * k) % 5] for k in range(size)]
        for first in range(5)
        for step in (1, 2, 3, 4)
        for size in (2, 3)
    ]
    source = [f"{' '.join(row)}." for row in rows]
    target = ["".join(LEXICON[language][word] for word in row) + "." for row in rows]
    spans = {
        "source_spans": [word_spans(text, "en") for text in source],
        "target_spans": [word_spans(text, language) for text in target],
    }
    lists = pa.list_(pa.int32())
    flat = {
        name: pa.array([[at for span in row for at in span] for row in column], lists)
        for name, column in spans.items()
    }
    ids = pa.array(range(len(rows)), pa.uint64())
    return pa.table({"pair_id": ids, "source": source, "target": target, **flat})


def cut(text: str, spans: list[int], word: int) -> str:
    return text[spans[2 * word] : spans[2 * word + 1]]


@pytest.fixture(params=["zh", "th"])
def aligned(request: pytest.FixtureRequest) -> tuple[pa.Table, pa.Table, dict[str, str]]:
    pairs = table(request.param)
    # Case is folded for counting alone.
    links, _ = align_table(pairs, AlignmentConfig(casefold=True))
    return pairs, links, {**LEXICON[request.param], ".": "."}


def test_links_are_of_words_that_the_segmenter_cut_from_unspaced_text(aligned) -> None:
    pairs, links, lexicon = aligned
    found = total = 0
    for row, linked in zip(pairs.to_pylist(), Links.from_arrow(links["links"]), strict=True):
        total += len(row["source_spans"]) // 2
        for i, j in linked:
            given = cut(row["source"], row["source_spans"], i)
            found += lexicon[given] == cut(row["target"], row["target_spans"], j)
    assert found > 0.9 * total


def test_linked_subwords_spell_the_linked_words(aligned, tmp_path: Path) -> None:
    pairs, links, _ = aligned
    files = {}
    for side in ("source", "target"):
        files[side] = tmp_path / side
        files[side].write_text("\n".join(pairs[side].to_pylist()) + "\n", encoding="utf8")
    train_vocabulary(files, VocabularyConfig(size=60), tmp_path / "vocabulary")
    tokenizer = load_tokenizer(tmp_path / "vocabulary")
    config = PretrainingConfig(objective="weam", max_length=64)
    examples = build_examples(pairs, links, tokenizer, config)
    words = examples.words
    assert words is not None

    def spelt(word: int) -> str:
        first = int(words.first[word])
        ids = examples.ids[first : first + int(words.length[word])].tolist()
        return "".join(tokenizer.convert_ids_to_tokens(ids)).replace("##", "")

    base = seen = several = 0
    for row, linked in zip(pairs.to_pylist(), Links.from_arrow(links["links"]), strict=True):
        sizes = [len(row[f"{side}_spans"]) // 2 for side in ("source", "target")]
        for i, j in linked:
            source, target = base + i, base + sizes[0] + j
            there = words.link_to[words.link_start[source] : words.link_start[source + 1]]
            assert target in there
            assert spelt(source) == cut(row["source"], row["source_spans"], i)
            assert spelt(target) == cut(row["target"], row["target_spans"], j)
            several += int(words.length[target]) > 1
            seen += 1
        base += sum(sizes)
    assert seen
    assert several
