"""What a corpus is made from and how it is cleaned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from weam_ray.corpus.languages import normalise_language
from weam_ray.corpus.words import Segmenter
from weam_ray.errors import ConfigError
from weam_ray.identity import Placement, StageConfig

CORPUS_VERSION = 1
"""Raised whenever the same bitext and settings would give other pairs, spans or pair_ids."""

Format = Literal["auto", "moses", "tsv", "parquet", "tmx"]


class CleaningConfig(StageConfig):
    """The rules a pair must pass. A rule set to null (or false) is off.

    Rules hold for both sides. A pair is counted under the first rule it breaks, in the order of
    :data:`weam_ray.corpus.cleaning.REASONS`. Blank sides are always dropped.
    """

    drop_control_characters: bool = True
    """Drop pairs with control characters, U+FFFD or other signs of a broken conversion. (Moses'
    remove-non-printing-char.perl blanks them out; a broken line is seldom a translation.)"""

    max_characters: Annotated[int, Field(ge=1)] | None = 1024
    """Longest side in characters. Bicleaner-hardrules' ``not_too_long`` (1024). It also keeps a
    line of a million words away from the segmenters."""

    drop_untranslated: bool = True
    """Drop pairs whose sides are the same but for case, digits and punctuation.
    Bicleaner-hardrules' ``no_identical``, ``no_identical_without_digits/punct``."""

    min_letter_share: Annotated[float, Field(ge=0, le=1)] | None = 0.5
    """Least share of letters (with their marks) among characters that are neither whitespace nor
    digits; a side without letters is dropped. After Bicleaner-hardrules' ``majority_alpha`` (half)
    and ``no_only_numbers``; OpusFilter's AlphabetRatioFilter has 0.75."""

    min_script_share: Annotated[float, Field(ge=0, le=1)] | None = 0.1
    """Least share of letters in the language's own script, for languages not written in Latin
    script: a cheap stand-in for language identification. OpusFilter's CharacterScoreFilter
    (default 1). Low here, since technical text quotes Latin names, and one Chinese character says
    what several letters do: at 0.25 the rule took 11 % of Python's documentation in Chinese."""

    min_number_similarity: Annotated[float, Field(ge=0, le=1)] | None = 0.5
    """Least similarity (Dice) of the sides' non-zero digits. OpusFilter's NonZeroNumeralsFilter
    (0.5). Here a side without digits only counts as a mismatch when the other has more than two:
    small numbers are often written out."""

    same_url_count: bool = True
    """Drop pairs whose sides hold different numbers of URLs. The URLs themselves may differ: they
    are often localised."""

    min_words: Annotated[int, Field(ge=1)] = 1
    """Fewest words of a side. Moses' clean-corpus-n.perl, OpusFilter's LengthFilter (1)."""

    max_words: Annotated[int, Field(ge=1)] | None = 150
    """Most words of a side. OpusFilter's LengthFilter has 100, Mozilla's pipeline 150."""

    max_word_characters: Annotated[int, Field(ge=1, lt=1000)] | None = 40
    """Longest word in characters; URLs are exempt. OpusFilter's LongWordFilter (40)."""

    max_length_ratio: Annotated[float, Field(ge=1)] | None = 3.0
    """Most words of the longer side for each of the shorter, and most characters likewise: a pair
    is dropped when both ratios are above this. Words alone would drop good pairs with languages
    that write few, long words (12 % of an English-Arabic text), characters alone those with
    Chinese. OpusFilter's LengthRatioFilter is usually 3; Moses' clean-corpus-n.perl has 9."""

    length_ratio_from: Annotated[int, Field(ge=1)] = 7
    """The ratio is asked of pairs whose longer side has at least this many words, so that
    "Yes." for "Oui, bien sûr." passes. A choice of ours."""

    @model_validator(mode="after")
    def _ranges_hold(self) -> Self:
        if self.max_words is not None and self.min_words > self.max_words:
            raise ConfigError(
                f"min_words {self.min_words} is above max_words {self.max_words}: no pair passes.",
                place="cleaning.min_words",
                cure="Lower it.",
            )
        return self


