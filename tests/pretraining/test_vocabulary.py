"""A vocabulary from scratch: the same every time, framed like BERT's, fair to small languages."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import transformers

from weam_ray.errors import DataError
from weam_ray.pretraining import VocabularyConfig, train_vocabulary
from weam_ray.pretraining.vocabulary import language_shares, text_lines

ALGORITHMS = ["wordpiece", "unigram"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_opens_as_a_fast_tokenizer_framed_like_berts(
    algorithm: str, texts: dict[str, Path], tmp_path: Path
) -> None:
    facts = train_vocabulary(texts, VocabularyConfig(size=90, algorithm=algorithm), tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.is_fast
    assert len(tokenizer) == facts["entries"] == 90
    pair = tokenizer("badu", "KINU")
    tokens = tokenizer.convert_ids_to_tokens(pair["input_ids"])
    middle = tokens.index("[SEP]")
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    assert pair["token_type_ids"] == [0] * (middle + 1) + [1] * (len(tokens) - middle - 1)
    assert tokenizer.decode(pair["input_ids"], skip_special_tokens=True) == "badu KINU"
    assert [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id] == [0, 1, 4]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [70, 90, 130])
def test_it_is_the_same_every_time(
    algorithm: str, size: int, texts: dict[str, Path], tmp_path: Path
) -> None:
    """The library's own trainers are not: every hash map they walk has a seed of its own."""
    seen = set()
    for number in range(4):
        out = tmp_path / str(number)
        train_vocabulary(texts, VocabularyConfig(size=size, algorithm=algorithm), out)
        seen.add((out / "tokenizer.json").read_bytes())
    assert len(seen) == 1


def test_a_long_word_without_spaces_is_not_given_up_on(
    texts: dict[str, Path], tmp_path: Path
) -> None:
    train_vocabulary(texts, VocabularyConfig(size=90), tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.unk_token_id not in tokenizer("badu" * 100)["input_ids"]


def test_lowercase_folds_case_and_accents(texts: dict[str, Path], tmp_path: Path) -> None:
    for algorithm in ALGORITHMS:
        out = tmp_path / algorithm
        config = VocabularyConfig(size=60, algorithm=algorithm, lowercase=True)
        train_vocabulary(texts, config, out)
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        assert tokenizer("BÁDU")["input_ids"] == tokenizer("badu")["input_ids"]


def test_a_low_temperature_gives_small_languages_their_share(tmp_path: Path) -> None:
    files = {"big": tmp_path / "big.txt", "small": tmp_path / "small.txt.gz"}
    files["big"].write_text("abcd efgh\n" * 900)
    with gzip.open(files["small"], "wt") as stream:
        stream.write("ijkl mnop\n" * 100)
    shares = {}
    for temperature in (0.0, 0.5, 1.0):
        config = VocabularyConfig(size=60, temperature=temperature, max_characters=4000)
        facts = train_vocabulary(files, config, tmp_path / str(temperature))
        counts = facts["characters_by_language"]
        shares[temperature] = counts["small"] / facts["characters"]
    assert shares == pytest.approx({0.0: 0.5, 0.5: 0.25, 1.0: 0.1}, abs=0.01)
    assert language_shares({"a": 9, "b": 1}, 0.5) == pytest.approx({"a": 0.75, "b": 0.25})


def test_bad_text_is_named_by_file_and_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"bad\.txt:2: invalid UTF-8"):
        list(text_lines(bad))
    with pytest.raises(DataError, match="no such file"):
        list(text_lines(tmp_path / "none.txt"))
    (tmp_path / "blank.txt").write_text("\n  \n")
    with pytest.raises(DataError, match=r"blank\.txt: no text in this file"):
        train_vocabulary({"xx": tmp_path / "blank.txt"}, VocabularyConfig(), tmp_path)
