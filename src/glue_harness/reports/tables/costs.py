"""A selection -> the table of what training costs, and its CSV. Pure."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.summary import ROW_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import anchor, count_runs, describe_provenance, name_row, name_task
from glue_harness.reports.table import UNKNOWN, Entry, Table
from glue_harness.runs.record import Status

VALUE_BYTES = 4
"""What a trained value takes in a checkpoint: float32."""

MIB = 2**20


@dataclass(frozen=True)
class Quantity:
    """A column: what it is, what it counts, its name in the CSV, and by what a run's value is divided."""

    title: str
    unit: str
    name: str
    divisor: float = 1


MEASURED = (
    Quantity("Training", "s", "train_seconds"),
    Quantity("Evaluation", "s", "eval_seconds"),
    Quantity("Throughput", "rows/s", "train_examples_per_second"),
    Quantity("Peak memory", "MiB", "peak_memory_bytes", MIB),
)
CHECKPOINT = Quantity("Checkpoint", "MiB", "checkpoint_bytes", MIB)


def build_cost_table(selection: Selection, title: str) -> Table:
    """Lay out methods by what they cost, in a group for each model and task, with letters for machines.

    A cell is the median over the complete runs of a cell of the summary, once all its planned runs have
    entered; of several settings the chosen one's.
    """
    cells = _measure_cells(selection.chosen)
    letters = _name_machines(selection.chosen)
    several_models = selection.scored["model"].nunique() > 1
    head = [*[("Model", "")] * several_models, ("Task", ""), ("Method", "")]
    head += [(quantity.title, quantity.unit) for quantity in (*MEASURED, CHECKPOINT)]
    head += [("Machine", "")] * (len(letters) > 1)
    groups: dict[tuple[str, str], list[list[Entry]]] = {}
    for cell in cells:
        entries = [Entry(cell["model"])] * several_models
        entries += [Entry(name_task(cell["task"])), Entry(name_row(cell))]
        entries += [_show_quantity(cell, quantity) for quantity in MEASURED]
        entries.append(_show_checkpoint(cell))
        own = [letters[machine] for machine in cell["machines"]]
        entries += [Entry(" + ".join(own) or UNKNOWN)] * (len(letters) > 1)
        groups.setdefault((cell["model"], cell["task"]), []).append(entries)
    ordered = [groups[key] for key in _order_groups(list(groups))]
    return Table(title, head, 2 + several_models, ordered, _explain(selection, cells, letters))


