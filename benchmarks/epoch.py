"""One short training of one competitor, evaluation included, in a process of its own.

`benchmarks.runs` starts it as python -m benchmarks.epoch fast '{"glue_root": …, "threads": 2}'
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import plain
from glue_harness import hardware
from glue_harness.config.schema import Config
from glue_harness.runs.identity import Identity
from glue_harness.runs.record import read_record
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import plan
from glue_harness.training.callbacks import Stopwatch
from glue_harness.training.run import run_once
from glue_harness.training.setup import prepare
from glue_harness.training.trainer import build_trainer, sum_loss

COMPETITORS = {
    "fast": "`trainer=fast`, EDoRA",
    "floor": "Floor of `fast`",
    "paper": "`trainer=paper`, EDoRA",
    "plain_dynamic": "Trainer + PEFT DoRA, padded to the batch",
    "plain": "Trainer + PEFT DoRA, padded to 128",
}
"""What the table calls a competitor. The floor is the frozen backbone's own forward and backward pass,
with input gradients and a trained head, over the batches of `fast`, without trainer and optimiser."""

RANK = 16
MODEL, TASK = "minilm", "mrpc"


@dataclass(frozen=True)
class Course:
    """What all competitors train on: an epoch or so many steps of it; without a folder, of miniature GLUE."""

    glue_root: str | None
    threads: int
    steps: int | None = None
    seed: int = 1
    model: str = MODEL
    task: str = TASK

    def overrides(self) -> list[str]:
        """Return what the configurations of all competitors have in common."""
        data = f"data=local data.root={self.glue_root}" if self.glue_root else "data=miniature"
        common = f"model={self.model} task={self.task} rank={RANK} trainer.epochs=1"
        steps = f"trainer.max_steps={self.steps}" if self.steps else ""
        return f"{common} {data} {steps}".split()


def run(name: str, course: Course) -> dict[str, float]:
    """Run a competitor; return train_seconds, eval_seconds, examples, peak_bytes and first_step_at.

    The last is the clock's time, in seconds, when the first micro-batch had been forward and backward.
    """
    hardware.keep_freed_memory()
    torch.set_num_threads(course.threads)
    clock = _watch_first_step()
    with tempfile.TemporaryDirectory() as folder:
        cell = _plan(name, course, folder)
        environment = cell.identity.environment.model_copy(update={"threads": course.threads})
        identity = cell.identity.model_copy(update={"environment": environment})  # a run has one thread else
        if name.startswith("plain"):
            watch = plain.train(cell.config, "batch" if name == "plain_dynamic" else "max_length", folder)
        elif name == "floor":
            watch = _time_floor(cell.config, identity)
        else:
            watch = _run_ours(cell.config, identity)
    return {
        "train_seconds": watch.train_seconds,
        "eval_seconds": watch.eval_seconds,
        "examples": watch.examples_seen,
        "peak_bytes": hardware.peak_memory_bytes(),
        "first_step_at": clock[0] if clock else time.time(),
    }


def _plan(name: str, course: Course, folder: str) -> Cell:
    method = {"floor": "head_only", "plain": "dora", "plain_dynamic": "dora"}.get(name, "edora")
    trainer = "paper" if name == "paper" else "fast"
    choices = [f"method={method}", f"trainer={trainer}", f"seed={course.seed}", f"runs_dir={folder}"]
    (cell,) = plan([*course.overrides(), *choices]).cells
    return cell


def _run_ours(config: Config, identity: Identity) -> Stopwatch:
    ending = run_once(config, identity, show_progress=False)
    record = read_record(Path(config.runs_dir) / identity.folder)
    assert record is not None, ending.message
    assert record.cost is not None, ending.message
    examples = record.cost.train_seconds * (record.cost.train_examples_per_second or 0.0)
    return Stopwatch(record.cost.train_seconds, record.cost.eval_seconds, round(examples))


def _time_floor(config: Config, identity: Identity) -> Stopwatch:
    prepared = prepare(config, identity)
    prepared.model.enable_input_require_grads()  # type: ignore[operator]
    trainer = build_trainer(prepared, config, identity.environment, Path(config.runs_dir))
    model = trainer.accelerator.prepare_model(trainer.model)  # whose forward pass is then in bf16
    watch = Stopwatch()
    model.train()
    batches = list(trainer.get_train_dataloader())[: config.trainer.max_steps]
    watch.on_epoch_begin()
    for batch in batches:
        labels = batch.pop("labels")
        sum_loss(model(**batch), labels).backward()
        watch.examples_seen += len(labels)
    watch.on_epoch_end()
    model.eval()
    with torch.no_grad():
        for batch in trainer.get_eval_dataloader():
            batch.pop("labels")
            model(**batch)
    watch.on_evaluate()
    return watch


def _watch_first_step() -> list[float]:
    """Let every Trainer write the time of its first step into the list that is returned."""
    times: list[float] = []
    step = transformers.Trainer.training_step

    def timed(self: transformers.Trainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = step(self, *args, **kwargs)
        if not times:
            times.append(time.time())
        return loss

    transformers.Trainer.training_step = timed  # type: ignore[method-assign]
    return times


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Course(**json.loads(sys.argv[2])))))
