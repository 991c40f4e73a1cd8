"""What watches a training: its time, loss and progress, and when a checkpoint is due."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from glue_harness import hardware
from glue_harness.config.schema import Config, name_run
from glue_harness.distributed import agree, count_processes
from glue_harness.runs.identity import Identity
from glue_harness.runs.progress import Progress, clear_progress, open_bar, write_progress

PROGRESS_SECONDS = 5.0
"""How often a run says how far it is, at most: often enough to watch, seldom enough for a shared disk."""

STEPS_TO_AGREE = 16
"""Processes that share a run ask whether a checkpoint is due only so often: asking is a message to all."""


class Stopwatch(TrainerCallback, ExportableState):
    """Seconds in training and in evaluation, and what earlier attempts took, kept across resumes.

    `earlier_seconds`: in each earlier attempt, from the trainer's making to the checkpoint that the next went
    on from. Preparation counts once, with the last attempt.
    """

    def __init__(
        self,
        train_seconds: float = 0.0,
        eval_seconds: float = 0.0,
        examples_seen: int = 0,
        earlier_seconds: float = 0.0,
        peak_memory_bytes: int = 0,
    ) -> None:
        self.train_seconds = train_seconds
        self.eval_seconds = eval_seconds
        self.examples_seen = examples_seen
        self.earlier_seconds = earlier_seconds
        self._earlier_peak = peak_memory_bytes
        self._begun = self._since = time.perf_counter()

    @property
    def peak_memory_bytes(self) -> int:
        """The highest peak of all attempts so far."""
        return max(self._earlier_peak, hardware.peak_memory_bytes())

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start timing an epoch's training."""
        self._since = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Count a step."""
        self.train_seconds += self._lap()

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        """Count a checkpoint's writing as neither."""
        self._lap()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the rest of the epoch's training; evaluation follows."""
        self.train_seconds += self._lap()

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Count the evaluation."""
        self.eval_seconds += self._lap()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        kept = {name: getattr(self, name) for name in ("train_seconds", "eval_seconds", "examples_seen")}
        kept["earlier_seconds"] = self.earlier_seconds + time.perf_counter() - self._begun
        kept["peak_memory_bytes"] = self.peak_memory_bytes
        return {"args": kept, "attributes": {}}

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._since = now - self._since, now
        return lap


class EpochLoss(TrainerCallback, ExportableState):
    """Every epoch's training loss, the mean over its optimiser steps; a checkpoint keeps an epoch's part."""

    def __init__(self, finished: Sequence[float] = (), total: float = 0.0, steps: int = 0) -> None:
        self.finished = list(finished)
        self.total = total
        self.steps = steps

    def add(self, loss: float) -> None:
        """Count a micro-batch's share of its step's loss."""
        self.total += loss

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Count an optimiser step."""
        self.steps += 1

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Close the epoch's account."""
        self.finished.append(self.total / self.steps)
        self.total, self.steps = 0.0, 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": dict(vars(self)), "attributes": {}}


class CheckpointTimer(TrainerCallback):
    """Asks for a checkpoint within an epoch once the last is `minutes` old; its end has one anyway."""

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self._saved = time.monotonic()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask, but not after an epoch's last step: a resume from there would miss its evaluation."""
        if state.epoch.is_integer() or state.global_step >= state.max_steps:
            return
        if count_processes() > 1 and state.global_step % STEPS_TO_AGREE:
            return
        if agree(lambda: time.monotonic() - self._saved >= self._seconds):
            control.should_save = True

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock anew."""
        self._saved = time.monotonic()


class ProgressBar(TrainerCallback):
    """One bar a run: its steps, and the dev loss after each epoch."""

    def __init__(self, config: Config) -> None:
        self.label = name_run(config)
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar where the run starts or goes on."""
        if state.is_world_process_zero:
            self.bar = open_bar(
                total=state.max_steps, initial=state.global_step, desc=self.label, unit="step"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance by one optimiser step."""
        if self.bar is not None:
            self.bar.update(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Show the epoch's loss on dev."""
        if self.bar is not None and metrics:
            self.bar.set_postfix(epoch=math.ceil(state.epoch), dev_loss=f"{metrics['eval_loss']:.3f}")

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class ProgressFile(TrainerCallback):
    """Keeps in the run's folder how far it is, while it trains. A full disk is not this file's to report."""

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.cell, self.seed, self.folder = identity.cell_hash, identity.seed, folder
        self._first_step = 0
        self._began = self._written = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say where the run starts or goes on."""
        self._first_step, self._began = state.global_step, time.monotonic()
        self._write(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self._written >= PROGRESS_SECONDS:
            self._write(state)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            clear_progress(self.folder)

    def _write(self, state: Any) -> None:
        self._written = time.monotonic()
        steps = state.global_step - self._first_step
        pace = (self._written - self._began) / steps if steps else None
        progress = Progress(
            cell=self.cell,
            seed=self.seed,
            step=state.global_step,
            steps=state.max_steps,
            seconds_left=None if pace is None else pace * (state.max_steps - state.global_step),
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        with contextlib.suppress(OSError):
            write_progress(progress, self.folder)
