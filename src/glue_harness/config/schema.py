"""The typed schema of conf/: training works with these dataclasses, and knows nothing of Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


@dataclass
class Weights:
    """Where a backbone's weights come from, pinned by content.

    `source` is `hub` (repository `id` at commit `revision`), `package` (a PyPI package `id` of version
    `revision`, its model.safetensors checked against `sha256`) or `random` (drawn from `seed`). Of `parts`
    packages `id`-001, `id`-002, … each holds a slice of a zip with the files.
    """

    source: str = MISSING
    id: str | None = None
    revision: str | None = None
    sha256: str | None = None
    seed: int | None = None
    parts: int | None = None


@dataclass
class Model:
    """A backbone: its weights, its architecture (so that counts need no network) and its named modules.

    `target_modules` begins with query and value, which some methods adapt alone.
    """

    name: str = MISSING
    weights: Weights = field(default_factory=Weights)
    tokenizer: str = MISSING
    architecture: dict[str, Any] = field(default_factory=dict)
    target_modules: list[str] = field(default_factory=list)
    head_modules: list[str] = field(default_factory=list)
    adapted_layers: int = MISSING


@dataclass
class Split:
    """A published split: its number of rows, and its content's `data.fingerprint.fingerprint` if known."""

    rows: int = MISSING
    sha256: str | None = None


@dataclass
class Tsv:
    """A task in the GLUE download: its folder; its columns by title, or by position without a header."""

    folder: str = "${..name}"
    columns: dict[str, str] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)


@dataclass
class Task:
    """A GLUE task; `labels` in the order of their ids, empty for a regression; `dev` is what it is scored on.

    `note` is said when a file is not the published one; a task out of `averaged` stays out of averages.
    """

    name: str = MISSING
    text_columns: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    headline: str = MISSING
    max_length: int = 128
    dev: list[str] = field(default_factory=lambda: ["validation"])
    splits: dict[str, Split] = field(default_factory=dict)
    tsv: Tsv = field(default_factory=Tsv)
    averaged: bool = True
    note: str | None = None


@dataclass
class Method:
    """A fine-tuning method: one constructor call (`adapter`), or none; full fine-tuning trains the backbone.

    The learning rates and alpha are the published ones; conf/tuned holds what our own search found. A method
    whose update nothing scales has no alpha.
    """

    name: str = MISSING
    label: str = MISSING
    learning_rate: float = MISSING
    head_learning_rate: float = MISSING
    alpha: int | float | None = None
    train_backbone: bool = False
    adapter: dict[str, Any] | None = None


@dataclass
class Data:
    """A source of GLUE: `hub` (at `revision`), `local` (a folder `root`) or `miniature` (made by code).

    `holdout` is the share of train that a run is scored on in the place of dev, which it then does not read.
    """

    name: str = MISSING
    root: str | None = None
    revision: str | None = None
    holdout: float | None = None


@dataclass
class Tuned:
    """Hyper-parameters of one model x method x task, as found by our own search.

    `rank` is the rank that alpha was searched at: at others alpha / rank stays. Without it alpha stays.
    """

    learning_rate: float = MISSING
    head_learning_rate: float = MISSING
    alpha: int | float | None = None
    rank: int | None = None


@dataclass
class Trainer:
    """The protocol of training. `batch_size` is global: accumulation and processes are derived from it.

    Warm-up is a share of all optimiser steps, unless `warmup_steps` gives their number.
    `accelerated` has the same computed in less time, but for roundings and the dropout's random numbers;
    `fused_optimizer` has AdamW pass over a parameter once, and rounds otherwise too. `alpha` scales the
    method's update (by alpha / rank); the method's adapter takes it from here.
    """

    name: str = MISSING
    epochs: int = MISSING
    max_steps: int | None = None
    batch_size: int = MISSING
    device_batch_size: int | None = None
    eval_batch_size: int = MISSING
    learning_rate: float = MISSING
    head_learning_rate: float = MISSING
    alpha: int | float | None = None
    weight_decay: float = MISSING
    decay_magnitude: bool = MISSING
    warmup_share: float = MISSING
    warmup_steps: int | None = None
    max_grad_norm: float = MISSING
    max_length: int = MISSING
    padding: str = MISSING
    length_buckets: bool = MISSING
    precision: str = MISSING
    accelerated: bool | None = None
    fused_optimizer: bool | None = None


