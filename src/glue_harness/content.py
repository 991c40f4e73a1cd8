"""What a run's data are, as far as its identity goes: told from conf/, without reading a published file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from glue_harness import miniature
from glue_harness.config import Data, Task

UNLABELLED = -1
"""The label of a test split's rows."""


def run_splits(task: Task) -> tuple[str, ...]:
    """Return the splits that a run reads."""
    return ("train", *task.dev)


def fingerprint(rows: Mapping[str, Sequence[Any]], task: Task) -> str:
    """Return the sha256 of a split's content: every row's texts and label (scores to three places).

    `rows` maps a column to its values: a `Dataset` as well as a plain dictionary.
    """
    digest = hashlib.sha256()
    columns = [rows[name] for name in task.text_columns]
    for *texts, label in zip(*columns, rows["label"], strict=True):
        shown = "" if label == UNLABELLED else task.labels[label] if task.labels else f"{label:.3f}"
        digest.update("\x1f".join([*texts, shown]).encode() + b"\x1e")
    return digest.hexdigest()


def content_identity(data: Data, task: Task) -> dict[str, str]:
    """Return what a run's data are, split by split, without reading published files.

    The published fingerprint stands for `hub` and `local` alike, since loading checks it; a split whose
    fingerprint is not known is named by its number of rows. `miniature` is generated and hashed.
    """
    if data.name == "miniature":
        return _miniature_identity(task.name, tuple(task.text_columns), tuple(task.labels), tuple(task.dev))
    published = {name: task.splits[name] for name in run_splits(task)}
    return {name: split.sha256 or f"{split.rows} rows" for name, split in published.items()}


@functools.cache
def _miniature_identity(
    name: str, columns: tuple[str, ...], labels: tuple[str, ...], dev: tuple[str, ...]
) -> dict[str, str]:
    task = Task(name=name, text_columns=list(columns), labels=list(labels), dev=list(dev))
    splits = miniature.generate(name)
    return {split: fingerprint(dict(splits[split]), task) for split in run_splits(task)}
