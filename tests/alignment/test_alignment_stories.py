"""Alignment of whole texts: bad input, shards, threads, tables."""

from __future__ import annotations

import math
import pickle
import random

import alignment_oracle as oracle
import pyarrow as pa
import pytest
from test_em_against_dictionaries import bitext

from weam_ray.alignment import AlignmentConfig, Links, align_encoded, align_table, align_words, em
from weam_ray.alignment import shard as shard_module
from weam_ray.alignment.encoding import encode_words
from weam_ray.alignment.shard import Shard
from weam_ray.alignment.text import cells_by_type, in_order_of_text, make_text, sorted_in_runs
from weam_ray.errors import AlignerError, DataError

PLAIN = AlignmentConfig(casefold=False)
# Links of the 30 pairs bitext(30, 12, 7), grow-diag-final-and.
GOLDEN = (
    "0-0 1-1 2-3 3-2 4-4 5-5|0-1 1-0 2-2 2-4 3-3|0-0 1-1 2-3 3-2 4-4|0-1 1-2 2-3 3-2 4-4 5-6 "
    "6-5 7-7|0-0 1-1|0-0 1-3 2-1 2-2 3-3 4-4 5-5 6-6 7-7|0-0|0-0 1-2 2-1 2-3 3-4 4-6 5-5 6-5|"
    "0-0 1-1 2-2 2-3 3-4|0-1 1-0 2-2 3-3 4-4 5-6 6-5 6-7 7-8|0-0 1-1 1-2|0-0 1-1|0-0 1-1|0-0 "
    "1-0 3-1|0-0 1-1 1-3 2-2 3-4 4-5 5-6 6-7 7-8 8-9|0-0 1-1 2-3 3-2 4-4 5-5|0-0 0-1 1-2|0-0 "
    "1-0 2-1 3-2 4-4 5-3|0-0 1-2 3-1 4-3 5-4 5-5|0-0 2-1 3-2 4-2 5-3|0-1 1-0 2-2 3-3 3-4 4-4 "
    "5-5 6-6 6-7 7-8|0-0 1-1|0-0 0-1 1-2 2-1 3-3 3-4 4-5 5-6 6-7 7-8|0-1 1-0 2-2|0-0 1-1 2-2 "
    "3-3 3-5 4-4 5-6 6-7|0-0 0-1 1-2|0-0 1-1 2-2|0-0 1-1 1-2 2-3 3-5 4-4 5-6|0-0 1-1 2-2 3-3 "
    "4-4 4-5 5-6 6-7|0-0 0-1"
)


def sides(pairs: oracle.Pairs) -> tuple[list[list[str]], list[list[str]]]:
    return [source for source, _ in pairs], [target for _, target in pairs]


def test_links_of_thirty_pairs_stay_what_they_were():
    config = PLAIN.model_copy(update={"symmetrisation": "grow-diag-final-and"})
    links = align_words(*sides(bitext(30, 12, 7)), config).links
    assert "|".join(" ".join(f"{i}-{j}" for i, j in pair) for pair in links) == GOLDEN


