"""What watches a training: its time and its progress bar."""

from __future__ import annotations

import math
import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from glue_harness.config import Config
from glue_harness.progress import open_bar


class Stopwatch(TrainerCallback, ExportableState):
    """Seconds in training and in evaluation, kept across resumes by the checkpoint."""

    def __init__(self, train_seconds: float = 0.0, eval_seconds: float = 0.0, examples_seen: int = 0) -> None:
        self.train_seconds = train_seconds
        self.eval_seconds = eval_seconds
        self.examples_seen = examples_seen
        self._since = time.perf_counter()

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start timing an epoch's training."""
        self._since = time.perf_counter()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the epoch's training; evaluation follows."""
        self.train_seconds += self._lap()

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Count the evaluation."""
        self.eval_seconds += self._lap()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        kept = {"train_seconds", "eval_seconds", "examples_seen"}
        return {"args": {name: getattr(self, name) for name in kept}, "attributes": {}}

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._since = now - self._since, now
        return lap


class ProgressBar(TrainerCallback):
    """One bar a run: its steps, and the headline score as epochs end."""

    def __init__(self, config: Config) -> None:
        self.label = f"{config.model.name} {config.task.name} {config.method.label} seed {config.seed}"
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
