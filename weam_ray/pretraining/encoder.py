"""Hugging Face masked language models as an encoder and a head that can be called apart.

Legend: B rows, L places, D width, V vocabulary, R any number of vectors.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from weam_ray.errors import ConfigError, DataError
from weam_ray.pretraining.config import BaseConfig

_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "roformer", "modernbert")
"""Model types whose head, attention mask and positions are known here, and held by tests against
the model's own. Others have modules of the same names that mean something else: DeBERTa's attention
would take the mask that is added to scores for one of zeros and ones, and train on garbage."""
_PLACES_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")
"""They number places from the padding token's number + 1."""
_USE = "Use a model of the BERT, RoBERTa, XLM-R, CamemBERT, RoFormer or ModernBERT family."


@dataclass(frozen=True, slots=True, eq=False)
class MaskedLM:
    """A masked language model taken apart; the parts are the model's own modules.

    Attributes:
        model: the whole, for saving.
        encoder: token ids to hidden_BLD.
        transform: the head up to the vocabulary matrix, [R, D] to [R, E].
        decoder: the vocabulary matrix, [R, E] to logits [R, V]; its weight may be tied.
    """

    model: Any
    encoder: nn.Module
    transform: Callable[[Tensor], Tensor]
    decoder: nn.Linear


def _refuse_unknown_family(settings: Any, place: str | None = None) -> None:
    if settings.model_type not in _FAMILIES:
        raise ConfigError(
            f"models of type {settings.model_type} are not known here", place=place, cure=_USE
        )


def encoder_and_head(model: Any) -> MaskedLM:
    """Takes a Hugging Face masked language model apart.

    Raises:
        ConfigError: it is of a family that isn't known here, or no masked language model.
    """
    _refuse_unknown_family(model.config)
    encoder = getattr(model, model.base_model_prefix)
    if hasattr(model, "cls") and hasattr(model.cls, "predictions"):  # BERT, RoFormer, …
        head = model.cls.predictions
        return MaskedLM(model, encoder, head.transform, head.decoder)
    if hasattr(model, "lm_head") and hasattr(model.lm_head, "layer_norm"):  # RoBERTa, XLM-R
        head = model.lm_head
        transform = _RobertaTransform(head.dense, head.layer_norm)
        return MaskedLM(model, encoder, transform, head.decoder)
    if hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        return MaskedLM(model, encoder, model.head, model.decoder)
    raise ConfigError(
        f"{type(model).__name__} has no masked-language-model head this project can take apart",
        cure=_USE,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _RobertaTransform:
    dense: nn.Module
    layer_norm: nn.Module

    def __call__(self, hidden_RD: Tensor) -> Tensor:
        out: Tensor = self.layer_norm(F.gelu(self.dense(hidden_RD)))
        return out


def hidden_states(
    lm: MaskedLM, ids_BL: Tensor, real_BL: Tensor, segments_BL: Tensor, *, padded: bool = True
) -> Tensor:
    """The last layer's vectors hidden_BLD.

    Args:
        lm: the model.
        ids_BL: token ids, padded.
        real_BL: bool, false at padding.
        segments_BL: 0 and 1; ignored by models without segments.
        padded: whether there is padding; where there is none, faster kernels serve.
    """
    inputs: dict[str, Tensor] = {"input_ids": ids_BL}
    if padded or lm.model.config._attn_implementation != "sdpa":
        inputs["attention_mask"] = _attention(lm, real_BL)
    if getattr(lm.model.config, "type_vocab_size", 1) > 1:
        inputs["token_type_ids"] = segments_BL
    hidden_BLD: Tensor = lm.encoder(**inputs)[0]
    return hidden_BLD


def _attention(lm: MaskedLM, real_BL: Tensor) -> Tensor:
    """The mask in the form the model's attention adds as it is, which spares it an expansion and,
    on a GPU, a wait for the device to say whether there is padding at all.
    """
    if lm.model.config.model_type == "modernbert":
        return real_BL  # local and global layers want different masks
    kind = lm.model.config._attn_implementation
    if kind == "sdpa":
        return real_BL[:, None, None, :].expand(-1, 1, real_BL.shape[1], -1)
    if kind == "eager":
        dtype = (
            torch.get_autocast_dtype(real_BL.device.type)
            if torch.is_autocast_enabled(real_BL.device.type)
            else torch.float32
        )
        bias = torch.zeros(real_BL.shape, dtype=dtype, device=real_BL.device)
        return bias.masked_fill_(~real_BL, torch.finfo(dtype).min)[:, None, None, :]
    return real_BL


def longest_row(settings: Any) -> int:
    """Tokens a model of this Hugging Face configuration can read, special tokens included."""
    positions: int = settings.max_position_embeddings
    after_padding = settings.model_type in _PLACES_AFTER_PADDING
    return positions - (settings.pad_token_id + 1 if after_padding else 0)


def recompute_activations(lm: MaskedLM) -> None:
    """Gradient checkpointing, by the name this version of transformers has for it."""
    model = lm.model
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)()


