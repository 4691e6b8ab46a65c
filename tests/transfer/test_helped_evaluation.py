"""A cell evaluated with the help of Ray tasks is the cell that one process evaluates."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weam_ray.artifacts import Artifact, Step, Work
from weam_ray.on_ray import evaluation
from weam_ray.on_ray.cluster import ray_runtime
from weam_ray.on_ray.evaluation import evaluation_makers
from weam_ray.transfer import TransferConfig, tokenise_items
from weam_ray.transfer.batches import Rows
from weam_ray.transfer.steps import make_transfer

pytestmark = pytest.mark.ray

CONFIG = TransferConfig(learning_rate=3e-3, steps=6, batch_size=16, evaluations=2, max_length=64,
                        evaluation_tokens=256)  # fmt: skip


def work_of(encoder: Path, tokens: Path, out: Path) -> Work:
    folders = {"encoder": encoder, "tokens": tokens}
    out.mkdir()
    return Work(
        step=Step(stage="transfer", version=1, config=CONFIG),
        upstream={
            name: Artifact(address=name, path=path, record={}) for name, path in folders.items()
        },
        out=out,
    )


class Counted(evaluation._Shared):
    """Counts the parts that this process answers."""

    here = 0
    parts = 0

    def _answer_here(self, part: int) -> None:
        Counted.here += 1
        Counted.parts = len(self._parts)
        super()._answer_here(part)


def test_helpers_change_no_prediction_even_when_they_die(
    encoder: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    tokenise_items(items, encoder, 64).write(tokens)
    alone = work_of(encoder, tokens, tmp_path / "alone")
    make_transfer(alone)
    monkeypatch.setattr(evaluation, "_WORTH_IT", 0)
    monkeypatch.setattr(evaluation, "_LEAST_WAIT", 60.0)
    monkeypatch.setattr(evaluation, "_Shared", Counted)
    makers = evaluation_makers(helpers=1)
    with ray_runtime(cpus=2):
        helped = work_of(encoder, tokens, tmp_path / "helped")
        makers["transfer"](helped)
        by_helpers = Counted.here
        monkeypatch.setattr(evaluation, "_answer", _die)
        monkeypatch.setattr(evaluation, "_LEAST_WAIT", 5.0)
        died = work_of(encoder, tokens, tmp_path / "died")
        makers["transfer"](died)
    expected = pq.read_table(alone.out / "predictions.parquet")
    assert expected.equals(pq.read_table(helped.out / "predictions.parquet"))
    assert expected.equals(pq.read_table(died.out / "predictions.parquet"))
    # The last part of each evaluation waits for the helper, who is sure to bring one back.
    assert by_helpers < Counted.here - by_helpers


def _die(source: object, state: object, version: str, part: list[Rows]) -> None:
    os._exit(1)
