"""Readers: every format gives the same rows, and bad input is told by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bitexts import moses

from weam_ray.corpus import CorpusConfig, lines, read_blocks, rows_at_most
from weam_ray.errors import ConfigError, DataError, WeamError

SOURCE = ["one\u2028still one", "", "three\x85three \x0c three", "four", "five"]
TARGET = ["eins", "zwei", "", "vier\r", "fünf"]


def config_of(path: Path, **settings: Any) -> CorpusConfig:
    base = {"domain": "test", "source_language": "en", "target_language": "de", "source": path}
    return CorpusConfig(**(base | settings))


def rows(config: CorpusConfig, block_rows: int = 2) -> tuple[list[str], list[str]]:
    table = pa.concat_tables(read_blocks(config, block_rows))
    assert table["line"].to_pylist() == sorted(set(table["line"].to_pylist()))
    return table["source"].to_pylist(), table["target"].to_pylist()


def write_tmx(path: Path) -> None:

    units = "".join(
        f'<tu><tuv xml:lang="EN-us"><seg>{one}</seg></tuv>'
        f'<tuv xml:lang="de"><seg>{two.replace("ei", "e<ph/>i")}</seg></tuv></tu>'
        for one, two in zip(SOURCE, TARGET, strict=True)
    ).replace("\x0c", " ")
    path.write_text(f'<tmx version="1.4"><header/><body>{units}</body></tmx>', encoding="utf8")


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    """Other separators of Unicode would shift one side against the other."""
    assert rows(moses(tmp_path, SOURCE, TARGET)) == (SOURCE, TARGET)


@pytest.mark.parametrize("block_rows", [1, 2, 3, 5, 100])
def test_the_size_of_blocks_changes_no_row(tmp_path: Path, block_rows: int) -> None:
    blocks = list(read_blocks(moses(tmp_path, SOURCE, TARGET), block_rows))
    assert max(map(len, blocks)) <= block_rows
    assert pa.concat_tables(blocks)["line"].to_pylist() == [1, 2, 3, 4, 5]


def test_a_last_line_without_a_line_feed_counts_and_gzip_is_known_by_content(
    tmp_path: Path,
) -> None:
    config = moses(tmp_path, SOURCE, TARGET)
    config.source.write_bytes(gzip.compress("\ufeff".encode() + "\n".join(SOURCE).encode()))
    assert rows(config) == (SOURCE, TARGET)


def test_tsv_by_position_by_name_and_zipped(tmp_path: Path) -> None:
    lines_ = [f"0.9\t{s}\t{t}" for s, t in zip(SOURCE, TARGET, strict=True)]
    by_position = tmp_path / "a.tsv"
    by_position.write_bytes("\n".join(lines_).encode())
    chosen = config_of(by_position, source_column="2", target_column="3")
    assert rows(chosen) == (SOURCE, [text.rstrip("\r") for text in TARGET])
    named = tmp_path / "b.tsv.gz"
    named.write_bytes(gzip.compress("\n".join(["score\ten\tde", *lines_]).encode()))
    chosen = config_of(named, source_column="en", target_column="de")
    assert rows(chosen) == (SOURCE, [text.rstrip("\r") for text in TARGET])


def test_parquet_with_two_columns_or_a_translation_column(tmp_path: Path) -> None:
    columns = {"en": SOURCE, "de": [text or None for text in TARGET]}
    pq.write_table(pa.table(columns), tmp_path / "two.parquet")
    nested = pa.StructArray.from_arrays(list(map(pa.array, columns.values())), list(columns))
    pq.write_table(pa.table({"id": [1] * 5, "translation": nested}), tmp_path / "hub.parquet")
    for name in ("two.parquet", "hub.parquet"):
        assert rows(config_of(tmp_path / name)) == (SOURCE, TARGET)
    swapped = config_of(tmp_path / "two.parquet", source_column="de", target_column="en")
    assert rows(swapped) == (TARGET, SOURCE)


def test_tmx_with_regional_codes_and_inline_tags(tmp_path: Path) -> None:
    write_tmx(tmp_path / "a.tmx")
    source, target = rows(config_of(tmp_path / "a.tmx"))
    assert source == [text.replace("\x0c", " ") for text in SOURCE]
    assert target == [text.replace("\r", "\n") for text in TARGET]  # XML's end of line


@pytest.mark.parametrize("kind", ["tsv", "moses"])
def test_gold_lines_stay_beside_their_pair(tmp_path: Path, kind: str) -> None:
    gold = tmp_path / "gold"
    gold.write_text("0-0\n\n1-1\n0-1\n2-2\n", encoding="utf8")
    settings = {"gold": gold, "segmenter": "whitespace"}
    if kind == "moses":
        config = moses(tmp_path, SOURCE, TARGET, **settings)
    else:
        (tmp_path / "a.tsv").write_text("a\tb\n" * 5, encoding="utf8")
        config = config_of(tmp_path / "a.tsv", **settings)
    table = pa.concat_tables(read_blocks(config, 2))
    assert table["gold"].to_pylist() == ["0-0", "", "1-1", "0-1", "2-2"]
    for wrong, count in (("0-0\n" * 3, "3"), ("0-0\n" * 7, "7")):
        gold.write_text(wrong, encoding="utf8")
        with pytest.raises(DataError, match=rf"gold\b.* {count} "):
            list(read_blocks(config, 2))


def refused(config: CorpusConfig) -> str:
    with pytest.raises(WeamError) as raised:
        list(read_blocks(config, 2))
    return str(raised.value)


def test_sides_of_unequal_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    message = refused(moses(tmp_path, SOURCE, TARGET[:3]))
    assert "a.en has 5" in message and "a.de has 3" in message


def test_bytes_that_are_not_utf8_are_told_by_file_line_and_column(tmp_path: Path) -> None:
    config = moses(tmp_path, SOURCE, TARGET)
    config.source.write_bytes(b"a\nb\nc\nna\xefve\ne\n")
    assert f"{config.source}:4: invalid UTF-8: byte 0xef at column 3" in refused(config)


def test_utf16_and_nul_bytes_are_told_by_file_and_line(tmp_path: Path) -> None:
    config = moses(tmp_path, ["a", "b", "c\0", "d", "e"], TARGET)
    assert f"{config.source}:3: a NUL byte" in refused(config)
    pq.write_table(pa.table({"en": ["a", "b\0"], "de": ["a", "b"]}), tmp_path / "a.parquet")
    assert "row 2: a NUL character" in refused(config_of(tmp_path / "a.parquet"))


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    config = moses(tmp_path, SOURCE, TARGET, target=tmp_path / "nowhere.de")
    assert "nowhere.de: no such file" in refused(config)
    whole = gzip.compress(b"line\n" * 1000)
    (tmp_path / "a.de").write_bytes(whole[: len(whole) // 2])
    assert "damaged gzip file" in refused(moses_with(tmp_path, "a.de"))
    (tmp_path / "no.parquet").write_text("text", encoding="utf8")
    assert "not a parquet file" in refused(config_of(tmp_path / "no.parquet"))
    (tmp_path / "no.tmx").write_text("<tmx><body><tu>", encoding="utf8")
    assert "not a well-formed TMX file" in refused(config_of(tmp_path / "no.tmx"))


def zipped(path: Path) -> Path:
    """The file's .gz beside it, the only one left."""
    there = path.with_name(f"{path.name}.gz")
    there.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return there


