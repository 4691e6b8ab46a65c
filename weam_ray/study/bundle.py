"""A study's results as a folder for others: `weam-ray export`, and what `weam-ray compare` reads.

=======================  ==========================================================================
``results.parquet``      one row a cell x task x language x split x selection x metric, as in
                         :data:`weam_ray.study.results.ROW_COLUMNS`, with ``study`` and ``row``
``results.csv``          the same
``items.parquet``        what was asked, without its text: ``task``, ``split``, ``language``,
                         ``item`` and ``content``, a hash of sentences and label
``study.json``           name, title, view, settings, licences, package versions
``predictions/``         a file a cell, only if asked for: what paired comparisons need
=======================  ==========================================================================

``cell`` is the hash of everything that decided the cell's outcome, and ``row`` that of the cell and
what was measured on it. So tables of several people merge by ``row``: equal hashes are the same
measurement, counted once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from weam_ray.artifacts import Store, package_versions
from weam_ray.errors import DataError
from weam_ray.identity import digest
from weam_ray.study.config import StudyConfig
from weam_ray.study.ledger import result_rows, study_settings, study_view
from weam_ray.study.plan import Plan
from weam_ray.study.results import View, tidy_rows
from weam_ray.study.tasks import XNLI, source_language

_MEASURED = ("cell", "task", "setting", "language", "split", "selection", "system", "metric")
_TOLERANCE = 1e-6
"""Of a value on another number of workers or threads."""
_ASKED = {
    "items": ("premise", "hypothesis", "label"),
    "questions": ("context", "question", "answers"),
}
Contents = Mapping[tuple[str, str, str], Mapping[str, str]]
"""By (task, split, language): the content hash of each item."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A study's results and all that is needed to set them beside another's."""

    name: str
    title: str
    rows: pd.DataFrame
    root: Path
    """Where the rows' ``predictions`` are."""
    contents: Contents
    view: View
    source_language: str
    settings: Mapping[str, str] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)


def bundle_of(study: StudyConfig, plan: Plan, store: Store) -> Bundle:
    """What the store holds of a study."""
    return Bundle(
        name=study.name,
        title=study.title,
        rows=named(tidy_rows(result_rows(plan.cells, store)), study.name),
        root=store.root,
        contents=_contents(plan, store),
        view=study_view(study),
        source_language=source_language(study, study_view(study).task),
        settings=study_settings(study),
        licences=study.licences,
        packages=package_versions(),
    )


def named(rows: pd.DataFrame, study: str) -> pd.DataFrame:
    """Tidy rows with the study's name and the content hash of each row."""
    keys = rows[list(_MEASURED)].itertuples(index=False)
    return rows.assign(study=study, row=[digest(list(key)) for key in keys])


def _contents(plan: Plan, store: Store) -> dict[tuple[str, str, str], dict[str, str]]:
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for step in plan.steps.values():
        done = store.find(step) if step.stage in ("items", "questions") else None
        if done is None:
            continue
        for row in pq.read_table(done.path / f"{step.stage}.parquet").to_pylist():
            if row["split"] != "train":
                asked = [row[name] for name in _ASKED[step.stage]]
                key = (row.get("task", XNLI), row["split"], row["language"])
                found.setdefault(key, {})[row["item"]] = digest(asked)
    return found


def write_bundle(bundle: Bundle, folder: Path, *, predictions: bool) -> list[Path]:
    """Write the folder; files of a former export are replaced.

    Args:
        bundle: the results.
        folder: made if it isn't there.
        predictions: copy every cell's predictions too.

    Returns:
        The files, predictions not listed one by one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = bundle.rows.assign(predictions="")
    if predictions:
        rows = rows.assign(predictions=_copied(bundle, folder / "predictions"))
    written = [folder / name for name in ("results.parquet", "results.csv")]
    rows.to_parquet(written[0], index=False)
    rows.to_csv(written[1], index=False)
    items = [
        {"task": task, "split": split, "language": language, "item": item, "content": content}
        for (task, split, language), own in bundle.contents.items()
        for item, content in own.items()
    ]
    names = ("task", "split", "language", "item", "content")
    schema = pa.schema([(name, pa.string()) for name in names])
    pq.write_table(pa.Table.from_pylist(items, schema=schema), folder / "items.parquet")
    about: dict[str, Any] = {
        "name": bundle.name,
        "title": bundle.title,
        "view": asdict(bundle.view),
        "source_language": bundle.source_language,
        "settings": dict(bundle.settings),
        "licences": list(bundle.licences),
        "packages": dict(bundle.packages),
    }
    text = json.dumps(about, indent=1, ensure_ascii=False)
    (folder / "study.json").write_text(text + "\n", encoding="utf8")
    return [*written, folder / "items.parquet", folder / "study.json"]


def _copied(bundle: Bundle, folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    places = []
    for cell, path in zip(bundle.rows["cell"], bundle.rows["predictions"], strict=True):
        name = f"{str(cell).replace('/', '.')}.parquet"
        if path and not (folder / name).exists():
            shutil.copyfile(bundle.root / str(path), folder / name)
        places.append(f"{folder.name}/{name}" if path else "")
    return places


def read_bundle(folder: Path) -> Bundle:
    """An exported folder.

    Raises:
        DataError: it isn't one.
    """
    try:
        about = json.loads((folder / "study.json").read_text(encoding="utf8"))
        rows = pd.read_parquet(folder / "results.parquet")
        items = pq.read_table(folder / "items.parquet")
        contents: dict[tuple[str, str, str], dict[str, str]] = {}
        for row in items.to_pylist():
            key = (row["task"], row["split"], row["language"])
            contents.setdefault(key, {})[row["item"]] = row["content"]
        return Bundle(
            name=about["name"],
            title=about["title"],
            rows=named(tidy_rows(rows), about["name"]),
            root=folder,
            contents=contents,
            view=View(**about["view"]),
            source_language=about["source_language"],
            settings=about["settings"],
            licences=tuple(about["licences"]),
            packages=about["packages"],
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(
            f"no exported study here ({error})",
            place=str(folder),
            cure="Name a study file, or a folder that `weam-ray export` wrote.",
        ) from None


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Tables of several studies as one."""

    rows: pd.DataFrame
    same: int
    """Rows that were in more than one, counted once."""


def merge(tables: Sequence[pd.DataFrame]) -> Merged:
    """Rows of all tables by their content hash, in the order of the tables.

    Raises:
        DataError: one hash has two values: somebody's code did not do what its version says.
    """
    rows = pd.concat(tables, ignore_index=True)
    values = rows.groupby("row")["value"]
    apart = (values.max() - values.min()) > _TOLERANCE
    if apart.any():
        row = rows[rows["row"] == apart.index[apart.to_numpy()][0]]
        first, other = row.iloc[0], row.iloc[-1]
        raise DataError(
            f"{first['study']} has {first['value']:.6f} and {other['study']} {other['value']:.6f} "
            f"for the same work ({first['language']} {first['split']})",
            place=str(first["cell"]),
            cure="One of the two was made by other code of the same version: leave it out.",
        )
    once = rows.drop_duplicates("row").reset_index(drop=True)
    return Merged(rows=once, same=len(rows) - len(once))


def write_merged(bundles: Sequence[Bundle], folder: Path) -> tuple[Merged, Path]:
    """``merged.parquet``: the rows of all, each measurement once.

    Raises:
        DataError: see :func:`merge`.
    """
    merged = merge([one.rows.assign(predictions="") for one in bundles])
    path = folder / "merged.parquet"
    merged.rows.to_parquet(path, index=False)
    return merged, path
