"""Hand-built cells, records and runs on disk, for the tests of everything between records and tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glue_harness.config.schema import (
    Config,
    Data,
    Experiment,
    Method,
    Model,
    Protocol,
    Split,
    Task,
    Trainer,
    Weights,
)
from glue_harness.hardware import Environment
from glue_harness.runs.identity import hash_plan, identify
from glue_harness.runs.record import Cost, Epoch, Parameters, Provenance, RunRecord, Status, write_record
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan

CPU = Environment(device="cpu", precision="fp32", threads=1, processes=1)
GPU = Environment(device="cuda", precision="bf16", threads=None, processes=1)
BEST = Protocol("best_epoch", "best", "median", "best epoch, median over seeds")
LAST = Protocol("last_epoch", "last", "mean", "last epoch, mean over seeds")
METRICS = {"rte": ["accuracy"], "cola": ["matthews_correlation", "accuracy"], "stsb": ["pearson", "spearman"]}
ROWS = 6


@dataclass(frozen=True)
class CellElsewhere(Cell):
    """A cell on a machine that need not be this one."""

    environment: Environment = CPU

    @property
    def identity(self):
        return identify(self.config, self.environment)


def make_cell(
    task="rte",
    method="lora",
    rank=16,
    seed=1,
    model="tiny",
    environment=CPU,
    learning_rate=1e-3,
    head_learning_rate=5e-4,
    epochs=2,
    alpha=16,
):
    adapter = None if method == "full" else {"_target_": f"peft.{method}", "r": rank, "lora_alpha": alpha}
    config = Config(
        model=Model(name=model, weights=Weights(source="random", seed=len(model)), tokenizer="none"),
        task=Task(
            name=task,
            text_columns=["sentence"],
            labels=[] if task == "stsb" else ["no", "yes"],
            metrics=METRICS[task],
            headline=METRICS[task][0],
            splits={"train": Split(rows=100), "validation": Split(rows=ROWS, sha256=f"{task}-dev")},
        ),
        method=Method(
            name=method, label="full" if method == "full" else f"{method}_r{rank}", adapter=adapter
        ),
        rank=rank,
        seed=seed,
        data=Data(name="hub"),
        trainer=make_trainer(learning_rate, head_learning_rate, epochs),
        protocol=BEST,
        experiment=Experiment(name="demo"),
    )
    return CellElsewhere((), config, hash_plan(config), environment=environment)


def make_trainer(learning_rate, head_learning_rate, epochs):
    return Trainer(
        name="fast",
        epochs=epochs,
        batch_size=32,
        eval_batch_size=64,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        weight_decay=0.01,
        decay_magnitude=True,
        warmup_share=0.06,
        max_grad_norm=1.0,
        max_length=128,
        padding="batch",
        length_buckets=True,
        precision="auto",
    )


def make_plan(cells, tmp_path, protocol=BEST):
    config = replace(
        cells[0].config,
        runs_dir=str(tmp_path / "runs"),
        results_dir=str(tmp_path / "results"),
        protocol=protocol,
    )
    return Plan(name="demo", title="A demo & its table", config=config, cells=list(cells))


def make_record(
    cell, scores=(0.6, 0.8), status=Status.COMPLETE, degenerate=(), commit="0123456789abcdef", **changes
):
    """Return a record whose headline on `all` is `scores`, epoch by epoch; `degenerate` names epochs."""
    finished = status is not Status.FAILED
    headline, *others = cell.config.task.metrics
    epochs = [
        Epoch(
            epoch=number,
            train_loss=1 / 3 / number,
            metrics={
                part: {headline: None if score is None else score + side * min(0.01, 1 - score)}
                | dict.fromkeys(others, 0.1)
                for part, side in (("all", 0), ("even", 1), ("odd", -1))
            },
            degenerate=number in degenerate,
        )
        for number, score in enumerate(scores, start=1)
    ]
    values = {
        "status": status,
        "identity": cell.identity,
        "headline": headline,
        "majority_score": (0.0 if headline in ("pearson", "matthews_correlation") else 0.5)
        if finished
        else None,
        "parameters": Parameters(adapter=1_622_016, head=592_130, total=2_214_146, backbone=124_055_040)
        if finished
        else None,
        "epochs": epochs if finished else [],
        "cost": make_cost() if finished else None,
        "provenance": make_provenance(commit),
        "error": None if status is Status.COMPLETE else 'Traceback:\n  "a, b"\r\n\tcafé \\n',
    }
    return RunRecord(**(values | changes))


def make_cost():
    return Cost(
        train_seconds=0.1 + 0.2,
        eval_seconds=1e-7,
        total_seconds=12.0,
        train_examples_per_second=1 / 3,
        peak_memory_bytes=2**60 + 1,
        truncated_share=0.0,
    )


def make_provenance(commit="0123456789abcdef", started_at="2026-11-01T10:00:00+00:00"):
    return Provenance(
        commit=commit,
        dirty=None if commit is None else False,
        packages={"torch": "2.13.0", "transformers": "5.23.0"},
        hardware="Intel(R) Xeon(R) @ 2.10GHz, 100%_#1",
        data_sha256={"train": "100 rows", "validation": "abc"},
        weights_sha256=None,
        started_at=started_at,
    )


def make_logits(epoch, outputs=2):
    return np.linspace(-epoch, epoch, ROWS * outputs, dtype=np.float32).reshape(
        ROWS, outputs
    )  # (rows, outputs)


def write_run(record, runs_dir: Path):
    folder = Path(runs_dir) / record.identity.folder
    write_record(record, folder)
    (folder / "logits").mkdir(exist_ok=True)
    for epoch in record.epochs:
        np.save(folder / "logits" / f"epoch_{epoch.epoch}.npy", make_logits(epoch.epoch))
    return folder
