"""The steps from evaluation data to scores: their settings, and the function that makes each.

::

    items ──► tokens ──┐                  questions ──► windows ──┐
              encoder ─┴─► transfer                     encoder ──┴─► reader

``sanity`` and ``question_sanity`` need no encoder. Heavy packages load when a maker runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from weam_ray.artifacts import Artifact, Maker, Step, Work
from weam_ray.errors import DataError
from weam_ray.identity import StageConfig, content_hash
from weam_ray.transfer import diagnostics
from weam_ray.transfer.config import FineTuningConfig, TransferConfig
from weam_ray.transfer.items import ItemsConfig, item_files
from weam_ray.transfer.qa.config import QaConfig, QuestionsConfig
from weam_ray.transfer.qa.questions import question_files

if TYPE_CHECKING:
    from weam_ray.transfer.run import Spread
    from weam_ray.transfer.task import Task

Config = TypeVar("Config", bound=FineTuningConfig)

SOURCES = ("items", "questions")
"""Stages that read evaluation data; everything else waits for them."""

SHARED = ("tokens", "windows", "sanity", "question_sanity", "divergence")
"""Stages of this package that a study makes before its cells."""

TOKENISED = ("tokens", "windows")
"""Those of them that need a vocabulary."""

FINE_TUNING = ("transfer", "reader")
"""Stages that end with a cell's scores."""


class TokensStep(StageConfig):
    """Items as subwords."""

    max_length: int


class SanityStep(StageConfig):
    """Rows beside which an accuracy is read; no settings of its own."""

    transfer: TransferConfig


class QuestionsStep(StageConfig):
    """The questions of one task."""

    task: str
    questions: QuestionsConfig


class WindowsStep(StageConfig):
    """Questions and contexts as windows of subwords."""

    max_length: int
    stride: int
    max_question: int


class QuestionSanityStep(StageConfig):
    """Answers that need no encoder; which of a task's languages are evaluated."""

    qa: QaConfig


def items_step(config: ItemsConfig) -> Step:
    """The checked evaluation items and the English training items."""
    return Step(stage="items", version=1, config=config, inputs=_inputs(item_files(config)))


def questions_step(task: str, config: QuestionsConfig) -> Step:
    """The checked questions of one task."""
    inputs = _inputs(question_files(task, config))
    settings = QuestionsStep(task=task, questions=config)
    return Step(stage="questions", version=2, config=settings, inputs=inputs)


def _inputs(found: Mapping[str, tuple[Path, ...]]) -> dict[str, str]:
    files = [(f"{split}:{path.name}", path) for split, paths in found.items() for path in paths]
    return {f"{place:03d}:{name}": content_hash(path) for place, (name, path) in enumerate(files)}


def read_for_pairs(config: TransferConfig, items: Step, tokenizer: Step) -> tuple[Step, Step]:
    """Tokens and sanity rows of NLI cells, whatever their encoder."""
    tokens = Step(
        stage="tokens",
        version=2,
        config=TokensStep(max_length=config.max_length),
        upstream={"tokenizer": tokenizer, "items": items},
    )
    sanity = Step(
        stage="sanity",
        version=1,
        config=SanityStep(transfer=_without_training(config)),
        upstream={"items": items},
    )
    return tokens, sanity


def transfer_step(config: TransferConfig, tokens: Step, encoder: Step) -> Step:
    """Scores of an NLI cell."""
    upstream = {"encoder": encoder, "tokens": tokens}
    return Step(stage="transfer", version=1, config=config, upstream=upstream)


def read_for_answers(config: QaConfig, questions: Step, tokenizer: Step) -> tuple[Step, Step]:
    """Windows and sanity rows of question-answering cells, whatever their encoder."""
    windows = Step(
        stage="windows",
        version=3,
        config=WindowsStep(
            max_length=config.max_length, stride=config.stride, max_question=config.max_question
        ),
        upstream={"tokenizer": tokenizer, "questions": questions},
    )
    sanity = Step(
        stage="question_sanity",
        version=1,
        config=QuestionSanityStep(qa=_without_training(config)),
        upstream={"questions": questions},
    )
    return windows, sanity


def reader_step(config: QaConfig, questions: Step, windows: Step, encoder: Step) -> Step:
    """Scores of a question-answering cell."""
    upstream = {"encoder": encoder, "windows": windows, "questions": questions}
    return Step(stage="reader", version=1, config=config, upstream=upstream)


def _without_training(config: Config) -> Config:
    # The sanity rows read which languages and selection there are; no fine-tuning seed or rate
    # changes them, and so none may change their address.
    default = type(config)()
    return config.model_copy(
        update={
            name: getattr(default, name)
            for name in ("seed", "learning_rate", "steps", "epochs", "precision", "batch_size")
        }
    )


def make_items(work: Work) -> None:
    """Read and check the NLI files."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.items import items_facts, load_items

    assert isinstance(work.step.config, ItemsConfig)
    items = load_items(work.step.config)
    pq.write_table(items, work.out / "items.parquet", compression="zstd")
    work.facts.update(rows=items.num_rows, by_split=items_facts(items))


def make_questions(work: Work) -> None:
    """Read and check SQuAD-style files."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.qa.questions import read_questions

    config = work.step.config
    assert isinstance(config, QuestionsStep)
    questions, facts = read_questions(config.task, config.questions)
    pq.write_table(questions, work.out / "questions.parquet", compression="zstd")
    work.facts.update(rows=questions.num_rows, by_set=facts)


