"""A run's identity and its record: the only thing through which training and aggregation meet.

A run lives in runs/<model>/<task>/<method label>/<config hash>/seed<k>/. The hash covers every value that can
change the result and nothing else, so the same configuration is the same folder and any difference another.
`record.json` there is complete or absent.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import os
import subprocess
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from glue_harness.config import Config
from glue_harness.content import content_identity
from glue_harness.errors import InputError
from glue_harness.hardware import Environment

SCHEMA_VERSION = 1
NUMERICS = 1
ADAPTER_NUMERICS = {"edora": 1}
"""Bumped whenever a change of code moves numbers: runs before and after never share a folder.

Those of an adapter's package count on top, for the runs that use it: at 1 edora computes a layer at once.
"""

RECORD_NAME = "record.json"
TRAINED = Path("adapter", "adapter_model.safetensors")
"""What a run keeps of what it trained, adapter and head, in its folder."""
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy", "scipy")


class Status(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    FAILED = "failed"
    DIVERGED = "diverged"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Identity(_Strict):
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


class Parameters(_Strict):
    """Numbers of parameters: trained outside the head, trained in the head, both, and the bare backbone's."""

    adapter: int
    head: int
    total: int
    backbone: int


class Epoch(_Strict):
    """One evaluation: `metrics` maps a part of dev (`all`, `even`, `odd` rows) to metric to value.

    An undefined value (a correlation with a constant) is null. `degenerate` says that every dev row got the
    same prediction.
    """

    epoch: int
    train_loss: float | None
    metrics: dict[str, dict[str, float | None]]
    degenerate: bool


class Cost(_Strict):
    """What the run took; a pace is known once an epoch has ended."""

    train_seconds: float
    eval_seconds: float
    total_seconds: float
    train_examples_per_second: float | None
    peak_memory_bytes: int
    truncated_share: float


class Provenance(_Strict):
    """Where the numbers come from."""

    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    hardware: str
    data_sha256: dict[str, str]
    weights_sha256: str | None
    started_at: str


class RunRecord(_Strict):
    """Everything the tables may use of one run.

    `attempts` says how often its training was begun, interrupted attempts included: 0 if it failed before.
    """

    schema_version: int = SCHEMA_VERSION
    status: Status
    identity: Identity
    headline: str
    majority_score: float | None
    parameters: Parameters | None
    epochs: list[Epoch]
    cost: Cost | None
    provenance: Provenance
    error: str | None
    attempts: int = 1


def hash_plan(config: Config, source_hash: str | None = None) -> str:
    """Return the cell hash of the run that `config` describes: `Identity.cell_hash`, without a machine.

    Raises:
        ValueError: the run starts from another one, and that one's cell hash is not given.
    """
    return hash_planned(_describe_plan(config, source_hash))


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
        rank=(config.method.adapter or {}).get("r"),
        seed=config.seed,
        planned=copy.deepcopy(_describe_plan(config, source_hash)),
        environment=environment,
        numerics=numerics_today(config.method.adapter),
    )


def numerics_today(adapter: dict[str, Any] | None) -> int:
    """Return the numerics of a run that is made with this adapter by the code as it is."""
    package = (adapter or {}).get("_target_", "").partition(".")[0]
    return NUMERICS + ADAPTER_NUMERICS.get(package, 0)


def hash_planned(planned: dict[str, Any]) -> str:
    """Return the cell hash of planned values."""
    return _hash(planned)


def _describe_plan(config: Config, source_hash: str | None) -> dict[str, Any]:
    """Return everything in conf/ that can change a run's result, the seed apart: views, not copies."""
    planned = {
        "model": _without(vars(config.model), "name") | {"weights": vars(config.model.weights)},
        "task": {"text_columns": config.task.text_columns, "labels": config.task.labels},
        "data": content_identity(config.data, config.task),
        "train_backbone": config.method.train_backbone,
        "adapter": config.method.adapter,
        "trainer": _without(vars(config.trainer), "name"),
    }
    if config.init_from is None:
        return planned
    if source_hash is None:
        raise ValueError(f"init_from={config.init_from}: the run it starts from has to be identified too")
    return planned | {"init_from": f"{config.init_from}@{source_hash}"}


def write_record(record: RunRecord, folder: Path) -> None:
    """Write a record so that a reader finds it whole or not at all, whatever happens meanwhile."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / RECORD_NAME, text.encode())


def read_record(folder: Path) -> RunRecord | None:
    """Return the record in a run's folder, or None where there is none.

    Raises:
        InputError: the file is not a record of this schema version.
    """
    path = folder / RECORD_NAME
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allowed is a run record") from error
    except ValueError as error:
        raise InputError(f"{path}: not a run record ({error}); allowed is what this harness wrote") from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version={version}: allowed is {SCHEMA_VERSION}")
    try:
        return RunRecord.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}") from error


def find_source(identity: Identity, runs_dir: Path) -> Path | None:
    """Return the folder of the run that `identity` starts from, or None if it is not there.

    It is complete, has kept its weights, and is of the same model, seed, environment and numerics, so that
    one identity is always one result.

    Raises:
        InputError: a record of the other task cannot be read.
    """
    if identity.source is None:
        return None
    task, cell_hash = identity.source
    made_here = (cell_hash, identity.environment, identity.numerics)
    for folder in sorted((runs_dir / identity.model / task).glob(f"*/*/seed{identity.seed}")):
        record = read_record(folder)
        if record is None or record.status is not Status.COMPLETE or not (folder / TRAINED).is_file():
            continue
        if (record.identity.cell_hash, record.identity.environment, record.identity.numerics) == made_here:
            return folder
    return None


def logits_path(folder: Path, epoch: int) -> Path:
    """Return where the dev logits of an epoch (1, 2, …) lie in a run's folder."""
    return folder / "logits" / f"epoch_{epoch}.npy"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there once it is safe on disk.

    Raises:
        InputError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); allowed is a writable folder"
        ) from error


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can move a number."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def code_version() -> tuple[str | None, bool | None]:
    """Return the commit the code stands at and whether src/ or conf/ differ from it; None outside of git."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "src", "conf"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.stdout.strip(), bool(changed.stdout.strip())


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
