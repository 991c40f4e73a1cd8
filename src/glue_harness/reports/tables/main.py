"""A selection -> the main table, the parts that it shares with the other tables, and CSV. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from glue_harness.analysis.rounding import show_percent
from glue_harness.analysis.summary import ROW_KEY, Selection, split_rows
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import (
    AVERAGE,
    anchor,
    count_seeds,
    describe_runs,
    explain_cells,
    name_metric,
    name_row,
    name_task,
)
from glue_harness.reports.table import UNKNOWN, Entry, Table, mark_places

NOT_PLANNED = Entry("not planned")
PER_RUN = ("scores", "differences")
"""Columns of a summary and of a comparison that hold a number for each run, or each pair of runs."""


def build_main_table(selection: Selection, title: str) -> Table:
    """Lay out methods by tasks, rows and columns in grid order, in a group for each model.

    Best and second best are sought among one model's complete cells; ties as printed share the mark.
    """
    head, names = list_columns(selection.summary)
    rows = show_rows(selection)
    groups = [
        mark_places([entries for row, entries in rows if row["model"] == model])
        for model in selection.summary["model"].unique()
    ]
    notes = [*explain_cells(selection), *describe_runs(selection.scored)]
    return Table(title, head, names, groups, notes)


def list_columns(summary: pd.DataFrame) -> tuple[list[tuple[str, str]], int]:
    """Return the head of a table of methods by tasks, and how many of its columns are names."""
    headlines = list_headlines(summary)
    several_models = summary["model"].nunique() > 1
    head = [*[("Model", "")] * several_models, ("Method", "")]
    head += [("Adapter", "parameters"), ("Head", "parameters")]
    head += [(name_task(task), name_metric(metric)) for task, metric in headlines.items()]
    head += [("Average", "")] * (len(headlines) > 1)
    return head, 1 + several_models


def list_headlines(summary: pd.DataFrame) -> dict[str, str]:
    """Return each task's headline metric, in grid order."""
    return dict(zip(summary["task"], summary["headline"], strict=True))


def show_rows(selection: Selection) -> list[tuple[Row, list[Entry]]]:
    """Return the rows of a table of methods by tasks, each with the ROW_KEY it is of, in grid order."""
    summary, seeds = selection.summary, count_seeds(selection.summary)
    tasks, several_models = list_headlines(summary), summary["model"].nunique() > 1
    averages = index_averages(selection.averages, ROW_KEY)
    rows = []
    for cells in split_rows(evidence.list_rows(summary), ROW_KEY):
        row = {name: cells[0][name] for name in ROW_KEY}
        by_task = {cell["task"]: cell for cell in cells}
        entries = [Entry(row["model"])] * several_models + [Entry(name_row(row))]
        entries += [show_count(cells, "adapter"), show_count(cells, "head")]
        entries += [show_cell(by_task.get(task), seeds) for task in tasks]
        average = replace(show_number(averages[tuple(row.values())]), link=anchor(row, AVERAGE))
        entries += [average] * (len(tasks) > 1)
        rows.append((row, entries))
    return rows


def index_averages(averages: pd.DataFrame, key: list[str]) -> dict[tuple, float | None]:
    """Return `analysis.summary.average_tasks`' averages by their key."""
    return {tuple(row[name] for name in key): row["average"] for row in evidence.list_rows(averages)}


def show_count(cells: Iterable[Row], part: str) -> Entry:
    """Show a number of parameters, the largest: a head's depends on the task's number of labels."""
    known = [cell[f"{part}_parameters"] for cell in cells if cell[f"{part}_parameters"] is not None]
    return Entry(f"{max(known):,}" if known else UNKNOWN)


def show_cell(cell: Row | None, seeds: int) -> Entry:
    """Show a cell of a summary (None: not planned), with its n where that is not `seeds`."""
    if cell is None:
        return NOT_PLANNED
    link = anchor(cell) if "label" in cell else ""
    signs = {"†": cell["degenerate"], "‡": cell["diverged"]}
    marks = [f"{sign}{count}" for sign, count in signs.items() if count]
    if cell["statistic"] is None:
        return Entry(f"{UNKNOWN} ({cell['entered']}/{cell['planned']})", marks=" ".join(marks), link=link)
    spread = "" if cell["spread"] is None else show_percent(cell["spread"])
    number = [] if cell["seeds"] == seeds else [f"(n={cell['seeds']})"]
    marks = [*number, *marks]
    return replace(show_number(cell["statistic"]), spread=spread, marks=" ".join(marks), link=link)


def show_number(value: float | None) -> Entry:
    """Show a fraction in percent (None: unknown)."""
    if value is None:
        return Entry(UNKNOWN)
    text = show_percent(value)
    return Entry(text, shown=float(text))


def to_csv(cells: pd.DataFrame, averages: pd.DataFrame, protocol: Protocol, key: list[str] = ROW_KEY) -> str:
    """Return the raw numbers, a line a cell: fractions in full precision, by run in order of the runs.

    The average over tasks, for each `key`, is the line whose task is `average`.
    """
    joined = {name: [" ".join(map(repr, v)) for v in cells[name]] for name in PER_RUN if name in cells}
    means = averages.rename(columns={"average": "statistic"}).assign(task="average")
    lines = pd.concat([cells.assign(**joined), means]).rename(columns={"statistic": "value"})
    lines.insert(len(key), "protocol", protocol.name)
    lines.insert(len(key) + 1, "statistic", protocol.statistic)
    return lines.to_csv(index=False, lineterminator="\n")
