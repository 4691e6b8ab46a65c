"""The study file: one YAML document that says what is varied and what is held."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from weam_ray.alignment.config import AlignmentConfig
from weam_ray.corpus.config import CleaningConfig, ContaminationConfig
from weam_ray.demo import WorldConfig
from weam_ray.identity import Placement, StageConfig
from weam_ray.pretraining.config import BaseConfig, PretrainingConfig, VocabularyConfig
from weam_ray.transfer.config import Setting, TransferConfig
from weam_ray.transfer.guards import Gate
from weam_ray.transfer.items import ItemsConfig

Regime = Literal["pool", "subset"]
Pair = Annotated[str, Field(pattern=r"^[A-Za-z_]+-[A-Za-z_]+$")]
"""``en-de``, source first; variants with an underscore, as OPUS writes them: ``en-zh_cn``."""
Name = Annotated[str, Field(pattern=r"^[\w.+-]+$")]
"""Part of file names: letters, digits and ``_ . + -``."""
Pattern = Annotated[str, Placement()]


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
    segmenter: Literal["auto", "whitespace"] = "auto"
    """``whitespace``: the text is tokenised already."""
    cleaning: CleaningConfig = Field(default_factory=CleaningConfig)
    contamination: ContaminationConfig = Field(default_factory=ContaminationConfig)


class MethodConfig(StageConfig):
    """A named variation: settings that differ from the study's own."""

    pretraining: dict[str, Any] = Field(default_factory=dict)
    alignment: dict[str, Any] = Field(default_factory=dict)
    base: dict[str, Any] = Field(default_factory=dict)
    transfer: dict[str, Any] = Field(default_factory=dict)


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
    """Language pairs, source first: ``en-de``."""
    size: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Corpus sizes, pairs. Each is a subset of the next."""
    method: tuple[str, ...] = Field(min_length=1)
    """``none``, ``random``, an objective (``tlm``, ``weam``, …) or a name under ``methods``."""
    regime: tuple[Regime, ...] = ("pool",)
    """Links learnt from the whole corpus (pool), or from the subset alone."""
    setting: tuple[Setting, ...] | None = None
    """What fine-tuning trains on; None takes ``transfer.setting``. Under ``translate-train`` a cell
    trains on the pair's other language, and methods without bitext on that of every pair."""
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
    cell_threads: int = Field(default=1, ge=1)
    """CPU threads of a cell; the machine's cores divided by this run at once."""
    cell_gpus: float = Field(default=0.0, ge=0)
    """GPUs of a cell; below 1, cells share one."""
    cell_workers: int = Field(default=1, ge=1)
    """Ray Train workers that pre-train one cell's encoder together (DDP), each with
    ``cell_threads`` and ``cell_gpus``. The result is the same on any number."""
    retries: int = Field(default=1, ge=0)
    """How often a cell whose worker died is started again."""


class StudyConfig(StageConfig):
    """A study: what is varied, what is held, where the data lies."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    """Names the study's folder and its MLflow experiment: lower case, digits, underscores."""
    title: str
    """One line for people."""
    demonstration: bool = False
    """The report says that its figures are a demonstration and not evidence."""
    storage: Annotated[Path, Placement()] = Path("storage")
    """Folder of artifacts, reports, logs and the tracking database."""
    tracking_uri: Annotated[str | None, Placement()] = None
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
    items: ItemsConfig
    vocabulary: VocabularyConfig | None = None
    base: BaseConfig
    alignment: AlignmentConfig = Field(default_factory=AlignmentConfig)
    pretraining: PretrainingConfig = Field(default_factory=PretrainingConfig)
    transfer: TransferConfig = Field(default_factory=TransferConfig)
    methods: dict[Name, MethodConfig] = Field(default_factory=dict)
    """Variations that ``grid.method`` may name beside the built-in ones."""
    grid: Factors
    extra: tuple[Factors, ...] = ()
    """Further crossings, such as a control at one size only."""
    exclude: tuple[CellFactors, ...] = ()
    """Cells to leave out."""
    report_split: Literal["dev", "test"] = "test"
    """The items that claims are made on; decided here, before there is anything to choose by."""
    licences: tuple[str, ...] = ()
    """A line per data source for the report: what it is and under which licence."""
    gates: tuple[Gate, ...] = ()
    """What must hold before the report makes a claim."""
    resources: Annotated[ResourcesConfig, Placement()] = Field(default_factory=ResourcesConfig)

    @property
    def folder(self) -> Path:
        """Where the report, the tables and the logs of this study go."""
        return self.storage / "studies" / self.name
