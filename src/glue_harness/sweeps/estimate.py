"""What the runs that are left will take, in time and on disk, from what like runs took."""

from __future__ import annotations

import math
import os
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from glue_harness.config.schema import Config
from glue_harness.data import miniature
from glue_harness.hardware import count_gpus
from glue_harness.runs.index import Found, Inventory
from glue_harness.runs.record import Status
from glue_harness.sweeps.grid import Cell

Likeness = tuple[object, ...]
"""What runs have in common: their settings; how they train, model, task and label; …; or only their model."""

STYLE = ("padding", "precision", "accelerated", "batch_size")
"""What of a trainer makes the same rows take another time, by far."""


@dataclass(frozen=True)
class Estimate:
    """Seconds, one run after the other, and bytes on disk of `runs` runs.

    `examples` are what all of them train on, in `steps` of the optimiser; both are None where the size of
    some run's data is not known. `unlike` of them resemble nothing that has been measured: they are left out
    of time and disk. `measured` counts the runs that there are to go by, by the hardware they ran on.
    """

    runs: int
    examples: int | None
    steps: int | None
    unlike: int
    seconds: float
    size: int
    measured: Counter[str]


def estimate(cells: Sequence[Cell], inventory: Inventory) -> Estimate:
    """Estimate what `cells` will take from the most like of the runs that are complete.

    Time follows the number of training examples, at the median pace of the like runs, with evaluation and
    loading in it; disk is that of a like run.
    """
    groups, hardware = _group_complete(inventory)
    typical = cache(lambda likeness: _describe_typical(groups[likeness]))
    seconds, size, unlike = 0.0, 0, 0
    counted = [count_examples(cell.config) for cell in cells]
    for cell, examples in zip(cells, counted, strict=True):
        config = cell.config
        names = (config.model.name, config.task.name, config.method.name, config.method.label)
        likenesses = _list_likenesses(cell.cell_hash, vars(config.trainer), *names)
        known = [likeness for likeness in likenesses if likeness in groups]
        if not known or examples is None:
            unlike += 1
            continue
        pace, size_of_one = typical(known[0])
        seconds, size = seconds + examples / pace, size + size_of_one
    steps = [count_steps(cell.config) for cell in cells]
    return Estimate(len(cells), _sum(counted), _sum(steps), unlike, seconds, size, hardware)


def _sum(counts: Sequence[int | None]) -> int | None:
    """Return the sum of counts that are all known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _group_complete(inventory: Inventory) -> tuple[dict[Likeness, list[Found]], Counter[str]]:
    """Return the complete runs by everything they can have in common, and how many ran on which hardware.

    A sweep's runs are one process each: a run that several shared says nothing of them. Nor does one on
    another kind of device, once there are runs on this one.
    """
    complete = [
        (cell_hash, found)
        for (cell_hash, _), records in inventory.records.items()
        for found in records
        if found.status is Status.COMPLETE and _pace(found) and found.environment.processes == 1
    ]
    device = "cuda" if count_gpus() else "cpu"
    here = [(cell_hash, found) for cell_hash, found in complete if found.environment.device == device]
    groups: dict[Likeness, list[Found]] = {}
    for cell_hash, found in here or complete:
        names = (found.model, found.task, found.method, found.label)
        for likeness in _list_likenesses(cell_hash, found.trainer, *names):
            groups.setdefault(likeness, []).append(found)
    return groups, Counter(found.hardware for _, found in here or complete)


def _list_likenesses(
    cell_hash: str, trainer: Mapping[str, Any], model: str, task: str, method: str, label: str
) -> list[Likeness]:
    """Return what a run can have in common with others, the most first."""
    style = tuple(trainer.get(name) for name in STYLE)
    names = [(model, task, "label", label), (model, task, "method", method), (model, task), (model,)]
    return [("settings", cell_hash), *((style, *name) for name in names), *(("any", *name) for name in names)]


def _pace(found: Found) -> float | None:
    """Return training examples a second of the whole run, its evaluations and its start included."""
    cost = found.cost
    if cost is None or not cost.train_examples_per_second or not cost.total_seconds:
        return None
    return cost.train_examples_per_second * cost.train_seconds / cost.total_seconds


def _describe_typical(group: Sequence[Found]) -> tuple[float, int]:
    """Return the median pace of a group and the size on disk of one of its runs."""
    return statistics.median(_pace(found) or 0.0 for found in group), measure_size(str(group[0].folder))


def count_examples(config: Config) -> int | None:
    """Return how many training examples a run sees, or None where the size of its data is not known."""
    trainer, rows = config.trainer, _count_rows(config)
    if trainer.max_steps is not None:
        return trainer.max_steps * trainer.batch_size
    return None if rows is None else trainer.epochs * rows


def count_steps(config: Config) -> int | None:
    """Return how many optimiser steps a run takes, or None where the size of its data is not known."""
    trainer, rows = config.trainer, _count_rows(config)
    if trainer.max_steps is not None or rows is None:
        return trainer.max_steps
    return trainer.epochs * math.ceil(rows / trainer.batch_size)


def _count_rows(config: Config) -> int | None:
    """Return the rows of an epoch."""
    if config.data.name == "miniature":
        rows = _count_miniature(config.task.name)
    elif "train" in config.task.splits:
        rows = config.task.splits["train"].rows
    else:
        return None
    return rows - round((config.data.holdout or 0) * rows)


@cache
def _count_miniature(task: str) -> int:
    return len(miniature.generate(task)["train"]["label"])


@cache
def measure_size(folder: str) -> int:
    """Return the bytes that a folder takes on disk, whole blocks counted."""
    size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            size += entry.stat(follow_symlinks=False).st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                size += measure_size(entry.path)
    return size
