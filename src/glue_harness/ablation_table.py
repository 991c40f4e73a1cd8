"""A selection and a comparison -> the table of two methods and their difference. Pure."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from glue_harness import evidence
from glue_harness.captions import (
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
from glue_harness.comparison import PAIR_KEY
from glue_harness.evidence import Row
from glue_harness.markup import Entry, Table, mark_places
from glue_harness.selection import Selection, average_tasks, split_rows
from glue_harness.tables import (
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
    """Lay out the two methods of `comparison.compare_methods` by tasks, and below them what they differ by.

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
    cells = [by_task.get(task) for task in tasks]
    differences = [_link(_sign(show_cell(cell, seeds)), cell) for cell in cells]
    ahead = [_link(_show_ahead(cell), cell) for cell in cells]
    if len(tasks) > 1:
        differences.append(_link(_sign(show_number(average)), next(iter(by_task.values())), AVERAGE))
        ahead.append(EMPTY)
    return [
        [Entry("Difference"), EMPTY, EMPTY, *differences],
        [Entry("Pairs ahead"), EMPTY, EMPTY, *ahead],
    ]


def _sign(entry: Entry) -> Entry:
    """Write a number with its sign, and out of the comparison for the best."""
    return entry if entry.shown is None else replace(entry, text=f"{entry.shown:+z.1f}", shown=None)


def _link(entry: Entry, cell: Row | None, task: str | None = None) -> Entry:
    """Let a number lead to the pairs of runs behind it: of the cell's task, or of another."""
    if cell is None:
        return entry
    shown = task or name_task(cell["task"])
    return replace(entry, link=anchor_pairs(name_place(cell), name_bare(cell["second"]), shown))


def _show_ahead(cell: Row | None) -> Entry:
    return NOT_PLANNED if cell is None else Entry(f"{cell['ahead']} of {cell['entered']}")
