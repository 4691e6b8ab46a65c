"""Every model family, taken apart, says what it says whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_corpus import TINY, Corpus, pair_set

from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining import (
    BaseConfig,
    PretrainingConfig,
    encoder_and_head,
    fetch_base,
    load_model,
    load_tokenizer,
    pretrain,
    train_base,
)
from weam_ray.pretraining.encoder import hidden_states, longest_row, new_model
from weam_ray.pretraining.head import predict
from weam_ray.pretraining.objectives import WordAligned

SHAPE = dict(
    vocab_size=90,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    max_position_embeddings=66,
    pad_token_id=0,
)


class Tokens(list[int]):
    """As much of a tokenizer as a new model asks for."""

    pad_token_id, cls_token_id, sep_token_id = 0, 2, 3


FAMILIES = ["bert", "roformer", "modernbert", "XLMRoberta", "Roberta", "Camembert"]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    if request.param in ("bert", "roformer", "modernbert"):
        config = TINY.model_copy(update={"architecture": request.param})
        return new_model(config, Tokens(range(90))).double().eval()
    config = getattr(transformers, f"{request.param}Config")(**SHAPE, type_vocab_size=1)
    return getattr(transformers, f"{request.param}ForMaskedLM")(config).double().eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([9, 4, 7])
    real = torch.arange(9) < lengths[:, None]
    ids = torch.randint(5, 90, (3, 9), generator=generator).masked_fill(~real, 0)
    segments = (torch.arange(9) >= 3).long().expand(3, -1)
    return ids, real, segments


def test_encoder_and_head_apart_give_the_models_own_logits(model: Any) -> None:
    ids, real, segments = inputs()
    whole = dict(input_ids=ids, attention_mask=real.long())
    if getattr(model.config, "type_vocab_size", 1) > 1:
        whole["token_type_ids"] = segments
    with torch.no_grad():
        logits = model(**whole).logits[real]
        lm = encoder_and_head(model)
        vectors = hidden_states(lm, ids, real, segments)[real]
        apart = lm.decoder(lm.transform(vectors))
        targets = ids[real]
        _, nll = predict(lm, vectors, targets, torch.ones(len(targets), dtype=torch.float64))
    torch.testing.assert_close(apart, logits, atol=1e-9, rtol=1e-7)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(nll, expected, atol=1e-9, rtol=1e-7)


def test_a_gradient_of_the_head_is_autograds(model: Any) -> None:
    lm = encoder_and_head(model)
    torch.manual_seed(0)
    vectors = torch.randn(40, 32, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.randint(90, (40,)), torch.rand(40, dtype=torch.float64)
    wanted = [vectors, *(p for p in model.parameters() if p is lm.decoder.weight), lm.decoder.bias]
    loss, _ = predict(lm, vectors, targets, weights)
    logits = lm.decoder(lm.transform(vectors))
    slow = torch.dot(torch.nn.functional.cross_entropy(logits, targets, reduction="none"), weights)
    assert loss.item() == pytest.approx(slow.item(), abs=1e-9)
    fast_gradients = torch.autograd.grad(3 * loss, wanted)
    for one, other in zip(fast_gradients, torch.autograd.grad(3 * slow, wanted), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)


def test_the_longest_row_is_one_the_model_can_read(model: Any) -> None:
    lm = encoder_and_head(model)
    longest = longest_row(model.config)
    ids = torch.full((1, longest), 7)
    hidden_states(lm, ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids))
    if model.config.model_type not in ("roformer", "modernbert"):  # they have no hard end
        ids = torch.full((1, longest + 1), 7)
        with pytest.raises((IndexError, RuntimeError)):
            hidden_states(lm, ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids))


UNKNOWN = {
    "DebertaV2": dict(relative_attention=True, position_biased_input=False),
    "MobileBert": dict(embedding_size=16, intra_bottleneck_size=16),
    "RemBert": dict(input_embedding_size=16, output_embedding_size=16),
    "FNet": {},
    "DistilBert": dict(dim=32, n_heads=2, n_layers=1),
}
"""The first four have a `cls.predictions`, as BERT has, and other insides."""


@pytest.mark.parametrize("family", UNKNOWN)
def test_a_family_that_is_not_known_is_refused_with_those_that_are(
    family: str, tokenizer_dir: Path, tmp_path: Path
) -> None:
    shape = dict(vocab_size=90, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    settings = getattr(transformers, f"{family}Config")(
        **{**shape, "intermediate_size": 32, **UNKNOWN[family]}
    )
    words = f"models of type {settings.model_type} are not known here. Use a model of the BERT, Ro"
    model = getattr(transformers, f"{family}ForMaskedLM")(settings)
    with pytest.raises(ConfigError, match=words):
        encoder_and_head(model)
    transformers.AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path}: {words}"):
        fetch_base(BaseConfig(model=str(tmp_path)), tmp_path / "out")


@pytest.mark.parametrize("family", ["Bert", "XLMRoberta", "ModernBert"])
def test_a_classifier_is_no_base_though_it_would_open_under_a_random_head(
    family: str, tokenizer_dir: Path, tmp_path: Path
) -> None:
    shape = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config = getattr(transformers, f"{family}Config")(vocab_size=90, pad_token_id=0, **shape)
    transformers.AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(tmp_path)
    getattr(transformers, f"{family}ForSequenceClassification")(config).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=f"a {family}ForSequenceClassification and no masked"):
        load_model(tmp_path)
    getattr(transformers, f"{family}ForMaskedLM")(config).save_pretrained(tmp_path)
    assert type(load_model(tmp_path)).__name__ == f"{family}ForMaskedLM"


@pytest.mark.parametrize("architecture", ["bert", "roformer", "modernbert"])
def test_a_base_learns_and_opens_as_any_hugging_face_model(
    architecture: str, tokenizer_dir: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    config = TINY.model_copy(
        update={"architecture": architecture, "steps": 60, "learning_rate": 5e-3, "log_every": 10}
    )
    facts = train_base(tokenizer_dir, texts, config, tmp_path)
    curve = pq.read_table(tmp_path / "curve.parquet").to_pylist()
    losses = [row["value"] for row in curve if row["metric"] == "loss"]
    assert losses[-1] < losses[0] - 0.3
    assert facts["steps"] == 60
    assert set(facts["epochs_by_set"]) == {"aa", "bb"}
    model = transformers.AutoModel.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    out = model(**tokenizer(["badu kinu", "BADU"], padding=True, return_tensors="pt"))
    assert out.last_hidden_state.shape[-1] == 32
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("two", [False, True])
def test_a_base_that_reads_little_of_a_file_says_so(
    two: bool, tokenizer_dir: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    long = tmp_path / "long.txt"
    long.write_text(texts["aa"].read_text() * 4)
    config = TINY.model_copy(
        update={"steps": 5, "batch_size": 6, "temperature": 1.0, "two_sentences": two}
    )
    facts = train_base(tokenizer_dir, {"aa": long, "bb": texts["bb"]}, config, tmp_path)
    lines = 2 if two else 1
    assert facts["rows"] <= 32 + 2, "no more is read than is used"
    assert facts["rows_by_set"] == {"aa": 800 // lines, "bb": 200 // lines}
    # 30 rows, 24 of the one and 6 of the other.
    epochs = {"aa": 24 * lines / 800, "bb": 6 * lines / 200}
    assert facts["epochs_by_set"] == pytest.approx(epochs, abs=1e-4)


def test_a_base_of_no_steps_is_the_random_encoder_of_its_seed(
    base_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "same", tmp_path / "other"]
    for folder, seed in zip(folders, (0, 1), strict=True):
        train_base(tokenizer_dir, {}, TINY.model_copy(update={"seed": seed}), folder)
    first, same, other = (
        load_model(folder).state_dict()["bert.embeddings.word_embeddings.weight"]
        for folder in (base_dir, *folders)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_damaged_weights_are_said_to_be(base_dir: Path, tmp_path: Path) -> None:
    for name in ("cut", "overwritten"):
        shutil.copytree(base_dir, tmp_path / name)
    weights = (base_dir / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(weights[:-100])
    (tmp_path / "overwritten" / "model.safetensors").write_bytes(b"<html>" * 100)
    for name in ("cut", "overwritten"):
        with pytest.raises(DataError, match=f"{tmp_path / name}: the weights are damaged: .* Copy"):
            load_model(tmp_path / name)


@pytest.mark.parametrize("lost", ["bert.encoder.layer.0.intermediate.dense.weight",
                                  "cls.predictions.transform.dense.weight"])  # fmt: skip
def test_weights_that_are_missing_are_not_drawn_at_random(
    base_dir: Path, tmp_path: Path, lost: str
) -> None:
    folder = Path(shutil.copytree(base_dir, tmp_path / "base"))
    kept = load_file(folder / "model.safetensors")
    del kept[lost]
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=f"1 weights are missing, {lost} among them"):
        load_model(folder)


def test_files_that_do_not_fit_are_one_message(base_dir: Path, tmp_path: Path) -> None:
    wide, cut, pickled = (tmp_path / name for name in ("wide", "cut", "pickled"))
    for folder in (wide, cut, pickled):
        shutil.copytree(base_dir, folder)
    settings = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps(settings | {"hidden_size": 64}))
    (cut / "tokenizer.json").write_text('{"version": "1.0"}')
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(b"no pickle")
    for folder in (wide, pickled):
        with pytest.raises(DataError, match="no masked language model can be opened"):
            load_model(folder)
    with pytest.raises(DataError, match="no tokenizer can be opened"):
        load_tokenizer(cut)


def test_word_aligned_trains_no_head_that_it_does_not_read(base_dir: Path, tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(base_dir, tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    lm, original = (encoder_and_head(load_model(tmp_path)) for _ in range(2))
    assert lm.decoder.weight is not lm.model.get_input_embeddings().weight
    module = WordAligned(lm, original, PretrainingConfig(objective="word-aligned"))
    trained = {name for name, one in module.named_parameters() if one.requires_grad}
    assert not any(".cls." in name for name in trained) and len(trained) > 10


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base_dir, folder)
    tokenizer = load_tokenizer(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["badu-badu"])
    tokenizer.save_pretrained(folder)
    words = (
        f"{folder}: the tokenizer numbers tokens up to {rows}, the model has embeddings of {rows}"
    )
    with pytest.raises(DataError, match=words):
        fetch_base(BaseConfig(model=str(folder)), tmp_path / "out")
    with pytest.raises(DataError, match=words):
        pretrain(folder, [pair_set(corpus)], PretrainingConfig(objective="tlm", steps=1), tmp_path)


def test_a_local_model_is_fetched_whole(base_dir: Path, tmp_path: Path) -> None:
    facts = fetch_base(BaseConfig(model=str(base_dir)), tmp_path)
    assert facts["longest_row"] == 64
    for name, tensor in load_model(base_dir).state_dict().items():
        assert torch.equal(tensor, load_model(tmp_path).state_dict()[name]), name
    assert load_tokenizer(tmp_path)("badu").input_ids == load_tokenizer(base_dir)("badu").input_ids


def test_a_model_of_no_steps_is_its_shape_under_random_weights(
    base_dir: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "first", tmp_path / "same", tmp_path / "other"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        facts = fetch_base(BaseConfig(model=str(base_dir), steps=0, seed=seed), folder)
        assert facts["longest_row"] == 64
    fetched, first, same, other = (
        load_model(folder).state_dict()["bert.embeddings.word_embeddings.weight"]
        for folder in (base_dir, *folders)
    )
    assert torch.equal(first, same)
    assert first.shape == fetched.shape and not torch.equal(first, fetched)
    assert not torch.equal(first, other)
    own, given = (load_tokenizer(folder)("badu").input_ids for folder in (folders[0], base_dir))
    assert own == given


def test_a_missing_model_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer can be opened"):
        fetch_base(BaseConfig(model=str(tmp_path / "nowhere")), tmp_path)


def test_rows_longer_than_the_base_reads_are_refused(
    base_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    config = PretrainingConfig(objective="tlm", steps=1, max_length=65)
    with pytest.raises(ConfigError, match="max_length 65 is longer than the 64 tokens"):
        pretrain(base_dir, [pair_set(corpus)], config, tmp_path)


def test_word_aligned_takes_a_head_without_bias(
    tokenizer_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    config = transformers.ModernBertConfig(
        **{**SHAPE, "vocab_size": len(load_tokenizer(tokenizer_dir))}, decoder_bias=False
    )
    base = tmp_path / "base"
    transformers.ModernBertForMaskedLM(config).save_pretrained(base)
    load_tokenizer(tokenizer_dir).save_pretrained(base)
    settings = PretrainingConfig(objective="word-aligned", steps=2, max_length=32)
    facts = pretrain(base, [pair_set(corpus)], settings, tmp_path)
    assert facts["final_loss"] > 0
