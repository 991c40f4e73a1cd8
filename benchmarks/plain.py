"""What a user would otherwise run: Trainer with PEFT's DoRA. Ours are only rows and weights."""

import numpy as np
from peft import get_peft_model
from sklearn.metrics import accuracy_score, f1_score
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
from transformers.trainer_utils import EvalPrediction

from glue_harness.config.schema import Config
from glue_harness.data.sources import load_split
from glue_harness.models.adapters import build_adapter
from glue_harness.models.backbone import load_backbone, load_tokenizer
from glue_harness.training.callbacks import Stopwatch

MAX_LENGTH = 128


def train(config: Config, padding: str, folder: str) -> Stopwatch:
    """Train in fp32 as long as `config` says, with an evaluation after each epoch.

    `padding` is max_length or batch; both truncate to 128 tokens.
    """
    tokenizer = load_tokenizer(config.model)

    def tokenise(rows: dict[str, list[str]]) -> dict[str, object]:
        columns = [rows[name] for name in config.task.text_columns]
        fixed = "max_length" if padding == "max_length" else False
        return dict(tokenizer(*columns, padding=fixed, truncation=True, max_length=MAX_LENGTH))

    splits = {
        split: load_split(config.data, config.task, split).map(tokenise, batched=True)
        for split in ("train", "validation")
    }
    adapter = build_adapter(config.method)
    assert adapter is not None
    model = get_peft_model(load_backbone(config.model, config.task, config.seed), adapter)
    settings = config.trainer
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_share,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        eval_strategy="epoch",
        save_strategy="epoch",
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=config.seed,
        disable_tqdm=True,
        report_to="none",
    )
    stopwatch = Stopwatch()
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=_score,
        callbacks=[stopwatch],
    )
    trainer.train()
    stopwatch.examples_seen = min(
        len(splits["train"]) * settings.epochs, trainer.state.global_step * settings.batch_size
    )
    return stopwatch


def _score(evaluation: EvalPrediction) -> dict[str, float]:
    labels = np.argmax(evaluation.predictions, axis=1)
    truth = evaluation.label_ids
    return {"accuracy": accuracy_score(truth, labels), "f1": f1_score(truth, labels)}
