"""Monolingual text that is replayed: how languages are mixed, and what it is not asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_corpus import Corpus, pair_set

from weam_ray.errors import DataError
from weam_ray.pretraining import PretrainingConfig, load_tokenizer
from weam_ray.pretraining.prepared import prepare


@pytest.fixture
def unequal(texts: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Texts of 1600 and 200 lines."""
    long = tmp_path / "long.txt"
    long.write_text(texts["aa"].read_text() * 8)
    return {"aa": long, "bb": texts["bb"]}


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 1 / 9), (0.5, 0.26), (0.0, 0.5)])
def test_languages_are_mixed_by_the_sizes_of_their_texts_whatever_the_budget(
    temperature: float, share: float, unequal: dict[str, Path], base_dir: Path, corpus: Corpus
) -> None:
    """20 steps of 8 read 160 lines of a language at most, and both have more."""
    for budget in ({"steps": 20}, {"epochs": 1.0}):
        config = PretrainingConfig(
            objective="tlm", batch_size=8, temperature=temperature, replay_share=0.5, **budget
        )
        prepared = prepare(load_tokenizer(base_dir), [pair_set(corpus)], config, unequal)
        replay = prepared.feed(config).replay
        assert replay is not None and prepared.replay is not None
        assert replay.order.shares[1] == pytest.approx(share, abs=0.01)
        drawn = np.concatenate([replay.order.pool(number)[0] for number in range(20)])
        assert np.mean(prepared.replay.sets[drawn] == 1) == pytest.approx(share, abs=0.02)
        if "steps" in budget:
            assert prepared.replay.rows == 320


@pytest.mark.parametrize("two", [False, True])
def test_neighbouring_lines_are_replayed_as_one_row_where_asked(
    two: bool, texts: dict[str, Path], base_dir: Path, corpus: Corpus
) -> None:
    config = PretrainingConfig(
        objective="tlm", epochs=1.0, replay_share=0.5, replay_two_sentences=two
    )
    replay = prepare(load_tokenizer(base_dir), [pair_set(corpus)], config, texts).replay
    assert replay is not None
    lines = sum(len(path.read_text().splitlines()) for path in texts.values())
    assert replay.rows == (lines // 2 if two else lines)
    assert (replay.second < replay.lengths).all() == two


def test_a_text_without_lines_is_named(
    texts: dict[str, Path], base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "cc.txt").write_text("\n")
    config = PretrainingConfig(objective="tlm", steps=20, replay_share=0.5)
    some = {**texts, "cc": tmp_path / "cc.txt"}
    with pytest.raises(DataError, match="cc: no rows to train on"):
        prepare(load_tokenizer(base_dir), [pair_set(corpus)], config, some).feed(config)
