"""A subword vocabulary from scratch, with BERT's special tokens and frame."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weam_ray.corpus import read_lines
from weam_ray.errors import DataError
from weam_ray.pretraining.config import VocabularyConfig

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a plain or gzip file that aren't blank, without surrounding whitespace.

    Raises:
        DataError: the file is missing, damaged or not UTF-8 (the line is named).
    """
    try:
        for block in read_lines(path):
            yield from filter(None, map(str.strip, block))
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
    lines = list(itertools.chain.from_iterable(chosen[language] for language in sorted(chosen)))
    train = _wordpiece if config.algorithm == "wordpiece" else _unigram
    tokenizer = train(lines, config)
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
        sizes[language] = sum(map(len, text_lines(path)))
        if not sizes[language]:
            raise DataError("no text in this file", place=str(path), cure="Give it some lines.")
    shares = language_shares(sizes, config.temperature)
    total = min(config.max_characters, sum(sizes.values()))
    return {
        language: list(_up_to(text_lines(path), total * shares[language]))
        for language, path in texts.items()
    }


def _up_to(lines: Iterator[str], characters: float) -> Iterator[str]:
    """Lines up to so many characters; a text that is too short is read again from its start."""
    for line in itertools.cycle(lines):
        yield line
        characters -= len(line)
        if characters <= 0:
            break


def _wordpiece(lines: list[str], config: VocabularyConfig) -> Any:
    """A trained WordPiece tokenizer, the same for the same lines.

    The trainer numbers the pieces inside words (`##a`) in the order of a randomly seeded hash map
    and breaks ties between merges by those numbers (huggingface/tokenizers issue 1794). Listed
    beforehand as if they were special tokens, they are numbered in the order given.
    """
    from tokenizers import Tokenizer, models, trainers

    def train(size: int, first: list[str]) -> dict[str, int]:
        tokenizer = _bert_pieces(Tokenizer(models.WordPiece(unk_token="[UNK]")), config)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=first, show_progress=False, min_frequency=2
        )
        tokenizer.train_from_iterator(lines, trainer)
        entries: dict[str, int] = tokenizer.get_vocab()
        return entries

    characters = train(0, list(_SPECIAL))
    inside = sorted(piece for piece in characters if piece.startswith("##") and len(piece) == 3)
    vocabulary = train(config.size, [*_SPECIAL, *inside])
    # BERT gives up on words of more than 100 characters; a Thai sentence is one long word.
    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=1000)
    tokenizer = _bert_pieces(Tokenizer(model), config)
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def _bert_pieces(tokenizer: Any, config: VocabularyConfig) -> Any:
    from tokenizers import decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=config.lowercase, strip_accents=config.lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _unigram(lines: list[str], config: VocabularyConfig) -> Any:
    """A trained Unigram tokenizer, the same for the same lines.

    The trainer walks randomly seeded hash maps: scores differ in their last bits, and characters
    kept only because the text has them get the least score, plus 0, 1, 2, … ten-thousandths in any
    order. The first is rounded away; the second all get the least score.
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer = _sentence_pieces(Tokenizer(models.Unigram()), config)
    trainer = trainers.UnigramTrainer(
        vocab_size=config.size,
        special_tokens=list(_SPECIAL),
        unk_token="[UNK]",
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    trained = json.loads(tokenizer.to_str())["model"]["vocab"]
    scores: dict[str, float] = {piece: score for piece, score in trained if piece not in _SPECIAL}
    least = min(scores.values())
    for piece, score in scores.items():
        steps = (score - least) / 1e-4
        arbitrary = len(piece) == 1 and steps < len(scores) and abs(steps - round(steps)) < 1e-5
        scores[piece] = round(least if arbitrary else score, 4)
    pieces = sorted(scores, key=lambda piece: (-scores[piece], piece))
    ordered = [(name, 0.0) for name in _SPECIAL] + [(piece, scores[piece]) for piece in pieces]
    model = models.Unigram(ordered, unk_id=_SPECIAL.index("[UNK]"))
    tokenizer = _sentence_pieces(Tokenizer(model), config)
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def _sentence_pieces(tokenizer: Any, config: VocabularyConfig) -> Any:
    from tokenizers import decoders, normalizers, pre_tokenizers

    steps: list[normalizers.Normalizer] = [normalizers.NFKC()]
    if config.lowercase:
        steps += [normalizers.Lowercase(), normalizers.NFD(), normalizers.StripAccents()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _frame(tokenizer: Any) -> None:
    """[CLS] A [SEP] B [SEP], with segments 0 and 1."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
