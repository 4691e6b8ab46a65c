"""The tasks of a study: how each is fine-tuned for, where its data is, which languages it has."""

from __future__ import annotations

from weam_ray.corpus.languages import primary_language
from weam_ray.errors import ConfigError
from weam_ray.study.config import StudyConfig
from weam_ray.transfer.config import FineTuningConfig
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import EvaluatedQuestions

XNLI = "xnli"
"""The task that is no name under ``questions``."""


def fine_tuning(study: StudyConfig, task: str) -> FineTuningConfig:
    """The study's settings of fine-tuning for a task.

    Raises:
        ConfigError: no such task.
    """
    if task == XNLI:
        return study.transfer
    if task in study.questions:
        return study.qa
    raise ConfigError(
        f"unknown task {task!r}",
        place="grid.task",
        cure=f"Known: {', '.join((XNLI, *study.questions))}; describe others under questions.",
    )


def data_of(study: StudyConfig, task: str) -> ItemsConfig | EvaluatedQuestions:
    """Where a task's dev and test data are: ``xnli``, one of ``questions``, or a set beside it.

    Raises:
        ConfigError: no such task.
    """
    if task == XNLI:
        return study.items
    for name, one in study.questions.items():
        if found := one.evaluated(name).get(task):
            return found
    raise ConfigError(f"unknown task {task!r}", place="gates")


def evaluated_languages(study: StudyConfig, task: str) -> tuple[str, ...]:
    """The languages of a task's dev and test data (of answers, where questions differ)."""
    return study.items.languages if task == XNLI else study.questions[task].languages


def source_language(study: StudyConfig, task: str) -> str:
    """The language that a task is trained on in zero-shot transfer.

    Raises:
        ConfigError: no such task.
    """
    return fine_tuning(study, task).train_language


def source_languages(study: StudyConfig) -> dict[str, str]:
    """The same of every task that there are results of: a reader answers other sets too."""
    found = {XNLI: study.transfer.train_language}
    for name, one in study.questions.items():
        found |= dict.fromkeys(one.evaluated(name), study.qa.train_language)
    return found


def other_language(study: StudyConfig, task: str, pair: str) -> str:
    """The language of a pair that isn't the training language, as the task's data names it.

    Of a set of pairs those of all, joined by ``+``.
    """
    if "+" in pair:
        return "+".join(other_language(study, task, one) for one in pair.split("+"))
    config = fine_tuning(study, task)
    if config.setting == "translate-train" and config.target_languages:
        return config.target_languages[0]
    source, _, target = pair.partition("-")
    other = source if target == config.train_language else target
    return other if other in evaluated_languages(study, task) else primary_language(other)