def load_tokenizer(folder: Path | str, revision: str | None = None) -> Any:
    """A fast tokenizer.

    Raises:
        DataError: there is none at `folder`, or only a slow one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision)
    except _UNREADABLE as error:
        raise DataError(
            f"no tokenizer can be opened: {_first_line(error)}",
            place=str(folder),
            cure="Give a folder or hub name with a tokenizer, or go online once to fetch it.",
        ) from error
    if not tokenizer.is_fast:
        raise DataError(
            "this tokenizer is a slow one, without character offsets",
            place=str(folder),
            cure="Use a model that ships tokenizer.json.",
        )
    return tokenizer


# Whatever transformers, tokenizers and pickle make of files that aren't what they should be.
_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError)

_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
)


def load_model(
    folder: Path | str, revision: str | None = None, dropout: float | None = None
) -> Any:
    """A masked language model in fp32, from safetensors where they are; no remote code runs.

    Args:
        folder: a `save_pretrained` folder or a hub name.
        revision: commit, tag or branch of a hub model.
        dropout: for this run only: the model's config, and so what is saved, keeps its own.

    Raises:
        ConfigError: it is of a family that isn't known here.
        DataError: there is none at `folder`, one with another head, or a damaged one.
    """
    from transformers import AutoModelForMaskedLM

    config = load_settings(folder, revision)
    _refuse_unknown_family(config, str(folder))
    try:
        own = {name: getattr(config, name) for name in _DROPOUTS if hasattr(config, name)}
        for name in own if dropout is not None else ():
            setattr(config, name, dropout)
        with without_bars():
            model, loading = AutoModelForMaskedLM.from_pretrained(
                folder,
                revision=revision,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
            )
        _refuse_other_heads(folder, config, loading["missing_keys"])
        for name, rate in own.items():
            setattr(model.config, name, rate)
        freeze_positions(model)
        return model
    except SafetensorError as error:
        raise DataError(
            f"the weights are damaged: {_first_line(error)}",
            place=str(folder),
            cure="Copy the folder again; of a hub model, fetch it again into an empty cache.",
        ) from error
    except _UNREADABLE as error:
        raise _not_opened(folder, error) from error


def dropout_of(model: Any) -> float:
    """The highest rate at which anything of the model drops out."""
    return max((one.p for one in model.modules() if isinstance(one, nn.Dropout)), default=0.0)


def untrained_model(folder: Path | str, revision: str | None = None) -> Any:
    """A masked language model of another's shape in fp32, its weights drawn from the global torch
    generator: nothing of the other is read but its config.

    Raises:
        DataError: there is none at `folder`.
    """
    from transformers import AutoModelForMaskedLM

    config = load_settings(folder, revision)
    try:
        model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise _not_opened(folder, error) from error
    freeze_positions(model)
    return model


def load_settings(folder: Path | str, revision: str | None = None) -> Any:
    """A model's Hugging Face configuration, without its weights.

    Raises:
        DataError: there is none at `folder`.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, revision=revision)
    except (OSError, ValueError) as error:
        raise _not_opened(folder, error) from error


