"""A selection beside published rows -> the table of both and of their differences, and its CSV. Pure."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from glue_harness.analysis.published import Published
from glue_harness.analysis.rounding import show_points
from glue_harness.analysis.summary import ROW_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import (
    anchor,
    count_seeds,
    describe_runs,
    explain_cells,
    name_metric,
    name_row,
    name_task,
)
from glue_harness.reports.table import UNKNOWN, Entry, Table
from glue_harness.reports.tables.main import NOT_PLANNED, list_headlines, show_cell

START = "mnli"
STAGED_TASKS = ("mrpc", "rte", "stsb")
"""The tasks that some start from MNLI's run: where a source does not say, these cannot be compared."""

OTHER_START = "§"


def build_published_table(selection: Selection, published: Sequence[Published], title: str) -> Table | None:
    """Lay out, for each of our rows that others have published, both scores and the difference.

    None where no row of the grid has a counterpart: the same model and label, and a task of both.
    """
    pairs = _pair(selection, published)
    if not pairs:
        return None
    headlines = list_headlines(selection.summary)
    tasks = [task for task in headlines if any(task in theirs.scores for _, theirs in pairs)]
    letters = _name_sources(pairs)
    several = selection.summary["model"].nunique() > 1
    head = [*[("Model", "")] * several, ("Method", ""), ("", "")]
    head += [(name_task(task), name_metric(headlines[task])) for task in tasks]
    groups = []
    for cells, theirs in pairs:
        names = [Entry(theirs.model)] * several + [Entry(name_row(next(iter(cells.values()))))]
        rows = _show_pair(cells, theirs, tasks, count_seeds(selection.summary))
        lines = ("reproduced", f"published [{letters[id(theirs)]}]", "difference")
        groups.append([[*names, Entry(line), *row] for line, row in zip(lines, rows, strict=True)])
    notes = [*explain_cells(selection, averaged=False), *_explain(pairs, letters)]
    return Table(title, head, 2 + several, groups, [*notes, *describe_runs(selection.scored)])


def _name_sources(pairs: list[tuple[dict[str, Row], Published]]) -> dict[int, str]:
    """Return a letter (or, past z, a number) for each published row by its id, in order of appearance."""
    names = itertools.chain(string.ascii_lowercase, map(str, itertools.count(1)))
    return dict(zip(dict.fromkeys(id(theirs) for _, theirs in pairs), names, strict=False))


def _pair(selection: Selection, published: Sequence[Published]) -> list[tuple[dict[str, Row], Published]]:
    """Return our rows, a cell by task, with published rows of the same model and label, and one task."""
    starts = {
        tuple(run[name] for name in (*ROW_KEY, "task")): run["init_from"]
        for run in evidence.list_rows(selection.chosen[[*ROW_KEY, "task", "init_from"]])
    }
    pairs = []
    for cells in split_rows(evidence.list_rows(selection.summary), ROW_KEY):
        started = [c | {"init_from": starts[tuple(c[name] for name in (*ROW_KEY, "task"))]} for c in cells]
        by_task = {cell["task"]: cell for cell in started}
        for theirs in published:
            same = (cells[0]["model"], cells[0]["label"]) == (theirs.model, theirs.label)
            if same and by_task.keys() & theirs.scores.keys():
                pairs.append((by_task, theirs))
    return pairs


def _show_pair(cells: dict[str, Row], theirs: Published, tasks: list[str], seeds: int) -> list[list[Entry]]:
    ours = [_hide_place(show_cell(cells.get(task), seeds)) for task in tasks]
    shown, differences = [], []
    for task in tasks:
        score, cell = theirs.scores.get(task), cells.get(task)
        spread = show_points(theirs.spreads[task]) if task in theirs.spreads else ""
        shown.append(Entry(UNKNOWN) if score is None else Entry(show_points(score), spread=spread))
        difference = find_difference(cell, theirs)
        unlike = score is not None and cell is not None and not is_alike(cell, theirs)
        text = UNKNOWN if difference is None else show_points(difference, sign=True)
        marks = OTHER_START * unlike
        differences.append(NOT_PLANNED if cell is None else Entry(text, marks=marks, link=anchor(cell)))
    return [ours, shown, differences]


def _hide_place(entry: Entry) -> Entry:
    """Keep a number out of the search for the best: it stands beside one other, which is not ours."""
    return replace(entry, shown=None)


def is_alike(cell: Row, theirs: Published) -> bool:
    """Say whether our cell and a published row start from the same kind of run, as far as it is known.

    A source that does not say is taken to start plainly where nobody starts from MNLI.
    """
    task = cell["task"]
    if theirs.from_mnli is None:
        return cell["init_from"] is None and task not in STAGED_TASKS
    return cell["init_from"] == (START if task in theirs.from_mnli else None)


def find_difference(cell: Row | None, theirs: Published) -> float | None:
    """Return ours minus theirs, in points; None where one of them is missing, or they start otherwise."""
    if cell is None or cell["statistic"] is None or cell["task"] not in theirs.scores:
        return None
    return 100 * cell["statistic"] - theirs.scores[cell["task"]] if is_alike(cell, theirs) else None


def _explain(pairs: list[tuple[dict[str, Row], Published]], letters: dict[int, str]) -> list[str]:
    notes = ["Difference: reproduced minus published, in points."]
    cells = [(cell, theirs) for of_task, theirs in pairs for cell in of_task.values()]
    if any(cell["task"] in theirs.scores and not is_alike(cell, theirs) for cell, theirs in cells):
        notes.append(
            f"--{OTHER_START}: one starts from an MNLI run and the other does not, or the source does not "
            "say; such scores are not compared."
        )
    for theirs in {id(theirs): theirs for _, theirs in pairs}.values():
        notes.append(f"[{letters[id(theirs)]}] {theirs.source}; {theirs.statistic}; {_name_start(theirs)}.")
    return notes


def _name_start(theirs: Published) -> str:
    if theirs.from_mnli is None:
        return "start not said"
    named = ", ".join(map(name_task, theirs.from_mnli))
    return f"{named} start from MNLI" if named else "no start from MNLI"


def to_published_csv(selection: Selection, published: Sequence[Published]) -> str:
    """Return the raw numbers, a line a pair and task: ours a fraction, theirs and the difference points."""
    names = (*ROW_KEY, "task", "headline", "init_from", "statistic", "entered", "planned")
    lines = [
        {name: cell[name] for name in names}
        | {"published": theirs.scores.get(task), "published_spread": theirs.spreads.get(task)}
        | {"difference": find_difference(cell, theirs), "source": theirs.source}
        for cells, theirs in _pair(selection, published)
        for task, cell in cells.items()
        if task in theirs.scores
    ]
    return pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n")
