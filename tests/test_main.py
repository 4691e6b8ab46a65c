"""The command line: what can't be is one message and status 2, whatever the verb."""

from __future__ import annotations

import pytest
from small_study import DEMO

from weam_ray.__main__ import main

STUDY = str(DEMO)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["swep"], "Did you mean 'sweep'?"),
        (["sweep", "--sett", "a=b"], "No such option: --sett"),
        (["sweep", "--max-hours", "two"], "Invalid value for '--max-hours'"),
        (["sweep", "sweeps/dmo.yaml"], "sweeps/dmo.yaml: no such study file. Did you mean"),
        (["plan", STUDY, "--set", "pretraining.steps"], "is not key.path=value"),
        (["status", STUDY, "--set", "pretraining.stepz=1"], "Did you mean steps?"),
        (["report", STUDY, "--set", "pretraining.steps=many"], "should be a valid integer"),
        (["export", STUDY], "Name a folder, --out DIR, or --mlflow URI."),
        (["export", STUDY, "--out", STUDY], f"--out: {STUDY} is a file. Name a folder."),
        (["compare", STUDY, STUDY, "--out", STUDY], f"--out: {STUDY} is a file. Name a folder."),
        (["compare", "/nowhere", STUDY], "/nowhere: no such study file"),
    ],
)
def test_what_cannot_be_is_one_message_and_status_two(
    command: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(DEMO.parent.parent)
    assert main(command) == 2
    said = capsys.readouterr()
    assert words in said.err and "Traceback" not in said.err
    assert said.out == ""
