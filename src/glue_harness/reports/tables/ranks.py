"""A selection -> the table of methods by ranks. Pure."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from glue_harness.analysis.summary import ROW_KEY, SERIES_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import (
    AVERAGE,
    anchor,
    count_seeds,
    describe_runs,
    explain_cells,
    name_method,
    name_metric,
    name_task,
)
from glue_harness.reports.table import Entry, Table, mark_places
from glue_harness.reports.tables.main import (
    NOT_PLANNED,
    index_averages,
    list_headlines,
    show_cell,
    show_count,
    show_number,
)


def build_rank_table(selection: Selection, title: str) -> Table:
    """Lay out methods by ranks, in a group for each model and task.

    A model's first group holds the adapters' parameters, its last the averages over tasks. Best and second
    best are sought at each rank of a group.
    """
    summary = selection.summary
    several_models = summary["model"].nunique() > 1
    groups: dict[tuple[str, str], list[list[Entry]]] = {}
    for cells in split_rows(evidence.list_rows(summary), SERIES_KEY):
        model, method = cells[0]["model"], Entry(name_method(cells[0]))
        for block, entries in _show_series(cells, selection).items():
            row = [*[Entry(model)] * several_models, Entry(block), method, *entries]
            groups.setdefault((model, block), []).append(row)
    head = [*[("Model", "")] * several_models, ("Task (metric)", ""), ("Method", "")]
    head += [(f"r={rank}", "") for rank in _list_ranks(summary)]
    notes = explain_cells(selection, place="beside the task")
    notes += describe_runs(selection.scored, with_head=False)
    marked = [mark_places(rows) for rows in groups.values()]
    return Table(title, head, 2 + several_models, marked, notes, compared="at each rank of a task")


def _list_ranks(summary: pd.DataFrame) -> list[int]:
    return sorted(summary["rank"].dropna().unique())


def _show_series(cells: list[Row], selection: Selection) -> dict[str, list[Entry]]:
    """Return one method's entries by rank, for its adapter, for each task and for the average."""
    ranks, seeds = _list_ranks(selection.summary), count_seeds(selection.summary)
    headlines = list_headlines(selection.summary)
    by_place = {(cell["task"], cell["rank"]): cell for cell in cells}
    at_rank = [[cell for cell in cells if cell["rank"] == rank] for rank in ranks]
    counts = [show_count(of_rank, "adapter") if of_rank else NOT_PLANNED for of_rank in at_rank]
    blocks = {"Adapter (parameters)": counts}
    for task, metric in headlines.items():
        block = f"{name_task(task)} ({name_metric(metric)})"
        blocks[block] = [show_cell(by_place.get((task, rank)), seeds) for rank in ranks]
    if len(headlines) > 1:
        averages = index_averages(selection.averages, ROW_KEY)
        blocks["Average"] = [_show_average(of_rank, averages) for of_rank in at_rank]
    return blocks


def _show_average(cells: list[Row], averages: dict[tuple, float | None]) -> Entry:
    if not cells:
        return NOT_PLANNED
    average = averages[tuple(cells[0][name] for name in ROW_KEY)]
    return replace(show_number(average), link=anchor(cells[0], AVERAGE))
