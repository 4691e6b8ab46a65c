"""Text and word links become tokens: nothing lost in silence, whatever the tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from slow_losses import words_of_tokens
from small_corpus import Corpus, spans

from weam_ray.errors import DataError
from weam_ray.pretraining import (
    PretrainingConfig,
    VocabularyConfig,
    build_examples,
    load_tokenizer,
    train_vocabulary,
)
from weam_ray.pretraining.examples import build_sentences, frame
from weam_ray.pretraining.sides import Side, SpecialTokens

WEAM = PretrainingConfig(objective="weam", max_length=24)
INT32S = pa.list_(pa.int32())


@pytest.fixture(scope="module", params=["wordpiece", "unigram"])
def tokenizer(request: pytest.FixtureRequest, texts: dict[str, Path], tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    train_vocabulary(texts, VocabularyConfig(size=90, algorithm=request.param), out)
    return load_tokenizer(out)


def test_rows_words_and_links_are_those_of_the_loop(corpus: Corpus, tokenizer) -> None:
    examples = build_examples(corpus.pairs, corpus.links, tokenizer, WEAM)
    words = examples.words
    assert words is not None
    base = dropped = 0
    merged = corpus.pairs.append_column("links", corpus.links["links"]).to_pylist()
    for number, row in enumerate(merged):
        start, stop = examples.start[number : number + 2]
        expected = words_of_tokens(row, tokenizer, WEAM.max_length)
        encoded = tokenizer(
            row["source"], row["target"], truncation="longest_first", max_length=WEAM.max_length
        )
        assert len(expected) == stop - start == len(encoded["input_ids"])
        counts = {"source": 0, "target": len(row["source_spans"]) // 2}
        numbers = [-1 if w is None else base + counts[w[0]] + w[1] for w in expected]
        assert examples.word[start:stop].tolist() == numbers
        for i, j in zip(row["links"][::2], row["links"][1::2], strict=True):
            u, v = base + i, base + counts["target"] + j
            if u not in numbers or v not in numbers:
                dropped += 1
                continue
            for here, there in ((u, v), (v, u)):
                linked = words.link_to[words.link_start[here] : words.link_start[here + 1]]
                assert there in linked
                assert words.first[here] == start + numbers.index(here)
                assert words.length[here] == numbers.count(here)
        base += counts["target"] + len(row["target_spans"]) // 2
    assert dropped > 0
    assert examples.facts["links_truncated"] == dropped
    assert examples.facts["links"] - dropped == len(words.link_to) / 2
    assert examples.facts["links_without_token"] == 0


def test_rows_are_framed_and_segmented_as_the_tokenizer_does_it(corpus: Corpus, tokenizer) -> None:
    config = PretrainingConfig(objective="tlm", max_length=128)
    examples = build_examples(corpus.pairs, None, tokenizer, config)
    for number, row in enumerate(corpus.pairs.slice(0, 40).to_pylist()):
        encoded = tokenizer(row["source"], row["target"])
        start, stop = examples.start[number : number + 2]
        assert examples.ids[start:stop].tolist() == encoded["input_ids"]
        segments = (np.arange(stop - start) >= examples.second[number]).astype(int)
        assert segments.tolist() == encoded["token_type_ids"]


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [(3, 3, (3, 3)), (20, 3, (10, 3)), (3, 20, (3, 10)), (20, 20, (7, 6)), (9, 6, (7, 6))],
)
def test_the_longer_side_is_cut_first(source: int, target: int, kept: tuple[int, int]) -> None:
    sides = [
        Side(np.arange(10, 10 + n, dtype=np.int32), np.full(n, -1, np.int32), np.array([0, n]))
        for n in (source, target)
    ]
    examples = frame(*sides, np.zeros(1, np.uint64), SpecialTokens(1, 2, False), 16)
    wanted = [1, *range(10, 10 + kept[0]), 2, *range(10, 10 + kept[1]), 2]
    assert examples.ids.tolist() == wanted
    assert examples.facts["truncated_rows"] == (kept != (source, target))


def test_a_doubled_separator_is_kept(tokenizer) -> None:
    side = Side(np.array([7], np.int32), np.array([-1], np.int32), np.array([0, 1]))
    examples = frame(side, side, np.zeros(1, np.uint64), SpecialTokens(1, 2, True), 16)
    assert examples.ids.tolist() == [1, 7, 2, 2, 7, 2]


def test_one_side_a_row_reads_both_sides_apart(corpus: Corpus, tokenizer) -> None:
    config = PretrainingConfig(objective="mlm", max_length=128)
    examples = build_examples(corpus.pairs, None, tokenizer, config)
    assert examples.rows == 2 * corpus.pairs.num_rows
    assert len(set(examples.keys.tolist())) == examples.rows
    for number, row in enumerate(corpus.pairs.slice(0, 20).to_pylist()):
        for side, name in enumerate(("source", "target")):
            start, stop = examples.start[2 * number + side : 2 * number + side + 2]
            assert examples.ids[start:stop].tolist() == tokenizer(row[name])["input_ids"]


def test_long_lines_become_several_rows_without_losing_a_token(tokenizer) -> None:
    lines = ["badu " * 40, "", "kinu"]
    examples = build_sentences(lines, np.arange(3, dtype=np.uint64), tokenizer, 16)
    inner = [
        token
        for start, stop in zip(examples.start[:-1], examples.start[1:], strict=True)
        for token in examples.ids[start + 1 : stop - 1]
    ]
    wanted = [t for line in lines for t in tokenizer(line, add_special_tokens=False)["input_ids"]]
    assert inner == wanted
    assert examples.lengths.max() == 16
    assert len(set(examples.keys.tolist())) == examples.rows


def pair(links: list[int], pair_id: int = 5) -> tuple[pa.Table, pa.Table]:
    pairs = pa.table(
        {
            "pair_id": pa.array([5], pa.uint64()),
            "source": ["badu kinu"],
            "target": ["BADU"],
            "source_spans": pa.array([spans(["badu", "kinu"])], INT32S),
            "target_spans": pa.array([spans(["BADU"])], INT32S),
        }
    )
    ids = pa.array([pair_id], pa.uint64())
    return pairs, pa.table({"pair_id": ids, "links": pa.array([links], INT32S)})


def test_a_link_outside_its_sentence_is_named(tokenizer) -> None:
    with pytest.raises(DataError, match=r"pair_id 5: link 2-1 is outside a pair of 2 and 1 words"):
        build_examples(*pair([0, 0, 2, 1]), tokenizer, WEAM)


def test_a_pair_without_links_is_named(tokenizer) -> None:
    with pytest.raises(DataError, match="pair_id 5: 1 of 1 pairs have no links"):
        build_examples(*pair([0, 0], pair_id=6), tokenizer, WEAM)


def test_an_objective_with_links_asks_for_them(tokenizer) -> None:
    with pytest.raises(DataError, match="weam reads word links and got none"):
        build_examples(pair([])[0], None, tokenizer, WEAM)


def test_links_of_words_without_tokens_are_counted(tokenizer_dir: Path) -> None:
    pairs, links = pair([0, 0, 1, 0])
    # A second "word" that is the blank between the words: WordPiece gives it no token.
    pairs = pairs.set_column(3, "source_spans", pa.array([[0, 4, 4, 5]], INT32S))
    facts = build_examples(pairs, links, load_tokenizer(tokenizer_dir), WEAM).facts
    assert (facts["links"], facts["links_without_token"], facts["links_truncated"]) == (2, 1, 0)


def test_a_tokenizer_left_truncating_loses_nothing(corpus: Corpus, tokenizer) -> None:
    config = PretrainingConfig(objective="tlm", max_length=128)
    before = build_examples(corpus.pairs, None, tokenizer, config)
    tokenizer("badu kinu", truncation=True, max_length=3, padding="max_length")
    after = build_examples(corpus.pairs, None, tokenizer, config)
    assert after.ids.tolist() == before.ids.tolist()