def make_tokens(work: Work) -> None:
    """Tokenise all items once for every cell that shares the vocabulary."""
    from weam_ray.transfer.tokenised import tokenise_items

    assert isinstance(work.step.config, TokensStep)
    items = read_items(work.upstream["items"].path)
    tokens = tokenise_items(items, work.upstream["tokenizer"].path, work.step.config.max_length)
    tokens.write(work.out)
    work.facts.update(items=len(tokens), truncated=tokens.truncated)


def make_windows_of(work: Work) -> None:
    """Cut all contexts into windows once for every cell that shares the vocabulary."""
    from weam_ray.transfer.qa.windows import make_windows

    assert isinstance(work.step.config, WindowsStep)
    questions = read_questions_table(work.upstream["questions"].path)
    windows = make_windows(questions, work.upstream["tokenizer"].path, work.step.config)
    windows.write(work.out)
    counts = Counter(zip(windows.column("split"), windows.column("language"), strict=True))
    work.facts.update(
        questions=questions.num_rows,
        windows=len(windows),
        truncated=windows.truncated,
        by_split={f"{split}/{language}": count for (split, language), count in counts.items()},
    )


def make_transfer(work: Work, spread: Spread | None = None) -> None:
    """Fine-tune on the training language and predict every item of every language."""
    from weam_ray.transfer.fine_tuning import fine_tune
    from weam_ray.transfer.tokenised import TokenisedItems

    assert isinstance(work.step.config, TransferConfig)
    tokens = TokenisedItems.read(work.upstream["tokens"].path)
    encoder = work.upstream["encoder"].path
    config, report, resources = work.step.config, work.report, work.resources
    work.facts.update(fine_tune(encoder, tokens, config, work.out, report, resources, spread))


def make_reader(work: Work, spread: Spread | None = None) -> None:
    """Fine-tune on the training language's questions and answer every other."""
    from weam_ray.transfer.qa.reader import fine_tune_reader
    from weam_ray.transfer.qa.windows import Windows

    assert isinstance(work.step.config, QaConfig)
    facts = fine_tune_reader(
        work.upstream["encoder"].path,
        read_questions_table(work.upstream["questions"].path),
        work.step.config,
        work.out,
        work.report,
        work.resources,
        windows=Windows.read(work.upstream["windows"].path),
        spread=spread,
    )
    work.facts.update(facts)


def tokenised(upstream: Mapping[str, Artifact]) -> Artifact:
    """What a cell reads besides its encoder: tokens, or windows."""
    return next(upstream[name] for name in TOKENISED if name in upstream)


def task_of(config: FineTuningConfig, folder: Path) -> Task:
    """The task of a cell as a process sees it that only answers rows.

    Args:
        folder: a ``tokens`` or ``windows`` artifact.
    """
    from weam_ray.transfer.fine_tuning import PairTask
    from weam_ray.transfer.qa.reader import ReaderTask
    from weam_ray.transfer.qa.windows import Windows
    from weam_ray.transfer.tokenised import TokenisedItems

    if isinstance(config, QaConfig):
        return ReaderTask(Windows.read(folder), config.max_answer)
    assert isinstance(config, TransferConfig)
    return PairTask(TokenisedItems.read(folder), config.task)


def make_sanity(work: Work) -> None:
    """Score what no encoder is needed for."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.phases import check_shots
    from weam_ray.transfer.sanity import sanity_rows

    assert isinstance(work.step.config, SanityStep)
    items, config = read_items(work.upstream["items"].path), work.step.config.transfer
    check_shots(items, config)
    rows = sanity_rows(items, config)
    pq.write_table(rows, work.out / "scores.parquet")
    work.facts["rows"] = rows.num_rows


def make_question_sanity(work: Work) -> None:
    """Answer questions without an encoder."""
    import pyarrow.parquet as pq

    from weam_ray.transfer.phases import check_shots
    from weam_ray.transfer.qa.sanity import qa_sanity_rows

    assert isinstance(work.step.config, QuestionSanityStep)
    questions = read_questions_table(work.upstream["questions"].path)
    config = work.step.config.qa
    check_shots(questions.filter(pc.equal(questions["task"], config.task)), config)
    rows = qa_sanity_rows(questions, config)
    pq.write_table(rows, work.out / "scores.parquet")
    work.facts["rows"] = rows.num_rows


def read_items(folder: Path) -> pa.Table:
    """items.parquet of an ``items`` artifact.

    Raises:
        DataError: it isn't there.
    """
    return _read(folder / "items.parquet")


def read_questions_table(folder: Path) -> pa.Table:
    """questions.parquet of a ``questions`` artifact.

    Raises:
        DataError: it isn't there.
    """
    return _read(folder / "questions.parquet")


def _read(path: Path, **options: Any) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, **options)
    except FileNotFoundError:
        raise DataError("no such file", place=str(path)) from None


MAKERS: Mapping[str, Maker] = {
    "items": make_items,
    "questions": make_questions,
    "tokens": make_tokens,
    "windows": make_windows_of,
    "transfer": make_transfer,
    "reader": make_reader,
    "sanity": make_sanity,
    "question_sanity": make_question_sanity,
    **diagnostics.MAKERS,
}
