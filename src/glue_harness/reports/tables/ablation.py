"""A selection and a comparison -> the table of two methods and their difference. Pure."""

from __future__ import annotations

import pandas as pd

from glue_harness.analysis.paired import PAIR_KEY
from glue_harness.analysis.summary import Selection, average_tasks, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import (
    AVERAGE,
    anchor_pairs,
    count_seeds,
    describe_runs,
    explain_cells,
    explain_pairs,
    name_bare,
    name_place,
    name_task,
)
from glue_harness.reports.table import Entry, Table, mark_places
from glue_harness.reports.tables.differences import show_difference
from glue_harness.reports.tables.main import (
    NOT_PLANNED,
    index_averages,
    list_columns,
    list_headlines,
    show_cell,
    show_number,
    show_rows,
)

EMPTY = Entry("")


def build_ablation_table(selection: Selection, compared: pd.DataFrame, title: str) -> Table:
    """Lay out the two methods of `paired.compare_methods` by tasks, and below them what they differ by.

    A group is a model, rank and settings that both methods have; best is sought between the two.
    """
    methods = set(compared["first"]) | set(compared["second"])
    both = selection.keep(lambda row: row["method"] in methods)
    head, names = list_columns(both.summary)
    averages = index_averages(average_tasks(compared, PAIR_KEY), PAIR_KEY)
    rows = show_rows(both)
    groups = []
    for cells in split_rows(evidence.list_rows(compared), PAIR_KEY):
        pair = tuple(cells[0][name] for name in PAIR_KEY)
        shown = [entries for row, entries in rows if tuple(row[name] for name in PAIR_KEY) == pair]
        model = [Entry(cells[0]["model"])] * (names - 1)
        below = _show_pairs({cell["task"]: cell for cell in cells}, averages[pair], both)
        groups.append([*mark_places(shown), *([*model, *entries] for entries in below)])
    notes = [*explain_cells(both), *explain_pairs(compared, both.protocol), *describe_runs(both.scored)]
    return Table(title, head, names, groups, notes, compared="of each pair")


def _show_pairs(by_task: dict[str, Row], average: float | None, selection: Selection) -> list[list[Entry]]:
    """Return two rows: the difference, and in how many pairs the first method is ahead."""
    tasks, seeds = list_headlines(selection.summary), count_seeds(selection.summary)
    pair = next(iter(by_task.values()))
    place, against = name_place(pair), name_bare(pair["second"])
    differences, ahead = [], []
    for task in tasks:
        if task not in by_task:
            differences.append(NOT_PLANNED)
            ahead.append(NOT_PLANNED)
            continue
        cell, link = by_task[task], anchor_pairs(place, against, name_task(task))
        differences.append(show_difference(show_cell(cell, seeds), link))
        ahead.append(Entry(f"{cell['ahead']} of {cell['entered']}", link=link))
    if len(tasks) > 1:
        differences.append(show_difference(show_number(average), anchor_pairs(place, against, AVERAGE)))
        ahead.append(EMPTY)
    return [
        [Entry("Difference"), EMPTY, EMPTY, *differences],
        [Entry("Pairs ahead"), EMPTY, EMPTY, *ahead],
    ]
