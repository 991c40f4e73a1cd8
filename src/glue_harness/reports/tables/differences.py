"""A selection and its compared rows -> the table of EDoRA's rows minus all others, seed by seed. Pure."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from glue_harness.analysis.paired import AGAINST_KEY
from glue_harness.analysis.rounding import show_points
from glue_harness.analysis.summary import ROW_KEY, Selection, average_tasks, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import (
    AVERAGE,
    anchor_pairs,
    count_runs,
    describe_provenance,
    explain_average,
    explain_protocol,
    explain_signs,
    name_against,
    name_metric,
    name_place,
    name_row,
    name_task,
)
from glue_harness.reports.table import Entry, Table
from glue_harness.reports.tables.main import (
    NOT_PLANNED,
    index_averages,
    list_headlines,
    show_cell,
    show_number,
)


def build_differences_table(selection: Selection, compared: pd.DataFrame, title: str) -> Table:
    """Lay out `analysis.paired.compare_rows` by tasks: a line a pair of rows, a group for each first one."""
    headlines = list_headlines(compared)
    several_models = compared["model"].nunique() > 1
    head = [*[("Model", "")] * several_models, ("Method", ""), ("Minus", "")]
    head += [(name_task(task), name_metric(metric)) for task, metric in headlines.items()]
    head += [("Average", "")] * (len(headlines) > 1)
    averages = index_averages(average_tasks(compared, AGAINST_KEY), AGAINST_KEY)
    groups: list[list[list[Entry]]] = []
    for of_first in split_rows(evidence.list_rows(compared), ROW_KEY):
        groups.append([])
        for cells in split_rows(of_first, AGAINST_KEY):
            average = averages[tuple(cells[0][name] for name in AGAINST_KEY)]
            shown = _show_pair(cells, list(headlines), average)
            groups[-1].append([Entry(cells[0]["model"])] * several_models + shown)
    notes = [*_explain_differences(selection, compared), describe_provenance(selection.scored)]
    return Table(title, head, 2 + several_models, groups, notes)


def _show_pair(cells: list[Row], tasks: list[str], average: float | None) -> list[Entry]:
    """Return the line of two rows: their names, the difference on each task, and its average."""
    first = cells[0]
    second = {name: first[f"against_{name}"] for name in ROW_KEY[1:]} | {"model": first["model"]}
    place, against = name_place(first), name_against(first, second)
    by_task = {cell["task"]: cell for cell in cells}
    entries = [Entry(name_row(first)), Entry(name_row(second))]
    for task in tasks:
        link = anchor_pairs(place, against, name_task(task))
        entries.append(_show_cell(by_task[task], link) if task in by_task else NOT_PLANNED)
    if len(tasks) > 1:
        entries.append(show_difference(show_number(average), anchor_pairs(place, against, AVERAGE)))
    return entries


def _show_cell(cell: Row, link: str) -> Entry:
    entry = show_difference(show_cell(cell, cell["seeds"]), link)
    ahead = f"[{cell['ahead']}/{cell['entered']}]" if cell["statistic"] is not None else ""
    return replace(entry, marks=f"{ahead} {entry.marks}".strip())


def show_difference(entry: Entry, link: str) -> Entry:
    """Write a number with its sign, out of the comparison for the best, leading to the pairs behind it."""
    if entry.shown is not None:
        entry = replace(entry, text=show_points(entry.shown, sign=True), shown=None)
    return replace(entry, link=link)


def _explain_differences(selection: Selection, compared: pd.DataFrame) -> list[str]:
    statistic = selection.protocol.statistic
    spread = ", ± their sample standard deviation" if any(compared["seeds"] > 1) else ""
    return [
        explain_protocol(selection.protocol),
        f"A cell is the first row's score minus the second's on the same seed, the {statistic} over the "
        f"seeds of both, in points{spread}; it need not be the difference of two cells of the main table.",
        "[k/n]: the first row is higher on k of n seeds.",
        *explain_average(compared),
        *explain_signs(compared),
        count_runs(selection.scored),
    ]
