"""A stage of no work, for tests of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from weam_ray.artifacts import Step, Work
from weam_ray.identity import Placement, StageConfig


class Words(StageConfig):
    text: str = "a b"
    folder: Annotated[str, Placement()] = "here"


def step(text: str = "a b", *, folder: str = "here", **rest: object) -> Step:
    options: dict[str, object] = {"stage": "words", "version": 1, **rest}
    return Step(config=Words(text=text, folder=folder), **options)  # type: ignore[arg-type]


def write_words(work: Work) -> None:
    assert isinstance(work.step.config, Words)
    (work.out / "words.txt").write_text(work.step.config.text)
    work.facts["words"] = len(work.step.config.text.split())


def everything_below(root: Path) -> list[str]:
    """What a store holds beside its lock files, which stay."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )
