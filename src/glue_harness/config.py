"""The typed schema of conf/, and the way from a composed configuration to a checked `Config`.

Beyond this module only the entrances (`train`, `sweep`) see OmegaConf; training works with these dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from glue_harness.errors import choices, input_errors, require, require_one_of


@dataclass
class Weights:
    """Where a backbone's weights come from, pinned by content.

    `source` is `hub` (repository `id` at commit `revision`), `package` (a PyPI package `id`, its
    model.safetensors checked against `sha256`) or `random` (drawn from `seed`).
    """

    source: str = MISSING
    id: str | None = None
    revision: str | None = None
    sha256: str | None = None
    seed: int | None = None


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
    """A published split: its number of rows and the fingerprint of its content (`content.fingerprint`)."""

    rows: int = MISSING
    sha256: str | None = None


@dataclass
class Tsv:
    """A task in the GLUE download: its folder; its columns by title, or by position without a header."""

    folder: str = MISSING
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

    The learning rates are the published ones; conf/tuned holds what our own search found.
    """

    name: str = MISSING
    label: str = MISSING
    learning_rate: float = MISSING
    head_learning_rate: float = MISSING
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
    """Hyper-parameters of one model x method x task, as found by our own search."""

    learning_rate: float = MISSING
    head_learning_rate: float = MISSING


@dataclass
class Trainer:
    """The protocol of training. `batch_size` is global: accumulation and processes are derived from it.

    Warm-up is a share of all optimiser steps, unless `warmup_steps` gives their number.
    `accelerated` has the same computed in less time, but for roundings and the dropout's random numbers.
    """

    name: str = MISSING
    epochs: int = MISSING
    max_steps: int | None = None
    batch_size: int = MISSING
    device_batch_size: int | None = None
    eval_batch_size: int = MISSING
    learning_rate: float = MISSING
    head_learning_rate: float = MISSING
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


@dataclass
class Protocol:
    """How the runs of a cell become one number: which epoch, which statistic over seeds."""

    name: str = MISSING
    epoch: str = MISSING
    statistic: str = MISSING
    description: str = MISSING


@dataclass
class Experiment:
    """A published table: its name and its grid, a union of blocks, each a product of axes."""

    name: str | None = None
    title: str | None = None
    grid: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Search:
    """How `tune` searches an experiment's grid: `grid` runs it, `optuna` draws `trials` from its ranges."""

    name: str = MISSING
    trials: int | None = None
    seed: int | None = None
    startup_trials: int | None = None


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
    """The whole of conf/: the axes model, task, method, rank and seed, and how to run and report them."""

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
    search: Search = field(default_factory=Search)
    tracking: Tracking = field(default_factory=Tracking)
    runs_dir: str = "runs"
    results_dir: str = "results"


ConfigStore.instance().store(name="schema", node=Config)


def resolve(composed: DictConfig) -> Config:
    """Turn a composed configuration into a checked, fully resolved `Config`.

    Raises:
        InputError: a key the schema does not know (also one added with `+`), a value of the wrong type or
            outside its range.
    """
    return fill_in(enforce_schema(composed), {})


def enforce_schema(composed: DictConfig) -> DictConfig:
    """Return a composed configuration on a fresh schema, which knows no key but its own; still unresolved.

    Raises:
        InputError: a key the schema does not know, or a value of the wrong type.
    """
    with input_errors():
        plain = OmegaConf.to_container(composed, resolve=False)
        template = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(plain))
    assert isinstance(template, DictConfig)
    return template


def fill_in(template: DictConfig, values: dict[str, Any]) -> Config:
    """Resolve a configuration with `values` set by dotted name, far faster than composing it anew for each.

    The values stay set in `template`.

    Raises:
        InputError: a value of the wrong type or outside its range.
    """
    with input_errors():
        for name, value in values.items():
            OmegaConf.update(template, name, value)
        config = OmegaConf.to_object(template)
    assert isinstance(config, Config)
    check(config)
    return config


def check(config: Config) -> None:
    """Check every value that can be judged without loading data or weights.

    Raises:
        InputError: naming field, value and what is allowed.
    """
    trainer = config.trainer
    largest = max_rank(config.model)
    require(1 <= config.rank <= largest, "rank", config.rank, f"1 to {largest} for {config.model.name}")
    require(0 <= config.seed < 2**32, "seed", config.seed, "0 to 4294967295")
    for name in ("epochs", "batch_size", "eval_batch_size", "max_length"):
        require(getattr(trainer, name) >= 1, f"trainer.{name}", getattr(trainer, name), "1 or more")
    for name in ("learning_rate", "head_learning_rate"):
        require(getattr(trainer, name) > 0, f"trainer.{name}", getattr(trainer, name), "above 0")
    for name in ("weight_decay", "max_grad_norm"):
        require(getattr(trainer, name) >= 0, f"trainer.{name}", getattr(trainer, name), "0 or more")
    require(0 <= trainer.warmup_share < 1, "trainer.warmup_share", trainer.warmup_share, "0 to 1, 1 excluded")
    warmup = trainer.warmup_steps
    require(warmup is None or warmup >= 0, "trainer.warmup_steps", warmup, "0 or more, or null")
    require_one_of("trainer.precision", trainer.precision, ("auto", "bf16", "fp32"))
    require_one_of("trainer.padding", trainer.padding, ("batch", "max_length"))
    _check_options(config)
    require_one_of("protocol.epoch", config.protocol.epoch, ("best", "last"))
    require_one_of("protocol.statistic", config.protocol.statistic, ("median", "mean"))
    require_one_of("model.weights.source", config.model.weights.source, ("hub", "package", "random"))
    require_one_of("data.name", config.data.name, ("hub", "local", "miniature"))
    require_one_of("task.headline", config.task.headline, tuple(config.task.metrics))
    positive = ("max_steps", "device_batch_size")
    for name in (n for n in positive if getattr(trainer, n) is not None):
        require(getattr(trainer, name) >= 1, f"trainer.{name}", getattr(trainer, name), "1 or more, or null")
    limit = max_tokens(config.model)
    require(
        trainer.max_length <= limit,
        "trainer.max_length",
        trainer.max_length,
        f"at most {limit} for the model",
    )


def _check_options(config: Config) -> None:
    """Check what is off unless it is asked for."""
    holdout, origin, tracking = config.data.holdout, config.init_from, config.tracking
    require(holdout is None or 0 < holdout < 1, "data.holdout", holdout, "between 0 and 1, or null")
    if origin is not None:
        others = [task for task in choices("task") if task != config.task.name]
        require_one_of("init_from", origin, tuple(others))
        allowed = f"null for method={config.method.name}, whose runs keep no weights to start from"
        require(config.method.adapter is not None, "init_from", origin, allowed)
    if tracking.name == "wandb":
        require_one_of("tracking.mode", str(tracking.mode), ("offline", "online"))
        require(tracking.timeout_seconds > 0, "tracking.timeout_seconds", tracking.timeout_seconds, "above 0")


def max_rank(model: Model) -> int:
    """Return the largest rank that every adapted layer of `model` can hold: its smaller side."""
    architecture = model.architecture
    return min(architecture["hidden_size"], architecture["intermediate_size"])


def max_tokens(model: Model) -> int:
    """Return the longest input `model` takes, in tokens; RoBERTa's positions start after its padding id."""
    architecture = model.architecture
    offset = architecture["pad_token_id"] + 1 if architecture["model_type"] == "roberta" else 0
    return architecture["max_position_embeddings"] - offset