class ContaminationConfig(StageConfig):
    """Overlap with the evaluation items, looked for in both languages of a pair."""

    exact: bool = True
    """Drop a pair if either side has the same words as an evaluation sentence (case and
    punctuation aside). OpusFilter's remove_duplicates with an overlap file."""

    ngram: Annotated[int, Field(ge=2)] | None = 13
    """Drop a pair if either side shares this many words in a row with an evaluation sentence: 13
    in Brown et al. 2020 (GPT-3), appendix C, and in lm-evaluation-harness. Languages cut into
    characters here (Japanese, Lao, Khmer, Burmese, Tibetan) use twice as many."""


class CorpusConfig(StageConfig):
    """One bitext: two languages, one domain, its files and how they are cleaned."""

    domain: Annotated[str, Field(min_length=1)]
    """What a report calls this kind of text: ``medical``, ``law``."""

    source_language: str
    """BCP 47 code (``en``, ``zh-TW``, ``qaa``); OPUS' underscores are normalised."""

    target_language: str
    """BCP 47 code of the other side."""

    source: Annotated[Path, Placement()]
    """The source side of a Moses pair, one sentence a line; or the file that holds both sides
    (TSV, parquet, TMX). Plain or .gz."""

    target: Annotated[Path | None, Placement()] = None
    """The target side of a Moses pair; null when ``source`` holds both."""

    gold: Annotated[Path | None, Placement()] = None
    """Known links, a line a pair: Pharaoh ``i-j`` with word indices from 0, words being what
    whitespace separates. Needs ``segmenter: whitespace``."""

    format: Format = "auto"
    """``auto`` goes by the extension (.tsv, .parquet, .tmx, before any .gz), else Moses."""

    source_column: str | None = None
    """TSV: number of the column from 1, or its name if the first line names the columns. Parquet:
    its name. By default the first column (TSV); the ``translation`` column of Hub data sets, else
    ``source`` or the language code (parquet)."""

    target_column: str | None = None
    """The same for the target; by default the second column of a TSV file."""

    segmenter: Segmenter = "auto"
    """``auto``: words by the rules of each language (:mod:`weam_ray.corpus.words`);
    ``whitespace``: the text comes in words already."""

    cleaning: CleaningConfig = CleaningConfig()
    """Rules a pair must pass."""

    contamination: ContaminationConfig = ContaminationConfig()
    """What counts as overlap with the evaluation items."""

    @field_validator("source_language", "target_language")
    @classmethod
    def _known_language(cls, code: str, info: ValidationInfo) -> str:
        return normalise_language(code, place=info.field_name)

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        layout = self.layout
        if layout == "moses" and self.target is None:
            raise ConfigError(
                f"{self.source} is one side of a Moses pair and the other is missing.",
                place="target",
                cure="Name the target file, or set format: tsv if the file holds both sides.",
            )
        if layout != "moses" and self.target is not None:
            raise ConfigError(
                f"a {layout} file holds both sides, so there is no target file to read.",
                place="target",
                cure="Remove target, or set format: moses.",
            )
        if self.gold is not None and self.segmenter != "whitespace":
            raise ConfigError(
                "gold links count words between whitespace, but the segmenter is 'auto'.",
                place="segmenter",
                cure="Set segmenter: whitespace.",
            )
        if layout == "tsv" and (side := self._column_zero()):
            raise ConfigError(
                "columns of a TSV file are counted from 1.", place=side, cure="The first is 1."
            )
        if layout != "tsv" and layout != "parquet" and (self.source_column or self.target_column):
            raise ConfigError(
                f"a {layout} file has no columns.",
                place="source_column" if self.source_column else "target_column",
                cure="Remove it, or set format: tsv or parquet.",
            )
        return self

    def _column_zero(self) -> str | None:
        # Taken as a place in a list, 0 would be the last column.
        columns = {"source_column": self.source_column, "target_column": self.target_column}
        return next((side for side, one in columns.items() if one and one.strip("0") == ""), None)

    @property
    def layout(self) -> Format:
        """The format, ``auto`` resolved by the file's extension."""
        if self.format != "auto":
            return self.format
        suffixes = [suffix.lower() for suffix in self.source.suffixes[-2:]]
        last = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
        by_extension: dict[str, Format] = {".tsv": "tsv", ".parquet": "parquet", ".tmx": "tmx"}
        return by_extension.get(last[0], "moses") if last else "moses"

    @property
    def files(self) -> dict[str, Path]:
        """The input files by role, for their content hashes."""
        roles = {"source": self.source, "target": self.target, "gold": self.gold}
        return {role: path for role, path in roles.items() if path is not None}
