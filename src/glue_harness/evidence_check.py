"""What must hold of evidence, whoever wrote it: nothing that cannot be may reach a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from glue_harness.errors import InputError, require, require_one_of
from glue_harness.evidence import (
    DEGENERATE,
    LOSS,
    MISSING,
    STATUSES,
    Evidence,
    Row,
    group_rows,
    list_rows,
    name_prediction,
    select_kept_epochs,
)
from glue_harness.records import Status

PLANNED_FIELDS = (
    "model",
    "task",
    "method",
    "label",
    "seed",
    "status",
    "cell",
    "headline",
    "averaged",
    "trainer",
)
CELL_FIELDS = (
    *("model", "task", "method", "label", "rank", "settings", "init_from", "trainer", "epochs"),
    *("batch_size", "learning_rate", "head_learning_rate", "weight_decay"),
)
"""What all runs of a cell have in common, the seed apart."""
RUN_FIELDS = ("config_hash", "evaluated_epochs", "precision", "device", "processes", "numerics", "started_at")
RESULT_FIELDS = ("majority_score", "total_parameters", "total_seconds")
COMPLETE_FIELDS = tuple(f"{part}_parameters" for part in ("adapter", "head", "total", "backbone"))
"""What all complete runs of a cell have in common besides."""

ANY = (0, math.inf)
METRIC_RANGES = {
    **{"accuracy": (0, 1), "f1": (0, 1), "matthews_correlation": (-1, 1)},
    **{"pearson": (-1, 1), "spearman": (-1, 1), "degenerate": (0, 1)},
}
UNDEFINABLE = ("matthews_correlation", "pearson", "spearman")
"""Metrics that a constant prediction leaves undefined."""

RUN_RANGES = {
    **{"majority_score": (-1, 1), "truncated_share": (0, 1), "epochs": (1, math.inf), "seed": ANY},
    **{f"{part}_parameters": ANY for part in ("adapter", "head", "total", "backbone")},
    **{f"{part}_seconds": ANY for part in ("train", "eval", "total")},
    **{"train_examples_per_second": ANY, "peak_memory_bytes": ANY, "evaluated_epochs": ANY},
}
HALVES = ("all", "even", "odd")
HALVES_AGREE = 1e-6


def check(evidence: Evidence, folder: Path) -> None:
    """Check what single fields cannot show; `folder` is where the evidence lies, for the messages.

    Raises:
        InputError: naming file, row, field, value and what is allowed.
    """
    by_run = group_rows(evidence.epochs)
    headlines: dict[str, Row] = {}
    seen: set[tuple[str, int]] = set()
    cells: dict[str, Row] = {}
    for number, row in enumerate(list_rows(evidence.runs), start=1):
        place = f"{folder / 'runs.csv'}: row {number}: "
        _check_run(row, place)
        key = (row["cell"], row["seed"])
        require(key not in seen, f"{place}cell, seed", f"{key[0]}, {key[1]}", "one row a run")
        seen.add(key)
        _check_alike(row, cells.setdefault(row["cell"], row), CELL_FIELDS, place)
        if row["status"] == Status.COMPLETE:
            _check_alike(row, cells.setdefault(f"{row['cell']} complete", row), COMPLETE_FIELDS, place)
        headline = headlines.setdefault(row["task"], row)["headline"]
        allowed = f"one metric a task, an earlier row of {row['task']} has {headline}"
        require(row["headline"] == headline, f"{place}headline", row["headline"], allowed)
        _check_epochs(row, by_run.get(key, []), folder)
    for cell, seed in sorted(set(by_run) - seen):
        raise InputError(f"{folder / 'epochs.csv'}: cell, seed={cell}, {seed}: allowed is a run of runs.csv")
    _check_values(evidence.epochs, f"{folder / 'epochs.csv'}: ")
    complete = [row for row in list_rows(evidence.runs) if row["status"] == Status.COMPLETE]
    _check_predictions(complete, by_run, evidence.predictions, f"{folder / 'predictions.npz'}: ")
    _check_halves(complete, by_run, evidence.predictions, f"{folder / 'epochs.csv'}: ")


def _check_run(row: Row, place: str) -> None:
    require_one_of(f"{place}status", row["status"], STATUSES)
    needed = PLANNED_FIELDS + RUN_FIELDS * (row["status"] != MISSING)
    for name in needed + RESULT_FIELDS * (row["status"] in (Status.COMPLETE, Status.DIVERGED)):
        require(row[name] is not None, f"{place}{name}", "", f"a value, since the run is {row['status']}")
    for name, (low, high) in RUN_RANGES.items():
        value = row[name]
        require(value is None or low <= value <= high, f"{place}{name}", value, _name_range(low, high))
    if row["status"] == Status.COMPLETE:
        _check_length(row, place)


def _check_length(row: Row, place: str) -> None:
    """Check that a complete run has every epoch that was planned, or as many as its steps allow."""
    found, planned = row["evaluated_epochs"], row["epochs"]
    if row["max_steps"] is None:
        allowed = f"{planned}, as planned, since the run is complete"
        require(found == planned, f"{place}evaluated_epochs", found, allowed)
    else:
        require(1 <= found <= planned, f"{place}evaluated_epochs", found, f"1 to {planned}")


def _name_range(low: float, high: float) -> str:
    return f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"


def _check_alike(row: Row, other: Row, names: Sequence[str], place: str) -> None:
    """Check that a cell's runs were planned alike: no two ways of training stand in one cell of a table."""
    for name in names:
        allowed = f"{other[name]}, as an earlier run of cell {row['cell']} has"
        require(row[name] == other[name], f"{place}{name}", row[name], allowed)


