"""Items from files: every accepted form reads alike, every bad one is named and refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weam_ray.errors import ConfigError, DataError
from weam_ray.transfer import (
    ITEMS_SCHEMA,
    ItemsConfig,
    TokenisedItems,
    check_items,
    item_files,
    items_facts,
    load_items,
    tokenise_items,
)

ROWS = [
    {"premise": "A b.", "hypothesis": "B a.", "label": "entailment"},
    {"premise": "C\u2028d", "hypothesis": "ä", "label": "neutral"},
    {"premise": "E", "hypothesis": "f", "label": "contradiction"},
    {"premise": "G", "hypothesis": "h", "label": "neutral"},
]
CODES = [0, 1, 2, 1]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_tsv(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], names: list[str] | None = None) -> Path:
    table = pa.Table.from_pylist(rows)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        declared = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": declared})
    pq.write_table(table, path)
    return path


def load(path: Path, **settings: Any) -> pa.Table:
    return load_items(ItemsConfig(dev=str(path), languages=("en",), **settings))


def test_jsonl_tsv_and_parquet_plain_or_gz_read_alike(tmp_path: Path) -> None:
    numbered = [row | {"label": code} for row, code in zip(ROWS, CODES, strict=True)]
    cells = [list(map(str, row.values())) for row in ROWS]
    paths = [
        write_jsonl(tmp_path / "a.jsonl", ROWS),
        write_jsonl(tmp_path / "b.jsonl.gz", numbered),
        write_tsv(tmp_path / "c.tsv", ["premise", "hypothesis", "label"], cells),
        write_tsv(tmp_path / "d.tsv", ["sentence1", "sentence2", "gold_label"], cells),
        write_parquet(tmp_path / "e.parquet", numbered),
    ]
    tables = [load(path) for path in paths]
    assert tables[0].schema.equals(ITEMS_SCHEMA)
    assert tables[0]["label"].to_pylist() == CODES
    assert tables[0]["premise"].to_pylist() == [row["premise"] for row in ROWS]
    assert all(table.equals(tables[0]) for table in tables)


def test_label_numbers_follow_the_order_that_a_hub_file_declares(tmp_path: Path) -> None:
    order = ["contradiction", "entailment", "neutral"]
    rows = [row | {"label": order.index(str(row["label"]))} for row in ROWS]
    table = load(write_parquet(tmp_path / "a.parquet", rows, names=order))
    assert table["label"].to_pylist() == CODES
    with pytest.raises(DataError, match="the labels of this file are"):
        load(write_parquet(tmp_path / "b.parquet", rows, names=["yes", "no", "maybe"]))


def test_one_file_may_hold_several_languages_and_name_its_items(tmp_path: Path) -> None:
    header = ["language", "gold_label", "sentence1", "sentence2", "pairID"]
    rows = [
        [language, row["label"], row["premise"], row["hypothesis"], f"id{number}"]
        for language in ("de", "en")
        for number, row in enumerate(ROWS)
    ]
    path = write_tsv(tmp_path / "xnli.dev.tsv", header, rows)
    table = load_items(ItemsConfig(dev=str(path), languages=("en", "de")))
    assert table["language"].to_pylist() == ["en"] * 4 + ["de"] * 4
    assert table["item"].to_pylist() == [f"id{number}" for number in range(4)] * 2
    with pytest.raises(DataError, match="no items in language 'fr'"):
        load_items(ItemsConfig(dev=str(path), languages=("en", "fr")))


def test_a_line_without_the_language_that_others_have_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [ROWS[0] | {"language": "en"}, ROWS[1]])
    with pytest.raises(DataError, match="this line has no language") as error:
        load(path)
    assert error.value.place == f"{path}:2"


def test_patterns_find_hub_shards_of_each_language(tmp_path: Path) -> None:
    for language in ("en", "de"):
        (tmp_path / language).mkdir()
        for shard in range(2):
            name = f"validation-0000{shard}-of-00002.parquet"
            write_parquet(tmp_path / language / name, ROWS[shard * 2 : shard * 2 + 2])
    config = ItemsConfig(
        dev=str(tmp_path / "{language}" / "validation-*.parquet"), languages=("en", "de")
    )
    assert [len(paths) for paths in item_files(config).values()] == [2, 2]
    table = load_items(config)
    assert table["label"].to_pylist() == CODES * 2
    assert table["item"].to_pylist() == [f"dev-{number}" for number in range(4)] * 2
    assert items_facts(table)["dev/de"] == {"items": 4, "label_shares": [0.25, 0.5, 0.25]}


@pytest.mark.parametrize("label", ["maybe", 3, "7", "²", True, None, -1, "-", "hidden"])
def test_a_label_outside_the_three_is_named_with_its_line(tmp_path: Path, label: Any) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [ROWS[0], ROWS[1] | {"label": label}])
    with pytest.raises(DataError) as error:
        load(path)
    assert error.value.place == f"{path}:2"
    assert repr(label) in error.value.what
    assert ("hidden" in error.value.what) == (label in (None, -1, "-", "hidden"))


def test_a_missing_language_is_named_with_those_there_are(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "dev.en.jsonl", ROWS)
    config = ItemsConfig(dev=str(tmp_path / "dev.{language}.jsonl"), languages=("en", "sw"))
    with pytest.raises(DataError, match=r"no dev file for language 'sw' \(found for: en\)"):
        load_items(config)
    with pytest.raises(ConfigError, match="items name no files"):
        load_items(ItemsConfig(languages=("en",)))


def dev_in_two_languages(tmp_path: Path, german: list[dict[str, Any]]) -> ItemsConfig:
    write_jsonl(tmp_path / "dev.en.jsonl", ROWS)
    write_jsonl(tmp_path / "dev.de.jsonl", german)
    return ItemsConfig(dev=str(tmp_path / "dev.{language}.jsonl"), languages=("en", "de"))


def test_unequal_item_counts_are_refused_with_all_counts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unequal numbers of items \(en 4, de 3\)"):
        load_items(dev_in_two_languages(tmp_path, ROWS[:3]))


def test_unequal_counts_do_not_hide_behind_a_limit(tmp_path: Path) -> None:
    config = dev_in_two_languages(tmp_path, ROWS[:3]).model_copy(update={"dev_limit": 3})
    with pytest.raises(DataError, match="unequal numbers of items"):
        load_items(config)


def test_another_gold_label_for_the_same_item_is_refused(tmp_path: Path) -> None:
    german = [ROWS[0], ROWS[1] | {"label": "entailment"}, *ROWS[2:]]
    expected = "item 'dev-1' has label neutral in en but label entailment in de"
    with pytest.raises(DataError, match=expected):
        load_items(dev_in_two_languages(tmp_path, german))


@pytest.mark.parametrize(
    ("name", "data", "place", "what"),
    [
        ("a.jsonl", b'{"premise": "a"\n', ":1", "not JSON"),
        ("a.jsonl", b'{"premise": "a", "label": 0}\n', "", "no column hypothesis"),
        ("a.jsonl", b'{"premise": "a", "hypothesis": 3, "label": 0}\n', ":1", "hypothesis is 3"),
        ("a.jsonl", b"[1]\n", ":1", "one JSON object"),
        ("a.jsonl", b'{"a": 1}\n\xff\n', ":2", "not UTF-8"),
        ("a.tsv", b"premise\thypothesis\tlabel\na\tb\n", ":2", "2 columns where the header has 3"),
        ("a.jsonl.gz", b"no gzip", "", "damaged gzip"),
        ("a.parquet", b"no parquet", "", "not a parquet file"),
        ("a.jsonl", b"", "", "no items in language"),
    ],
)
def test_malformed_files_are_named(
    tmp_path: Path, name: str, data: bytes, place: str, what: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data.replace(b'{"a": 1}', json.dumps(ROWS[0]).encode()))
    with pytest.raises(DataError, match=what) as error:
        load(path)
    assert error.value.place == f"{path}{place}"


def test_limits_are_nested_and_the_same_items_in_every_language(tmp_path: Path) -> None:
    many = [ROWS[number % 4] for number in range(50)]
    config = dev_in_two_languages(tmp_path, many)
    write_jsonl(tmp_path / "dev.en.jsonl", many)
    chosen = []
    for limit in (10, 20):
        table = load_items(config.model_copy(update={"dev_limit": limit}))
        names = np.asarray(table["item"].to_pylist()).reshape(2, limit)
        assert (names[0] == names[1]).all()
        chosen.append(set(names[0]))
    assert chosen[0] < chosen[1]


def test_where_files_lie_is_not_part_of_what_they_are() -> None:
    here = ItemsConfig(dev="/a/{language}.jsonl", languages=("en",))
    there = ItemsConfig(dev="/b/{language}.jsonl", languages=("en",))
    assert here.identity() == there.identity()


def test_an_item_twice_is_refused(world: Callable[..., pa.Table]) -> None:
    items = world(train=6, dev=6, test=6)
    with pytest.raises(DataError, match="item 'dev-001' is there twice"):
        check_items(pa.concat_tables([items, items.slice(9, 1)]))


def test_tokens_are_the_tokenizers_own_and_survive_the_disk(
    encoder: Path, items: pa.Table, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokens = tokenise_items(items, encoder, 10)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    full = tokenise_items(items, encoder, 64)
    for place, row in enumerate(items.to_pylist()):
        for table, length in ((tokens, 10), (full, 64)):
            expected = tokenizer(
                row["premise"], row["hypothesis"], truncation=True, max_length=length
            )
            here = slice(table.offsets[place], table.offsets[place + 1])
            assert list(table.ids[here]) == expected["input_ids"]
            assert table.types is not None
            assert list(table.types[here]) == expected["token_type_ids"]
    assert full.truncated == 0
    assert tokens.truncated == int((full.lengths > 10).sum()) > 0
    tokens.write(tmp_path)
    again = TokenisedItems.read(tmp_path)
    for name in ("ids", "types", "offsets", "labels"):
        assert np.array_equal(getattr(tokens, name), getattr(again, name))
    assert again.rows.equals(tokens.rows)
    assert (again.pad, again.truncated) == (tokens.pad, tokens.truncated)


def test_a_length_beyond_the_encoder_is_refused(encoder: Path, items: pa.Table) -> None:
    with pytest.raises(ConfigError, match="max_length 512 is above the encoder's 128"):
        tokenise_items(items, encoder, 512)
    with pytest.raises(DataError, match="no tokenizer here"):
        tokenise_items(items, encoder / "absent", 64)


@pytest.mark.data
def test_xnli_dev_of_all_languages_is_parallel(shared_data: Path) -> None:
    languages = tuple("en fr es de el bg ru tr ar vi th zh hi sw ur".split())
    pattern = str(shared_data / "nli" / "xnli.{split}.{{language}}.jsonl")
    config = ItemsConfig(
        dev=pattern.format(split="dev"),
        test=pattern.format(split="test"),
        languages=languages,
        test_languages=("en", "de", "es", "fr", "sw", "zh"),
    )
    table = load_items(config)
    assert table.num_rows == 15 * 2490 + 6 * 5010
    assert items_facts(table)["test/sw"]["label_shares"] == [0.3333, 0.3333, 0.3333]


def test_compressed_data_that_is_damaged_within_is_named(tmp_path: Path) -> None:
    rows = [{**row, "premise": f"{row['premise']} {place}"} for place, row in enumerate(ROWS * 400)]
    text = "\n".join(json.dumps(row) for row in rows).encode()
    packed = bytearray(gzip.compress(text))
    packed[10] |= 0b110  # after the header: a block of a kind that there is not
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with pytest.raises(DataError, match="damaged gzip file"):
        load(tmp_path / "a.jsonl.gz")
    path = write_parquet(tmp_path / "a.parquet", rows)
    pages = bytearray(path.read_bytes())
    pages[40:400] = bytes(360)
    path.write_bytes(pages)
    with pytest.raises(DataError, match="damaged parquet file"):
        load(path)
