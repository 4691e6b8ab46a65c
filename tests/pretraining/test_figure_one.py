"""The paper's Figure 1 (Yang et al. 2021), from text and links to both losses, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from slow_losses import partners_of
from small_corpus import spans
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from weam_ray.pretraining import PretrainingConfig, build_examples
from weam_ray.pretraining.batches import Batch, Batches
from weam_ray.pretraining.encoder import MaskedLM
from weam_ray.pretraining.objectives import MaskedTokens, terms_of
from weam_ray.pretraining.sides import token_table

SOURCE = "Is it raining today ?".split()
TARGET = "今天 下雨 吗 ?".split()
LINKS = [2, 1, 3, 0, 4, 3]  # raining–下雨, today–今天, ?–?
MASKED = ["Is", "raining", "今天"]


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(SOURCE + TARGET)]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(words[:5])
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def figure_one(objective: str = "weam") -> tuple[Batch, PreTrainedTokenizerFast]:
    """The figure's batch: the first seed that masks just the words the figure masks."""
    words = tokenizer()
    int32s = pa.list_(pa.int32())
    pairs = pa.table(
        {
            "pair_id": pa.array([7], pa.uint64()),
            "source": [" ".join(SOURCE)],
            "target": [" ".join(TARGET)],
            "source_spans": pa.array([spans(SOURCE)], int32s),
            "target_spans": pa.array([spans(TARGET)], int32s),
        }
    )
    links = pa.table({"pair_id": pairs["pair_id"], "links": pa.array([LINKS], int32s)})
    wanted = words.convert_tokens_to_ids(MASKED)
    for seed in range(20_000):
        config = PretrainingConfig(objective=objective, batch_size=1, seed=seed, corruption="mask")
        examples = build_examples(pairs, links, words, config)
        batches = Batches(examples, config, token_table(words), words.pad_token_id)
        [batch] = batches.batch(0)
        if batch.targets_M.tolist() == wanted:
            return batch, words
    pytest.fail("no seed masks the figure's words")


class Fixed(nn.Module):
    """An encoder whose outputs are R1, R2, …, whatever it reads."""

    def __init__(self, vectors_LD: torch.Tensor) -> None:
        super().__init__()
        self.vectors_LD = vectors_LD

    def forward(self, **_: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.vectors_LD[None],)


def losses(objective: str) -> tuple[float, float, float, torch.Tensor]:
    """L, L_mp, L_cp, and the figure's table of −log p(word | R)."""
    torch.manual_seed(0)
    batch, words = figure_one(objective)
    vectors_LD = torch.randn(batch.ids_BL.shape[1], 5, dtype=torch.float64)
    decoder = nn.Linear(5, len(words), dtype=torch.float64)
    config = SimpleNamespace(type_vocab_size=2, model_type="bert", _attn_implementation="sdpa")
    lm = MaskedLM(
        SimpleNamespace(config=config), Fixed(vectors_LD), lambda vectors: vectors, decoder
    )
    loss, values = MaskedTokens(lm, terms_of(objective, 1.0))(batch, 1.0)
    assert loss.item() == pytest.approx(values[0].item(), abs=1e-12)
    nll = -torch.log_softmax(decoder(vectors_LD), -1)
    of = words.convert_tokens_to_ids(MASKED)
    return *values.tolist(), nll[:, of]


R = {number: number - 1 for number in range(1, 14)}  # the figure counts from 1
IS, RAINING, TODAY = range(3)


def test_the_figure_masks_both_sides_and_exchanges_outputs_not_inputs() -> None:
    batch, words = figure_one()
    seen = words.convert_ids_to_tokens(batch.ids_BL[0].tolist())
    assert seen == ("[CLS] [MASK] it [MASK] today ? [SEP] [MASK] 下雨 吗 ? [SEP]".split())
    assert batch.segments_BL[0].tolist() == [0] * 7 + [1] * 5
    assert batch.places_M.tolist() == [R[2], R[4], R[8]]
    assert batch.aligned_A.tolist() == [RAINING, TODAY]
    assert partners_of(batch) == {RAINING: [(R[9], 1.0)], TODAY: [(R[5], 1.0)]}
    # ?–? links two unmasked words and so is nowhere.
    assert (batch.all_masked, batch.all_aligned) == (3, 2)


def test_weam_predicts_from_own_and_from_exchanged_vectors() -> None:
    loss, loss_mp, loss_cp, nll = losses("weam")
    own = nll[R[2], IS] + nll[R[4], RAINING] + nll[R[8], TODAY]
    crossed = nll[R[2], IS] + nll[R[9], RAINING] + nll[R[5], TODAY]
    assert loss_mp == pytest.approx(own.item() / 3, abs=1e-12)
    assert loss_cp == pytest.approx(crossed.item() / 3, abs=1e-12)
    assert loss == pytest.approx((own + crossed).item() / 3, abs=1e-12)


def test_dropping_unaligned_tokens_averages_over_aligned_ones() -> None:
    loss, loss_mp, loss_cp, nll = losses("weam-aligned-only")
    crossed = nll[R[9], RAINING] + nll[R[5], TODAY]
    assert loss_cp == pytest.approx(crossed.item() / 2, abs=1e-12)
    assert loss == pytest.approx(loss_mp + loss_cp, abs=1e-12)


@pytest.mark.parametrize(("objective", "factor"), [("tlm", 1.0), ("tlm-doubled", 2.0)])
def test_tlm_is_the_own_vectors_loss_alone(objective: str, factor: float) -> None:
    loss, loss_mp, _, nll = losses(objective)
    own = (nll[R[2], IS] + nll[R[4], RAINING] + nll[R[8], TODAY]).item() / 3
    assert loss_mp == pytest.approx(own, abs=1e-12)
    assert loss == pytest.approx(factor * own, abs=1e-12)
