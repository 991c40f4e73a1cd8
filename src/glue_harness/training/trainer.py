"""The shared trainer: a thin `transformers.Trainer` with its known traps closed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers import DataCollatorWithPadding
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, TrainerState
from transformers.trainer_utils import EvalPrediction

from glue_harness.config.schema import Config
from glue_harness.data.batching import EpochBatches, EpochLoader, ShareCollator, TokenisedSplit
from glue_harness.distributed import agree, is_first, process_rank, share_buffers
from glue_harness.hardware import Environment
from glue_harness.models.adapters import parameter_groups
from glue_harness.runs.identity import Identity
from glue_harness.runs.record import Epoch, logits_path
from glue_harness.training.arguments import micro_batch_size, training_arguments
from glue_harness.training.callbacks import CheckpointTimer, EpochLoss, ProgressBar, ProgressFile, Stopwatch
from glue_harness.training.checkpoints import drop_partial, find_checkpoint, partial_folder, put_in_place
from glue_harness.training.cpu_kernels import accelerate
from glue_harness.training.evaluation import logits_files, read_epochs
from glue_harness.training.setup import Prepared


class DivergedError(RuntimeError):
    """The training loss or the dev logits are not finite; the message says where."""


@dataclass(frozen=True)
class Outcome:
    """What training leaves: every epoch's scores, why it diverged if it did, and what it took.

    `earlier_seconds`: see `Stopwatch`.
    """

    epochs: list[Epoch]
    diverged: str | None
    train_seconds: float
    eval_seconds: float
    examples_seen: int
    earlier_seconds: float
    peak_memory_bytes: int


def fit(prepared: Prepared, config: Config, identity: Identity, folder: Path, show_progress: bool) -> Outcome:
    """Train what is prepared, going on from the last checkpoint in `folder`; evaluate after every epoch.

    Each epoch's dev logits are written to folder/logits/ at once, in the split's own row order. A loss or
    logits that are infinite or NaN end the training. The checkpoints are the caller's to drop. Of several
    processes the first alone writes logits and returns their scores.
    """
    trainer = build_trainer(prepared, config, identity.environment, folder)
    if is_first():
        trainer.add_callback(ProgressFile(identity, folder))
    if show_progress:
        trainer.add_callback(ProgressBar(config))
    if config.checkpoint_minutes is not None:
        trainer.add_callback(CheckpointTimer(config.checkpoint_minutes))
    checkpoint = agree(lambda: find_checkpoint(folder))
    if is_first():
        _drop_logits_after(checkpoint, folder)
    diverged = None
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except DivergedError as error:
        diverged = str(error)
    watch = trainer.stopwatch
    return Outcome(
        epochs=read_epochs(folder, prepared.dev, config, trainer.epoch_loss.finished) if is_first() else [],
        diverged=diverged,
        train_seconds=watch.train_seconds,
        eval_seconds=watch.eval_seconds,
        examples_seen=watch.examples_seen,
        earlier_seconds=watch.earlier_seconds,
        peak_memory_bytes=watch.peak_memory_bytes,
    )


def _drop_logits_after(checkpoint: str | None, folder: Path) -> None:
    """Remove logits of epochs that will be trained again: an attempt that ends early must not score them."""
    done = 0.0
    if checkpoint is not None:
        done = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).epoch or 0.0
    for epoch, path in logits_files(folder).items():
        if epoch > done:
            path.unlink()


def build_trainer(prepared: Prepared, config: Config, environment: Environment, folder: Path) -> GlueTrainer:
    """Return the trainer that `config` describes, ready to train."""
    model, train, dev, settings = prepared.model, prepared.train, prepared.dev, config.trainer
    micro = micro_batch_size(config, environment)
    batches = EpochBatches(
        lengths=train.lengths,
        batch_size=settings.batch_size,
        device_batch_size=micro,
        seed=config.seed,
        buckets=settings.length_buckets,
        process=process_rank(),
        processes=environment.processes,
    )
    by_length = np.argsort(dev.lengths, kind="stable")  # (rows,): dev is evaluated from short to long
    arguments = training_arguments(config, environment, len(batches), micro, folder)
    if settings.accelerated:
        accelerate(model, environment)
    trainer = GlueTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=dev.select(by_length.tolist()),
        data_collator=DataCollatorWithPadding(
            prepared.tokenizer,
            padding="max_length" if settings.padding == "max_length" else True,
            max_length=settings.max_length if settings.padding == "max_length" else None,
        ),
        compute_loss_func=sum_loss,
        optimizers=(build_optimizer(model, config), None),
    )
    share_buffers(model)  # now that they are on this process's device
    trainer.batches = batches
    trainer.compute_metrics = _logits_writer(folder, by_length, trainer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def build_optimizer(model: nn.Module, config: Config) -> torch.optim.AdamW:
    """Return torch's AdamW over the adapter's and the head's parameter groups."""
    groups = parameter_groups(model, config.model.head_modules, config.trainer)
    return torch.optim.AdamW(groups, lr=config.trainer.learning_rate, fused=config.trainer.fused_optimizer)


