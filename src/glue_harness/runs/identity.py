"""Which run is which: the hash covers every value that can change a run's result, and nothing else.

So the same configuration is the same folder, runs/<model>/<task>/<method label>/<config hash>/seed<k>/, and
any difference another.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from glue_harness.config.schema import Config
from glue_harness.data.fingerprint import content_identity
from glue_harness.hardware import Environment
from glue_harness.io import Strict

NUMERICS = 1
ADAPTER_NUMERICS = {"edora": 1}
"""Bumped whenever a change of code moves numbers: runs before and after never share a folder.

Those of an adapter's package count on top, for the runs that use it: at 1 edora computes a layer at once.
"""


class Identity(Strict):
    """Which run this is: the axes, the planned values, and the machine's part."""

    model: str
    task: str
    method: str
    label: str
    rank: int | None
    seed: int
    planned: dict[str, Any]
    environment: Environment
    numerics: int

    @property
    def cell_hash(self) -> str:
        """The hash of what was planned, the seed apart: the same on every machine and for every numerics."""
        return hash_planned(self.planned)

    @property
    def config_hash(self) -> str:
        """The hash of every value that can change the result, the seed apart."""
        return _hash([self.planned, self.environment.model_dump(), self.numerics])

    @property
    def source(self) -> tuple[str, str] | None:
        """The task and the cell hash of the run that this one starts from, or None."""
        if "init_from" not in self.planned:
            return None
        task, cell_hash = self.planned["init_from"].split("@")
        return task, cell_hash

    @property
    def folder(self) -> Path:
        """The run's folder below the configured `runs_dir`."""
        return Path(self.model, self.task, self.label, self.config_hash, f"seed{self.seed}")


def hash_plan(config: Config, source_hash: str | None = None) -> str:
    """Return the cell hash of the run that `config` describes: `Identity.cell_hash`, without a machine.

    Raises:
        ValueError: the run starts from another one, and that one's cell hash is not given.
    """
    return hash_planned(describe_plan(config, source_hash))


def identify(config: Config, environment: Environment, source_hash: str | None = None) -> Identity:
    """Return the identity of the run that `config` describes on a machine that gives it `environment`.

    `source_hash` is the cell hash of the run that it starts from (`config.init_from`).

    Raises:
        ValueError: there is to be a source, and its hash is not given.
    """
    return Identity(
        model=config.model.name,
        task=config.task.name,
        method=config.method.name,
        label=config.method.label,
        rank=get_rank(config),
        seed=config.seed,
        planned=json.loads(json.dumps(describe_plan(config, source_hash))),  # a copy, as a record holds it
        environment=environment,
        numerics=current_numerics(config.method.adapter),
    )


def get_rank(config: Config) -> int | None:
    """Return the rank of a configuration's adapter, or None where it has no adapter, or one without ranks."""
    return (config.method.adapter or {}).get("r")


def get_alpha(config: Config) -> float | None:
    """Return what a configuration's adapter scales its update by, times the rank; None if nothing does."""
    adapter = config.method.adapter or {}
    return adapter.get("alpha", adapter.get("lora_alpha"))


def current_numerics(adapter: dict[str, Any] | None) -> int:
    """Return the numerics of a run that is made with this adapter by the code as it is."""
    package = (adapter or {}).get("_target_", "").partition(".")[0]
    return NUMERICS + ADAPTER_NUMERICS.get(package, 0)


def hash_planned(planned: dict[str, Any]) -> str:
    """Return the cell hash of planned values."""
    return _hash(planned)


def describe_plan(config: Config, source_hash: str | None) -> dict[str, Any]:
    """Return everything in conf/ that can change a run's result, the seed apart: views, not copies."""
    planned = {
        "model": _without(vars(config.model), "name") | {"weights": vars(config.model.weights)},
        "task": {"text_columns": config.task.text_columns, "labels": config.task.labels},
        "data": content_identity(config.data, config.task),
        "train_backbone": config.method.train_backbone,
        "adapter": config.method.adapter,
        "trainer": _without(vars(config.trainer), "name", "alpha"),  # the adapter has alpha
    }
    if config.init_from is None:
        return planned
    if source_hash is None:
        raise ValueError(f"init_from={config.init_from}: the run it starts from has to be identified too")
    return planned | {"init_from": f"{config.init_from}@{source_hash}"}


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


def _hash(value: object) -> str:
    canonical = json.dumps(_without_nulls(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _without_nulls(value: object) -> object:
    """Drop what is null, that is not used: an option added later leaves earlier hashes as they were."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
