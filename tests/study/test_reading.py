"""Whatever is wrong with a study file is said in one message: place, key, value, cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from planned_study import read_small, settings, write_study

from weam_ray.errors import ConfigError
from weam_ray.study.reading import read_study, schema

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
SHIPPED = sorted(SWEEPS.glob("*.yaml"))


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read_study(path, overrides)
    return str(raised.value)


def refused_text(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf8")
    return refused(path)


def line_of(path: Path, start: str) -> int:
    lines = path.read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.strip().startswith(start))


# --- shipped files


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_study_is_valid(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem, "the file and its study folder go by one name"
    assert study.title


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_study_is_valid_by_the_published_schema_too(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(schema()))


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = (SWEEPS / "schema.json").read_text(encoding="utf8")
    assert json.loads(published) == json.loads(schema()), "weam-ray schema > sweeps/schema.json"


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    document = json.loads(schema())
    wrong: list[dict[str, Any]] = [
        {"pretraining": {"lerning_rate": 1}},
        {"base": {"architecture": "brt"}},
    ]
    jsonschema.validate({**settings()}, document)
    for changes in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(settings(**changes), document)


# --- keys


@pytest.mark.parametrize(
    ("changes", "key", "near"),
    [
        ({"pretrainig": {"steps": 1}}, "pretrainig", "pretraining"),
        ({"pretraining": {"lerning_rate": 1}}, "pretraining.lerning_rate", "learning_rate"),
        ({"grid": {"sise": [1]}}, "grid.sise", "size"),
        ({"bitext": {"cleaning": {"max_word": 3}}}, "bitext.cleaning.max_word", "max_words"),
        ({"extra": [{"metod": "weam"}]}, "extra.0.metod", "method"),
        ({"methods": {"w": {"pretrainin": {}}}}, "methods.w.pretrainin", "pretraining"),
        (
            {"methods": {"w": {"pretraining": {"maskin_rate": 0.2}}}},
            "methods.w.pretraining.maskin_rate",
            "masking_rate",
        ),
        ({"exclude": [{"domian": "law"}]}, "exclude.0.domian", "domain"),
        ({"resources": {"cell_thread": 1}}, "resources.cell_thread", "cell_threads"),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one(
    tmp_path: Path, changes: dict[str, Any], key: str, near: str
) -> None:
    path = write_study(tmp_path, **changes)
    mark = "- " if key.startswith(("extra", "exclude")) else ""
    line = line_of(path, f"{mark}{key.rsplit('.', 1)[-1]}:")
    message = refused(path)
    assert f"{path}:{line}: unknown key {key}. Did you mean {near}?" in message.splitlines()


def test_an_unknown_key_near_nothing_gets_the_valid_ones(tmp_path: Path) -> None:
    message = refused(write_study(tmp_path, exclude=[{"zzz": 1}]))
    assert "Known: budget, domain, method, pair, regime, seed, setting, size, task." in message


def test_a_key_left_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    whole = settings()
    del whole["bitext"]["source"]
    path.write_text(yaml.safe_dump(whole))
    assert f"{path}:{line_of(path, 'bitext')}: bitext.source is missing." in refused(path)


def test_a_key_given_twice_is_refused_though_yaml_would_let_the_last_one_win(
    tmp_path: Path,
) -> None:
    message = refused_text(tmp_path, "name: a\ntitle: one\ngrid:\n  size: 1\n  size: 2\n")
    assert message.endswith("study.yaml:5: grid.size is given twice, first on line 4. Keep one.")


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    message = refused(
        write_study(tmp_path, pretraining={"stpes": 1}, transfer={"seed": -1}, grid={"size": [0]})
    )
    assert len(message.splitlines()) == 3


# --- values

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


# --- files


def test_a_missing_file_is_named_with_the_nearest_there_is(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("")
    assert f"Did you mean {tmp_path / 'demo.yaml'}?" in refused(tmp_path / "dmo.yaml")
    assert "sweeps/*.yaml" in refused(tmp_path / "nothing" / "like.it")


def test_bad_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    message = refused_text(tmp_path, "name: a\ngrid: [1, 2\ntitle: b\n")
    assert "study.yaml:3: not valid YAML" in message


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "a study file is a mapping of settings" in refused_text(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: &a\n- *a\n", "study.yaml:1: an alias stands inside what it stands for"),
        ("name: a\n? [x, y]\n: 1\n", "study.yaml:2: a key is a list or a mapping"),
        ("name: a\0b\n", "not valid YAML: unacceptable character"),
    ],
)
def test_yaml_that_names_nothing_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    message = refused_text(tmp_path, text)
    assert words in message and "\n" not in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"name: a\ntitle: caf\xe9\n")
    message = refused(tmp_path / "study.yaml")
    assert "study.yaml:2: not a text file: byte 0xe9 is not UTF-8" in message
    assert "can't be read" in refused(tmp_path)


def test_a_study_says_which_columns_of_its_files_are_the_sides(tmp_path: Path) -> None:
    columns = {"source": "x.txt", "target": None, "format": "tsv", "source_column": 2}
    study = read_small(tmp_path, bitext=columns)
    assert (study.bitext.format, study.bitext.source_column) == ("tsv", "2")


# --- overrides


def test_overrides_are_yaml_values_laid_over_the_file_in_order(tmp_path: Path) -> None:
    study = read_small(
        tmp_path,
        "pretraining.steps=7",
        "grid.size=[1, 3]",
        "grid.method=tlm",
        "pretraining.learning_rate=1e-3",
        "tracking_uri=http://127.0.0.1:5000",
        "demonstration=true",
        "transfer.seed=1",
        "transfer.seed=2",
        "vocabulary.size=500",
        "extra.0.size=9",
        extra=[{"domain": "law", "pair": "en-de", "size": 3, "method": "weam"}],
    )
    assert study.pretraining.steps == 7 and study.pretraining.learning_rate == 1e-3
    assert study.grid.size == (1, 3) and study.grid.method == ("tlm",)
    assert study.tracking_uri == "http://127.0.0.1:5000"
    assert study.demonstration and study.transfer.seed == 2
    assert study.vocabulary is not None and study.vocabulary.size == 500
    assert study.extra[0].size == (9,)


def test_an_override_can_take_a_setting_back_to_nothing(tmp_path: Path) -> None:
    assert read_small(tmp_path, "pretraining.steps=null").pretraining.steps is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pretraining.steps", "is not key.path=value"),
        ("=3", "is not key.path=value"),
        ("pretraining..steps=3", "is not key.path=value"),
        ("grid.size=[1", "the value is not valid YAML"),
        ("name.first=x", "there is no 'first' in 'small'"),
        ("text_languages.7=de", "there is no '7' in a list of 3"),
    ],
)
def test_an_override_that_says_nothing_is_refused(
    tmp_path: Path, override: str, words: str
) -> None:
    message = refused(write_study(tmp_path), override)
    assert words in message and f"--set '{override}'" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pretraining.stepz=3", "unknown key pretraining.stepz. Did you mean steps?"),
        ("pretraining.steps=-3", "pretraining.steps = -3"),
        ("grid.method=weem", "unknown method. Did you mean weam?"),
        ("no_such.thing=1", "unknown key no_such"),
    ],
)
def test_what_an_override_got_wrong_is_placed_at_the_override_not_in_the_file(
    tmp_path: Path, override: str, words: str
) -> None:
    path = write_study(tmp_path)
    message = refused(path, override)
    assert message.startswith(f"--set {override}: ") and words in message
    assert str(path) not in message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("storage=s3://AKIA:planted@bucket/prefix", "storage holds a key"),
        ("tracking_uri=http://ada:planted@10.0.0.1:5000", "tracking_uri holds a password"),
        ("tracking_uri=postgresql://ada:planted@db/runs", "tracking_uri holds a password"),
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(
    tmp_path: Path, setting: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        read_study(write_study(tmp_path), [setting])
    assert "planted" not in str(refused.value)
