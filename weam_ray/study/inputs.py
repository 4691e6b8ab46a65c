"""The files a study names by patterns: which of them there are for a domain, pair or language."""

from __future__ import annotations

import os
from pathlib import Path

from weam_ray.corpus.config import CorpusConfig
from weam_ray.errors import ConfigError, DataError
from weam_ray.study.config import StudyConfig
from weam_ray.transfer.diagnostics import DiagnosticsConfig
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import EvaluatedQuestions, QuestionsConfig


class Bitexts:
    """The bitexts of a study by domain and pair; a reason in their place where there is none."""

    def __init__(self, study: StudyConfig, data_dir: Path | None) -> None:
        self._study = study
        self._data_dir = data_dir
        self._known: dict[tuple[str, str], CorpusConfig | str] = {}

    def find(self, domain: str, pair: str) -> CorpusConfig | str:
        """The bitext, or why there is none.

        Raises:
            ConfigError: patterns or settings of ``bitext`` that can't be.
        """
        if (domain, pair) not in self._known:
            self._known[domain, pair] = self._look(domain, pair)
        return self._known[domain, pair]

    def _look(self, domain: str, pair: str) -> CorpusConfig | str:
        bitext = self._study.bitext
        source, _, target = pair.partition("-")
        names = {
            "domain": domain,
            "source": source,
            "target": target,
            "opus_pair": "-".join(sorted((source, target))),
        }
        paths = {
            side: fill_pattern(pattern, f"bitext.{side}", self._data_dir, **names)
            for side in ("source", "target", "gold")
            if (pattern := getattr(bitext, side)) is not None
        }
        try:
            config = CorpusConfig(
                domain=domain,
                source_language=source,
                target_language=target,
                format=bitext.format,
                source_column=bitext.source_column,
                target_column=bitext.target_column,
                segmenter=bitext.segmenter,
                cleaning=bitext.cleaning,
                contamination=bitext.contamination,
                **paths,
            )
        except ConfigError as error:
            raise ConfigError(error.what, place=f"bitext.{error.place}", cure=error.cure) from None
        missing = [str(path) for path in paths.values() if not path.exists()]
        if missing:
            return f"no {domain} text for {pair}: {missing[0]} is not there"
        return config


def find_items(study: StudyConfig, data_dir: Path | None) -> ItemsConfig:
    """The evaluation items with ``{data_dir}`` filled in.

    Raises:
        ConfigError: ``data_dir`` is needed and not given.
    """
    patterns = {
        split: _fill_data_dir(pattern, f"items.{split}", data_dir)
        for split in ("train", "dev", "test")
        if (pattern := getattr(study.items, split)) is not None
    }
    return study.items.model_copy(update=patterns)


def find_questions(study: StudyConfig, data_dir: Path | None) -> dict[str, QuestionsConfig]:
    """The questions of every task with ``{data_dir}`` filled in.

    Raises:
        ConfigError: ``data_dir`` is needed and not given.
    """
    return {
        name: one.model_copy(
            update={
                **_filled(one, f"questions.{name}", data_dir),
                "also": {
                    other: more.model_copy(
                        update=_filled(more, f"questions.{name}.also.{other}", data_dir)
                    )
                    for other, more in one.also.items()
                },
            }
        )
        for name, one in study.questions.items()
    }


def _filled(questions: EvaluatedQuestions, place: str, data_dir: Path | None) -> dict[str, str]:
    return {
        split: _fill_data_dir(pattern, f"{place}.{split}", data_dir)
        for split in ("train", "dev", "test")
        if (pattern := getattr(questions, split, None)) is not None
    }


def find_gold(study: StudyConfig, data_dir: Path | None) -> DiagnosticsConfig:
    """The diagnostics with ``{data_dir}`` filled in.

    Raises:
        ConfigError: ``data_dir`` is needed and not given.
    """
    gold = {
        name: one.model_copy(
            update={
                # Read by workers, which stand in folders of their own.
                side: str(Path(_fill_data_dir(getattr(one, side), place, data_dir)).absolute())
                for side in ("source", "target", "links")
                for place in (f"diagnostics.gold.{name}.{side}",)
            }
        )
        for name, one in study.diagnostics.gold.items()
    }
    return study.diagnostics.model_copy(update={"gold": gold})


def without_network(study: StudyConfig) -> StudyConfig:
    """The study with nothing fetched: data from what was fetched before, models from the cache.

    The Hub's own packages read ``HF_HUB_OFFLINE`` when they are imported; worker processes inherit
    it, and those of a cluster are told (``on_ray.cluster``).
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    questions = {
        name: one.model_copy(update={"offline": True}) for name, one in study.questions.items()
    }
    items = study.items.model_copy(update={"offline": True})
    return study.model_copy(update={"items": items, "questions": questions})


def find_texts(study: StudyConfig, data_dir: Path | None) -> dict[str, Path]:
    """Monolingual text by language.

    Raises:
        DataError: a language's file is not there.
        ConfigError: a pattern that can't be.
    """
    if study.texts is None:
        return {}
    texts = {
        language: fill_pattern(study.texts, "texts", data_dir, language=language)
        for language in study.text_languages
    }
    for language, path in texts.items():
        if not path.exists():
            raise DataError(
                f"no monolingual text for {language}: {path} is not there",
                place="texts",
                cure="Check data_dir and text_languages.",
            )
    return texts


def fill_pattern(pattern: str, place: str, data_dir: Path | None, **names: str) -> Path:
    """A path pattern with its names filled in.

    Raises:
        ConfigError: it needs a name there is none for, or its braces don't match.
    """
    known = ", ".join(f"{{{name}}}" for name in ("data_dir", *names))
    # The folder comes last and in one piece: braces in its own name are not names.
    marked = pattern.replace("{data_dir}", "\0")
    try:
        filled = marked.format(**names)
    except (KeyError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"{pattern!r} uses {error}, which is not known here",
            place=place,
            cure=f"Known names: {known}.",
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{pattern!r} is no path pattern ({error})", place=place, cure=f"Known names: {known}."
        ) from None
    # Absolute, because workers that open it stand in folders of their own.
    return Path(_fill_data_dir(filled.replace("\0", "{data_dir}"), place, data_dir)).absolute()


def _fill_data_dir(pattern: str, place: str, data_dir: Path | None) -> str:
    if "{data_dir}" not in pattern:
        return pattern
    if data_dir is None:
        raise ConfigError(
            f"{pattern!r} needs data_dir",
            place=place,
            cure="Say where the data lies: --set data_dir=FOLDER",
        )
    return pattern.replace("{data_dir}", str(data_dir))
