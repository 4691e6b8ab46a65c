"""A subword vocabulary from scratch, with BERT's special tokens and frame."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weam_ray.errors import DataError
from weam_ray.pretraining.config import VocabularyConfig

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a plain or gzip file that aren't blank, without surrounding whitespace.

    Raises:
        DataError: the file is missing or not UTF-8 (the line is named).
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    line = raw.decode("utf8").strip()
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"not UTF-8: {error.reason}",
                        place=f"{path}:{number}",
                        cure="Convert the file to UTF-8.",
                    ) from None
                if line:
                    yield line
    except FileNotFoundError:
        raise DataError(
            "no such file", place=str(path), cure="Check the path of this monolingual text."
        ) from None


def language_shares(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Shares ∝ size^temperature, adding up to 1 (Conneau & Lample 2019, section 3.1)."""
    weights = {name: float(size) ** temperature for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def train_vocabulary(
    texts: Mapping[str, Path], config: VocabularyConfig, out: Path
) -> dict[str, Any]:
    """Learns a vocabulary and writes a folder that `AutoTokenizer` opens.

    Args:
        texts: monolingual lines by language, plain or .gz.
        config: settings.
        out: the folder to fill.

    Returns:
        entries, characters read and by language.

    Raises:
        DataError: a file is missing, empty or not UTF-8.
    """
    from transformers import PreTrainedTokenizerFast

    chosen = _sample(texts, config)
    tokenizer = _untrained(config)
    # Sorted languages, first lines first: the trainer's ties follow the order it reads in.
    lines = itertools.chain.from_iterable(chosen[language] for language in sorted(chosen))
    tokenizer.train_from_iterator(lines, _trainer(config))
    _frame(tokenizer)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, _SPECIAL, strict=True)),
    )
    fast.save_pretrained(out)
    characters = {name: sum(map(len, lines)) for name, lines in sorted(chosen.items())}
    return {
        "entries": len(fast),
        "characters": sum(characters.values()),
        "characters_by_language": characters,
    }


def _sample(texts: Mapping[str, Path], config: VocabularyConfig) -> dict[str, list[str]]:
    """Lines of each language, up to its share of `max_characters`."""
    sizes: dict[str, int] = {}
    for language, path in sorted(texts.items()):
        sizes[language] = 0
        for line in read_lines(path):
            sizes[language] += len(line)
            if sizes[language] >= config.max_characters:
                break
        if not sizes[language]:
            raise DataError("no text in this file", place=str(path), cure="Give it some lines.")
    shares = language_shares(sizes, config.temperature)
    total = min(config.max_characters, sum(sizes.values()))
    return {
        language: list(_up_to(read_lines(path), total * shares[language]))
        for language, path in texts.items()
    }


def _up_to(lines: Iterator[str], characters: float) -> Iterator[str]:
    """Lines up to so many characters; a text that is too short is read again from its start."""
    for line in itertools.cycle(lines):
        yield line
        characters -= len(line)
        if characters <= 0:
            break


def _untrained(config: VocabularyConfig) -> Any:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    if config.algorithm == "wordpiece":
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(
            lowercase=config.lowercase, strip_accents=config.lowercase
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    steps: list[normalizers.Normalizer] = [normalizers.NFKC()]
    if config.lowercase:
        steps += [normalizers.Lowercase(), normalizers.NFD(), normalizers.StripAccents()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _trainer(config: VocabularyConfig) -> Any:
    from tokenizers import trainers

    shared: dict[str, Any] = dict(
        vocab_size=config.size, special_tokens=list(_SPECIAL), show_progress=False
    )
    if config.algorithm == "wordpiece":
        return trainers.WordPieceTrainer(**shared, min_frequency=2)
    return trainers.UnigramTrainer(**shared, unk_token="[UNK]")


def _frame(tokenizer: Any) -> None:
    """[CLS] A [SEP] B [SEP], with segments 0 and 1."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
