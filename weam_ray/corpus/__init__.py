"""Bilingual text in: read, cleaned with counts, cut into words, each pair once, nested subsets.

:func:`build_corpus` is the whole stage in one process; the edge runs :func:`read_blocks`,
:func:`clean_block` and :func:`finish_corpus` itself, with the same result.
"""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from weam_ray.corpus.cleaning import REASONS, clean_block
from weam_ray.corpus.config import (
    CORPUS_VERSION,
    CleaningConfig,
    ContaminationConfig,
    CorpusConfig,
)
from weam_ray.corpus.contamination import ContaminationIndex
from weam_ray.corpus.counting import rows_at_most
from weam_ray.corpus.hashing import pair_ids
from weam_ray.corpus.languages import language_name, normalise_language
from weam_ray.corpus.lines import read_lines
from weam_ray.corpus.pairs import (
    PAIRS_FILE,
    PAIRS_SCHEMA,
    Corpus,
    finish_corpus,
    read_corpus,
    write_corpus,
)
from weam_ray.corpus.reading import RAW_SCHEMA, read_blocks
from weam_ray.corpus.subsets import nested_order, shuffle_pairs, take_subset
from weam_ray.corpus.text import normalise
from weam_ray.corpus.words import flat_spans, spans_to_words, word_spans

__all__ = [
    "CORPUS_VERSION",
    "PAIRS_FILE",
    "PAIRS_SCHEMA",
    "RAW_SCHEMA",
    "REASONS",
    "CleaningConfig",
    "ContaminationConfig",
    "ContaminationIndex",
    "Corpus",
    "CorpusConfig",
    "build_corpus",
    "clean_block",
    "finish_corpus",
    "flat_spans",
    "language_name",
    "nested_order",
    "normalise",
    "normalise_language",
    "pair_ids",
    "read_blocks",
    "read_corpus",
    "read_lines",
    "rows_at_most",
    "shuffle_pairs",
    "spans_to_words",
    "take_subset",
    "word_spans",
    "write_corpus",
]


def build_corpus(config: CorpusConfig, contamination: ContaminationIndex | None = None) -> Corpus:
    """The whole stage in this process.

    Raises:
        DataError: bad input (file and line named), or nothing left after cleaning.
    """
    dropped: Counter[str] = Counter()

    def cleaned() -> Iterator[pa.Table]:
        for block in read_blocks(config):
            table, counts = clean_block(block, config, contamination)
            dropped.update(counts)
            yield table

    # finish_corpus looks at the counts only after it has drawn the last block.
    return finish_corpus(cleaned(), dropped, config)
