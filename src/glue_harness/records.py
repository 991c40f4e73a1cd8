"""A run's identity and its record: the only thing through which training and aggregation meet.

A run lives in runs/<model>/<task>/<method label>/<config hash>/seed<k>/. The hash covers every value that can
change the result and nothing else, so the same configuration is the same folder and any difference another.
`record.json` there is complete or absent.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from glue_harness.config import Config
from glue_harness.errors import InputError
from glue_harness.hardware import Environment
from glue_harness.sources import content_identity

SCHEMA_VERSION = 1
NUMERICS = 1
ADAPTER_NUMERICS = {"edora": 1}
"""Bumped whenever a change of code moves numbers: runs before and after never share a folder.

Those of an adapter's package count on top, for the runs that use it: at 1 edora computes a layer at once.
"""

RECORD_NAME = "record.json"
LOCK_NAME = ".lock"
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
        return _hash(self.planned)

    @property
    def config_hash(self) -> str:
        """The hash of every value that can change the result, the seed apart."""
        return _hash([self.planned, self.environment.model_dump(), self.numerics])

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
    """Everything the tables may use of one run."""

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


def identify(config: Config, environment: Environment) -> Identity:
    """Return the identity of the run that `config` describes on a machine that gives it `environment`."""
    adapter = config.method.adapter or {}
    package = adapter.get("_target_", "").partition(".")[0]
    planned = {
        "model": _without(dataclasses.asdict(config.model), "name"),
        "task": {"text_columns": config.task.text_columns, "labels": config.task.labels},
        "data": content_identity(config.data, config.task),
        "train_backbone": config.method.train_backbone,
        "adapter": copy.deepcopy(config.method.adapter),
        "trainer": _without(dataclasses.asdict(config.trainer), "name"),
    }
    return Identity(
        model=config.model.name,
        task=config.task.name,
        method=config.method.name,
        label=config.method.label,
        rank=adapter.get("r"),
        seed=config.seed,
        planned=planned,
        environment=environment,
        numerics=NUMERICS + ADAPTER_NUMERICS.get(package, 0),
    )


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


def find_records(identity: Identity, runs_dir: Path) -> Iterator[tuple[Path, RunRecord]]:
    """Yield folder and record of a planned run under every environment and numerics that ran it.

    Raises:
        InputError: a record there cannot be read.
    """
    siblings = runs_dir / identity.model / identity.task / identity.label
    for folder in sorted(siblings.glob(f"*/seed{identity.seed}")):
        record = read_record(folder)
        if record is not None and record.identity.cell_hash == identity.cell_hash:
            yield folder, record


def logits_path(folder: Path, epoch: int) -> Path:
    """Return where the dev logits of an epoch (1, 2, …) lie in a run's folder."""
    return folder / "logits" / f"epoch_{epoch}.npy"


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Own a run's folder while inside, if no other process does: yields whether it is ours.

    The kernel frees the lock when its owner dies, however it dies.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_NAME).open("w")
    except OSError as error:
        raise InputError(
            f"runs_dir: {folder} cannot be written ({error.strerror}); allowed is a writable folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


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
