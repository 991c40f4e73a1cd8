"""The evidence of an experiment: what results/<experiment>/ commits and everything published derives from.

`runs.csv` has a row for every planned run, `epochs.csv` every value of every epoch, `predictions.npz` the dev
logits (fp16) of the epochs a protocol can select. Written and read here, to the same bytes on any machine.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glue_harness.errors import InputError, require, require_one_of
from glue_harness.records import Status

MISSING = "missing"
STATUSES = (*(status.value for status in Status), MISSING)
FILES = ("runs.csv", "epochs.csv", "predictions.npz")
LOSS, DEGENERATE = ("train", "loss"), ("all", "degenerate")
"""The epoch's own rows of epochs.csv, as (part, metric); `degenerate` is 1 or 0."""

TEXT, INTEGER, NUMBER, TRUTH = "string", "Int64", "Float64", "boolean"
RUN_COLUMNS = {
    **dict.fromkeys(("model", "task", "method", "label"), TEXT),
    **{"rank": INTEGER, "settings": TEXT, "init_from": TEXT, "seed": INTEGER, "status": TEXT, "cell": TEXT},
    **{"config_hash": TEXT, "headline": TEXT, "averaged": TRUTH, "majority_score": NUMBER},
    **{f"{part}_parameters": INTEGER for part in ("adapter", "head", "total", "backbone")},
    **{"trainer": TEXT, "epochs": INTEGER, "evaluated_epochs": INTEGER, "batch_size": INTEGER},
    **dict.fromkeys(("learning_rate", "head_learning_rate", "weight_decay"), NUMBER),
    **{"max_steps": INTEGER, "warmup_share": NUMBER, "warmup_steps": INTEGER},
    **{"max_grad_norm": NUMBER, "max_length": INTEGER},
    **{"precision": TEXT, "device": TEXT, "threads": INTEGER, "processes": INTEGER, "numerics": INTEGER},
    **dict.fromkeys(("train_seconds", "eval_seconds", "total_seconds"), NUMBER),
    **{"train_examples_per_second": NUMBER, "peak_memory_bytes": INTEGER, "truncated_share": NUMBER},
    **{"commit": TEXT, "dirty": TRUTH},
    **dict.fromkeys(("hardware", "packages", "data_sha256", "weights_sha256", "started_at", "error"), TEXT),
}
OPTIONAL = ("init_from", "max_steps", "warmup_share", "warmup_steps", "max_grad_norm", "max_length")
"""Columns that a file has only where one of its rows has a value."""
EPOCH_COLUMNS = {
    **dict.fromkeys(("model", "task", "label", "cell"), TEXT),
    **{"seed": INTEGER, "epoch": INTEGER, "part": TEXT, "metric": TEXT, "value": NUMBER},
}
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
    """Return the rows of `Evidence.epochs` by run: (cell, seed)."""
    grouped: dict[tuple[str, int], list[Row]] = {}
    for row in list_rows(epochs):
        grouped.setdefault((row["cell"], row["seed"]), []).append(row)
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


def encode(evidence: Evidence) -> dict[str, bytes]:
    """Return the content of each file of FILES; floats round-trip exactly."""
    unused = [name for name in OPTIONAL if evidence.runs[name].isna().all()]
    frames = {"runs.csv": evidence.runs.drop(columns=unused), "epochs.csv": evidence.epochs}
    encoded = {name: frame.to_csv(index=False, lineterminator="\n") for name, frame in frames.items()}
    predictions = _encode_predictions(evidence.predictions)
    return {name: text.encode() for name, text in encoded.items()} | {"predictions.npz": predictions}


