"""A tiny random encoder, its tokenizer, and items that one word of the hypothesis decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from weam_ray.transfer import ITEMS_SCHEMA

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CUES = {
    "en": ("thus", "perhaps", "never"),
    "de": ("also", "vielleicht", "nie"),
    "fr": ("donc", "peut-etre", "jamais"),
}
WORDS = [f"w{number}" for number in range(40)]


def save_tokenizer(folder: Path) -> None:
    words = SPECIAL + WORDS + [cue for cues in CUES.values() for cue in cues]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)


def save_encoder(folder: Path, seed: int = 0) -> Path:
    save_tokenizer(folder)
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertForMaskedLM(config).save_pretrained(folder)
    return folder


def make_items(
    train: int = 240,
    dev: int = 60,
    test: int = 30,
    languages: tuple[str, ...] = ("en", "de", "fr"),
    train_languages: tuple[str, ...] = ("en",),
    seed: int = 0,
) -> pa.Table:
    draw = np.random.default_rng(seed)
    rows = []
    for split, count, wanted in (
        ("train", train, train_languages),
        ("dev", dev, languages),
        ("test", test, languages),
    ):
        labels = draw.permutation(np.arange(count) % 3)
        for number in range(count):
            label = int(labels[number])
            premise = " ".join(draw.choice(WORDS, draw.integers(2, 12)))
            hypothesis = list(draw.choice(WORDS, draw.integers(1, 8)))
            place = int(draw.integers(0, len(hypothesis) + 1))
            for language in wanted:
                words = [*hypothesis[:place], CUES[language][label], *hypothesis[place:]]
                rows.append(
                    {
                        "item": f"{split}-{number:03d}",
                        "split": split,
                        "language": language,
                        "premise": premise,
                        "hypothesis": " ".join(words),
                        "label": label,
                    }
                )
    return pa.Table.from_pylist(rows, schema=ITEMS_SCHEMA)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def new_encoder() -> Callable[[Path, int], Path]:
    return save_encoder


@pytest.fixture(scope="session")
def items() -> pa.Table:
    return make_items()


@pytest.fixture(scope="session")
def world() -> Callable[..., pa.Table]:
    return make_items
