"""What must hold of evidence, whoever wrote it: nothing that cannot be may reach a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from glue_harness.config.metric_specs import METRICS, MetricFacts
from glue_harness.errors import InputError, require, require_one_of
from glue_harness.evidence.schema import (
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
from glue_harness.runs.record import Status

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
    *("batch_size", "learning_rate", "head_learning_rate", "alpha", "weight_decay"),
)
"""What all runs of a cell have in common, the seed apart."""
RUN_FIELDS = ("config_hash", "evaluated_epochs", "precision", "device", "processes", "numerics", "started_at")
RESULT_FIELDS = ("majority_score", "total_parameters", "total_seconds")
COMPLETE_FIELDS = tuple(f"{part}_parameters" for part in ("adapter", "head", "total", "backbone"))
"""What all complete runs of a cell have in common besides."""
TASK_FIELDS, MODEL_FIELDS = ("data_sha256",), ("weights_sha256",)
"""What all complete runs of a task, and of a model, were made from; a plan need not know the content."""

ANY = (0, math.inf)
RUN_RANGES = {
    **{"majority_score": (-1, 1), "truncated_share": (0, 1), "epochs": (1, math.inf), "seed": ANY},
    **{f"{part}_parameters": ANY for part in ("adapter", "head", "total", "backbone")},
    **{f"{part}_seconds": ANY for part in ("train", "eval", "total")},
    **{"train_examples_per_second": ANY, "peak_memory_bytes": ANY, "evaluated_epochs": ANY},
}
HALVES_AGREE = 1e-6
ROUNDING = 1e-9
"""By how much a perfect score may be more than 1: quotients of sums are rounded."""


def check(evidence: Evidence, folder: Path) -> None:
    """Check what single fields cannot show; `folder` is where the evidence lies, for the messages.

    Raises:
        InputError: naming file, row, field, value and what is allowed.
    """
    in_epochs, in_predictions = f"{folder / 'epochs.csv'}: ", f"{folder / 'predictions.npz'}: "
    _check_values(evidence.epochs, in_epochs)
    by_run = group_rows(evidence.epochs)
    tasks: dict[str, Row] = {}
    cells: dict[str, Row] = {}
    trained: dict[str, Row] = {}
    data: dict[str, Row] = {}
    weights: dict[str, Row] = {}
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    seen: set[tuple[str, int]] = set()
    kept: set[str] = set()
    for number, row in enumerate(list_rows(evidence.runs), start=1):
        place = f"{folder / 'runs.csv'}: row {number}: "
        _check_run(row, place)
        key = (row["cell"], row["seed"])
        require(key not in seen, f"{place}cell, seed", f"{key[0]}, {key[1]}", "one row a run")
        seen.add(key)
        _check_alike(row, cells.setdefault(row["cell"], row), CELL_FIELDS, place)
        headline = tasks.setdefault(row["task"], row)["headline"]
        allowed = f"one metric a task, an earlier row of {row['task']} has {headline}"
        require(row["headline"] == headline, f"{place}headline", row["headline"], allowed)
        own = by_run.get(key, [])
        _check_epochs(row, own, in_epochs)
        if row["status"] == Status.COMPLETE:
            _check_alike(row, trained.setdefault(row["cell"], row), COMPLETE_FIELDS, place)
            _check_alike(row, data.setdefault(row["task"], row), TASK_FIELDS, place)
            _check_alike(row, weights.setdefault(row["model"], row), MODEL_FIELDS, place)
            kept |= _check_predictions(row, own, evidence.predictions, shapes, in_predictions)
            _check_halves(row, own, shapes[row["model"], row["task"]][0], in_epochs)
    for cell, seed in sorted(set(by_run) - seen):
        raise InputError(f"{in_epochs}cell, seed={cell}, {seed}: allowed is a run of runs.csv")
    for name in sorted(set(evidence.predictions) - kept):
        allowed = "allowed is what `edora-glue report` wrote"
        raise InputError(f"{in_predictions}{name}: of no epoch that a protocol selects; {allowed}")


def _check_run(row: Row, place: str) -> None:
    require_one_of(f"{place}status", row["status"], STATUSES)
    needed = PLANNED_FIELDS + RUN_FIELDS * (row["status"] != MISSING)
    for name in needed + RESULT_FIELDS * (row["status"] in (Status.COMPLETE, Status.DIVERGED)):
        require(row[name] is not None, f"{place}{name}", "", f"a value, since the run is {row['status']}")
    require_one_of(f"{place}headline", row["headline"], tuple(METRICS))
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
    """Check that runs which are compared were made alike: no two ways of training stand in one cell."""
    for name in names:
        allowed = f"{other[name]}, as an earlier run of cell {other['cell']} has"
        require(row[name] == other[name], f"{place}{name}", row[name], allowed)


def _check_epochs(row: Row, epoch_rows: list[Row], place: str) -> None:
    place = f"{place}cell {row['cell']}, seed {row['seed']}: "
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
    for metric, facts in {**METRICS, DEGENERATE[1]: MetricFacts("degenerate")}.items():
        values = epochs.loc[epochs["metric"] == metric, "value"]
        outside = (
            (values < facts.lowest - ROUNDING)
            | (values > 1 + ROUNDING)
            | (values.isna() & (not facts.correlates))
        )
        for number, value in values[outside.fillna(False)].items():
            shown = "" if pd.isna(value) else value
            require(False, f"{place}row {number + 1}: {metric}", shown, _name_range(facts.lowest, 1))


def _check_predictions(
    row: Row,
    epoch_rows: list[Row],
    stored: Mapping[str, np.ndarray],
    shapes: dict[tuple[str, str], tuple[int, ...]],
    place: str,
) -> set[str]:
    """Check a run's logits of epochs that a protocol can select: finite, of every row; return their keys.

    `shapes`: by model and task, as first seen; filled in.
    """
    keys = set()
    for epoch in select_kept_epochs(epoch_rows, row["headline"]):
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
        keys.add(key)
    return keys


def _check_halves(row: Row, epoch_rows: list[Row], rows: int, place: str) -> None:
    """Check a run's accuracy on all `rows` of dev against that on its even and its odd rows."""
    found = {(r["epoch"], r["part"]): r["value"] for r in epoch_rows if r["metric"] == "accuracy"}
    for epoch in range(1, row["evaluated_epochs"] + 1):
        values = [found[epoch, part] for part in ("all", "even", "odd") if (epoch, part) in found]
        if len(values) < 3:
            continue
        whole, even, odd = values
        joined = ((rows + 1) // 2 * even + rows // 2 * odd) / rows
        field = f"{place}cell {row['cell']}, seed {row['seed']}: accuracy of epoch {epoch}"
        allowed = f"{joined:.6g}, as its even ({even:.6g}) and odd ({odd:.6g}) rows give"
        require(abs(whole - joined) < HALVES_AGREE, field, whole, allowed)
