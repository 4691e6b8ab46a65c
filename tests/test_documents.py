"""What documents tell people to type is there: verbs, options, scripts, targets, files."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

import weam_ray
from weam_ray.__main__ import app
from weam_ray.study.reading import read_study

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = [ROOT / "Makefile", ROOT / ".ci" / "run", *sorted((ROOT / "cluster").iterdir())]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
WEAM_RAY = re.compile(
    r"(?:(?<![\w.@/-])weam-ray|-m weam_ray\.(?P<module>sweep))(?P<rest> [^'#&|\n]*)?"
)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")


def code(path: Path) -> str:
    """What a document sets as code; of a script all but its comments."""
    text = path.read_text(encoding="utf8").replace("\\\n", " ")
    if path.suffix != ".md":
        return re.sub(r"^\s*#.*$", "", text, flags=re.M)
    blocks = FENCE.findall(text)
    text = FENCE.sub("", text)
    blocks += re.findall(r"^    (\S.*)$", text, flags=re.M)
    blocks += [span.replace("\n", " ") for span in SPAN.findall(text)]
    return "\n".join(blocks)


def uses(path: Path) -> Iterator[tuple[str, str]]:
    """(verb, the rest of its line) of every ``weam-ray`` command."""
    for found in WEAM_RAY.finditer(code(path)):
        rest = (found["rest"] or "").strip()
        if found["module"]:
            yield "sweep", rest
        elif rest and not rest.startswith("-"):
            verb, _, rest = rest.partition(" ")
            yield verb, rest


def options(verb: str) -> set[str]:
    parameters = COMMANDS[verb].params
    return {name for one in parameters for name in (*one.opts, *one.secondary_opts)} | {"--help"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=name)
def test_every_command_shown_has_its_verb_and_options(path: Path) -> None:
    for verb, rest in uses(path):
        assert verb in COMMANDS, f"weam-ray {verb} {rest}"
        unknown = set(OPTION.findall(rest)) - options(verb)
        assert not unknown, f"weam-ray {verb} {rest}: no {unknown}"


def test_the_readme_shows_the_main_commands_and_the_check_sees_them() -> None:
    shown = {verb for verb, _ in uses(ROOT / "README.md")}
    assert {"plan", "sweep", "report", "compare", "export", "align", "schema"} <= shown


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_option_named_alone_belongs_to_a_verb_or_to_a_script_of_the_page(path: Path) -> None:
    known = set().union(*map(options, COMMANDS))
    for script in re.findall(r"(?:benchmarks|docs)/\w+\.py", code(path)):
        known |= set(re.findall(r'"(--[a-z][a-z-]*)"', (ROOT / script).read_text("utf8")))
    alone = re.findall(r"^(--[a-z][a-z-]*)(?: [A-Zkn0-9][\w.=]*)?$", code(path), flags=re.M)
    assert set(alone) <= known, set(alone) - known


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=name)
def test_every_study_file_named_is_there_and_takes_the_settings_shown(path: Path) -> None:
    for verb, rest in uses(path):
        for study in re.findall(r"(?<!\S)sweeps/\w+\.yaml", rest):
            assert read_study(ROOT / study, re.findall(r"--set (\S+=\S+)", rest)), verb


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=name)
def test_every_module_script_and_target_named_is_there(path: Path) -> None:
    text = code(path)
    for module in re.findall(r"python3? -m (weam_ray[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    for script, rest in re.findall(r"python3? ((?:benchmarks|docs)/\w+\.py)([^\n#]*)", text):
        source = (ROOT / script).read_text(encoding="utf8")
        missing = [word for word in OPTION.findall(rest) if f'"{word}"' not in source]
        assert not missing, f"{script} has no {missing}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), re.M)
    for target in re.findall(r"(?m)(?:^|; |&& )make ([a-z-]+)", text):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_lists_every_shipped_study() -> None:
    listed = re.findall(r"^\| `(sweeps/\w+\.yaml)` \|", (ROOT / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted(name(path) for path in (ROOT / "sweeps").glob("*.yaml"))


def test_the_design_places_every_part_of_the_package() -> None:
    table = (ROOT / "docs" / "design.md").read_text(encoding="utf8").partition("## ")[0]
    placed = {word.removesuffix("/").removesuffix(".py") for word in SPAN.findall(table)}
    parts = {path.stem for path in Path(weam_ray.__file__).parent.iterdir()}
    assert parts - {"__init__", "__pycache__", "py"} <= placed


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_verb_and_every_option_says_what_it_is_for(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"])
    assert shown.exit_code == 0
    assert COMMANDS[verb].help
    silent = [one.name for one in COMMANDS[verb].params if one.name != "help" and not one.help]
    assert not silent


def test_the_console_script_is_the_one_the_documents_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    module, _, function = project["scripts"]["weam-ray"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_tells_of_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf8")
    phony = re.findall(r"^\.PHONY: (.*)$", text, re.M)[0].split()
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = dict(line.split("\t") for line in done.stdout.splitlines())
    assert sorted(told) == sorted(phony)
    assert all(told.values())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_test_is_in_exactly_one_half_of_make_unit() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "--old-file=install", "unit-ray", "unit-rest"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    halves = re.findall(r'pytest -m "([^"]+)"', shown.stdout)
    assert len(halves) == 2
    names = ("ray", "slow", "cluster", "network")
    for values in itertools.product((False, True), repeat=len(names)):
        marks = dict(zip(names, values, strict=True))
        wanted = not marks["cluster"] and not marks["network"]
        assert sum(eval(half, {}, marks) for half in halves) == wanted, marks