def test_a_zipped_parquet_file_is_read_and_a_damaged_one_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"en": SOURCE, "de": TARGET}), tmp_path / "a.parquet")
    path = zipped(tmp_path / "a.parquet")
    assert config_of(path).layout == "parquet"
    assert rows(config_of(path)) == (SOURCE, TARGET)
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path}: damaged gzip file" in refused(config_of(path))


def test_a_parquet_file_damaged_in_its_middle_is_told(tmp_path: Path) -> None:
    words = [f"word {number} of many" for number in range(4000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"en": words, "de": words}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    message = refused(config_of(path))
    assert message.startswith(f"{path}: damaged parquet file (") and "\n" not in message


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_a_parquet_row_that_is_not_utf8_is_told_by_file_and_row(
    tmp_path: Path, kind: pa.DataType
) -> None:
    wrong = pa.array([b"one", b"na\xefve", None], pa.binary())
    data = pa.Array.from_buffers(kind, 3, wrong.buffers()) if kind == pa.string() else wrong
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"en": data, "de": ["a", "b", "c"]}), path)
    message = refused(config_of(path))
    assert f"{path}: row 2: invalid UTF-8 in column en: byte 0xef" in message


def test_a_translation_column_of_plain_text_is_no_pair(tmp_path: Path) -> None:
    table = pa.table({"translation": ["a"], "en": ["b"], "de": ["c"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows(config_of(tmp_path / "a.parquet")) == (["b"], ["c"])


def test_column_zero_of_a_tsv_file_is_not_its_last(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="counted from 1"):
        config_of(tmp_path / "a.tsv", source_column="0")


def test_rows_are_counted_as_far_as_a_plan_asks(tmp_path: Path) -> None:
    text = moses(tmp_path, ["a", "b", "c"], ["a", "b", "c"])
    assert [rows_at_most(text, enough) for enough in (2, 3, 9)] == [2, 3, 3]
    text.source.write_bytes(b"a\nb\nc")
    assert rows_at_most(text, 9) == 3
    named = text.model_copy(update={"source": zipped(text.source)})
    assert rows_at_most(named, 9) == 3
    pq.write_table(pa.table({"en": SOURCE, "de": TARGET}), tmp_path / "a.parquet")
    assert rows_at_most(config_of(tmp_path / "a.parquet"), 99) == len(SOURCE)
    write_tmx(tmp_path / "a.tmx")
    assert rows_at_most(config_of(tmp_path / "a.tmx"), 9) is None


def test_a_damaged_file_is_left_to_its_reader_to_tell(tmp_path: Path) -> None:
    whole = gzip.compress(b"line\n" * 100)
    (tmp_path / "a.tsv").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a.parquet").write_text("text", encoding="utf8")
    for name in ("a.tsv", "a.parquet"):
        assert rows_at_most(config_of(tmp_path / name), 9) is None


def moses_with(folder: Path, target: str) -> CorpusConfig:
    return config_of(folder / "a.en", target=folder / target)


def test_missing_columns_are_told_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\nz\n\n", encoding="utf8")
    assert "a.tsv:2: 1 columns where column 2" in refused(config_of(tmp_path / "a.tsv"))
    named = config_of(tmp_path / "a.tsv", source_column="en")
    assert "no column 'en' in the header ['x', 'y']" in refused(named)
    pq.write_table(pa.table({"x": ["a"], "de": ["b"]}), tmp_path / "a.parquet")
    assert "no text column 'source' among ['x', 'de']" in refused(config_of(tmp_path / "a.parquet"))
    nested = pa.array([{"en": "a", "fr": "b"}])
    pq.write_table(pa.table({"translation": nested}), tmp_path / "b.parquet")
    assert "['en', 'fr'], not 'de'" in refused(config_of(tmp_path / "b.parquet"))


def test_an_empty_line_of_a_tsv_file_is_a_blank_pair(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n\nz\tw\n", encoding="utf8")
    assert rows(config_of(tmp_path / "a.tsv")) == (["x", "", "z"], ["y", "", "w"])


def test_very_long_lines_make_blocks_of_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 100)
    config = moses(tmp_path, ["x" * 60] * 6, ["y"] * 6)
    blocks = list(read_blocks(config, 1000))
    assert [len(block) for block in blocks] == [2, 2, 2]
    assert pa.concat_tables(blocks)["line"].to_pylist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"target_language": "german"}, "target_language"),
        ({"gold": Path("g")}, "segmenter"),
        ({"target": None}, "target"),
        ({"source_column": "en"}, "source_column"),
        ({"format": "tsv"}, "target"),
        ({"cleaning": {"min_words": 9, "max_words": 3}}, "cleaning.min_words"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, settings: dict[str, Any], place: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        moses(tmp_path, SOURCE, TARGET, **settings)
    assert raised.value.place == place
    assert raised.value.cure


def test_the_identity_holds_settings_but_no_place(tmp_path: Path) -> None:
    here = moses(tmp_path, SOURCE, TARGET, target_language="zh_cn")
    there = here.model_copy(update={"source": Path("/elsewhere/a.en")})
    assert here.identity() == there.identity()
    assert here.identity()["target_language"] == "zh-CN"
    assert set(here.files) == {"source", "target"}
    assert moses(tmp_path, [], [], cleaning={"max_words": 80}).identity() != here.identity()
