"""The evidence of an experiment: what results/<experiment>/ commits and everything published derives from.

`runs.csv` has a row for every planned run, `epochs.csv` every value of every epoch, `predictions.npz` the dev
logits (fp16) of the epochs a protocol can select. files.py writes and reads them, validation.py
says what must hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from glue_harness.runs.record import Status

MISSING = "missing"
STATUSES = (*(status.value for status in Status), MISSING)
LOSS, DEGENERATE = ("train", "loss"), ("all", "degenerate")
"""The epoch's own rows of epochs.csv, as (part, metric); `degenerate` is 1 or 0."""

TEXT, INTEGER, NUMBER, TRUTH = "string", "Int64", "Float64", "boolean"
RUN_COLUMNS = {
    **dict.fromkeys(("model", "task", "method", "label"), TEXT),
    **{"rank": INTEGER, "settings": TEXT, "init_from": TEXT, "seed": INTEGER, "status": TEXT, "cell": TEXT},
    **{"config_hash": TEXT, "headline": TEXT, "averaged": TRUTH, "majority_score": NUMBER},
    **{f"{part}_parameters": INTEGER for part in ("adapter", "head", "total", "backbone")},
    **{"trainer": TEXT, "epochs": INTEGER, "evaluated_epochs": INTEGER, "batch_size": INTEGER},
    **dict.fromkeys(("learning_rate", "head_learning_rate", "alpha", "weight_decay"), NUMBER),
    **{"max_steps": INTEGER, "warmup_share": NUMBER, "warmup_steps": INTEGER},
    **{"max_grad_norm": NUMBER, "max_length": INTEGER},
    **{"precision": TEXT, "device": TEXT, "threads": INTEGER, "processes": INTEGER, "numerics": INTEGER},
    **dict.fromkeys(("train_seconds", "eval_seconds", "total_seconds"), NUMBER),
    **{"train_examples_per_second": NUMBER, "peak_memory_bytes": INTEGER, "truncated_share": NUMBER},
    **{"commit": TEXT, "dirty": TRUTH},
    **dict.fromkeys(("hardware", "packages", "data_sha256", "weights_sha256", "started_at", "error"), TEXT),
}
EPOCH_COLUMNS = {
    **dict.fromkeys(("model", "task", "label", "cell"), TEXT),
    **{"seed": INTEGER, "epoch": INTEGER, "part": TEXT, "metric": TEXT, "value": NUMBER},
}
VALUE_COLUMNS = ("epoch", "part", "metric", "value")
"""What the rows of one run do not have in common."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """One experiment's evidence; unknown is NA in both frames.

    `runs`: RUN_COLUMNS, a row a planned run, in grid order. `epochs`: EPOCH_COLUMNS, a row a value, in the
    order of `runs`. `predictions`: "<cell>/seed<k>/epoch_<n>" to dev logits, (rows, outputs) float16, in
    the dev split's own order.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    predictions: Mapping[str, np.ndarray]


def build_frame(rows: list[Row], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return rows (None or absent: unknown) as a frame of `columns`, name to dtype."""
    return pd.DataFrame(rows, columns=list(columns), dtype=object).astype(dict(columns))


def list_rows(frame: pd.DataFrame) -> list[Row]:
    """Return a frame's rows as dictionaries of plain Python values, None for what is unknown."""
    names = list(frame.columns)
    columns = [list_column(frame[name]) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def list_column(column: pd.Series) -> list[Any]:
    """Return a column's values as plain Python values, None for what is unknown."""
    return list(column.to_numpy(dtype=object, na_value=None))


def group_rows(epochs: pd.DataFrame) -> dict[tuple[str, int], list[Row]]:
    """Return the rows of `Evidence.epochs` by run, (cell, seed): of each row what VALUE_COLUMNS name."""
    runs = zip(list_column(epochs["cell"]), list_column(epochs["seed"]), strict=True)
    grouped: dict[tuple[str, int], list[Row]] = {}
    for run, row in zip(runs, list_rows(epochs[list(VALUE_COLUMNS)]), strict=True):
        grouped.setdefault(run, []).append(row)
    return grouped


def name_prediction(cell: str, seed: int, epoch: int) -> str:
    """Return the key of an epoch's logits in predictions.npz."""
    return f"{cell}/seed{seed}/epoch_{epoch}"


def best_epoch(curve: Mapping[int, float | None]) -> int:
    """Return the epoch (from 1) of the highest value, the earliest of equals; undefined counts as lowest."""
    return max(sorted(curve), key=lambda epoch: -math.inf if (value := curve[epoch]) is None else value)


def select_kept_epochs(epoch_rows: list[Row], headline: str) -> list[int]:
    """Return the epochs of one run that a protocol can select: the last, and the best on each part of dev."""
    curves: dict[str, dict[int, float | None]] = {}
    for row in epoch_rows:
        if row["metric"] == headline:
            curves.setdefault(row["part"], {})[row["epoch"]] = row["value"]
    last = max(row["epoch"] for row in epoch_rows)
    return sorted({last, *(best_epoch(curve) for curve in curves.values())})
