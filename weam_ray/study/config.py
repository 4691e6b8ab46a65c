"""The study file: one YAML document that says what is varied and what is held."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.artifacts import Store
from weam_ray.bucket import Bucket, home_of, is_url
from weam_ray.bucket_store import open_store
from weam_ray.corpus.config import CleaningConfig, ContaminationConfig, Format
from weam_ray.demo import WorldConfig
from weam_ray.errors import ConfigError
from weam_ray.identity import Placement, StageConfig
from weam_ray.pretraining.config import BaseConfig, PretrainingConfig, VocabularyConfig
from weam_ray.study.adaptive import AdaptiveConfig
from weam_ray.study.expected import PowerConfig
from weam_ray.study.search import SearchConfig
from weam_ray.transfer.config import Setting, TransferConfig
from weam_ray.transfer.diagnostics import DiagnosticsConfig
from weam_ray.transfer.guards import Gate
from weam_ray.transfer.items import ItemsConfig
from weam_ray.transfer.qa.config import QaConfig, QuestionsConfig

Regime = Literal["pool", "subset"]
PAIR_FORM = r"^[A-Za-z_]+-[A-Za-z_]+(\+[A-Za-z_]+-[A-Za-z_]+)*$"
Pair = Annotated[str, Field(pattern=PAIR_FORM)]
"""``en-de``, source first; variants with an underscore, as OPUS writes them: ``en-zh_cn``. A set of
pairs that one encoder is trained on together: ``en-de+en-fr``."""
BUDGET_FORM = r"^([1-9]\d* steps|\d+(\.\d+)? epochs?)$"
Budget = Annotated[str, Field(pattern=BUDGET_FORM)]
"""A rule for how long bilingual pre-training lasts: ``8000 steps``, ``1 epoch``, ``2.5 epochs``."""
NAME_FORM = r"^[\w.+-]+$"
Name = Annotated[str, Field(pattern=NAME_FORM)]
"""Part of file names: letters, digits and ``_ . + -``."""
STUDY_FORM = r"^[a-z0-9_]+$"
Pattern = Annotated[str, Placement()]
Column = Annotated[str, Field(coerce_numbers_to_str=True)]
"""``de``, or a number: YAML reads ``2`` as one, and it names a column as well."""


class BitextConfig(StageConfig):
    """Where the bilingual text of a domain and pair lies, and how it is cleaned."""

    source: Pattern
    """Path pattern of the source side, or of a file with both sides. It may use ``{data_dir}``,
    ``{domain}``, ``{source}`` and ``{target}`` (the pair's languages), and ``{opus_pair}`` (the
    languages in alphabetical order, as OPUS names its files: ``bg-en`` for the pair en-bg)."""
    target: Annotated[str | None, Placement()] = None
    """Path pattern of the target side."""
    gold: Annotated[str | None, Placement()] = None
    """Path pattern of known links (Pharaoh, 0-based), where there are any."""
    format: Format = "auto"
    """``auto`` goes by the extension (.tsv, .parquet, .tmx, before any .gz), else Moses."""
    source_column: Column | None = None
    """Of a TSV file its number from 1, or its name if the first line names the columns; of a
    parquet file its name. By default the first column (TSV); the ``translation`` column of Hub data
    sets, else ``source`` or the language code (parquet)."""
    target_column: Column | None = None
    """The same for the target; by default the second column of a TSV file."""
    segmenter: Literal["auto", "whitespace"] = "auto"
    """``whitespace``: the text is tokenised already."""
    cleaning: CleaningConfig = Field(default_factory=CleaningConfig)
    contamination: ContaminationConfig = Field(default_factory=ContaminationConfig)
    smaller: Literal["hole", "whole"] = "hole"
    """A corpus of fewer pairs than a cell's size: ``hole`` leaves the cell out; ``whole`` takes all
    of it, of several pairs that are trained on together and of which one has as many. Sets are then
    mixed by their sizes, and by ``pretraining.temperature``."""


class MethodConfig(StageConfig):
    """A named variation: settings that differ from the study's own."""

    pretraining: dict[str, Any] = Field(default_factory=dict)
    alignment: dict[str, Any] = Field(default_factory=dict)
    base: dict[str, Any] = Field(default_factory=dict)
    transfer: dict[str, Any] = Field(default_factory=dict)
    qa: dict[str, Any] = Field(default_factory=dict)