def _order_groups(keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (model, task) with each model's tasks together, in order of appearance."""
    models = list(dict.fromkeys(model for model, _ in keys))
    return sorted(keys, key=lambda key: models.index(key[0]))


def _measure_cells(chosen: pd.DataFrame) -> list[Row]:
    """Return a row for each (ROW_KEY, task), in grid order: values of complete runs, and their machines.

    A list of values is None while a planned run is missing or has failed.
    """
    return [_measure_cell(runs) for runs in split_rows(evidence.list_rows(chosen), [*ROW_KEY, "task"])]


def _measure_cell(runs: list[Row]) -> Row:
    complete = [run for run in runs if run["status"] == Status.COMPLETE]
    diverged = sum(run["status"] == Status.DIVERGED for run in runs)
    counts = (
        (run["adapter_parameters"], run["head_parameters"])
        for run in runs
        if run["adapter_parameters"] is not None
    )
    trained = next(counts, None)
    whole = runs[0]["entered"] == runs[0]["planned"]
    values = {q.name: [run[q.name] for run in complete if run[q.name] is not None] for q in MEASURED}
    return {
        **{name: runs[0][name] for name in (*ROW_KEY, "task")},
        **{name: runs[0][name] for name in ("planned", "entered")},
        **{"complete": len(complete), "diverged": diverged},
        **{name: found if whole and found else None for name, found in values.items()},
        "checkpoint_bytes": None if trained is None else VALUE_BYTES * sum(trained),
        "machines": list(dict.fromkeys(describe_machine(run) for run in complete)),
    }


def describe_machine(run: Row) -> str:
    """Return what a run's times depend on besides its plan, such as `AMD EPYC, cpu, bf16, 1 thread, …`.

    Numerics are none of it: they are counted by package, so that methods differ in them on one machine.
    """
    named = [run[name] for name in ("hardware", "device", "precision") if run[name] is not None]
    counted = [
        f"{run[name]} {noun if run[name] == 1 else name}"
        for name, noun in {"threads": "thread", "processes": "process"}.items()
        if run[name] is not None
    ]
    return ", ".join([*named, *counted])


def _name_machines(chosen: pd.DataFrame) -> dict[str, str]:
    """Return a letter for each machine of a complete run, in order of appearance."""
    complete = evidence.list_rows(chosen[chosen["status"] == Status.COMPLETE])
    machines = dict.fromkeys(describe_machine(run) for run in complete)
    names = itertools.chain(string.ascii_uppercase, map(str, itertools.count(1)))
    return dict(zip(machines, names, strict=False))


def _show_quantity(cell: Row, quantity: Quantity) -> Entry:
    values: Sequence[float] | None = cell[quantity.name]
    if values is None:
        share = f" ({cell['entered']}/{cell['planned']})"
        return Entry(UNKNOWN + share * (cell["entered"] < cell["planned"]))
    marks = [f"‡{cell['diverged']}"] * (cell["diverged"] > 0)
    median, spread = stats.median(values) / quantity.divisor, stats.spread(values)
    digits = _choose_digits(median)
    shown = "" if spread is None else f"{spread / quantity.divisor:,.{digits}f}"
    return Entry(f"{median:,.{digits}f}", spread=shown, marks=" ".join(marks), link=anchor(cell))


def _show_checkpoint(cell: Row) -> Entry:
    if cell["checkpoint_bytes"] is None:
        return Entry(UNKNOWN)
    size = cell["checkpoint_bytes"] / CHECKPOINT.divisor
    return Entry(f"{size:,.{_choose_digits(size)}f}", link=anchor(cell))


def _choose_digits(number: float) -> int:
    """Return how many digits to show after the point."""
    return 0 if number >= 100 else 1 if number >= 1 else 2


def _explain(selection: Selection, cells: list[Row], letters: dict[str, str]) -> list[str]:
    notes = [
        "A cell is the median over the complete runs, ± the sample standard deviation. Times are wall-clock "
        "times, with whatever else the machine did meanwhile; results/bench measures methods side by side.",
        "Peak memory: allocated on the GPU, or resident in the whole process on cpu. Checkpoint: adapter and "
        f"head at {VALUE_BYTES} bytes a value, from their counts; EDoRA's file holds its bases too, unless "
        "save_bases=False. Full fine-tuning keeps no file.",
    ]
    if any(selection.chosen["second_cell"].notna()):
        notes.append("Where the halves of dev choose different settings, the first half's runs are measured.")
    if any(cell["entered"] < cell["planned"] for cell in cells):
        notes.append("A cell -- (k/n) has only k of its n planned runs.")
    if any(cell["diverged"] for cell in cells):
        notes.append("‡k: k diverged; they do not enter.")
    named = "; ".join(f"{letter} {machine}" for machine, letter in letters.items())
    if len(letters) > 1:
        notes.append(f"Machines: {named}. Only rows of the same letter compare.")
    elif letters:
        notes.append(f"Machine: {next(iter(letters))}.")
    if any(len(cell["machines"]) > 1 for cell in cells):
        notes.append("A + B: the runs come from several machines, and their median is no machine's own.")
    return [*notes, count_runs(selection.scored), describe_provenance(selection.scored)]


def to_cost_csv(selection: Selection) -> str:
    """Return the raw numbers, a line a cell: medians and spreads in base units; machines joined by `; `."""
    lines = []
    for cell in _measure_cells(selection.chosen):
        line = {name: cell[name] for name in (*ROW_KEY, "task", "planned", "entered", "complete", "diverged")}
        for quantity in MEASURED:
            values = cell[quantity.name]
            line[quantity.name] = None if values is None else stats.median(values)
            line[f"{quantity.name}_spread"] = None if values is None else stats.spread(values)
        lines.append(
            line | {"checkpoint_bytes": cell["checkpoint_bytes"], "machines": "; ".join(cell["machines"])}
        )
    return pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n")
