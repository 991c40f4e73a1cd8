"""Evidence <-> the files that results/<experiment>/ commits, to the same bytes on any machine."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glue_harness.errors import InputError, require
from glue_harness.evidence.schema import EPOCH_COLUMNS, INTEGER, NUMBER, RUN_COLUMNS, TEXT, TRUTH, Evidence
from glue_harness.evidence.validation import check

FILES = ("runs.csv", "epochs.csv", "predictions.npz")
OPTIONAL = ("init_from", "alpha", "max_steps", "warmup_share", "warmup_steps", "max_grad_norm", "max_length")
"""Columns that a file has only where one of its rows has a value."""


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
        raise InputError(
            f"{path}: not readable ({reason}); allowed is what `edora-glue report` wrote"
        ) from error


def _read_frame(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # an error may be longer than csv allows
        header, *lines = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
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
