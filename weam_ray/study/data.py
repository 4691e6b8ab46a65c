"""Where a study's files lie: a folder of the user's, or the artificial world made for it."""

from __future__ import annotations

from pathlib import Path

from weam_ray.artifacts import Step, Store, Work, ensure
from weam_ray.demo import WorldConfig, write_world
from weam_ray.errors import ConfigError
from weam_ray.study.config import StudyConfig


def find_data(study: StudyConfig, store: Store) -> Path | None:
    """What ``{data_dir}`` stands for; an artificial world is written on first use (seconds).

    Raises:
        ConfigError: ``data_dir`` is no folder, or is given beside ``world``.
    """
    if study.world is not None:
        if study.data_dir is not None:
            raise ConfigError(
                f"data_dir {study.data_dir} is given beside world",
                cure="Remove one: the world is written into the storage folder.",
            )
        return ensure(world_step(study.world), store, {"world": _make_world}).path
    if study.data_dir is not None and not study.data_dir.is_dir():
        raise ConfigError(
            f"data_dir {study.data_dir} is not a folder",
            cure="Say where the data lies: --set data_dir=FOLDER",
        )
    return study.data_dir


def world_step(config: WorldConfig) -> Step:
    """The files of an artificial world."""
    return Step(stage="world", version=1, config=config)


def _make_world(work: Work) -> None:
    assert isinstance(work.step.config, WorldConfig)
    work.facts.update(write_world(work.step.config, work.out))
