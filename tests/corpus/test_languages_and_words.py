"""Language codes, and where words begin and end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weam_ray.corpus import language_name, normalise, spans_to_words, word_spans
from weam_ray.corpus.languages import is_private, language_names, normalise_language
from weam_ray.corpus.words import _token_pattern, flat_spans
from weam_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("en", "en"),
        ("zh_cn", "zh-CN"),
        ("ZH-tw", "zh-TW"),
        ("zh_hant", "zh-Hant"),
        ("pt_BR", "pt-BR"),
        ("es_419", "es-419"),
        ("sr@latin", "sr-Latn"),
        ("ca@valencia", "ca-valencia"),
        ("deu", "de"),
        ("ger", "de"),
        ("ast", "ast"),
        ("qaa", "qaa"),
        ("qtz", "qtz"),
        ("de-x-demo", "de-x-demo"),
    ],
)
def test_codes_as_corpora_write_them_become_bcp_47(written: str, canonical: str) -> None:
    assert normalise_language(written) == canonical
    assert normalise_language(canonical) == canonical


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("german", "'de' (German)"), ("enx", "'en' (English)"), ("franch", "'fr'"), ("xx", "'xh'")],
)
def test_an_unknown_code_is_refused_and_the_nearest_named(wrong: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(nearest)) as raised:
        normalise_language(wrong, place="target_language")
    assert wrong in str(raised.value)
    assert raised.value.place == "target_language"


@pytest.mark.parametrize("wrong", ["", "e", "qua-", "en-", "en--US", "qzz", "zz", "en de"])
def test_what_only_looks_like_a_code_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        normalise_language(wrong)


def test_every_code_of_the_tables_is_itself_and_has_a_name() -> None:
    names = language_names()
    assert sum(len(code) == 2 for code in names) == 184  # all of ISO 639-1
    for code, name in names.items():
        assert normalise_language(code) == code
        assert name == name.strip() and name


def test_names_are_what_a_report_would_write() -> None:
    assert language_name("zh_cn") == "Chinese (CN)"
    assert language_name("sw") == "Swahili"
    assert language_name("qab") == "qab"
    assert is_private("qab") and not is_private("qu")


def words(text: str, language: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text, language)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Don't panic, it's John's.", "Do n't panic , it 's John 's ."),
        ("en", "the U.S. cut 1,000.50 at 10:30...", "the U.S. cut 1,000.50 at 10:30 ..."),
        ("en", "a non-specific 5th __init__", "a non-specific 5th __init__"),
        ("en", "(see https://a.org/b?c=1,2).", "( see https://a.org/b?c=1,2 ) ."),
        ("en", "mail a.b@c.org!!", "mail a.b@c.org !!"),
        ("en", "friends' house", "friends ' house"),
        ("de", "Kindergeburtstag's E-Mail", "Kindergeburtstag's E-Mail"),
        ("fr", "L'homme d’une aujourd'hui", "L' homme d’ une aujourd'hui"),
        ("fr", "qu'il n'y a", "qu' il n' y a"),
        ("it", "l'università", "l' università"),
        ("tr", "Ankara'nın", "Ankara'nın"),
        ("hi", "हिन्दी में काम करें।", "हिन्दी में काम करें ।"),
        ("ar", "اَلسَّلَامُ عَلَيْكُمْ، ٣٫٥", "اَلسَّلَامُ عَلَيْكُمْ ، ٣٫٥"),
        ("zh", "今天下雨吗？1990年代Python", "今天 下雨 吗 ？ 1990 年代 Python"),
        ("zh", "见http://a.b/c，好", "见 http://a.b/c ， 好"),
        ("th", "ฉันไปโรงเรียน abc123", "ฉัน ไป โรงเรียน abc123"),
        ("ja", "東京タワーへPC", "東 京 タワー へ PC"),
        ("my", "မြန်မာ", "မြ န် မာ"),
        ("qaa", "foo, bar.", "foo, bar."),
    ],
)
def test_words_are_cut_where_the_language_cuts_them(
    language: str, text: str, expected: str
) -> None:
    assert words(text, language) == expected.split()


def test_whitespace_is_believed_when_asked() -> None:
    assert flat_spans("it's a b.", "en", "whitespace") == [0, 4, 5, 6, 7, 9]
    assert spans_to_words("it's a b.", [0, 4, 7, 9]) == ["it's", "b."]


MESSY = st.text(
    st.sampled_from("ab1_.,-'’:/@#&%<>()!?  \tحَक़ि้ำไทย今天東カき\u200d\u0301é€😀٣…")
    | st.characters(exclude_categories=["Cs"]),
    max_size=40,
)


@pytest.mark.parametrize("language", "en fr hi ar zh th ja my qaa".split())
@settings(deadline=None, max_examples=60)
@given(text=MESSY)
def test_every_visible_character_is_in_exactly_one_word(language: str, text: str) -> None:
    covered = [place for start, end in word_spans(text, language) for place in range(start, end)]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]
    assert all(start < end for start, end in word_spans(text, language))


@settings(deadline=None, max_examples=300)
@given(text=MESSY | st.sampled_from(["see www.a.b.", "U.S.A. x@y.z", "a://b", "http://é.fr/ü,"]))
def test_the_short_patterns_agree_with_the_whole_one(text: str) -> None:
    whole = [offset for match in _token_pattern().finditer(text) for offset in match.span()]
    assert flat_spans(text, "de") == whole


@settings(deadline=None, max_examples=200)
@given(text=MESSY)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip() and "\t" not in once and "  " not in once


def test_invisible_characters_and_odd_spaces_go_but_joiners_stay() -> None:
    assert normalise("\ufeffa\u00ad\u200bb\u00a0\u3000 c\u2028d\r") == "ab c d"
    assert normalise("क्\u200dया") == "क्\u200dया"
    assert normalise("e\u0301") == "é"


def test_segmenters_write_nothing_and_load_only_when_needed(tmp_path: Path) -> None:
    """Neither the home folder nor the temporary one is touched, and standard error is silent."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    code = (
        "import sys\n"
        "from weam_ray.corpus import word_spans\n"
        "word_spans('a b', 'en')\n"
        "print('jieba' in sys.modules, 'pythainlp' in sys.modules, 'torch' in sys.modules)\n"
        "print(len(word_spans('今天下雨', 'zh')), len(word_spans('ฉันไป', 'th')))\n"
    )
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary)}
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split() == ["False", "False", "False", "2", "2"]
    assert run.stderr == ""
    assert not list(home.iterdir()) and not list(temporary.iterdir())


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("language", "word"), [("zh", "今天下雨"), ("th", "ฉันไปโรงเรียน")])
def test_a_run_of_fifty_thousand_words_is_cut_in_reasonable_time(language: str, word: str) -> None:
    text = word * 20_000
    assert len(words(text, language)) > 35_000
