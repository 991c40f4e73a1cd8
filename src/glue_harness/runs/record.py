"""A run's record, record.json in its folder: the only thing through which training and aggregation meet.

It is there complete or not at all.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from glue_harness.errors import InputError
from glue_harness.io import Strict, explain_invalid, write_atomically
from glue_harness.runs.identity import Identity

SCHEMA_VERSION = 1
RECORD_NAME = "record.json"
TRAINED_WEIGHTS = Path("adapter", "adapter_model.safetensors")
"""What a run keeps of what it trained, adapter and head, in its folder."""
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy", "scipy")


class Status(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    FAILED = "failed"
    DIVERGED = "diverged"


class Parameters(Strict):
    """Numbers of parameters: trained outside the head, trained in the head, both, and the bare backbone's."""

    adapter: int
    head: int
    total: int
    backbone: int


class Epoch(Strict):
    """One evaluation: `metrics` maps a part of dev (`all`, `even`, `odd` rows) to metric to value.

    An undefined value (a correlation with a constant) is null. `degenerate` says that every dev row got the
    same prediction.
    """

    epoch: int
    train_loss: float | None
    metrics: dict[str, dict[str, float | None]]
    degenerate: bool


class Cost(Strict):
    """What the run took; a pace is known once an epoch has ended."""

    train_seconds: float
    eval_seconds: float
    total_seconds: float
    train_examples_per_second: float | None
    peak_memory_bytes: int
    truncated_share: float


class Provenance(Strict):
    """Where the numbers come from."""

    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    hardware: str
    data_sha256: dict[str, str]
    weights_sha256: str | None
    started_at: str


class RunRecord(Strict):
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
    if not isinstance(plain, dict):
        raise InputError(f"{path}: not a run record; allowed is what this harness wrote")
    version = plain.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version={version}: allowed is {SCHEMA_VERSION}")
    try:
        return RunRecord.model_validate(plain)
    except ValidationError as error:
        raise explain_invalid(path, error) from error


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
        if record is None or record.status is not Status.COMPLETE or not (folder / TRAINED_WEIGHTS).is_file():
            continue
        if (record.identity.cell_hash, record.identity.environment, record.identity.numerics) == made_here:
            return folder
    return None


def logits_path(folder: Path, epoch: int) -> Path:
    """Return where the dev logits of an epoch (1, 2, …) lie in a run's folder."""
    return folder / "logits" / f"epoch_{epoch}.npy"


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can move a number."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def code_version() -> tuple[str | None, bool | None]:
    """Return the commit the code stands at and whether src/ or conf/ differ from it; None outside of git."""
    root = Path(__file__).parents[3]
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "src", "conf"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.stdout.strip(), bool(changed.stdout.strip())
