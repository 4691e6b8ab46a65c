"""``transfer.py table``: what one encoder scores on XNLI and on questions, beside blind rows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from transfer_items import CPU, LANGUAGES, TEST_LANGUAGES, nli
from transformers import PreTrainedModel

from weam_ray.artifacts import Resources
from weam_ray.study.intervals import crossed, interval
from weam_ray.transfer import TransferConfig, fine_tune, sanity_rows, tokenise_items
from weam_ray.transfer.classifier import load_classifier
from weam_ray.transfer.loading import most_subwords
from weam_ray.transfer.qa import QaConfig, QuestionsConfig, read_questions
from weam_ray.transfer.qa.config import EvaluatedQuestions
from weam_ray.transfer.qa.reader import fine_tune_reader
from weam_ray.transfer.qa.sanity import qa_sanity_rows


def table_section(arguments: argparse.Namespace, scratch: Path) -> str:
    if arguments.encoder is None:
        sys.exit("table needs --encoder FOLDER")
    return "\n".join(
        [
            *nli_table(arguments, scratch),
            "",
            *qa_table(arguments, scratch),
            "",
            f"Encoder: {encoder_words(arguments.encoder)}. ",
        ]
    )


def nli_table(arguments: argparse.Namespace, scratch: Path) -> list[str]:
    items = nli(arguments, test=True)
    tokens = tokenise_items(items, arguments.encoder, 128)
    runs: list[pd.DataFrame] = []
    for seed in range(arguments.seeds):
        print(f"XNLI, seed {seed}", flush=True)
        config = TransferConfig(
            seed=seed,
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            precision=arguments.precision,
            selection=("last",),
        )
        fine_tune(arguments.encoder, tokens, config, scratch,
                  resources=Resources(threads=arguments.threads))  # fmt: skip
        runs.append(pd.read_parquet(scratch / "predictions.parquet"))
    sanity = sanity_rows(items, TransferConfig()).to_pandas()
    train = int(pc.sum(pc.equal(items["split"], "train")).as_py())
    lines = [
        f"XNLI: fine-tuned on {train:,} items of linginloop.train.en, {arguments.seeds} fine-tuning"
        " seed(s), last step; accuracy in %, 95 % interval over"
        f" {'seeds and items' if arguments.seeds > 1 else 'items'}. “Above”: the interval lies"
        " above the row named; blind rows beside.",
        "",
        "| language | split | accuracy | 95 % | items | majority | hypothesis only | word overlap |"
        " above |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for split, languages in (("dev", LANGUAGES), ("test", TEST_LANGUAGES)):
        for language in languages:
            found = [one[(one["split"] == split) & (one["language"] == language)] for one in runs]
            right = np.stack([(one["gold"] == one["predicted"]).to_numpy() for one in found])
            blind = {
                system: value_of(sanity, split, language, system)
                for system in ("majority", "hypothesis-only", "word-overlap-only")
            }
            lines.append(score_row(language, split, right, blind))
    return lines


def qa_table(arguments: argparse.Namespace, scratch: Path) -> list[str]:
    folder = arguments.data / "qa"
    questions, _ = read_questions(
        "mlqa",
        QuestionsConfig(
            train=f"{folder}/tydiqa.goldp.{{language}}.train.json",
            languages=("en", "de", "es"),
            dev=f"{folder}/mlqa.dev-context-{{context}}-question-{{question}}.json",
            also={
                "xquad": EvaluatedQuestions(
                    test=f"{folder}/xquad.{{context}}.json", languages=("en", "de", "es", "zh")
                ),
                "mlqa de-en": EvaluatedQuestions(
                    dev=f"{folder}/mlqa.dev-context-de-question-en.json", languages=("de",)
                ),
            },
        ),
    )
    model = load_classifier(arguments.encoder, 0, CPU)
    length = min(384, most_subwords(model.config) or 384)
    runs: list[pd.DataFrame] = []
    for seed in range(arguments.seeds):
        print(f"QA, seed {seed}", flush=True)
        config = QaConfig(
            seed=seed,
            epochs=arguments.qa_epochs,
            learning_rate=arguments.learning_rate,
            precision=arguments.precision,
            max_length=length,
            stride=length // 4,
            max_question=min(64, length // 4),
            selection=("last",),
            evaluations=1,
        )
        fine_tune_reader(arguments.encoder, questions, config, scratch,
                         resources=Resources(threads=arguments.threads))  # fmt: skip
        runs.append(pd.read_parquet(scratch / "predictions.parquet"))
    sanity = qa_sanity_rows(questions).to_pandas()
    train = int(pc.sum(pc.equal(questions["split"], "train")).as_py())
    lines = [
        f"Question answering: fine-tuned on {train:,} English questions of TyDiQA (gold passage),"
        f" {arguments.seeds} seed(s), windows of {length}, last step; per cent, 95 % interval.",
        "",
        "| set | language | metric | score | 95 % | questions | question only | first sentence |"
        " word overlap | above |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups = runs[0].groupby(["task", "language", "split"], sort=False).groups
    for task, language, split in groups:
        found = [one[(one["task"] == task) & (one["language"] == language)] for one in runs]
        own = sanity[sanity["task"] == task]
        for metric in ("exact_match", "f1"):
            blind = {
                system: value_of(own[own["metric"] == metric], split, language, system)
                for system in ("question-only", "first-sentence", "word-overlap-only")
            }
            values = np.stack([one[metric].to_numpy() for one in found])
            name = f"{task} {split} | {language}"
            lines.append(score_row(name, metric.replace("_", " "), values, blind))
    return lines


def value_of(rows: pd.DataFrame, split: str, language: str, system: str) -> float:
    kept = rows[
        (rows["split"] == split) & (rows["language"] == language) & (rows["system"] == system)
    ]
    return float(kept["value"].iloc[0])


def score_row(name: str, second: str, values: np.ndarray, blind: dict[str, float]) -> str:
    bounds = interval(crossed(values))
    beaten = [system for system, value in blind.items() if bounds.low > value]
    cells = " | ".join(f"{100 * value:.1f}" for value in blind.values())
    above = "all" if len(beaten) == len(blind) else ", ".join(beaten) or "none"
    return (
        f"| {name} | {second} | {100 * bounds.value:.1f} | {100 * bounds.low:.1f} to"
        f" {100 * bounds.high:.1f} | {values.shape[1]:,} | {cells} | {above} |"
    )


def encoder_words(folder: Path) -> str:
    model: PreTrainedModel = load_classifier(folder, 0, CPU)
    config = model.config
    return (
        f"{config.model_type}, {config.num_hidden_layers} layers × {config.hidden_size},"
        f" vocabulary {config.vocab_size:,}"
    )