@pytest.mark.parametrize("shards", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("threads", [1, 3])
def test_shards_threads_and_blocks_change_no_bit(monkeypatch, shards, threads):
    source, target = (encode_words(side)[0] for side in sides(bitext(300, 60, 3)))
    whole = align_encoded(source, target, PLAIN, scores=True)
    monkeypatch.setattr(shard_module, "BLOCK_ENTRIES", 40)
    cut = align_encoded(source, target, PLAIN, shards=shards, threads=threads, scores=True)
    assert cut.forward == whole.forward
    assert cut.reverse == whole.reverse
    assert cut.history == whole.history
    assert (cut.scores == whole.scores).all()


def test_workers_that_share_read_only_text_give_the_bits_of_one_process():
    source, target = (encode_words(side)[0] for side in sides(bitext(200, 40, 8)))
    text, _ = make_text(source, target, PLAIN.max_words)
    whole = em.train(text, PLAIN)
    ground = pickle.loads(pickle.dumps(text.ground))
    for array in (ground.tokens, ground.starts, ground.shape):
        array.flags.writeable = False
    cells = cells_by_type(text)
    workers = [
        Shard(ground, sorted_in_runs(text, cells, *bounds, 50), PLAIN)
        for bounds in em.split_types(cells, 3)
    ]
    coordinator = em.Coordinator(text, PLAIN, sum(worker.discover()[0] for worker in workers))
    parameters = coordinator.start()
    for _ in range(PLAIN.iterations - 2):
        told = pickle.loads(pickle.dumps(parameters))
        parameters = coordinator.update([worker.step(told) for worker in reversed(workers)])
    found = em.end_to_end([worker.links(parameters) for worker in workers])
    assert (in_order_of_text(text, *found)[0] == whole.links).all()
    assert coordinator.history == whole.history


def test_blank_long_and_odd_lines_keep_their_place_and_change_no_other():
    good = bitext(200, 30, 5)
    rng = random.Random(0)
    odd = [
        ([], ["x"]), (["x"], []), ([], []),
        (["a"] * 2001, ["b"]), (["a"], ["b"] * 5000),
    ]  # fmt: skip
    mixed = list(good)
    places = []
    for pair in odd:
        place = rng.randrange(len(mixed))
        places = [p + (p >= place) for p in places] + [place]
        mixed.insert(place, pair)
    clean = align_words(*sides(good), PLAIN, scores=True)
    dirty = align_words(*sides(mixed), PLAIN, scores=True)
    assert dirty.unlinked == {"blank_side": 3, "too_long": 2}
    assert all(dirty.links[place] == [] for place in places)
    rest = [p for p in range(len(mixed)) if p not in places]
    assert dirty.links.select(rest) == clean.links
    assert (dirty.scores[rest] == clean.scores).all()
    assert dirty.history == clean.history
    assert not any(math.isnan(value) for value in dirty.scores.ravel())


def test_control_characters_and_empty_words_are_words_like_others():
    pairs = [(["a\0", "\x01", ""], ["b\0", "\x7f", "\ud800"])] * 3
    links = align_words(*sides(pairs), PLAIN).links
    assert links[0] == links[1] == links[2]
    assert len(links[0])


@pytest.mark.parametrize("pairs", [[], [([], [])], [(["a"], ["b"])]])
def test_next_to_nothing_is_aligned_without_a_word_of_complaint(pairs):
    made = align_words(*sides(pairs), PLAIN, scores=True)
    assert len(made.links) == len(made.scores) == len(pairs)
    assert all(math.isfinite(step.perplexity) for step in made.history["forward"])


def test_sides_of_unequal_length_are_refused_with_both_counts():
    with pytest.raises(AlignerError, match="2 source sentences and 1 target"):
        align_words([["a"], ["b"]], [["c"]], PLAIN)


def test_words_that_differ_in_case_are_counted_as_one():
    pairs = bitext(60, 10, 2)
    shouted = [([word.upper() for word in source], target) for source, target in pairs]
    folded = AlignmentConfig(casefold=True)
    assert align_words(*sides(pairs + shouted), folded).history == (
        align_words(*sides(pairs + pairs), folded).history
    )


def table_of(pairs: oracle.Pairs, gold: list[list[int] | None] | None = None) -> pa.Table:
    texts, spans = {"source": [], "target": []}, {"source": [], "target": []}
    for pair in pairs:
        for side, words in zip(("source", "target"), pair, strict=True):
            text, flat = "¿ ", []
            for word in words:
                flat += [len(text), len(text) + len(word)]
                text += word + "…"
            texts[side].append(text)
            spans[side].append(flat)
    lists = pa.list_(pa.int32())
    columns = {
        "pair_id": pa.array(range(10, 10 + len(pairs)), pa.uint64()),
        **{side: pa.array(texts[side], pa.string()) for side in texts},
        **{f"{side}_spans": pa.array(spans[side], lists) for side in spans},
    }
    if gold is not None:
        columns["gold"] = pa.array(gold, lists)
    return pa.table(columns)


def test_a_table_is_aligned_by_its_spans_whatever_lies_between_words():
    pairs = [([f"ä{word}" for word in source], target) for source, target in bitext(80, 20, 4)]
    table = table_of(pairs)
    links, facts = align_table(table, AlignmentConfig())
    assert links["pair_id"].to_pylist() == table["pair_id"].to_pylist()
    assert Links.from_arrow(links["links"]) == align_words(*sides(pairs), AlignmentConfig()).links
    assert facts["pairs"] == 80
    assert facts["aer"] is None
    assert 0 < facts["linked_share"]["target"] <= 1
    sliced, _ = align_table(pa.concat_tables([table.slice(0, 33), table.slice(33)]), PLAIN)
    assert sliced["links"].to_pylist() == links["links"].to_pylist()


def test_gold_where_it_is_known_gives_an_error_rate():
    pairs = bitext(80, 20, 4)
    links = align_words(*sides(pairs), AlignmentConfig()).links
    flat = links.to_arrow().to_pylist()
    _, facts = align_table(table_of(pairs, [None, *flat[1:]]), AlignmentConfig())
    assert facts["aer"]["aer"] == 0.0
    assert facts["aer"]["pairs"] == 79


@pytest.mark.parametrize(
    ("spans", "message"),
    [([0, 1, 2], "odd length"), ([0, 99], "beyond the text"), ([4, 5, 0, 1], "out of order")],
)
def test_spans_that_do_not_fit_are_refused_with_their_row(spans, message):
    table = table_of([(["one"], ["eins"]), (["two"], ["zwei"])])
    wrong = pa.array([[0, 1], spans], pa.list_(pa.int32()))
    place = table.column_names.index("source_spans")
    with pytest.raises(DataError, match=message) as caught:
        align_table(table.set_column(place, "source_spans", wrong), PLAIN)
    assert caught.value.place == "row 2"


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(DataError, match="source_spans"):
        align_table(table_of([]).drop_columns(["source_spans"]), PLAIN)


def test_progress_is_told_once_an_iteration_and_direction():
    seen = []
    align_words(*sides(bitext(9, 5, 1)), PLAIN, report=lambda p: seen.append((p.done, p.total)))
    assert seen == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize(("shards", "threads"), [(1, 1), (1, 3), (3, 2)])
def test_a_long_iteration_tells_how_far_it_is_at_each_block(monkeypatch, shards, threads):
    source, target = (encode_words(side)[0] for side in sides(bitext(60, 12, 4)))
    whole = align_encoded(source, target, PLAIN)
    monkeypatch.setattr(shard_module, "BLOCK_ENTRIES", 1)  # a type each
    seen = []
    cut = align_encoded(
        source, target, PLAIN, shards=shards, threads=threads,
        report=lambda progress: seen.append(progress),
    )  # fmt: skip
    assert cut.links == whole.links
    assert [one.done for one in seen if not one.share] == list(range(1, 11))
    told = [one.done + one.share for one in seen]
    assert told == sorted(told)
    assert len(set(told)) == len(told)
    # Three iterations that count and one that links, and before them who meets whom. The last
    # block of each is said as the iteration.
    assert {one.done for one in seen if one.share} == set(range(10)) - {5}
    assert len(seen) == 10 + 5 * (target.types - 1) + 4 * (source.types - 1)