def _not_opened(folder: Path | str, error: Exception) -> DataError:
    return DataError(
        f"no masked language model can be opened: {_first_line(error)}",
        place=str(folder),
        cure="Give a save_pretrained folder or a hub name; go online once to fetch it.",
    )


def refuse_more_tokens(model: Any, tokenizer: Any, place: str) -> None:
    """Refuses a tokenizer of another model, before the first row with a token it made up.

    Raises:
        DataError: the tokenizer's highest number has no embedding.
    """
    rows, highest = model.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise DataError(
            f"the tokenizer numbers tokens up to {highest:,}, the model has embeddings of {rows:,}",
            place=place,
            cure="Save the model's own tokenizer here, or the model with its embeddings resized.",
        )


def _refuse_other_heads(folder: Path | str, config: Any, missing: Collection[str]) -> None:
    # A classifier's encoder opens as a masked language model too, under a head of random numbers,
    # and so does a checkpoint that lost a layer. Tied weights are not among the missing.
    made_as = [str(name) for name in config.architectures or ()]
    if not missing:
        return
    if not made_as or any("MaskedLM" in n or "PreTraining" in n for n in made_as):
        raise DataError(
            f"{len(missing)} weights are missing, {min(missing)} among them, and would be random",
            place=str(folder),
            cure="Save or fetch the whole model again, with its masked-language-model head.",
        )
    raise DataError(
        f"this is a {made_as[0]} and no masked language model: it has no {min(missing)}",
        place=str(folder),
        cure="Name the model it was made from, with its masked-language-model head.",
    )


def _scale_positions(model: Any, scale: float) -> None:
    # The table [places, width of a head] holds sines in its first half, cosines in its second; it
    # is saved with the weights, so whoever loads the encoder reads positions as it did.
    table = model.roformer.encoder.embed_positions.weight
    places, half = table.shape[0], table.shape[1] // 2
    rates = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = scale * torch.arange(places, dtype=torch.float64)[:, None] * rates
    with torch.no_grad():
        table[:, :half] = torch.sin(angles)
        table[:, half:] = torch.cos(angles)


def freeze_positions(model: Any) -> None:
    """Takes tables of positions that are not to be learned out of training.

    RoFormer's table of sines is a frozen parameter when it is made and a trainable one when it is
    loaded; it never gets a gradient, which DDP refuses. A learned table that is all zeros was put
    to nought by `position_scale`, and would bring word order back.
    """
    for name, module in model.named_modules():
        sines = type(module).__name__.endswith("SinusoidalPositionalEmbedding")
        if sines or (name.endswith("position_embeddings") and not module.weight.any()):
            module.weight.requires_grad_(False)


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps transformers' progress bars off a terminal that isn't its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def new_model(config: BaseConfig, tokenizer: Any) -> Any:
    """A masked language model with random weights, drawn from the global torch generator."""
    import transformers

    shared: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        num_hidden_layers=config.layers,
        hidden_size=config.hidden,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate,
        max_position_embeddings=config.max_positions,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=config.initial_deviation,
    )
    if config.architecture == "modernbert":
        ends = dict(
            cls_token_id=tokenizer.cls_token_id,
            bos_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
        noise = dict.fromkeys(
            ("attention_dropout", "embedding_dropout", "mlp_dropout"), config.dropout
        )
        return transformers.ModernBertForMaskedLM(
            transformers.ModernBertConfig(**shared, **ends, **noise)
        )
    noise = dict(hidden_dropout_prob=config.dropout, attention_probs_dropout_prob=config.dropout)
    if config.architecture == "roformer":
        model = transformers.RoFormerForMaskedLM(
            transformers.RoFormerConfig(**shared, **noise, embedding_size=config.hidden)
        )
        _scale_positions(model, config.position_scale)
        return model
    model = transformers.BertForMaskedLM(transformers.BertConfig(**shared, **noise))
    if config.position_scale == 0:
        torch.nn.init.zeros_(model.bert.embeddings.position_embeddings.weight)
        freeze_positions(model)
    return model
