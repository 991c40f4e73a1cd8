"""From the configuration to transformers' training arguments: micro-batches, accumulation, steps, warm-up."""

from __future__ import annotations

import math
from pathlib import Path

from transformers import TrainingArguments

from glue_harness.config.schema import Config
from glue_harness.config.schema import Trainer as Settings
from glue_harness.distributed import process_rank
from glue_harness.hardware import Environment
from glue_harness.seeding import derive_seed
from glue_harness.training.checkpoints import CHECKPOINTS


def micro_batch_size(config: Config, environment: Environment) -> int:
    """Return how many rows a process takes at once, at most: its share of the global batch, if left open."""
    return config.trainer.device_batch_size or math.ceil(config.trainer.batch_size / environment.processes)


def training_arguments(
    config: Config, environment: Environment, batches_per_epoch: int, micro: int, folder: Path
) -> TrainingArguments:
    """Translate the configuration into transformers' arguments; steps are optimiser steps."""
    settings = config.trainer
    accumulation = math.ceil(settings.batch_size / (micro * environment.processes))
    steps = settings.max_steps or math.ceil(batches_per_epoch / accumulation) * settings.epochs
    arguments = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=settings.eval_batch_size,
        gradient_accumulation_steps=accumulation,
        lr_scheduler_type="linear",
        warmup_steps=count_warmup_steps(settings, steps),
        max_grad_norm=settings.max_grad_norm,
        bf16=environment.precision == "bf16",
        use_cpu=environment.device == "cpu",
        dataloader_pin_memory=environment.device != "cpu",
        eval_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="epoch",
        restore_callback_states_from_checkpoint=True,
        label_names=["labels"],
        remove_unused_columns=False,
        seed=derive_seed(config.seed, "dropout", process_rank()),
        ddp_find_unused_parameters=_keep_buckets(environment),
        ddp_broadcast_buffers=False,  # none changes in training: see share_buffers
        disable_tqdm=True,
        report_to="none",
    )
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"  # whatever ACCELERATE_MIXED_PRECISION says
    return arguments


def _keep_buckets(environment: Environment) -> bool:
    """Say whether DistributedDataParallel must look for unused parameters, though there are none.

    Otherwise it lays its buckets out anew after the first step, of a resumed run as well. Where a gradient
    lies decides in which order more than two processes' are added, so a resume would end in other bits.
    """
    return environment.processes > 2


def count_warmup_steps(settings: Settings, steps: int) -> int:
    """Return the warm-up in optimiser steps; a share is rounded down, as in the authors' code, not up."""
    return int(settings.warmup_share * steps) if settings.warmup_steps is None else settings.warmup_steps
