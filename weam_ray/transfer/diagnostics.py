"""What an encoder knows before it is fine-tuned: retrieval, a frozen probe, its own word links.

Each is a step of its own, made once for an encoder however many cells fine-tune it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from weam_ray.artifacts import Maker, Step, Work
from weam_ray.identity import Placement, StageConfig, content_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from weam_ray.alignment import Gold

STAGES = ("retrieval", "probe", "encoder_aer")


class GoldConfig(StageConfig):
    """Sentence pairs whose word links are known: a line a pair, words between blanks."""

    source: Annotated[str, Placement()]
    """Path pattern of the source side, with ``{source}`` and ``{target}`` for the languages; in a
    study file with ``{data_dir}`` too."""

    target: Annotated[str, Placement()]
    """Path pattern of the target side."""

    links: Annotated[str, Placement()]
    """Path pattern of the links: Pharaoh, sure ``i-j``, possible ``ipj`` or ``i?j``."""

    pairs: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]+-[A-Za-z_]+$")], ...], Field(min_length=1)
    ]
    """Language pairs, source first: ``en-de``."""

    index_base: Annotated[int | None, Field(ge=0, le=1)] = None
    """Number of the first word in the links, 0 or 1; None finds out."""

    limit: Annotated[int, Field(ge=1)] = 500
    """The first so many pairs of a file."""

    def files(self, pair: str) -> dict[str, Path]:
        """Source, target and links of a language pair."""
        source, _, target = pair.partition("-")
        named = {"source": self.source, "target": self.target, "links": self.links}
        return {
            role: Path(pattern.replace("{source}", source).replace("{target}", target))
            for role, pattern in named.items()
        }


class DiagnosticsConfig(StageConfig):
    """What is measured of every encoder beside the accuracy of its fine-tuned cells."""

    probe_items: Annotated[int, Field(ge=0)] = 500
    """Dev items a language that the frozen probe is scored on; 0 leaves it out. They are encoded in
    every language, for every encoder."""

    probe_train_items: Annotated[int, Field(ge=3)] = 5000
    """Training items that the probe learns from."""

    gold: dict[str, GoldConfig] = Field(default_factory=dict)
    """Known word links, by a name for the report: the error rate of links that the encoder's own
    vectors give."""


class RetrievalStep(StageConfig):
    """Sentence retrieval over the dev items' premises, which every language has."""

    language: str = "en"


class ProbeStep(StageConfig):
    """A frozen probe learnt in one language."""

    language: str
    items: int
    train_items: int


class EncoderAerStep(StageConfig):
    """Word links from an encoder's own vectors, against the sets of ``gold``."""

    gold: dict[str, GoldConfig]


def diagnostic_steps(
    config: DiagnosticsConfig, language: str, encoder: Step, items: Step | None
) -> tuple[Step, ...]:
    """The steps that an encoder's diagnostics are.

    Raises:
        DataError: a gold file is not there.
    """
    steps = []
    if items is not None:
        upstream = {"encoder": encoder, "items": items}
        retrieval = RetrievalStep(language=language)
        steps.append(Step(stage="retrieval", version=1, config=retrieval, upstream=upstream))
        if config.probe_items:
            probe = ProbeStep(
                language=language, items=config.probe_items, train_items=config.probe_train_items
            )
            steps.append(Step(stage="probe", version=1, config=probe, upstream=upstream))
    if config.gold:
        inputs = {
            f"{name}:{pair}:{role}": content_hash(path)
            for name, one in config.gold.items()
            for pair in one.pairs
            for role, path in one.files(pair).items()
        }
        known = EncoderAerStep(gold=config.gold)
        upstream = {"encoder": encoder}
        steps.append(
            Step(stage="encoder_aer", version=1, config=known, upstream=upstream, inputs=inputs)
        )
    return tuple(steps)


def make_retrieval(work: Work) -> None:
    """Find each dev premise's translation by the encoder's vectors, before any fine-tuning."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.retrieval import premise_retrieval

    assert isinstance(work.step.config, RetrievalStep)
    items = pq.read_table(work.upstream["items"].path / "items.parquet")
    table = premise_retrieval(
        work.upstream["encoder"].path, items, work.step.config.language, work.resources
    )
    pq.write_table(table, work.out / "retrieval.parquet")


def make_probe(work: Work) -> None:
    """Regress labels on frozen vectors, plain and centred by language."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.probe import frozen_probe

    config = work.step.config
    assert isinstance(config, ProbeStep)
    items = pq.read_table(work.upstream["items"].path / "items.parquet")
    table = frozen_probe(
        work.upstream["encoder"].path,
        items,
        config.language,
        work.resources,
        train_limit=config.train_items,
        limit=config.items,
    )
    pq.write_table(table, work.out / "scores.parquet")
    work.facts["rows"] = table.num_rows


def make_encoder_aer(work: Work) -> None:
    """Link words by the encoder's vectors and compare with known links."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from weam_ray.transfer.word_alignment import ENCODER_AER_SCHEMA, aer_rows, encoder_aer

    config = work.step.config
    assert isinstance(config, EncoderAerStep)
    rows = []
    for name, one in config.gold.items():
        for pair in one.pairs:
            pairs, gold = read_gold_pairs(one, pair)
            found = encoder_aer(work.upstream["encoder"].path, pairs, gold, work.resources)
            rows += [{"name": name, "pair": pair, **row} for row in aer_rows(found)]
    table = pa.Table.from_pylist(rows, schema=ENCODER_AER_SCHEMA)
    pq.write_table(table, work.out / "encoder_aer.parquet")


def read_gold_pairs(config: GoldConfig, pair: str) -> tuple[pa.Table, Gold]:
    """Sentence pairs with their words as spans, and their known links.

    Raises:
        DataError: malformed files, or sides and links of unequal length.
    """
    import pyarrow as pa

    from weam_ray.alignment.pharaoh import read_gold
    from weam_ray.errors import DataError
    from weam_ray.transfer.reading import text_lines

    files = config.files(pair)
    sides = {role: [line for _, line in text_lines(files[role])] for role in ("source", "target")}
    counts = {role: len(lines) for role, lines in sides.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"{counts['source']} source and {counts['target']} target lines are no pairs",
            place=str(files["source"]),
        )
    spans = {role: [_spans(line) for line in lines] for role, lines in sides.items()}
    lengths = [
        (len(source) // 2, len(target) // 2)
        for source, target in zip(spans["source"], spans["target"], strict=True)
    ]
    gold = read_gold(files["links"], config.index_base, lengths)
    pairs = pa.table({**sides, **{f"{role}_spans": found for role, found in spans.items()}})
    first = range(min(config.limit, len(lengths)))
    gold = replace(gold, sure=gold.sure.select(first), possible=gold.possible.select(first))
    return pairs.slice(0, len(first)), gold


def _spans(line: str) -> list[int]:
    # Words are what blanks separate; a no-break space is part of its word, as in the gold files.
    return [end for word in re.finditer(r"[^ \t\r\n\f\v]+", line) for end in word.span()]


MAKERS: Mapping[str, Maker] = {
    "retrieval": make_retrieval,
    "probe": make_probe,
    "encoder_aer": make_encoder_aer,
}
