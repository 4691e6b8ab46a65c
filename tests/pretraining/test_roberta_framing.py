"""RoBERTa's and XLM-R's tokenizers: `<s> a </s></s> b </s>`, places after the padding's number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_corpus import Corpus, pair_set
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from weam_ray.pretraining import (
    PretrainingConfig,
    build_examples,
    encoder_and_head,
    load_model,
    load_tokenizer,
    pretrain,
)
from weam_ray.pretraining.encoder import hidden_states, longest_row
from weam_ray.pretraining.sides import SpecialTokens, special_tokens

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
CONFIG = PretrainingConfig(
    steps=6, batch_size=16, max_length=128, learning_rate=3e-3, dropout=0.0, log_every=1
)


def xlm_roberta_tokenizer(words: list[str]) -> Any:
    """Unigram, as XLM-R's: every letter, and the first three of every word behind a `▁`."""
    stems = sorted({f"▁{word[:3]}" for word in words})
    letters = sorted(set("".join(words)))
    pieces = [(token, 0.0) for token in SPECIAL]
    pieces += [(stem, -2.0) for stem in stems] + [(letter, -8.0) for letter in ["▁", *letters]]
    return transformers.XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)])


def roberta_tokenizer(words: list[str]) -> Any:
    """Byte-level BPE, as RoBERTa's; a word at the start of a text has no space before it."""
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    pieces.train_from_iterator(
        [f" {word}" for word in words],
        trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=[*SPECIAL, "<mask>"],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    merges = json.loads(pieces.to_str())["model"]["merges"]
    return transformers.RobertaTokenizer(
        vocab=pieces.get_vocab(), merges=[tuple(merge) for merge in merges]
    )


TOKENIZERS = {"XLMRoberta": xlm_roberta_tokenizer, "Roberta": roberta_tokenizer}


@pytest.fixture(params=TOKENIZERS)
def base(request: pytest.FixtureRequest, corpus: Corpus, tmp_path: Path) -> Path:
    """A random encoder of a family with a tokenizer of its kind."""
    sides = corpus.pairs["source"].to_pylist() + corpus.pairs["target"].to_pylist()
    tokenizer = TOKENIZERS[request.param](sorted({word for side in sides for word in side.split()}))
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=130,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    folder = tmp_path / "base"
    getattr(transformers, f"{request.param}ForMaskedLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("objective", ["tlm", "mlm"])
def test_rows_are_framed_as_the_tokenizer_frames_them(
    objective: str, base: Path, corpus: Corpus
) -> None:
    tokenizer = load_tokenizer(base)
    assert special_tokens(tokenizer) == SpecialTokens(begin=0, end=2, double_separator=True)
    config = CONFIG.model_copy(update={"objective": objective})
    examples = build_examples(corpus.pairs, None, tokenizer, config)
    sources, targets = (corpus.pairs[name].to_pylist() for name in ("source", "target"))
    for number in range(20):
        texts = [(sources[number], targets[number])]
        if objective == "mlm":
            texts = [(sources[number],), (targets[number],)]
        for row, text in enumerate(texts, number * len(texts)):
            ids = examples.ids[examples.start[row] : examples.start[row + 1]].tolist()
            assert ids == tokenizer(*text)["input_ids"]
            assert ids[0] == 0 and ids[-1] == 2 and 1 not in ids


@pytest.mark.parametrize("objective", ["tlm", "weam"])
def test_a_run_is_saved_as_any_model_of_its_family(
    objective: str, base: Path, corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    config = CONFIG.model_copy(update={"objective": objective})
    facts = pretrain(base, [pair_set(corpus)], config, out)
    assert facts["steps"] == 6 and facts["truncated_rows"] == 0
    assert objective == "tlm" or 0.8 < facts["aligned_share"] <= 1.0
    before, after = load_model(base).state_dict(), load_model(out).state_dict()
    assert {*before} == {*after}
    assert not all(torch.equal(before[name], after[name]) for name in before)
    own = transformers.AutoTokenizer.from_pretrained(out)
    original = transformers.AutoTokenizer.from_pretrained(base)
    pair = corpus.pairs["source"][0].as_py(), corpus.pairs["target"][0].as_py()
    assert type(own) is type(original)
    assert own(*pair)["input_ids"] == original(*pair)["input_ids"]
    assert (own.cls_token_id, own.pad_token_id, own.sep_token_id) == (0, 1, 2)
    model = transformers.AutoModel.from_pretrained(out)
    assert model.config.pad_token_id == 1


def test_places_count_from_the_paddings_number_as_the_models_own_do(
    base: Path, corpus: Corpus
) -> None:
    tokenizer = load_tokenizer(base)
    sides = (corpus.pairs[name].to_pylist()[:8] for name in ("source", "target"))
    rows = tokenizer(*sides, padding=True, return_tensors="pt")
    ids, real = rows["input_ids"], rows["attention_mask"].bool()
    assert not real.all(), "rows of several lengths"
    lm = encoder_and_head(load_model(base).eval())
    seen = []
    lm.encoder.embeddings.position_embeddings.register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    whole = transformers.AutoModel.from_pretrained(base).eval()
    with torch.no_grad():
        ours = hidden_states(lm, ids, real, torch.zeros_like(ids))[real]
        theirs = whole(ids, attention_mask=rows["attention_mask"]).last_hidden_state[real]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    expected = torch.arange(2, ids.shape[1] + 2).expand_as(ids).where(real, torch.tensor(1))
    assert torch.equal(seen[0].expand_as(ids), expected)
    assert longest_row(lm.model.config) == 128, "places 0 and 1 stand for no token"
