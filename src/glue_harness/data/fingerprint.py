"""What a run's data are, as far as its identity goes: told from conf/, without reading a published file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from glue_harness.config.schema import Data, Task, run_splits
from glue_harness.data import miniature
from glue_harness.errors import require_one_of

UNLABELLED = -1
"""The label of a test split's rows."""


def fingerprint(rows: Mapping[str, Sequence[Any]], task: Task) -> str:
    """Return the sha256 of a split's content: every row's texts and label (scores to three places).

    `rows` maps a column to its values: a `Dataset` as well as a plain dictionary.
    """
    digest = hashlib.sha256()
    columns = [rows[name][:] for name in (*task.text_columns, "label")]  # of a Dataset, all rows at once
    for *texts, label in zip(*columns, strict=True):
        shown = "" if label == UNLABELLED else task.labels[label] if task.labels else f"{label:.3f}"
        digest.update("\x1f".join([*texts, shown]).encode() + b"\x1e")
    return digest.hexdigest()


def content_identity(data: Data, task: Task) -> dict[str, str]:
    """Return what a run's data are, split by split, without reading published files.

    The published fingerprint stands for `hub` and `local` alike, since loading checks it; a split whose
    fingerprint is not known is named by its number of rows. `miniature` is generated and hashed. With a
    holdout there is train, and the share of it that the run is scored on.

    Raises:
        InputError: the data are `miniature`, which has no such task.
    """
    held = {} if data.holdout is None else {"holdout": f"{data.holdout} of train"}
    names = run_splits(task, data.holdout)
    if data.name == "miniature":
        require_one_of("task.name", task.name, miniature.TASKS)
        return _miniature_identity(task.name, tuple(task.text_columns), tuple(task.labels), names) | held
    published = {name: task.splits[name] for name in names}
    return {name: split.sha256 or f"{split.rows} rows" for name, split in published.items()} | held


@functools.cache
def _miniature_identity(
    name: str, columns: tuple[str, ...], labels: tuple[str, ...], names: tuple[str, ...]
) -> dict[str, str]:
    task = Task(name=name, text_columns=list(columns), labels=list(labels))
    splits = miniature.generate(name)
    return {split: fingerprint(dict(splits[split]), task) for split in names}
