"""The files a study names by patterns: which of them there are for a domain, pair or language."""

from __future__ import annotations

from pathlib import Path

from weam_ray.corpus.config import CorpusConfig
from weam_ray.errors import ConfigError, DataError
from weam_ray.study.config import StudyConfig
from weam_ray.transfer.items import ItemsConfig


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
    return Path(_fill_data_dir(filled.replace("\0", "{data_dir}"), place, data_dir))


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
