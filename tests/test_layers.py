"""One direction: corpus → alignment → pre-training → transfer → study; Ray stands at the edge."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import weam_ray

PACKAGE = Path(weam_ray.__file__).parent
GROUND = {
    "errors", "progress", "identity", "record", "artifacts", "bucket", "bucket_store", "notice",
    "collecting",
}  # fmt: skip
STAGES = ["corpus", "alignment", "pretraining", "transfer", "experiment", "study"]
EDGE = {"sweep", "__main__", "on_ray", "doctor"}

ALLOWED: dict[str, set[str]] = {
    **{name: GROUND for name in GROUND},
    "demo": GROUND,
    "terminal": {"progress"},
    **{
        name: GROUND | set(STAGES[:place]) | ({"demo"} if name == "study" else set())
        for place, name in enumerate(STAGES)
    },
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Dotted names a module imports, anywhere in it; relative imports are not used here."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_stage_imports_only_stages_above_it(path: Path) -> None:
    layer = layer_of(path)
    if layer in EDGE | {"__init__"}:
        return
    reached = {name.split(".")[1] for name in imports_of(path) if name.startswith("weam_ray.")} - {
        layer
    }
    assert reached <= ALLOWED[layer], f"{path} reaches down or sideways: {reached - ALLOWED[layer]}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_edge_imports_ray_mlflow_and_optuna(path: Path) -> None:
    if layer_of(path) == "on_ray":
        return
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & {"ray", "mlflow", "optuna"}


def test_every_folder_of_the_package_has_a_place_in_the_order() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders <= set(ALLOWED) | EDGE


def test_a_cell_is_planned_without_loading_torch_ray_or_mlflow() -> None:
    """Reading a study file must stay quick: the heavy packages load when a stage runs."""
    code = (
        "import sys, weam_ray.study.config, weam_ray.experiment\n"
        "heavy = ('torch', 'transformers', 'ray', 'mlflow', 'numba')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_workers_are_sent_the_store_and_make_none_of_a_path() -> None:
    """A path names a bucket's cache on the machine that sent it, and no bucket."""
    for path in (PACKAGE / "on_ray").glob("*.py"):
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        made = [
            call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Store"
        ]
        assert not made, f"{path}:{made[0].lineno} makes a Store"
