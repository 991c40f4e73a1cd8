"""From the run records on disk, and the evidence committed earlier, to the evidence of a plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glue_harness.errors import InputError
from glue_harness.evidence import files as evidence_files
from glue_harness.evidence import schema as evidence
from glue_harness.evidence import validation as evidence_check
from glue_harness.evidence.schema import DEGENERATE, LOSS, MISSING, Evidence, Row
from glue_harness.runs.identity import get_alpha
from glue_harness.runs.index import Inventory, take_inventory
from glue_harness.runs.record import RunRecord, Status, logits_path, read_record
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan

PREFERENCE = (Status.COMPLETE, Status.DIVERGED, Status.FAILED)
"""Which of several records of one planned run counts: a result before an accident."""

TRAINER_COLUMNS = (
    *("epochs", "max_steps", "batch_size", "learning_rate", "head_learning_rate", "weight_decay"),
    *("warmup_share", "warmup_steps", "max_grad_norm", "max_length"),
)
"""What a run's row tells of `config.trainer`."""


@dataclass(frozen=True)
class Run:
    """What is known of one planned run: its row, its rows of epochs, its kept logits by epoch."""

    row: Row
    epochs: list[Row]
    logits: dict[int, np.ndarray]


def collect(plan: Plan, runs_dir: Path, results_folder: Path) -> Evidence:
    """Return the evidence of every planned run: from its record, else from earlier evidence, else missing.

    A run is its cell hash and seed, whatever machine, commit or numerics it came from. Earlier evidence is
    given up only for a record at least as good (complete, diverged, failed).

    Raises:
        InputError: a record, its logits or the earlier evidence cannot be used, or the earlier evidence holds
            results of runs that the plan does not have.
    """
    earlier = _index(evidence_files.read(results_folder))
    settings = describe_settings(plan.cells)
    inventory = take_inventory(runs_dir, {cell.config.model.name for cell in plan.cells})
    runs = []
    for cell in plan.cells:
        old = earlier.pop(cell.key, None)
        found = _find_run(cell, inventory, old) or Run({"status": MISSING}, [], {})
        names = _planned_columns(cell, settings[cell.cell_hash])
        place = {name: names[name] for name in ("model", "task", "label", "cell", "seed")}
        row = {"headline": cell.config.task.headline} | found.row | names
        runs.append(Run(row, [epoch | place for epoch in found.epochs], found.logits))
    results = [run for run in earlier.values() if run.row["status"] != Status.FAILED]  # a failure may lapse
    if results:
        raise InputError(
            f"{results_folder}: holds {len(results)} runs that are not planned now; allowed is a plan that "
            "has them, or another results_dir"
        )
    collected = _join(runs)
    evidence_check.check(collected, results_folder)
    return collected


def restrict(collected: Evidence, plan: Plan) -> Evidence:
    """Return the evidence of a plan's runs alone, from that of all runs of its experiment.

    Raises:
        InputError: none of them is there.
    """
    planned = {cell.key for cell in plan.cells}
    runs = collected.runs
    kept = [key in planned for key in zip(runs["cell"], runs["seed"], strict=True)]
    if not any(kept):
        raise InputError("only: no run of the grid is left; allowed is what the experiment's grid holds")
    return Evidence(runs[kept].reset_index(drop=True), collected.epochs, collected.predictions)


def _join(runs: list[Run]) -> Evidence:
    epochs = [row for run in runs for row in run.epochs]
    predictions = {
        evidence.name_prediction(run.row["cell"], run.row["seed"], epoch): logits
        for run in runs
        for epoch, logits in run.logits.items()
    }
    return Evidence(
        evidence.build_frame([run.row for run in runs], evidence.RUN_COLUMNS),
        evidence.build_frame(epochs, evidence.EPOCH_COLUMNS),
        predictions,
    )


def _index(earlier: Evidence | None) -> dict[tuple[str, int], Run]:
    if earlier is None:
        return {}
    epochs = evidence.group_rows(earlier.epochs)
    logits: dict[tuple[str, int], dict[int, np.ndarray]] = {}
    for key, array in earlier.predictions.items():
        run, _, epoch = key.rpartition("/epoch_")
        cell, _, seed = run.rpartition("/seed")
        logits.setdefault((cell, int(seed)), {})[int(epoch)] = array
    rows = {(row["cell"], row["seed"]): row for row in evidence.list_rows(earlier.runs)}
    return {
        key: Run(row, epochs.get(key, []), logits.get(key, {}))
        for key, row in rows.items()
        if row["status"] != MISSING
    }


def _find_run(cell: Cell, inventory: Inventory, old: Run | None) -> Run | None:
    """Return the run from its best record of today's numerics, unless earlier evidence is better."""
    folders = [found.folder for found in inventory.find(cell.key)]
    found = [(folder, record) for folder in folders if (record := read_record(folder)) is not None]
    if not found:
        return old
    # Sorts are stable: among equals the newest, of this machine's own environment first.
    found.sort(key=lambda pair: pair[1].provenance.started_at, reverse=True)
    found.sort(key=lambda pair: not _is_own(pair[1], cell))
    folder, record = min(found, key=lambda pair: PREFERENCE.index(pair[1].status))
    if old is not None and PREFERENCE.index(Status(old.row["status"])) < PREFERENCE.index(record.status):
        return old
    return describe_run(record, folder)


