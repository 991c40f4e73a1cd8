"""From a composed configuration to a checked `Config`.

Beyond this package only the plan and the commands use OmegaConf.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from glue_harness.config.metric_specs import METRICS
from glue_harness.config.schema import Config, Model, Task, run_splits
from glue_harness.errors import InputError, choices, input_errors, require, require_one_of

PROTOCOL = {
    "setting": ("chosen", "apart"),
    "epoch": ("best", "last"),
    "statistic": ("median", "mean"),
    "dev": ("whole", "halves"),
}
"""A protocol's choices."""

ARCHITECTURE = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "max_position_embeddings",
    "pad_token_id",
    "initializer_range",
)
"""What the harness itself reads of a model's architecture."""


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
    for field in ARCHITECTURE:
        allowed = "what the model's config.json says"
        require(field in config.model.architecture, f"model.architecture.{field}", "missing", allowed)
    largest = max_rank(config.model)
    require(1 <= config.rank <= largest, "rank", config.rank, f"1 to {largest} for {config.model.name}")
    require(0 <= config.seed < 2**32, "seed", config.seed, "0 to 4294967295")
    for name in ("epochs", "batch_size", "eval_batch_size", "max_length"):
        require(getattr(trainer, name) >= 1, f"trainer.{name}", getattr(trainer, name), "1 or more")
    for name in ("learning_rate", "head_learning_rate"):
        require(getattr(trainer, name) > 0, f"trainer.{name}", getattr(trainer, name), "above 0")
    alpha, scales = trainer.alpha, config.method.alpha is not None
    allowed = "above 0" if scales else f"null for method={config.method.name}, which it does not scale"
    require(alpha is None or (scales and alpha > 0), "trainer.alpha", alpha, allowed)
    for name in ("weight_decay", "max_grad_norm"):
        require(getattr(trainer, name) >= 0, f"trainer.{name}", getattr(trainer, name), "0 or more")
    require(0 <= trainer.warmup_share < 1, "trainer.warmup_share", trainer.warmup_share, "0 to 1, 1 excluded")
    warmup = trainer.warmup_steps
    require(warmup is None or warmup >= 0, "trainer.warmup_steps", warmup, "0 or more, or null")
    require_one_of("trainer.precision", trainer.precision, ("auto", "bf16", "fp32"))
    require_one_of("trainer.padding", trainer.padding, ("batch", "max_length"))
    _check_options(config)
    for name, options in PROTOCOL.items():
        require_one_of(f"protocol.{name}", getattr(config.protocol, name), options)
    require_one_of("experiment.choice", config.experiment.choice, ("best", "one_standard_error"))
    require_one_of("model.weights.source", config.model.weights.source, ("hub", "package", "random"))
    require_one_of("data.name", config.data.name, ("hub", "local", "miniature"))
    _check_task(config.task)
    _check_splits(config)
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


def _check_task(task: Task) -> None:
    for name in task.metrics:
        require_one_of("task.metrics", name, tuple(METRICS))
        misuse = METRICS[name].explain_misuse(len(task.labels))
        if misuse is not None:
            raise InputError(f"task.metrics={name}: is {misuse}; {task.name} has {len(task.labels)} labels")
    require_one_of("task.headline", task.headline, tuple(task.metrics))


def _check_splits(config: Config) -> None:
    """Check that the rows a run reads are known to be what was published, or are made by code."""
    task, data = config.task, config.data
    allowed = f"null for data={data.name}, which reads no folder; data=local does"
    require(data.root is None or data.name == "local", "data.root", data.root, allowed)
    if data.name == "miniature":
        return
    for name in run_splits(task, data.holdout):
        allowed = "its number of rows, and the fingerprint of its content if known: {rows: 100, sha256: null}"
        require(name in task.splits, f"task.splits.{name}", "missing", allowed)


def _check_options(config: Config) -> None:
    """Check what is off unless it is asked for."""
    holdout, origin, tracking = config.data.holdout, config.init_from, config.tracking
    minutes = config.checkpoint_minutes
    require(minutes is None or minutes >= 0, "checkpoint_minutes", minutes, "0 or more, or null")
    runs = config.launcher.runs_per_gpu
    require(runs >= 1, "launcher.runs_per_gpu", runs, "1 or more")
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
    """Return the longest input `model` takes, in tokens.

    The positions of RoBERTa and MPNet start after the padding id.
    """
    architecture = model.architecture
    starts_after_padding = architecture["model_type"] in ("roberta", "mpnet")
    offset = architecture["pad_token_id"] + 1 if starts_after_padding else 0
    return architecture["max_position_embeddings"] - offset
