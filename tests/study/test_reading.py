"""Whatever is wrong with a study file is said in one message: place, key, value, cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from planned_study import line_of, read_small, refused, settings, write_study

from weam_ray.errors import ConfigError
from weam_ray.study.reading import read_study, schema

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
SHIPPED = sorted(SWEEPS.glob("*.yaml"))


def refused_text(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf8")
    return refused(path)


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