def _check_epochs(row: Row, epoch_rows: list[Row], folder: Path) -> None:
    place = f"{folder / 'epochs.csv'}: cell {row['cell']}, seed {row['seed']}: "
    last = row["evaluated_epochs"] or 0
    keys = [(r["epoch"], r["part"], r["metric"]) for r in epoch_rows]
    if len(set(keys)) < len(keys):
        epoch, part, metric = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"{place}{part} {metric} of epoch {epoch} stands twice; allowed is one row a value")
    found = sorted({epoch for epoch, _, _ in keys})
    require(found == list(range(1, last + 1)), f"{place}epoch", found, f"1 to {last}, as runs.csv says")
    if found:
        first = {key[1:] for key in keys if key[0] == 1} | {LOSS, DEGENERATE, ("all", row["headline"])}
        for epoch, part, metric in sorted({(epoch, *pair) for epoch in found for pair in first} - set(keys)):
            raise InputError(f"{place}{part} {metric} of epoch {epoch} is missing; allowed is every epoch's")


def _check_values(epochs: pd.DataFrame, place: str) -> None:
    """Check that each metric lies where it can, and that it is known where it always is."""
    for metric, (low, high) in METRIC_RANGES.items():
        values = epochs.loc[epochs["metric"] == metric, "value"]
        outside = (values < low) | (values > high) | (values.isna() & (metric not in UNDEFINABLE))
        for number, value in values[outside.fillna(False)].items():
            shown = "" if pd.isna(value) else value
            require(False, f"{place}row {number + 1}: {metric}", shown, _name_range(low, high))


def _check_predictions(
    complete: list[Row],
    by_run: Mapping[tuple[str, int], list[Row]],
    stored: Mapping[str, np.ndarray],
    place: str,
) -> None:
    """Check that there are finite logits of every dev row, of the epochs that a protocol can select alone."""
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    kept = set()
    for row in complete:
        for epoch in select_kept_epochs(by_run[row["cell"], row["seed"]], row["headline"]):
            key = name_prediction(row["cell"], row["seed"], epoch)
            array = stored.get(key)
            found = "missing" if array is None else f"{array.dtype}, {array.ndim} dimensions"
            right = array is not None and array.dtype == np.float16 and array.ndim == 2
            require(right, f"{place}{key}", found, "float16 (rows, outputs)")
            assert array is not None
            require(bool(np.isfinite(array).all()), f"{place}{key}", "not all finite", "finite logits")
            shape = shapes.setdefault((row["model"], row["task"]), array.shape)
            allowed = f"{shape}, as an earlier run of {row['task']} has"
            require(array.shape == shape, f"{place}{key}: shape", array.shape, allowed)
            kept.add(key)
    for key in sorted(set(stored) - kept):
        allowed = "allowed is what `aggregate` wrote"
        raise InputError(f"{place}{key}: of no epoch that a protocol selects; {allowed}")


def _check_halves(
    complete: list[Row],
    by_run: Mapping[tuple[str, int], list[Row]],
    stored: Mapping[str, np.ndarray],
    place: str,
) -> None:
    """Check accuracy on all of dev against its halves; the number of rows is that of the logits."""
    for row in complete:
        key = row["cell"], row["seed"]
        rows = len(stored[name_prediction(*key, row["evaluated_epochs"])])
        found = {(r["part"], r["epoch"]): r["value"] for r in by_run[key] if r["metric"] == "accuracy"}
        for epoch in range(1, row["evaluated_epochs"] + 1):
            values = [found[part, epoch] for part in HALVES if (part, epoch) in found]
            if len(values) < len(HALVES):
                continue
            whole, even, odd = values
            joined = ((rows + 1) // 2 * even + rows // 2 * odd) / rows
            field = f"{place}cell {key[0]}, seed {key[1]}: accuracy of epoch {epoch}"
            allowed = f"{joined:.6g}, as its even ({even:.6g}) and odd ({odd:.6g}) rows give"
            require(abs(whole - joined) < HALVES_AGREE, field, whole, allowed)
