"""Exact match and F1 against examples worked by hand, in each language family."""

from __future__ import annotations

import pyarrow as pa
import pytest

from weam_ray.errors import DataError
from weam_ray.transfer.qa import answer_words, exact_match, f1, qa_scores


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The  U.S.A., a «country»", ["usa", "country"]),
        ("en", "An anthem", ["anthem"]),
        ("es", "¿La casa de los Gómez?", ["casa", "de", "gómez"]),
        ("de", "Der Rat der Stadt (des Landes)", ["rat", "stadt", "landes"]),
        ("fr", "La maison", ["la", "maison"]),  # MLQA names no French articles
        ("vi", "những cái cây của tôi", ["cây", "tôi"]),
        ("ar", "الكتاب، والقلم", ["كتاب", "و", "قلم"]),
        ("hi", "राम की किताब।", ["राम", "की", "किताब"]),
        ("zh", "北京大学（PKU）", ["北", "京", "大", "学", "pku"]),
        ("zh", "1990 年", ["1990", "年"]),
        ("ja", "東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("th", "ไทย 5", ["ไ", "ท", "ย", "5"]),
        ("ru", "Москва — столица", ["москва", "столица"]),
        ("tr", "Ankara'da", ["ankarada"]),
        ("de-en", "Der Rat", ["rat"]),  # a German context asked in English
    ],
)
def test_normalisation_follows_the_answers_language(
    language: str, text: str, expected: list[str]
) -> None:
    assert answer_words(text, language) == expected


@pytest.mark.parametrize(
    ("language", "predicted", "answers", "exact", "overlap"),
    [
        ("en", "the red house", ["Red house."], 1.0, 1.0),
        ("en", "red house", ["a big red house", "blue"], 0.0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ("en", "house house", ["house"], 0.0, 2 * 0.5 * 1 / 1.5),
        ("en", "cat", ["dog"], 0.0, 0.0),
        ("en", "", ["dog"], 0.0, 0.0),
        ("en", "the", ["a"], 1.0, 0.0),
        ("es", "el perro", ["un perro"], 1.0, 1.0),
        ("de", "in dem Haus", ["das Haus"], 0.0, 2 * 0.5 * 1 / 1.5),
        ("zh", "北京市", ["北京"], 0.0, 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("ar", "الكتاب", ["كتاب"], 1.0, 1.0),
        ("vi", "của nước", ["nước"], 1.0, 1.0),
        ("hi", "सन् 1947", ["1947"], 0.0, 2 * 0.5 * 1 / 1.5),
    ],
)
def test_exact_match_and_f1_of_worked_examples(
    language: str, predicted: str, answers: list[str], exact: float, overlap: float
) -> None:
    assert exact_match(predicted, answers, language) == exact
    assert f1(predicted, answers, language) == pytest.approx(overlap)


def test_scores_are_means_over_the_questions_of_a_language() -> None:
    predictions = pa.table(
        {
            "task": ["mlqa"] * 3,
            "split": ["dev"] * 3,
            "selection": ["last"] * 3,
            "language": ["de", "de", "de-en"],
            "predicted_text": ["das Haus", "rot", "Hund"],
            "gold_texts": [["Haus"], ["grün"], ["Hund und Katze"]],
        }
    )
    rows = {(row["language"], row["metric"]): row for row in qa_scores(predictions).to_pylist()}
    assert rows["de", "exact_match"]["value"] == 0.5
    assert rows["de", "exact_match"]["n"] == 2
    assert rows["de-en", "f1"]["value"] == pytest.approx(0.5)
    assert rows["de-en", "f1"]["share_0"] is None
    with pytest.raises(DataError, match="no predictions"):
        qa_scores(predictions.slice(0, 0))