def _or_one_value(schema: dict[str, Any]) -> None:
    # The JSON schema of what `_one_value_is_a_list_of_one` accepts.
    for name, field in schema["properties"].items():
        for form in (field, *field.get("anyOf", ())):
            if form.get("type") == "array":
                kept = {key: field.pop(key) for key in ("description", "default") if key in field}
                schema["properties"][name] = {"anyOf": [field, form["items"]], **kept}


class Factors(StageConfig):
    """Values of the factors; their crossing is the grid. A list may be given as one value."""

    model_config = ConfigDict(json_schema_extra=_or_one_value)

    domain: tuple[Name, ...] = Field(min_length=1)
    """Domains of the bilingual text."""
    pair: tuple[Pair, ...] = Field(min_length=1)
    """Language pairs, source first: ``en-de``; or sets of them: ``en-de+en-fr``."""
    size: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Corpus sizes, pairs (of each language pair of a set). Each is a subset of the next."""
    method: tuple[str, ...] = Field(min_length=1)
    """``none``, ``random``, an objective (``tlm``, ``weam``, …) or a name under ``methods``."""
    regime: tuple[Regime, ...] = ("pool",)
    """Links learnt from the whole corpus (pool), or from the subset alone."""
    budget: tuple[Budget, ...] | None = None
    """Fixed steps (the same compute at every size, small corpora read more often) or fixed epochs
    (compute grows with size); None takes that of ``pretraining``."""
    task: tuple[Name, ...] = ("xnli",)
    """What encoders are fine-tuned for: ``xnli``, or names under ``questions``. The first of the
    grid is the one that claims are made on."""
    setting: tuple[Setting, ...] | None = None
    """What fine-tuning trains on; None takes ``transfer.setting``. Under ``translate-train`` a cell
    trains on the pair's other language, and methods without bitext on that of every pair. Claims
    are made on ``transfer.setting``, or on the first of the grid's where that isn't among them."""
    seed: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Seeds of subset and bilingual pre-training together, unless these are given on their own."""
    subset_seed: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    pretraining_seed: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    finetuning_seed: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Fine-tuning seeds of every encoder; None takes the cell's ``seed``."""

    @field_validator("*", mode="before")
    @classmethod
    def _one_value_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, (str, int)) else value


class CellFactors(StageConfig):
    """Some cells by value; a factor left out takes every value of the grid. Used by ``exclude``."""

    domain: str | None = None
    pair: str | None = None
    size: int | None = None
    method: str | None = None
    regime: Regime | None = None
    budget: str | None = None
    task: str | None = None
    setting: Setting | None = None
    seed: int | None = None
    """The pre-training seed; of methods that have none, the fine-tuning seed."""

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("it names no factor, so it would leave out every cell")
        return self


class ResourcesConfig(StageConfig):
    """How much each kind of job may use; never part of what a cell is."""

    base_threads: int = Field(default=2, ge=1)
    """CPU threads of the job that trains the base encoder."""
    base_gpus: float = Field(default=0.0, ge=0)
    """GPUs of that job; above 0 it trains on one."""
    cell_threads: int = Field(default=1, ge=1)
    """CPU threads of a cell; the machine's cores divided by this run at once."""
    cell_gpus: float = Field(default=0.0, ge=0)
    """GPUs of a cell; below 1, cells share one; above 0 it trains on GPUs."""
    cell_workers: int = Field(default=1, ge=1)
    """Ray Train workers that pre-train one cell's encoder together (DDP), each with
    ``cell_threads`` and ``cell_gpus``. Without dropout the result is the same on any number, up to
    the order of sums; with it each worker draws its own noise, as seeds do."""
    align_pairs: int = Field(default=1_000_000, ge=1)
    """Pairs that one CPU aligns. A corpus of more is spread over as many workers as that takes, up
    to the cluster's CPUs; smaller corpora take a CPU each, side by side."""
    evaluation_helpers: int = Field(default=0, ge=0)
    """Ray tasks, each with ``cell_threads`` and ``cell_gpus``, that may help a cell evaluate when
    the cluster has room: MLQA's 49 pairs of languages, or a cell alone on many cores. The
    predictions are the same with any number."""
    retries: int = Field(default=1, ge=0)
    """How often a cell is started again whose worker died, or that failed by anything but bad
    input."""

    @field_validator("base_gpus", "cell_gpus")
    @classmethod
    def _whole_or_a_part(cls, value: float) -> float:
        if value > 1 and value % 1:
            raise ValueError("above 1 GPU only whole ones: a part of a GPU can't be joined to one")
        return value