@dataclass
class Protocol:
    """How the runs of a cell become one number: which epoch, which statistic over seeds, which part of dev.

    `setting`: of the settings that an experiment searched through one is `chosen`, or all stand `apart`.
    `dev`: the `whole` selects and reports, or each of two `halves` selects for the other.
    """

    name: str = MISSING
    epoch: str = MISSING
    statistic: str = MISSING
    description: str = MISSING
    setting: str = "chosen"
    dev: str = "whole"


@dataclass
class Experiment:
    """A published table: its name and its grid, a union of blocks, each a product of axes.

    `searched` names the axes, such as trainer.learning_rate, of whose values a protocol chooses one for each
    cell of the table; the values of all others are compared, in rows of their own. `notes` stand under its
    tables: what a reader has to know of the experiment as a whole. `tuned`: every run's rates are of a search
    (conf/tuned), and one without is refused. `final` names the experiment in which `tune` runs the best of
    this search again. `choice`: a search takes the `best` score, or of all scores within `one_standard_error`
    of it the one at the lowest learning rate.
    """

    name: str | None = None
    title: str | None = None
    searched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tuned: bool = False
    final: str | None = None
    choice: str = "best"
    grid: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Launcher:
    """What a launcher is told of our runs: how many share a GPU, which helps where one leaves it idle."""

    runs_per_gpu: int = 1


@dataclass
class Tracking:
    """Where finished runs are shown besides their records: `none`, or `wandb` (offline or online)."""

    name: str = MISSING
    project: str | None = None
    entity: str | None = None
    mode: str | None = None
    timeout_seconds: float = 60.0


@dataclass
class Only:
    """Filters on an experiment's grid; an empty list keeps everything."""

    task: list[str] = field(default_factory=list)
    method: list[str] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    seed: list[int] = field(default_factory=list)


@dataclass
class Config:
    """The whole of conf/: the axes model, task, method, rank and seed, and how to run and report them.

    A run is saved at every epoch's end, and within an epoch once `checkpoint_minutes` have passed.
    """

    model: Model = field(default_factory=Model)
    task: Task = field(default_factory=Task)
    method: Method = field(default_factory=Method)
    rank: int = MISSING
    seed: int = MISSING
    init_from: str | None = None
    data: Data = field(default_factory=Data)
    tuned: Tuned = field(default_factory=Tuned)
    trainer: Trainer = field(default_factory=Trainer)
    protocol: Protocol = field(default_factory=Protocol)
    experiment: Experiment = field(default_factory=Experiment)
    only: Only = field(default_factory=Only)
    launcher: Launcher = field(default_factory=Launcher)
    tracking: Tracking = field(default_factory=Tracking)
    checkpoint_minutes: float | None = 10.0
    runs_dir: str = "runs"
    results_dir: str = "results"


ConfigStore.instance().store(name="schema", node=Config)


def scale_alpha(alpha: float | None, searched_rank: int | None, rank: int) -> float | None:
    """Return the alpha at a rank that leaves alpha / rank as it was searched; whole numbers stay integers."""
    if alpha is None or searched_rank is None:
        return alpha
    scaled = alpha * rank / searched_rank
    return int(scaled) if scaled == int(scaled) else scaled


OmegaConf.register_new_resolver("scale_alpha", scale_alpha, replace=True)


def name_run(config: Config) -> str:
    """Name a run as a person would."""
    return f"{config.model.name} {config.task.name} {config.method.label} seed {config.seed}"


def label_folder(config: Config) -> Path:
    """Return the folder with all runs of a model, task and method's label, one below it for each setting."""
    return Path(config.runs_dir, config.model.name, config.task.name, config.method.label)


def run_splits(task: Task, holdout: float | None = None) -> tuple[str, ...]:
    """Return the splits that a run reads; with a holdout (a share of train) it reads train alone."""
    return ("train", *task.dev) if holdout is None else ("train",)
