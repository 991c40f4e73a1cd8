"""What lies below runs/: the record of every run that has one, and every run in progress, read in one go."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from glue_harness.errors import InputError
from glue_harness.hardware import Environment, no_garbage_collection
from glue_harness.runs.identity import current_numerics, hash_planned
from glue_harness.runs.lock import is_owned
from glue_harness.runs.progress import Progress, read_progress
from glue_harness.runs.record import RECORD_NAME, SCHEMA_VERSION, Cost, Status, read_record

Key = tuple[str, int]
"""A planned run: its cell hash and its seed."""


class State(StrEnum):
    """Where a planned run stands."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    RUNNING = "running"
    FAILED = "failed"
    MISSING = "missing"


RUN_FOLDER = re.compile(r"seed\d+")
"""A run's folder; a file of that name is found out where its record is read."""

ENDED = (State.COMPLETE, State.DIVERGED)
LEFT = (State.RUNNING, State.FAILED, State.MISSING)


@dataclass(frozen=True)
class Found:
    """What a sweep has to know of a record, and the folder that the record lies in.

    `is_current`: the code as it is would make the run with the same numerics. `trainer` was planned.
    """

    folder: Path
    model: str
    task: str
    method: str
    label: str
    trainer: Mapping[str, Any]
    environment: Environment
    is_current: bool
    status: Status
    cost: Cost | None
    hardware: str
    error: str | None
    attempts: int


class Running(NamedTuple):
    """A run in progress: the folder that its owner has, and how far it is."""

    folder: Path
    progress: Progress


@dataclass(frozen=True)
class Inventory:
    """The records of every environment and numerics, and the runs in progress, by planned run."""

    records: dict[Key, list[Found]] = field(default_factory=dict)
    running: dict[Key, Running] = field(default_factory=dict)

    def find(self, key: Key) -> list[Found]:
        """Return a planned run's records of today's numerics, whatever environment they come from."""
        return [found for found in self.records.get(key, []) if found.is_current]

    def state(self, key: Key) -> State:
        """Return where a planned run stands: an end outweighs an attempt, an attempt an earlier failure."""
        statuses = {found.status for found in self.find(key)}
        for status in (Status.COMPLETE, Status.DIVERGED):
            if status in statuses:
                return State(status)
        if key in self.running:
            return State.RUNNING
        return State.FAILED if Status.FAILED in statuses else State.MISSING


def take_inventory(runs_dir: Path, models: Iterable[str]) -> Inventory:
    """Read what there is of every run of these models, planned or not.

    Raises:
        InputError: a record there cannot be read.
    """
    inventory = Inventory()
    with no_garbage_collection():
        for model in sorted(set(models)):
            for settings in _list_settings(str(runs_dir / model)):
                _take_settings(settings, inventory)
    return inventory


def look_for(key: Key, label_folder: Path) -> Inventory:
    """Read what there is of one planned run, as any machine makes it.

    `label_folder`: the folder <runs_dir>/<model>/<task>/<label> that its folders lie below.

    Raises:
        InputError: a record there cannot be read.
    """
    inventory = Inventory()
    for settings in _list_folders(str(label_folder)):
        _take_folder(f"{settings}/seed{key[1]}", inventory, hash_planned)
    return inventory


def list_records(labels: Iterable[Path]) -> Iterator[tuple[str, int]]:
    """Yield the folder of every run with a record below these folders, and when that was written (ns).

    `labels`: folders <runs_dir>/<model>/<task>/<label>.
    """
    for label in labels:
        for settings in _list_folders(str(label)):
            for folder in _list_folders(settings):
                with contextlib.suppress(OSError):
                    yield folder, os.stat(f"{folder}/{RECORD_NAME}").st_mtime_ns


def read_key(folder: str) -> Key | None:
    """Return the planned run that a folder has the record of, or None where there is none.

    Raises:
        InputError: the record cannot be read.
    """
    head = _read_head(folder)
    return None if head is None else (hash_planned(head.identity.planned), head.identity.seed)


def _list_settings(model_folder: str) -> Iterator[str]:
    """Yield the folders <task>/<label>/<config hash>, whose own folders are seeds."""
    for task in _list_folders(model_folder):
        for label in _list_folders(task):
            yield from _list_folders(label)


def _list_folders(parent: str) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(
                entry.path for entry in entries if entry.is_dir() or RUN_FOLDER.fullmatch(entry.name)
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{parent}: cannot be read ({error.strerror}); allowed is a folder of runs"
        ) from error


def _take_settings(settings: str, inventory: Inventory) -> None:
    """Take in the seeds of one configuration hash; they share their plan, which is hashed once."""
    last: tuple[dict[str, Any], str] | None = None

    def hash_once(planned: dict[str, Any]) -> str:
        nonlocal last
        if last is None or last[0] != planned:
            last = planned, hash_planned(planned)
        return last[1]

    for folder in _list_folders(settings):
        _take_folder(folder, inventory, hash_once)


def _take_folder(folder: str, inventory: Inventory, hash_plan: Callable[[dict[str, Any]], str]) -> None:
    """Take in what one run's folder has: a record, or else a run in progress."""
    head = _read_head(folder)
    if head is not None:
        key = hash_plan(head.identity.planned), head.identity.seed
        inventory.records.setdefault(key, []).append(_describe(head, Path(folder)))
    if (head is None or head.status is Status.FAILED) and is_owned(Path(folder)):
        progress = read_progress(Path(folder))
        if progress is not None:
            inventory.running[progress.cell, progress.seed] = Running(Path(folder), progress)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Identity(_Part):
    model: str
    task: str
    method: str
    label: str
    seed: int
    planned: dict[str, Any]
    environment: Environment
    numerics: int


class _Provenance(_Part):
    hardware: str


class _Head(_Part):
    """A `RunRecord` without what only tables need."""

    schema_version: int
    status: Status
    identity: _Identity
    cost: Cost | None
    provenance: _Provenance
    error: str | None
    attempts: int = 1


def _describe(head: _Head, folder: Path) -> Found:
    identity = head.identity
    return Found(
        folder=folder,
        model=identity.model,
        task=identity.task,
        method=identity.method,
        label=identity.label,
        trainer=identity.planned["trainer"],
        environment=identity.environment,
        is_current=identity.numerics == current_numerics(identity.planned.get("adapter")),
        status=head.status,
        cost=head.cost,
        hardware=head.provenance.hardware,
        error=head.error,
        attempts=head.attempts,
    )


def _read_head(folder: str) -> _Head | None:
    """Return the head of the record in a run's folder, or None where there is none.

    Raises:
        InputError: the file is not a record of this schema version.
    """
    path = f"{folder}/{RECORD_NAME}"
    try:
        with open(path, "rb") as file:
            text = file.read()
        head = _Head.model_validate_json(_without_epochs(text))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        head = None
    if head is None or head.schema_version != SCHEMA_VERSION:
        read_record(Path(folder))  # says what is wrong with it
        raise InputError(f"{path}: not a run record; allowed is what this harness wrote")
    return head


def _without_epochs(text: bytes) -> bytes:
    """Cut the epochs, most of a record, out of its text, where it is laid out as `write_record` does."""
    start, end = text.find(b'\n "epochs": ['), text.find(b'\n "cost": ')
    return text[:start] + text[end:] if 0 <= start < end else text