def _storage(place: object) -> object:
    if isinstance(place, Path):
        return str(place)
    if isinstance(place, str) and is_url(place):
        Bucket(place)  # refused before it is printed: somebody may have put a key into it
    return place


def _without_password(uri: object) -> object:
    if isinstance(uri, str) and urllib.parse.urlsplit(uri).password:
        # It is printed, logged and recorded with the study.
        raise ConfigError(
            "tracking_uri holds a password",
            cure="Leave it out: MLflow reads ~/.mlflow/credentials, PostgreSQL's ~/.pgpass.",
        )
    return uri


class StudyConfig(StageConfig):
    """A study: what is varied, what is held, where the data lies."""

    name: Annotated[str, Field(pattern=STUDY_FORM)]
    """Names the study's folder and its MLflow experiment: lower case, digits, underscores."""
    title: str
    """One line for people."""
    demonstration: bool = False
    """The report says that its figures are a demonstration and not evidence."""
    storage: Annotated[str, Placement(), BeforeValidator(_storage)] = "storage"
    """Folder of artifacts, reports, logs and the tracking database; or a bucket, such as
    ``s3://bucket/prefix`` or ``gs://bucket/prefix``, for the artifacts and a copy of the report,
    with all else in the folder ``storage`` of the machine that runs the sweep."""
    tracking_uri: Annotated[str | None, Placement(), BeforeValidator(_without_password)] = None
    """An MLflow tracking URI; None: SQLite in ``storage``."""
    data_dir: Annotated[Path | None, Placement()] = None
    """What ``{data_dir}`` stands for. With ``world`` it is the folder the world is written to."""
    world: WorldConfig | None = None
    """The artificial world to generate, when the study needs no data of yours."""
    texts: Annotated[str | None, Placement()] = None
    """Path pattern of monolingual text, with ``{data_dir}`` and ``{language}``."""
    text_languages: tuple[str, ...] = ()
    """Languages of that text."""
    bitext: BitextConfig
    items: ItemsConfig = ItemsConfig(languages=("en",))
    """The items of ``xnli``; a study of questions alone needs none."""
    questions: dict[Name, QuestionsConfig] = Field(default_factory=dict)
    """Question answering, by the name of the task: ``mlqa``, ``xquad``, ``tydiqa``. Paths may use
    ``{data_dir}``."""
    vocabulary: VocabularyConfig | None = None
    base: BaseConfig
    alignment: AlignmentConfig = Field(default_factory=AlignmentConfig)
    pretraining: PretrainingConfig = Field(default_factory=PretrainingConfig)
    transfer: TransferConfig = Field(default_factory=TransferConfig)
    """Fine-tuning for ``xnli``."""
    qa: QaConfig = Field(default_factory=QaConfig)
    """Fine-tuning for the tasks under ``questions``; its ``task`` is set to each one's name."""
    diagnostics: DiagnosticsConfig = Field(default_factory=DiagnosticsConfig)
    """What is measured of every encoder before it is fine-tuned."""
    methods: dict[Name, MethodConfig] = Field(default_factory=dict)
    """Variations that ``grid.method`` may name beside the built-in ones."""
    grid: Factors
    extra: tuple[Factors, ...] = ()
    """Further crossings, such as a control at one size only."""
    exclude: tuple[CellFactors, ...] = ()
    """Cells to leave out."""
    adaptive: AdaptiveConfig | None = None
    """Choose the next cell of the grid by what it tells about the slope over sizes, up to a budget;
    None runs them all."""
    search: SearchConfig | None = None
    """Hyper-parameters to be searched for, after the grid was run."""
    report_split: Literal["dev", "test"] = "test"
    """The items that claims are made on; decided here, before there is anything to choose by."""
    licences: tuple[str, ...] = ()
    """A line per data source, for the report and model cards: what it is, under which licence."""
    gates: tuple[Gate, ...] = ()
    """What must hold before the report makes a claim."""
    power: Annotated[PowerConfig, Placement()] = Field(default_factory=PowerConfig)
    """The effect the study is for, and the noise it reckons with."""
    resources: Annotated[ResourcesConfig, Placement()] = Field(default_factory=ResourcesConfig)

    @property
    def folder(self) -> Path:
        """Where the report, the tables and the logs of this study go."""
        return self.home / "studies" / self.name

    @property
    def home(self) -> Path:
        """Where on this machine everything goes that is not in a bucket."""
        return home_of(self.storage)

    def open_store(self) -> Store:
        """Where this study's artifacts are."""
        return open_store(self.storage)
