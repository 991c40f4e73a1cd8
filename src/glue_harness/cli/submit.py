"""Command `submit`: finished runs of one method predict GLUE's test sets: a TSV file each, and their zip."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glue_harness.cli.common import command_line
from glue_harness.config.schema import Config, Split, Task
from glue_harness.data.sources import load_split
from glue_harness.errors import InputError
from glue_harness.io import write_atomically
from glue_harness.reports.leaderboard import (
    SHEETS,
    Sheet,
    check_sheets,
    check_submission,
    write_archive,
    write_sheet,
)
from glue_harness.runs.index import Inventory
from glue_harness.runs.record import TRAINED_WEIGHTS, Status, read_record
from glue_harness.sweeps import plan as sweep
from glue_harness.sweeps.grid import Cell
from glue_harness.sweeps.plan import Plan
from glue_harness.training.prediction import predict_logits

DIAGNOSTIC = "ax"
DIAGNOSED = "mnli"
"""The diagnostic set has no training data: MNLI's model predicts it."""


class Run(NamedTuple):
    """A finished run and its folder, on whatever machine it was made."""

    cell: Cell
    folder: Path


def submit(overrides: list[str]) -> Path:
    """Write results/<experiment>/submission/ for the one method that `overrides` choose; return its zip.

    Of a task's finished runs the one with the best last epoch on dev predicts, with the weights that it ended
    with. A task without a run gets the class that is most frequent in train, where train can be read.

    Raises:
        InputError: more than one method is chosen, it keeps no weights, or nothing of it is finished.
    """
    plan = sweep.plan(overrides)
    if plan.config.data.name == "miniature":
        raise InputError("data=miniature: generated text has no leaderboard; allowed is hub or local")
    _require_one_system(plan)
    inventory = plan.take_inventory()
    chosen = {
        task: run for task in _list_tasks(plan) if (run := _choose_run(plan, task, inventory)) is not None
    }
    if not chosen:
        raise InputError(
            f"{plan.config.runs_dir}: no finished run of {plan.cells[0].label} keeps its weights; "
            "allowed is one task at least (restored runs have none)"
        )
    sheets = {}
    for sheet in SHEETS:
        run = chosen.get(DIAGNOSED if sheet.task == DIAGNOSTIC else sheet.task)
        sheets[sheet.name] = write_sheet(sheet, _fill(sheet, run, plan.config))
    folder = Path(plan.config.results_dir, plan.name, "submission", plan.cells[0].label)
    check_sheets({f"{name}.tsv": text for name, text in sheets.items()}, folder)
    for name, text in sheets.items():
        write_atomically(folder / f"{name}.tsv", text.encode())
    archive = folder.with_suffix(".zip")
    write_archive(sheets, archive)
    return archive


def _require_one_system(plan: Plan) -> None:
    systems = list(dict.fromkeys((cell.model, cell.label) for cell in plan.cells))
    if len(systems) > 1:
        shown = ", ".join(f"{label} of {model}" for model, label in systems)
        raise InputError(
            f"only: {shown} are {len(systems)} systems; allowed is one: only.method=[edora] only.rank=[16]"
        )
    if plan.cells[0].config.method.adapter is None:
        label = plan.cells[0].label
        raise InputError(f"method={label}: its runs keep no weights; allowed is a method with an adapter")


def _list_tasks(plan: Plan) -> list[str]:
    return list(dict.fromkeys(cell.task for cell in plan.cells))


def _choose_run(plan: Plan, task: str, inventory: Inventory) -> Run | None:
    """Return the finished run of a task whose last epoch is best on dev, the first of equals."""
    scored: list[tuple[float, Run]] = []
    for cell in (cell for cell in plan.cells if cell.task == task):
        for found in inventory.find(cell.key):
            record = read_record(found.folder) if (found.folder / TRAINED_WEIGHTS).is_file() else None
            if record is not None and record.status is Status.COMPLETE:
                score = record.epochs[-1].metrics["all"][record.headline] or 0.0
                scored.append((score, Run(cell, found.folder)))
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def _fill(sheet: Sheet, run: Run | None, config: Config) -> Sequence[float]:
    """Return the predictions of a run, or where there is none a constant, with a warning."""
    try:
        if run is not None:
            return predict(run, sheet)
        reason = "no finished run that keeps its weights"
    except InputError as error:
        if sheet.task != DIAGNOSTIC:
            raise
        reason = str(error)
    value, source = find_constant(sheet, config)
    print(f"warning: {sheet.name}: {reason}; every row gets {source}", file=sys.stderr)
    return [value] * sheet.rows


def find_constant(sheet: Sheet, config: Config) -> tuple[float, str]:
    """Return the most frequent label of train, or of STS-B its mean score, and what that is in words.

    Where the train set is not to be had it is the first label, or the middle of the scores.
    """
    task = compose_task(sheet, config)
    try:
        labels = load_split(config.data, task, "train")["label"][:]
    except InputError:
        return (2.5, "the middle of the range") if sheet.values is None else (0, f"'{sheet.values[0]}'")
    if sheet.values is None:
        return float(np.mean(labels)), "the mean of train"
    label = Counter(labels).most_common(1)[0][0]
    return label, f"'{sheet.values[label]}', the most frequent of train"


def compose_task(sheet: Sheet, config: Config) -> Task:
    """Return a sheet's task as conf/ has it; the diagnostic set is MNLI's task with rows of its own."""
    name = DIAGNOSED if sheet.task == DIAGNOSTIC else sheet.task
    task = sweep.plan([f"model={config.model.name}", f"task={name}"]).cells[0].config.task
    if sheet.task != DIAGNOSTIC:
        return task
    return replace(task, name=DIAGNOSTIC, splits={"test": Split(rows=sheet.rows)})


def predict(run: Run, sheet: Sheet) -> Sequence[float]:
    """Return a finished run's predictions on a test set: label ids, or scores; this machine computes them.

    Raises:
        InputError: the test set is not to be had, or the weights do not give the run's dev logits.
    """
    cell, config = run.cell, run.cell.config
    task = config.task if sheet.task == config.task.name else compose_task(sheet, config)
    rows = load_split(config.data, task, sheet.split)
    logits = predict_logits(config, cell.identity, run.folder, task, rows)
    return (logits[:, 0] if sheet.values is None else logits.argmax(axis=1)).tolist()


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    with command_line(arguments.overrides):
        if arguments.check is not None:
            check_submission(Path(arguments.check))
            print(f"{arguments.check}: as the leaderboard takes it")
        else:
            print(f"{submit(arguments.overrides)}: as the leaderboard takes it; {len(SHEETS)} files")
