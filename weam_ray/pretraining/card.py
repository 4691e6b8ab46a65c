"""The model card of a finished encoder, written from what was recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weam_ray.artifacts import package_versions
from weam_ray.pretraining.config import TrainingConfig

_WEAM = """\
@inproceedings{yang2021weam,
  title = {Bilingual Alignment Pre-Training for Zero-Shot Cross-Lingual Transfer},
  author = {Yang, Ziqing and Ma, Wentao and Cui, Yiming and Ye, Jiani and Che, Wanxiang
            and Wang, Shijin},
  booktitle = {Proceedings of the 3rd Workshop on Machine Reading for Question Answering},
  year = {2021},
  note = {arXiv:2106.01732},
}
"""


def write_card(
    out: Path,
    stage: str,
    config: TrainingConfig,
    facts: Mapping[str, Any],
    languages: Sequence[str],
) -> None:
    """Writes `README.md`: method, data, sizes, licence notes and citation.

    Args:
        out: the encoder's folder.
        stage: `base` or `encoder`.
        config: the settings of the run.
        facts: what the run counted and measured.
        languages: codes of the languages trained on.
    """
    settings = config.identity()
    title = settings.get("objective") or settings.get("model") or "base encoder"
    lines = [
        _header(languages, settings),
        f"# {title}",
        "",
        _METHODS[stage],
        "",
        "## Data",
        "",
        *_table(("set", "epochs seen"), facts.get("epochs_by_set", {}).items()),
        "Sentences and their licences are those of the corpora named above. Weights trained on "
        "text under a non-commercial licence may carry that restriction: check every corpus "
        "before you share them.",
        "",
        "## What was counted",
        "",
        *_table(("fact", "value"), _scalars(facts)),
        "## Settings",
        "",
        "```json",
        json.dumps(settings, indent=1, ensure_ascii=False),
        "```",
        "",
        "## Versions",
        "",
        ", ".join(f"{name} {version}" for name, version in sorted(package_versions().items())),
        "",
        "## Citation",
        "",
        "```bibtex",
        _WEAM.rstrip(),
        "```",
        "",
    ]
    (out / "README.md").write_text("\n".join(lines), encoding="utf8")


_METHODS = {
    "base": "A masked language model trained or fetched as the common start of a study.",
    "encoder": "A masked language model continued on bilingual text. The objective and every "
    "setting are below; `weam_ray/pretraining/objectives.py` states each as an equation.",
}


def _header(languages: Sequence[str], settings: Mapping[str, Any]) -> str:
    codes = "".join(f"\n- {code}" for code in languages)
    language = f"language:{codes}\n" if languages else ""
    return f"---\n{language}library_name: transformers\npipeline_tag: fill-mask\n---"


def _scalars(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in facts.items() if isinstance(value, (int, float, str))]


def _table(head: tuple[str, str], rows: Any) -> list[str]:
    body = [f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value} |"
            for name, value in rows]  # fmt: skip
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *body, ""] if body else []
