"""The Hugging Face side of ``pretraining.py``: TLM as users of the Trainer write it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pretraining_bench import Bench

from weam_ray.pretraining import load_model, load_tokenizer


def trainer_run(
    bench: Bench, base: Path, steps: int, bf16: bool = False, batch: int = 32
) -> dict[str, Any]:
    """The Trainer with the standard collator on tokenised pairs: speed and losses by step."""
    import transformers

    tokenizer = load_tokenizer(base)
    table = bench.pairs.pairs
    tokenised = tokenizer(
        table["source"].to_pylist(), table["target"].to_pylist(), truncation=True, max_length=128
    )
    rows = [dict(zip(tokenised, row, strict=True)) for row in zip(*tokenised.values(), strict=True)]
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    counted: list[int] = []

    def counting(features: list[dict[str, Any]]) -> Any:
        counted.append(sum(len(feature["input_ids"]) for feature in features))
        return collate(features)

    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if bench.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(bench.folder / "trainer"),
        max_steps=steps,
        bf16=bf16,
        per_device_train_batch_size=batch,
        learning_rate=5e-4,
        weight_decay=0.01,
        report_to=[],
        save_strategy="no",
        logging_steps=max(steps // 10, 1),
        disable_tqdm=True,
        use_cpu=bench.device == "cpu",
        remove_unused_columns=False,
    )
    trainer = transformers.Trainer(
        model=load_model(base),
        args=arguments,
        train_dataset=rows,
        data_collator=counting,
        callbacks=[Clock()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    skip = max(steps // 10, 1)
    losses = [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]
    speed = sum(counted[skip:steps]) / (times[-1] - times[skip - 1])
    return {"speed": speed, "losses": losses}