def _is_own(record: RunRecord, cell: Cell) -> bool:
    """Say whether this machine would have made the record's run; one that cannot make it would not."""
    try:
        return record.identity.config_hash == cell.identity.config_hash
    except InputError:
        return False


def describe_run(record: RunRecord, folder: Path) -> Run:
    """Return a record as rows of evidence, with the logits it keeps, float16, from its run's folder.

    Raises:
        InputError: logits of an epoch that a protocol can select are missing.
    """
    rows = [row for epoch in record.epochs for row in _describe_epoch(epoch.model_dump())]
    logits = {}
    if record.status == Status.COMPLETE and rows:
        kept = evidence.select_kept_epochs(rows, record.headline)
        logits = {epoch: _read_logits(logits_path(folder, epoch)) for epoch in kept}
    return Run(_record_columns(record), rows, logits)


def _describe_epoch(epoch: Row) -> list[Row]:
    own = {LOSS: epoch["train_loss"], DEGENERATE: float(epoch["degenerate"])}
    measured = {(part, name): v for part, values in epoch["metrics"].items() for name, v in values.items()}
    return [
        {"epoch": epoch["epoch"], "part": part, "metric": metric, "value": value}
        for (part, metric), value in (own | measured).items()
    ]


def _read_logits(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False).astype(np.float16)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not readable ({error}); allowed is the run's dev logits") from error


def _planned_columns(cell: Cell, settings: str | None) -> Row:
    trainer = cell.config.trainer
    return {
        **{name: getattr(cell, name) for name in ("model", "task", "method", "label", "rank")},
        "seed": cell.config.seed,
        **{name: getattr(trainer, name) for name in TRAINER_COLUMNS},
        "alpha": get_alpha(cell.config),
        **{"settings": settings, "cell": cell.cell_hash, "trainer": trainer.name},
        "init_from": cell.config.init_from,
        "averaged": cell.config.task.averaged,
    }


def _record_columns(record: RunRecord) -> Row:
    parameters = record.parameters.model_dump() if record.parameters else {}
    provenance = record.provenance.model_dump()
    provenance |= {name: _join_pairs(provenance[name]) for name in ("packages", "data_sha256")}
    # One line a row: line ends and the like become escapes.
    error = None if record.error is None else record.error.encode("unicode_escape").decode()
    return {
        **{"status": record.status.value, "config_hash": record.identity.config_hash},
        **{"headline": record.headline, "majority_score": record.majority_score, "error": error},
        **{f"{part}_parameters": count for part, count in parameters.items()},
        **{"evaluated_epochs": len(record.epochs), "numerics": record.identity.numerics},
        **record.identity.environment.model_dump(),
        **(record.cost.model_dump() if record.cost else {}),
        **provenance,
    }


def _join_pairs(pairs: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def describe_settings(planned: Sequence[Cell]) -> dict[str, str | None]:
    """Return, by cell hash, the planned values that tell apart cells of the same model, task and label.

    A value that differs within any one task is named for all tasks of that model and label, so that a
    table's rows hold the same setting throughout; values that differ only between tasks are not. Where the
    trainer's name tells the cells apart, it stands for all that it sets.
    """
    planned = list({cell.cell_hash: cell for cell in planned}.values())  # one of a cell's seeds
    values = {cell.cell_hash: _flatten(cell.planned) for cell in planned}
    trainers = {cell.cell_hash: cell.config.trainer.name for cell in planned}
    rows: dict[tuple[str, str], dict[str, set[str]]] = {}
    for cell in planned:
        tasks = rows.setdefault((cell.model, cell.label), {})
        tasks.setdefault(cell.task, set()).add(cell.cell_hash)
    settings: dict[str, str | None] = {}
    for tasks in rows.values():
        differing = sorted({key for hashes in tasks.values() for key in _differing(hashes, values)})
        by_name = all(len({trainers[name] for name in hashes}) == len(hashes) for hashes in tasks.values())
        for name in (name for hashes in tasks.values() for name in hashes):
            shown = [f"{key}={values[name].get(key, 'none')}" for key in differing]
            settings[name] = f"trainer={trainers[name]}" if differing and by_name else " ".join(shown) or None
    return settings


def _differing(hashes: set[str], values: dict[str, dict[str, str]]) -> set[str]:
    keys = {key for cell in hashes for key in values[cell]}
    return {key for key in keys if len({values[cell].get(key) for cell in hashes}) > 1}


def _flatten(value: object, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        inner = ((f"{path}.{key}".lstrip("."), item) for key, item in value.items() if item is not None)
        return {key: shown for name, item in inner for key, shown in _flatten(item, name).items()}
    return {path: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))}
