"""The model card of a finished encoder, written from what was recorded. It names no place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from weam_ray.artifacts import package_versions
from weam_ray.pretraining.card_texts import METHODS, citations
from weam_ray.pretraining.config import OBJECTIVES_WITH_LINKS, TrainingConfig

_HUB_LICENCE = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
"""An identifier of the Hub's, such as `cc-by-4.0`, as against a line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model a run begins with.

    Attributes:
        model: a name on the Hub or a folder; None where it was trained from scratch.
        revision: commit, tag or branch on the Hub.
    """

    model: str | None = None
    revision: str | None = None

    @property
    def on_hub(self) -> str | None:
        """Its name there; None if it isn't from there."""
        local = self.model is None or Path(self.model).is_absolute() or Path(self.model).is_dir()
        return None if local else self.model

    @property
    def name(self) -> str | None:
        """What it may be called in public: of a folder no more than its own name."""
        return self.on_hub or (Path(self.model).name if self.model else None)

    def __str__(self) -> str:
        if self.model is None:
            return "an encoder trained from scratch"
        if self.on_hub is None:
            return f"the model in a folder called `{self.name}`"
        return f"`{self.model}`" + (f", revision `{self.revision}`" if self.revision else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a run is made from, where its caller knows more than its settings say.

    Attributes:
        base: the model it begins with.
        files: names of the files of each corpus.
        aligner: settings of the aligner that made the links, if they were made here.
        licences: a line for each source of data.
    """

    base: Base = field(default_factory=Base)
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aligner: Mapping[str, Any] | None = None
    licences: Sequence[str] = ()


def write_card(
    out: Path,
    stage: str,
    config: TrainingConfig,
    facts: Mapping[str, Any],
    languages: Sequence[str],
    origin: Origin | None = None,
) -> None:
    """Writes `README.md`: method, base, data, sizes, licences and citation.

    Args:
        out: the encoder's folder.
        stage: `base` or `encoder`.
        config: the settings of the run.
        facts: what the run counted and measured.
        languages: codes of the languages trained on.
        origin: what it was made from; None where the settings say it.
    """
    settings = config.identity()
    if origin is None:
        origin = Origin(base=Base(model=settings.get("model"), revision=settings.get("revision")))
    if settings.get("model"):
        settings["model"] = origin.base.name
    sections = {
        "Method": [_method(stage, settings, origin)],
        "Data": _data(settings, facts, origin),
        "Licences": _licences(origin.licences),
        "What was counted": _table(("fact", "value"), _scalars(facts)),
        "Settings": ["```json", json.dumps(settings, indent=1, ensure_ascii=False), "```"],
        "Versions": [
            ", ".join(f"{name} {one}" for name, one in sorted(package_versions().items()))
        ],
        "Citation": ["```bibtex", *citations(settings), "```"],
    }
    lines = [_header(languages, origin), f"# {_title(stage, settings, facts, origin)}", ""]
    for name, section in sections.items():
        lines += [f"## {name}", "", *section, ""]
    (out / "README.md").write_text("\n".join(lines), encoding="utf8")


def _header(languages: Sequence[str], origin: Origin) -> str:
    matter: dict[str, Any] = {"language": list(languages)} if languages else {}
    if len(origin.licences) == 1 and _HUB_LICENCE.fullmatch(origin.licences[0]):
        matter["license"] = origin.licences[0]
    elif origin.licences:
        # The Hub's word for terms that none of its identifiers stands for.
        matter |= {"license": "other", "license_name": "those-of-its-data-listed-below"}
    if origin.base.on_hub:
        matter["base_model"] = origin.base.on_hub
    matter |= {"library_name": "transformers", "pipeline_tag": "fill-mask"}
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---"


def _title(
    stage: str, settings: Mapping[str, Any], facts: Mapping[str, Any], origin: Origin
) -> str:
    if stage == "base":
        return origin.base.name or "base encoder"
    sets = ", ".join(facts.get("pairs_by_set", ()))
    return f"{settings['objective']}: {sets}" if sets else str(settings["objective"])


def _method(stage: str, settings: Mapping[str, Any], origin: Origin) -> str:
    if stage == "base":
        taken = f" It is {origin.base}, as it was." if origin.base.model else ""
        return f"{METHODS['base']}{taken}"
    return (
        f"{METHODS[settings['objective']]} Continued from {origin.base}. "
        "`weam_ray/pretraining/objectives.py` states the objective as an equation."
    )


def _data(settings: Mapping[str, Any], facts: Mapping[str, Any], origin: Origin) -> list[str]:
    columns: dict[str, Mapping[str, Any]] = {
        "pairs": facts.get("pairs_by_set", {}),
        "rows": facts.get("rows_by_set", {}),
        "tokens": facts.get("tokens_by_set", {}),
        "epochs seen": facts.get("epochs_by_set", {}),
        "files": {name: ", ".join(files) for name, files in origin.files.items()},
    }
    shown = {name: column for name, column in columns.items() if column}
    sets = dict.fromkeys(name for column in shown.values() for name in column)
    rows = ([one, *(column.get(one, "") for column in shown.values())] for one in sets)
    lines = _table(("set", *shown), rows)
    if "tokens" in shown:
        lines += ["Tokens are those of one epoch, special ones included.", ""]
    if settings.get("objective") in OBJECTIVES_WITH_LINKS:
        lines += [_links(origin.aligner), ""]
    if replayed := facts.get("replay_rows_by_set"):
        text = ", ".join(f"{name} ({rows:,} rows)" for name, rows in replayed.items())
        lines += [
            f"{facts['replay_steps']:,} of the {facts['steps']:,} steps replayed monolingual text, "
            f"as masked language modelling: {text}.",
            "",
        ]
    return lines or ["None."]


def _links(aligner: Mapping[str, Any] | None) -> str:
    if aligner is None:
        return "Words were linked beforehand."
    seen = {"pool": "the whole corpora", "subset": "the pairs trained on alone"}
    return (
        "Words were linked by fast_align's model (IBM Model 2 with a diagonal prior), "
        f"{aligner['iterations']} iterations over {seen[aligner['regime']]}; symmetrisation: "
        f"{aligner['symmetrisation']}."
    )


def _licences(lines: Sequence[str]) -> list[str]:
    listed = [f"- {line}" for line in lines] or ["Those of the data named above."]
    return [
        *listed,
        "",
        "Weights trained on text under a non-commercial licence may carry that restriction: check "
        "every source before you share them.",
    ]


def _scalars(facts: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in facts.items() if isinstance(value, (int, float, str)))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    body = [f"| {' | '.join(map(_shown, row))} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""] if body else []


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