def _encode_predictions(predictions: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(predictions):
            entry = zipfile.ZipInfo(f"{key}.npy")  # dated 1980, whatever the clock says
            entry.create_system = 3  # Unix, whatever the system is
            array = io.BytesIO()
            np.lib.format.write_array(array, np.ascontiguousarray(predictions[key]), version=(1, 0))
            archive.writestr(entry, array.getvalue())
    return buffer.getvalue()


def read(folder: Path) -> Evidence | None:
    """Return the evidence in a results folder, or None where there is none.

    Raises:
        InputError: a file of the set is missing, damaged, or says what cannot be; names file, row and field.
    """
    absent = [name for name in FILES if not (folder / name).is_file()]
    if len(absent) == len(FILES):
        return None
    if absent:
        raise InputError(f"{folder / absent[0]}: is missing; allowed is all of {', '.join(FILES)} or none")
    evidence = Evidence(
        _read_frame(folder / "runs.csv", RUN_COLUMNS),
        _read_frame(folder / "epochs.csv", EPOCH_COLUMNS),
        _read_predictions(folder / "predictions.npz"),
    )
    check(evidence, folder)
    return evidence


def _read_predictions(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable ({reason}); allowed is what `aggregate` wrote") from error


def _read_frame(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    try:
        header, *lines = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); allowed is a CSV file with a header") from error
    for name in (*columns, *header):
        if (name not in header and name not in OPTIONAL) or name not in columns:
            fault = "is missing" if name in columns else "is unknown"
            raise InputError(f"{path}: column {name} {fault}; allowed is {', '.join(columns)}")
    for number, line in enumerate(lines, start=1):
        require(len(line) == len(header), f"{path}: row {number}: fields", len(line), str(len(header)))
    texts = dict(zip(header, zip(*lines, strict=True) if lines else ([] for _ in header), strict=True))
    parsed = {name: _parse_column(texts[name], columns[name], path, name) for name in texts}
    if not path.read_bytes().endswith(b"\n"):
        raise InputError(f"{path}: row {len(lines)}: is cut short; allowed is a line with its end")
    absent = [None] * len(lines)
    frame = pd.DataFrame({name: pd.Series(parsed.get(name, absent), dtype=object) for name in columns})
    return frame.astype(dict(columns))


def _parse_column(texts: Sequence[str], kind: str, path: Path, name: str) -> list[Any]:
    """Return a column's values; each text is parsed once, at the first row that has it."""
    first: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        first.setdefault(text, number)
    values = {text: _parse(text, kind, f"{path}: row {number}: {name}") for text, number in first.items()}
    return [values[text] for text in texts]


def _parse(text: str, kind: str, place: str) -> str | int | float | bool | None:
    parse, allowed = _KINDS[kind]
    try:
        value = parse(text) if text else None
    except (ValueError, OverflowError, KeyError):
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}={text}: allowed is {allowed} or nothing")
    return value


_KINDS: dict[str, tuple[Callable[[str], Any], str]] = {
    TEXT: (str, "text"),
    INTEGER: (np.int64, "a whole number"),
    NUMBER: (float, "a finite number"),
    TRUTH: ({"True": True, "False": False}.__getitem__, "True or False"),
}


def check(evidence: Evidence, folder: Path) -> None:
    """Check what single fields cannot show; `folder` is where the evidence lies, for the messages.

    Raises:
        InputError: naming file, row, field, value and what is allowed.
    """
    by_run = group_rows(evidence.epochs)
    headlines: dict[str, str] = {}
    seen: set[tuple[str, int]] = set()
    plans: dict[str, Row] = {}
    for number, row in enumerate(list_rows(evidence.runs), start=1):
        place = f"{folder / 'runs.csv'}: row {number}: "
        _check_run(row, place)
        key = (row["cell"], row["seed"])
        require(key not in seen, f"{place}cell, seed", f"{key[0]}, {key[1]}", "one row a run")
        seen.add(key)
        _check_plan(row, plans.setdefault(row["cell"], row), place)
        headline = headlines.setdefault(row["task"], row["headline"])
        allowed = f"one metric a task, {row['task']} has {headline}"
        require(row["headline"] == headline, f"{place}headline", row["headline"], allowed)
        _check_epochs(row, by_run.get(key, []), folder)
        if row["status"] == Status.COMPLETE:
            _check_predictions(row, by_run[key], evidence.predictions, folder)
    for cell, seed in sorted(set(by_run) - seen):
        raise InputError(f"{folder / 'epochs.csv'}: cell, seed={cell}, {seed}: allowed is a run of runs.csv")


def _check_run(row: Row, place: str) -> None:
    require_one_of(f"{place}status", row["status"], STATUSES)
    needed = PLANNED_FIELDS + RUN_FIELDS * (row["status"] != MISSING)
    for name in needed + RESULT_FIELDS * (row["status"] in (Status.COMPLETE, Status.DIVERGED)):
        require(row[name] is not None, f"{place}{name}", "", f"a value, since the run is {row['status']}")
    if row["status"] == Status.COMPLETE:
        require(row["evaluated_epochs"] > 0, f"{place}evaluated_epochs", row["evaluated_epochs"], "1 or more")


def _check_plan(row: Row, other: Row, place: str) -> None:
    """Check that a cell's runs were planned alike: no two ways of training stand in one cell of a table."""
    for name in CELL_FIELDS:
        allowed = f"{other[name]}, as the other runs of cell {row['cell']} have"
        require(row[name] == other[name], f"{place}{name}", row[name], allowed)


def _check_epochs(row: Row, epoch_rows: list[Row], folder: Path) -> None:
    place = f"{folder / 'epochs.csv'}: cell {row['cell']}, seed {row['seed']}: "
    last = row["evaluated_epochs"] or 0
    keys = [(r["epoch"], r["part"], r["metric"]) for r in epoch_rows]
    require(len(set(keys)) == len(keys), f"{place}epoch, part, metric", "twice the same", "one row a value")
    found = sorted({epoch for epoch, _, _ in keys})
    require(found == list(range(1, last + 1)), f"{place}epoch", found, f"1 to {last}, as runs.csv says")
    if found:
        first = {key[1:] for key in keys if key[0] == 1} | {LOSS, DEGENERATE, ("all", row["headline"])}
        for epoch, part, metric in sorted({(epoch, *pair) for epoch in found for pair in first} - set(keys)):
            raise InputError(f"{place}{part} {metric} of epoch {epoch} is missing; allowed is every epoch's")


def _check_predictions(row: Row, rows: list[Row], stored: Mapping[str, np.ndarray], folder: Path) -> None:
    for epoch in select_kept_epochs(rows, row["headline"]):
        key = name_prediction(row["cell"], row["seed"], epoch)
        array = stored.get(key)
        found = "missing" if array is None else f"{array.dtype}, {array.ndim} dimensions"
        right = array is not None and array.dtype == np.float16 and array.ndim == 2
        require(right, f"{folder / 'predictions.npz'}: {key}", found, "float16 (rows, outputs)")