def sum_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the batch's share of the mean loss over a whole accumulated batch: sum / rows in it.

    Trainer believes that an encoder's own loss is scaled for accumulation, which it is not; with this loss
    1x8 and 2x4 give the same gradient, as do processes with unequal shares. A row without a label only stands
    in for an empty share, and adds nothing.
    """
    logits = outputs["logits"].float()[: len(labels)]  # (rows, outputs)
    if labels.is_floating_point():
        loss = F.mse_loss(logits.squeeze(1), labels.float(), reduction="sum")
    else:
        loss = F.cross_entropy(logits, labels, reduction="sum")
    return loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)


class GlueTrainer(transformers.Trainer):
    """`transformers.Trainer` with our batches, a stop at a loss that is not finite, and whole checkpoints."""

    batches: EpochBatches

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_callback(Stopwatch())
        self.add_callback(EpochLoss())

    @property
    def stopwatch(self) -> Stopwatch:
        """The watch that runs: a resume puts the checkpoint's in the place of the one we began with."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, Stopwatch))

    @property
    def epoch_loss(self) -> EpochLoss:
        """The account that is kept: as with the watch, a resume replaces it."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, EpochLoss))

    def get_train_dataloader(self) -> EpochLoader:
        """Return the loader of this process's micro-batches, left as it is by accelerate."""
        assert isinstance(self.train_dataset, TokenisedSplit)
        return EpochLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=ShareCollator(self.data_collator, stand_in=self.train_dataset[0]),
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Return the next optimiser step's micro-batches, and how many rows they are over all processes."""
        batches, rows = super().get_batch_samples(*args, **kwargs)
        assert rows is not None  # they are counted for a loss function such as ours
        self.stopwatch.examples_seen += int(rows)
        return batches, rows

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Train on one micro-batch and return its loss over all processes, so that all of them stop or none.

        Raises:
            DivergedError: the loss is infinite or NaN.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        loss = self.accelerator.reduce(loss, reduction="mean")
        if not torch.isfinite(loss):
            epoch = int(self.state.epoch or 0) + 1
            raise DivergedError(f"loss is {loss.item()} at step {self.state.global_step + 1}, epoch {epoch}")
        self.epoch_loss.add(loss.item())
        return loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint beside its place, then put it there whole and drop the one before.

        Each process adds the state of its own generators; the first does the rest.
        """
        final = Path(str(self.args.output_dir))
        folder = final.parent
        if is_first():
            drop_partial(folder)
        self.accelerator.wait_for_everyone()
        self.args.output_dir = str(partial_folder(folder))
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(final)
        self.accelerator.wait_for_everyone()
        if is_first():
            put_in_place(partial_folder(folder), folder)


def _logits_writer(
    folder: Path, by_length: np.ndarray, trainer: GlueTrainer
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return what Trainer calls with an evaluation's logits: it writes them down in the split's own order."""

    def write(evaluation: EvalPrediction) -> dict[str, float]:
        epoch = math.ceil(trainer.state.epoch)
        if not np.isfinite(evaluation.predictions).all():
            raise DivergedError(f"dev logits are not finite after epoch {epoch}")
        logits = np.empty_like(evaluation.predictions, dtype=np.float32)
        logits[by_length] = evaluation.predictions  # (rows, outputs)
        path = logits_path(folder, epoch)
        if is_first():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, logits)
        return {}

    return write
