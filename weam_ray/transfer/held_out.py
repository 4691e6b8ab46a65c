"""The texts that are evaluated, which bilingual text must not overlap with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weam_ray.transfer.qa.sentences import sentences


def evaluation_texts(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Dev and test texts by language: premises, hypotheses, questions, sentences of contexts.

    Args:
        folders: ``items`` and ``questions`` artifacts.
    """
    texts: dict[str, list[str]] = {}
    for folder in folders:
        if (folder / "items.parquet").is_file():
            table = _held_out(folder / "items.parquet", ["language", "premise", "hypothesis"])
            for side in ("premise", "hypothesis"):
                _add(texts, table, "language", side)
            continue
        columns = ["context_language", "question_language", "context", "question"]
        table = _held_out(folder / "questions.parquet", columns)
        _add(texts, table, "question_language", "question")
        contexts = table.group_by(["context_language", "context"]).aggregate([])
        for row in contexts.to_pylist():
            texts.setdefault(row["context_language"], []).extend(sentences(row["context"]))
    return texts


def _held_out(path: Path, columns: list[str]) -> pa.Table:
    table = pq.read_table(path, columns=["split", *columns])
    return table.filter(pc.field("split") != "train")


def _add(texts: dict[str, list[str]], table: pa.Table, language: str, column: str) -> None:
    for name in pc.unique(table[language]).to_pylist():
        rows = table.filter(pc.field(language) == name)
        texts.setdefault(name, []).extend(rows[column].to_pylist())
