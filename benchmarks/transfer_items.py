"""The NLI items that both sections of ``transfer.py`` read."""

from __future__ import annotations

import argparse

import pyarrow as pa
import torch

from weam_ray.transfer import ItemsConfig, load_items

LANGUAGES = tuple("en fr es de el bg ru tr ar vi th zh hi sw ur".split())
TEST_LANGUAGES = ("en", "de", "es", "fr", "sw", "zh")
CPU = torch.device("cpu")


def nli(arguments: argparse.Namespace, *, test: bool) -> pa.Table:
    folder = arguments.data / "nli"
    return load_items(
        ItemsConfig(
            train=f"{folder}/linginloop.train.{{language}}.jsonl",
            dev=f"{folder}/xnli.dev.{{language}}.jsonl",
            test=f"{folder}/xnli.test.{{language}}.jsonl" if test else None,
            languages=LANGUAGES,
            test_languages=TEST_LANGUAGES if test else None,
            train_limit=arguments.train_items,
            dev_limit=arguments.dev_items,
            test_limit=getattr(arguments, "test_items", None),
        )
    )
