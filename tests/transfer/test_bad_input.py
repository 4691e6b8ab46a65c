"""Damaged evaluation data ends a sweep with one message and exit status 2, before anything runs."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_questions import READER, question_settings, write_questions
from small_study import DEMO, overrides, small_study

from weam_ray.__main__ import main
from weam_ray.artifacts import Store
from weam_ray.study.data import find_data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("world")
    found = find_data(small_study(storage), Store(storage / "store"))
    assert found is not None
    write_questions(found / "questions")
    return found


def add_line(path: Path, **record: str) -> None:
    with path.open("a", encoding="utf8") as stream:
        stream.write(json.dumps(record) + "\n")


def bad_label(data: Path) -> None:
    pair = {"premise": "a", "hypothesis": "b"}
    add_line(data / "nli" / "nli.train.en.jsonl", **pair, label="maybe")


def hidden_label(data: Path) -> None:
    add_line(data / "nli" / "nli.train.en.jsonl", premise="a", hypothesis="b", label="-")


def unequal_counts(data: Path) -> None:
    pair = {"premise": "a", "hypothesis": "b"}
    add_line(data / "nli" / "nli.dev.qaa.jsonl", **pair, label="neutral")


def missing_language(data: Path) -> None:
    (data / "nli" / "nli.dev.qab.jsonl").unlink()


def moved_answer(data: Path) -> None:
    path = data / "questions" / "dev-qaa-en.json"
    content = json.loads(path.read_text())
    for paragraph in content["data"][0]["paragraphs"][:3]:
        paragraph["qas"][0]["answers"][0]["answer_start"] += 1
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (bad_label, ["nli.train.en.jsonl:91", "label 'maybe' is none of entailment"]),
        (hidden_label, ["nli.train.en.jsonl:91", "the label is hidden"]),
        (unequal_counts, ["unequal numbers of items", "en 90", "qaa 91"]),
        (missing_language, ["no dev file for language 'qab'", "found for: en, qaa, qac"]),
        (moved_answer, ["dev-qaa-en.json: dev0", "(3 questions of this file are so)"]),
    ],
)
def test_it_is_named_counted_and_refused(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    words: list[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # --offline sets it; this takes it back
    data = Path(shutil.copytree(world, tmp_path / "data"))
    damage(data)
    settings = overrides(
        tmp_path / "storage",
        world="null",
        data_dir=str(data),
        questions=question_settings(data / "questions"),
        qa=READER,
        grid="{domain: home, pair: en-qaa, size: 60, method: none, seed: 0, task: [xnli, mlqa]}",
    )
    command = ["sweep", str(DEMO), "--offline", *(w for one in settings for w in ("--set", one))]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert not list((tmp_path / "storage" / "store").glob("base/*"))


@pytest.mark.parametrize(
    "command",
    [
        ["sweep"],
        ["plan"],
        ["status"],
        ["report"],
        ["compare", str(DEMO)],
        ["export", "--out", "tables"],
        ["export", "--mlflow", "sqlite:///mlflow.db"],
    ],
    ids=" ".join,
)
def test_no_command_touches_the_network_when_told_not_to(
    command: list[str],
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    settings = overrides(
        tmp_path / "storage",
        world="null",
        data_dir=str(world),
        items__dev="hub:facebook/xnli/{language}/validation",
        items__hub_cache="fetched",
        grid="{domain: home, pair: en-qaa, size: 60, method: none, seed: 0}",
    )
    verb, *rest = command
    line = [verb, str(DEMO), *rest, "--offline", *(w for one in settings for w in ("--set", one))]
    assert main(line) == 2
    assert "not fetched yet" in capsys.readouterr().err
