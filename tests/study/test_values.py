"""What is wrong with a value of a study file is said with its line and a cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from planned_study import line_of, read_small, refused, settings, write_study

from weam_ray.study.reading import read_study

SHORT = {"max_positions": 64, "max_length": 64}
X = {
    "train": "train-{language}.json",
    "dev": "dev-{context}.json",
    "test": "test-{context}.json",
    "languages": ["en", "de"],
}
ASKED: dict[str, Any] = {"questions": {"x": X}, "grid": {"task": ["x"]}}


@pytest.mark.parametrize(
    ("changes", "start", "words"),
    [
        ({"base": {"architecture": "roforme"}}, "architecture", "Did you mean roformer?"),
        ({"grid": {"method": "weem"}}, "method", "unknown method. Did you mean weam?"),
        ({"grid": {"method": ["tlm", "waem"]}}, "- waem", "grid.method.1 = 'waem': unknown"),
        ({"exclude": [{"method": "weem"}]}, "- method", "exclude.0.method = 'weem': unknown"),
        ({"grid": {"regime": "pol"}}, "regime", "Did you mean pool?"),
        ({"grid": {"size": ["many"]}}, "- many", "grid.size.0 = 'many'"),
        ({"grid": {"size": []}}, "size", "grid.size = []"),
        ({"grid": {"pair": "ende"}}, "pair", "grid.pair.0 = 'ende'"),
        ({"grid": {"domain": "a/b"}}, "domain", "grid.domain.0 = 'a/b'"),
        ({"grid": {"pair": "ende"}}, "pair", "Two codes, source first: en-de"),
        ({"grid": {"pair": "en-en"}}, "pair", "'en-en': a language with itself is no pair"),
        ({"grid": {"pair": "en-de+en-de"}}, "pair", "en-de is there twice"),
        ({"grid": {"budget": "8k"}}, "budget", "Such as: 8000 steps"),
        ({"name": "My Study"}, "name", "name = 'My Study'"),
        ({"name": "My Study"}, "name", "lower-case letters, digits and underscores"),
        ({"pretraining": {"learning_rate": float("inf")}}, "learning_rate", "finite number"),
        ({"pretraining": {"steps": 5, "epochs": 1}}, "pretraining", "steps and epochs are both"),
        ({"base": {"hidden": 7, "heads": 2}}, "base", "hidden 7 is not a multiple of heads 2"),
        (
            {"methods": {"w": {"pretraining": {"steps": -3}}}},
            "steps: -3",
            "methods.w.pretraining.steps = -3",
        ),
        ({"exclude": [{}]}, "- {}", "it would leave out every cell"),
        ({"transfer": {"target_languages": ["fi"]}}, "- fi", "items.languages does not name it"),
        ({"transfer": {"train_language": "de"}}, "items", "de is transfer.train_language"),
        ({"items": {"test": None}}, "", "claims are to be made on test"),
        ({"items": {"train": None}}, "train", "nothing to fine-tune on"),
        ({"items": {"dev": None}}, "transfer", "source-dev chooses by dev items, and items.dev"),
        (
            {"base": SHORT, "transfer": {"max_length": 65}, "pretraining": {"max_length": 64}},
            "max_length: 65",
            "transfer.max_length: 65 subwords, and base.max_positions is 64",
        ),
        (
            {"base": SHORT, "transfer": {"max_length": 64}, "pretraining": {"max_length": 65}},
            "max_length: 65",
            "pretraining.max_length: 65 subwords, and base.max_positions is 64",
        ),
        (
            {**ASKED, "base": {"max_positions": 256}},
            "",
            "qa.max_length: 384 subwords, and base.max_positions is 256",
        ),
        ({**ASKED, "questions": {"x": {**X, "train": None}}}, "", "nothing to fine-tune on"),
        (
            {**ASKED, "questions": {"x": {**X, "train_languages": ["de"]}}},
            "train_languages",
            "en is qa.train_language and is not among them",
        ),
        (
            {**ASKED, "questions": {"x": {**X, "test": None}}},
            "",
            "claims are to be made on test, and questions.x.test names no files",
        ),
        (
            {**ASKED, "questions": {"x": {**X, "dev": None}}},
            "",
            "source-dev chooses by dev items, and questions.x.dev names no files",
        ),
        (
            {**ASKED, "qa": {"target_languages": ["fi"]}},
            "- fi",
            "questions.x.languages does not name it",
        ),
        (
            {"methods": {"w": {"transfer": {"target_languages": ["fi"]}}}, "grid": {"method": "w"}},
            "- fi",
            "methods.w.transfer.target_languages.0 = 'fi': items.languages does not name it",
        ),
        (
            {"methods": {"w": {"pretraining": {"max_length": 999}}}, "grid": {"method": "w"}},
            "max_length: 999",
            "methods.w.pretraining.max_length: 999 subwords, and base.max_positions is",
        ),
        (
            {
                "texts": None,
                "text_languages": [],
                "vocabulary": None,
                "base": {"model": "xlm-roberta-base"},
                "methods": {"w": {"pretraining": {"objective": "tlm", "replay_share": 0.2}}},
                "grid": {"method": "w"},
            },
            "",
            "methods.w.pretraining.replay_share needs monolingual text",
        ),
        (
            {"items": {"languages": ["de"], "test_languages": ["de"]}},
            "",
            "source-dev chooses by dev items in en, and items.languages does not name it",
        ),
        *(
            ({"gates": [{"name": "g", **gate}]}, start, words)
            for gate, start, words in (
                ({"task": "nope"}, "task: nope", "gates.0.task = 'nope': unknown task"),
                ({"above": "hypothesis_only"}, "above", "Did you mean hypothesis-only?"),
                ({"languages": ["zz"]}, "- zz", "xnli has no such language"),
                ({"selection": "best"}, "selection", "gates.0.selection = 'best'"),
            )
        ),
        (
            {
                "transfer": {"selection": ["last"]},
                "gates": [{"name": "g", "selection": "source-dev"}],
            },
            "",
            "gates.0.selection = 'source-dev': the study has no such rule",
        ),
        (
            {
                "items": {"dev": None},
                "transfer": {"selection": ["last"]},
                "gates": [{"name": "g", "split": "dev"}],
            },
            "split",
            "xnli has no dev files",
        ),
        (
            {"methods": {"w": {"pretraining": {"objective": "word-aligned", "masking_rate": 0.2}}}},
            "masking_rate",
            "methods.w.pretraining.masking_rate: word-aligned masks nothing",
        ),
        ({"pretraining": {"adam_betas": [0.9, 1.0]}}, "", "pretraining.adam_betas.1 = 1.0"),
        (
            {"pretraining": {"temperature": 0.5, "replay_share": 0}},
            "temperature",
            "pretraining.temperature: every corpus gives as many pairs as the size",
        ),
        ({"texts": None}, "texts", "a base encoder from scratch needs monolingual text"),
        ({"text_languages": []}, "text_languages", "no language of it"),
        (
            {"base": {"model": "bert-base-multilingual-cased"}, "vocabulary": {"size": 100}},
            "vocabulary",
            "brings its own vocabulary",
        ),
        (
            {"base": {"model": "bert-base-multilingual-cased", "steps": 0}},
            "steps: 0",
            "the random encoder is the method random",
        ),
        (
            {"transfer": {"selection": ["target-dev-oracle", "last"]}},
            "- target-dev-oracle",
            "an upper bound. Name source-dev or last first",
        ),
        (
            {"methods": {"w": {"transfer": {"selection": ["target-dev-oracle"]}}}},
            "- target-dev-oracle",
            "methods.w.transfer.selection.0 = 'target-dev-oracle': the first rule",
        ),
        (
            {"base": {"model": "xlm-roberta-base", "hidden": 768, "dropout": 0.0, "epochs": 1}},
            "epochs",
            "base.epochs: xlm-roberta-base is taken as it is, so that nothing comes of epochs,"
            " hidden, dropout. Take them out, or replace all of it: --set 'base={model: …}'",
        ),
        (
            {"methods": {"deep": {"base": {"model": "xlm-roberta-base", "dropout": 0}}}},
            "dropout",
            "methods.deep.base.dropout: xlm-roberta-base is taken as it is",
        ),
        ({"base": {"revision": "main"}}, "revision", "base.revision: it is of no model"),
        ({"base": {"sharding": "fsdp"}}, "sharding", "base.sharding: one worker trains the base"),
        (
            {
                "methods": {
                    "near": {"pretraining": {"objective": "word-aligned", "pooling": "last"}}
                }
            },
            "pooling",
            "methods.near.pretraining.pooling: word-aligned does not read it. Take it out; of use"
            " to: weam, weam-aligned-only, weam-shuffled-links.",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_line_and_cure(
    tmp_path: Path, changes: dict[str, Any], start: str, words: str
) -> None:
    path = write_study(tmp_path, **changes)
    message = refused(path)
    assert words in message
    assert "Traceback" not in message
    if start:
        assert f"{path}:{line_of(path, start)}: " in message


@pytest.mark.parametrize(
    "changes",
    [
        # Claims are made on the first task; another may have dev alone, as TyDiQA's gold passages.
        {"questions": {"x": {**X, "test": None}}, "grid": {"task": ["xnli", "x"]}},
        # A German context with an English question is a row of its own.
        {**ASKED, "questions": {"x": {**X, "pairs": "every"}},
         "gates": [{"name": "g", "above": "word-overlap-only", "languages": ["de-en"]}]},
        # No cell trains on English.
        {**ASKED, "questions": {"x": {**X, "train_languages": ["de"]}},
         "grid": {"task": ["x"], "setting": "translate-train"}},
        {"base": SHORT, "pretraining": {"max_length": 64}, "transfer": {"max_length": 64},
         "methods": {"w": {"base": {"max_positions": 99}, "transfer": {"max_length": 99}}},
         "grid": {"method": "w"}},
    ],
)  # fmt: skip
def test_what_no_cell_lacks_is_not_asked_for(tmp_path: Path, changes: dict[str, Any]) -> None:
    read_study(write_study(tmp_path, **changes))


def test_a_study_of_questions_alone_needs_no_items(tmp_path: Path) -> None:
    whole = settings(**ASKED)
    del whole["items"]
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(whole))
    assert read_study(path).items.patterns == {}
    whole["grid"]["task"] = ["x", "xnli"]
    path.write_text(yaml.safe_dump(whole))
    assert "items.train: there is nothing to fine-tune on" in refused(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"base": {"model": "xlm-roberta-base", "revision": "main"}},
        {"methods": {"other": {"base": {"model": "xlm-roberta-base"}}}},
        {"methods": {"w": {"pretraining": {"objective": "weam", "pooling": "last"}}}},
        {"pretraining": {"pooling": "last"}, "grid": {"method": ["weam", "word-aligned"]}},
    ],
)
def test_a_setting_that_something_reads_is_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    read_small(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"grid": {"pair": "en-xq"}}, "xq"),
        ({"text_languages": ["en", "german1"]}, "german1"),
        ({"items": {"languages": ["en", "zz"]}}, "zz"),
    ],
)
def test_an_unknown_language_code_is_named_with_its_line(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    path = write_study(tmp_path, **changes)
    message = refused(path)
    assert f"unknown language code {code!r}" in message
    assert f"{path}:" in message and "BCP 47" in message


def test_norwegian_is_not_false(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    path.write_text(path.read_text().replace("- fr", "- no", 1))
    assert "put quotes round it" in refused(path)


def test_a_validator_that_knows_no_file_gets_one(tmp_path: Path) -> None:
    path = write_study(tmp_path, bitext={"cleaning": {"min_words": 9, "max_words": 3}})
    assert refused(path).startswith(f"{path}: cleaning.min_words: min_words 9 is above max_words 3")
