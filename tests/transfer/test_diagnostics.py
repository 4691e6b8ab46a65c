"""What is measured of an encoder before fine-tuning: steps, gold links, their error rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weam_ray.artifacts import Artifact, Step, Store, Work, ensure
from weam_ray.errors import DataError
from weam_ray.identity import StageConfig
from weam_ray.transfer.diagnostics import (
    MAKERS,
    DiagnosticsConfig,
    GoldConfig,
    diagnostic_steps,
    read_gold_pairs,
)


class Nothing(StageConfig):
    """Settings of a step that is there already."""


def write_gold(folder: Path, lines: int = 6) -> GoldConfig:
    """Sentences of the same words in both languages, so that each word's link is known."""
    for name in ("en", "de"):
        text = [f"w{n} w{n + 7} w{n + 20}" for n in range(lines)]
        (folder / f"gold.{name}").write_text("\n".join(text) + "\n")
    (folder / "gold.talp").write_text("1-1 2-2 3p3\n" * lines)
    return GoldConfig(
        source=f"{folder}/gold.{{source}}",
        target=f"{folder}/gold.{{target}}",
        links=f"{folder}/gold.talp",
        pairs=("en-de",),
    )


def test_gold_is_read_with_words_between_blanks_and_the_base_found(tmp_path: Path) -> None:
    config = write_gold(tmp_path).model_copy(update={"limit": 4})
    pairs, gold = read_gold_pairs(config, "en-de")
    assert pairs["source"].to_pylist()[1] == "w1 w8 w21"
    assert pairs["source_spans"].to_pylist()[1] == [0, 2, 3, 5, 6, 9]
    assert (len(pairs), len(gold), gold.index_base) == (4, 4, 1)
    assert gold.sure[0] == [(0, 0), (1, 1)]
    assert gold.possible[0] == [(0, 0), (1, 1), (2, 2)]


def test_sides_of_unequal_length_are_refused(tmp_path: Path) -> None:
    config = write_gold(tmp_path)
    (tmp_path / "gold.de").write_text("w1\n")
    with pytest.raises(DataError, match="6 source and 1 target lines are no pairs"):
        read_gold_pairs(config, "en-de")


def test_a_missing_gold_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    config = DiagnosticsConfig(gold={"x": write_gold(tmp_path)})
    (tmp_path / "gold.talp").unlink()
    with pytest.raises(DataError, match="no such file"):
        diagnostic_steps(config, "en", Step(stage="base", version=1, config=Nothing()), None)


def test_diagnostics_of_an_encoder_are_made_once_and_say_what_they_measured(
    encoder: Path, world: Callable[..., pa.Table], tmp_path: Path
) -> None:
    base = Step(stage="base", version=1, config=Nothing())
    read = Step(stage="items", version=1, config=Nothing())

    def items(work: Work) -> None:
        pq.write_table(world(train=30, dev=12, test=6), work.out / "items.parquet")

    def copy(work: Work) -> None:
        for path in encoder.iterdir():
            (work.out / path.name).write_bytes(path.read_bytes())

    config = DiagnosticsConfig(gold={"same": write_gold(tmp_path)}, probe_items=9)
    steps = diagnostic_steps(config, "en", base, read)
    assert [step.stage for step in steps] == ["retrieval", "probe", "encoder_aer"]
    store = Store(tmp_path / "store")
    makers = {**MAKERS, "base": copy, "items": items}
    made: dict[str, Artifact] = {step.stage: ensure(step, store, makers) for step in steps}
    probe = pq.read_table(made["probe"].path / "scores.parquet").to_pylist()
    assert {(row["split"], row["n"]) for row in probe} == {("dev", 9)}
    assert {row["language"] for row in probe} == {"en", "de", "fr"}
    rows = pq.read_table(made["encoder_aer"].path / "encoder_aer.parquet").to_pylist()
    embeddings = next(row for row in rows if row["layer"] == 0 and row["way"] == "argmax")
    # Words that are the same on both sides have the same embedding but for their place.
    assert embeddings["aer"] == 0.0
    assert [row["layer"] for row in rows if row["reported"]] == [1, 1]


def test_nothing_is_asked_of_an_encoder_without_items_or_gold() -> None:
    base = Step(stage="base", version=1, config=Nothing())
    assert diagnostic_steps(DiagnosticsConfig(), "en", base, None) == ()
