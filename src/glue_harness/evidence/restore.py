"""Committed evidence -> finished run records, so that a fresh clone goes on where another stopped."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import DEGENERATE, LOSS, Row
from glue_harness.hardware import Environment
from glue_harness.io import write_atomically
from glue_harness.runs.identity import Identity
from glue_harness.runs.lock import own_run
from glue_harness.runs.record import (
    RECORD_NAME,
    Cost,
    Epoch,
    Parameters,
    Provenance,
    RunRecord,
    Status,
    logits_path,
    write_record,
)
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan

FINISHED = (Status.COMPLETE, Status.DIVERGED)
OWN_METRICS = (LOSS, DEGENERATE)


@dataclass(frozen=True)
class Report:
    """What a restoration did: records written, records that were there, a line for each that cannot be."""

    restored: int
    present: int
    refused: list[str]


def restore(plan: Plan, results_folder: Path, runs_dir: Path, whole: Plan | None = None) -> Report:
    """Write the record and the kept dev logits of every planned run that the evidence has as finished.

    A run goes to the folder of the environment it was made in. Records that exist are left alone. `whole` is
    the experiment's plan if `plan` is a part of it.

    Raises:
        InputError: there is no evidence, or it is damaged.
    """
    committed = evidence_files.read(results_folder)
    if committed is None:
        raise InputError(f"{results_folder}: no evidence; allowed is a folder with {evidence_files.FILES[0]}")
    rows = {(row["cell"], row["seed"]): row for row in evidence.list_rows(committed.runs)}
    epochs = evidence.group_rows(committed.epochs)
    restored, present, refused = 0, 0, []
    for cell in plan.cells:
        key = cell.key
        if key not in rows or rows[key]["status"] not in FINISHED:
            continue
        place = f"{results_folder / 'runs.csv'}: cell {key[0]}, seed {key[1]}: "
        try:
            record = rebuild_record(cell, rows[key], epochs.get(key, []))
        except InputError as error:
            refused.append(f"{place}{error}")
            continue
        if _write_run(record, committed, runs_dir / record.identity.folder):
            restored += 1
        else:
            present += 1
    known = {cell.key for cell in (whole or plan).cells}
    stray = sum(row["status"] in FINISHED for key, row in rows.items() if key not in known)
    if stray:
        refused.append(
            f"{results_folder / 'runs.csv'}: {stray} finished runs are not of this plan's configuration"
        )
    return Report(restored, present, refused)


def _write_run(record: RunRecord, committed: evidence.Evidence, folder: Path) -> bool:
    """Write a run's record and kept logits, unless it has a record or is being run; say whether."""
    with own_run(folder) as ours:
        if not ours or (folder / RECORD_NAME).exists():
            return False
        _write_logits(record, committed, folder)
        write_record(record, folder)  # last: a record says that its run is whole
        return True


def _write_logits(record: RunRecord, committed: evidence.Evidence, folder: Path) -> None:
    for epoch in (epoch.epoch for epoch in record.epochs):
        key = evidence.name_prediction(record.identity.cell_hash, record.identity.seed, epoch)
        if key in committed.predictions:
            buffer = io.BytesIO()
            np.save(buffer, committed.predictions[key].astype(np.float32))
            write_atomically(logits_path(folder, epoch), buffer.getvalue())


def rebuild_record(cell: Cell, row: Row, epoch_rows: list[Row]) -> RunRecord:
    """Return the record that a row of runs.csv and its rows of epochs.csv were made from.

    Raises:
        InputError: the row does not describe a run of this cell: its configuration hash is another.
    """
    try:
        environment = Environment.model_validate({name: row[name] for name in Environment.model_fields})
        planned = cell.identify_on(environment).model_dump()
        identity = Identity.model_validate(planned | {"numerics": row["numerics"]})
        if identity.config_hash != row["config_hash"]:
            raise InputError(f"config_hash={row['config_hash']}: allowed is {identity.config_hash}")
        has_parameters, has_cost = row["total_parameters"] is not None, row["total_seconds"] is not None
        return RunRecord(
            status=row["status"],
            identity=identity,
            headline=row["headline"],
            majority_score=row["majority_score"],
            parameters=Parameters(**_pick(row, Parameters, "_parameters")) if has_parameters else None,
            epochs=_rebuild_epochs(epoch_rows),
            cost=Cost(**_pick(row, Cost)) if has_cost else None,
            provenance=_rebuild_provenance(row),
            error=None if row["error"] is None else row["error"].encode().decode("unicode_escape"),
        )
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(" ".join(str(error).split())) from error


def _pick(row: Row, part: type[Parameters] | type[Cost] | type[Provenance], suffix: str = "") -> Row:
    return {name: row[f"{name}{suffix}"] for name in part.model_fields}


def _rebuild_provenance(row: Row) -> Provenance:
    pairs = {name: _split_pairs(row[name] or "") for name in ("packages", "data_sha256")}
    return Provenance(**(_pick(row, Provenance) | pairs))


def _split_pairs(text: str) -> dict[str, str]:
    """Undo `a=1 b=2`; a space belongs to a value unless a name and = follow it."""
    pairs = re.split(r" (?=[\w-]+=)", text) if text else []
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _rebuild_epochs(epoch_rows: list[Row]) -> list[Epoch]:
    values: dict[int, dict[tuple[str, str], float | None]] = {}
    for row in epoch_rows:
        values.setdefault(row["epoch"], {})[row["part"], row["metric"]] = row["value"]
    epochs = []
    for number, measured in values.items():
        metrics: dict[str, dict[str, float | None]] = {}
        for (part, metric), value in measured.items():
            if (part, metric) not in OWN_METRICS:
                metrics.setdefault(part, {})[metric] = value
        degenerate = bool(measured[DEGENERATE])
        loss = measured[LOSS]
        epochs.append(Epoch(epoch=number, train_loss=loss, metrics=metrics, degenerate=degenerate))
    return epochs
