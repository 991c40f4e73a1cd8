"""The typed schema of conf/, and the way from a composed configuration to a checked `Run`.

This is the last module that sees OmegaConf: everything after it works with the dataclasses below.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

CONF = Path(__file__).parents[2] / "conf"


class InputError(ValueError):
    """Input that cannot be used; the message is one line: field, value, what is allowed."""


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
    """A backbone: its weights, its architecture (so that counts need no network) and its named modules."""

    name: str = MISSING
    weights: Weights = field(default_factory=Weights)
    tokenizer: str = MISSING
    architecture: dict[str, Any] = field(default_factory=dict)
    target_modules: list[str] = field(default_factory=list)
    head_modules: list[str] = field(default_factory=list)
    adapted_layers: int = MISSING


@dataclass
class Split:
    """A published split: its number of rows and the fingerprint of its content (`data.fingerprint`)."""

    rows: int = MISSING
    sha256: str | None = None


@dataclass
class Task:
    """A GLUE task; `labels` in the order of their ids, empty for a regression."""

    name: str = MISSING
    text_columns: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    headline: str = MISSING
    max_length: int = 128
    splits: dict[str, Split] = field(default_factory=dict)


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
    """A source of GLUE: `hub` (at `revision`), `local` (a folder `root`) or `miniature` (made by code)."""

    name: str = MISSING
    root: str | None = None
    revision: str | None = None


@dataclass
class Tuned:
    """Hyper-parameters of one model x method x task, as found by our own search."""

    learning_rate: float = MISSING
    head_learning_rate: float = MISSING


@dataclass
class Trainer:
    """The protocol of training. `batch_size` is global: accumulation and processes are derived from it."""

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
    max_grad_norm: float = MISSING
    max_length: int = MISSING
    padding: str = MISSING
    length_buckets: bool = MISSING
    precision: str = MISSING


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
    data: Data = field(default_factory=Data)
    tuned: Tuned = field(default_factory=Tuned)
    trainer: Trainer = field(default_factory=Trainer)
    protocol: Protocol = field(default_factory=Protocol)
    experiment: Experiment = field(default_factory=Experiment)
    only: Only = field(default_factory=Only)
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
    """Resolve a configuration with top-level `values` set, far faster than composing it anew for each.

    Raises:
        InputError: a value of the wrong type or outside its range.
    """
    with input_errors():
        for name, value in values.items():
            template[name] = value
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
    require_one_of("trainer.precision", trainer.precision, ("auto", "bf16", "fp32"))
    require_one_of("trainer.padding", trainer.padding, ("batch", "max_length"))
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


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise a InputError that names field, value and what is allowed, unless `condition` holds."""
    if not condition:
        raise InputError(f"{name}={value}: allowed is {allowed}")


def require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise a InputError unless `value` is one of `allowed`."""
    require(value in allowed, name, value, "one of " + ", ".join(allowed))


def max_rank(model: Model) -> int:
    """Return the largest rank that every adapted layer of `model` can hold: its smaller side."""
    architecture = model.architecture
    return min(architecture["hidden_size"], architecture["intermediate_size"])


def max_tokens(model: Model) -> int:
    """Return the longest input `model` takes, in tokens; RoBERTa's positions start after its padding id."""
    architecture = model.architecture
    offset = architecture["pad_token_id"] + 1 if architecture["model_type"] == "roberta" else 0
    return architecture["max_position_embeddings"] - offset


def choices(group: str) -> list[str]:
    """Return the names one can choose in a group of conf/, sorted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into an InputError of one line."""
    try:
        yield
    except (OmegaConfBaseException, HydraException) as error:
        raise InputError(explain(error)) from error


def explain(error: Exception) -> str:
    """Say in one line what a Hydra or OmegaConf error means: field, value, what is allowed."""
    chain: list[BaseException] = [error]
    while (following := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(following)
    for link in chain:
        if isinstance(link, InputError):
            return str(link)
        if isinstance(link, MissingConfigException):
            return _explain_missing(link)
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _explain_key(link)
        if isinstance(link, ValidationError):
            return f"{_full_key(link)}: {str(link).partition(chr(10))[0]}"
    return " ".join(str(error).split())


def _full_key(error: OmegaConfBaseException) -> str:
    match = re.search(r"full_key: (\S+)", str(error))
    return (match.group(1) if match else error.full_key or str(error.key or "")).lstrip("+")


def _explain_missing(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group in {path.name for path in CONF.iterdir() if path.is_dir()}:
        return f"{group}={name}: allowed is one of {', '.join(choices(group))}"
    if group.startswith("preset/"):
        preset = group.partition("/")[2]
        return f"preset={preset}: has nothing for {name}; allowed is {_list_preset(preset)}"
    return " ".join(str(error).split())


def _list_preset(preset: str) -> str:
    """Say for which <model>_<method> and tasks a preset has values."""
    tasks: dict[str, list[str]] = {}
    for name in choices(f"preset/{preset}"):
        run, _, task = name.rpartition("_")
        tasks.setdefault(run, []).append(task)
    return ", ".join(f"{run} ({' '.join(names)})" for run, names in tasks.items())


def _explain_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    parent = error.parent_node
    names = sorted(str(name) for name in parent) if isinstance(parent, DictConfig) else []
    known_here = [name for name in names if name != error.key]
    return f"{_full_key(error)}: there is no such key" + (
        f"; known: {', '.join(known_here)}" if known_here else ""
    )
