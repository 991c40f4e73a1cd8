"""A selection -> the figure of scores by training time."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from glue_harness import evidence, stats
from glue_harness.captions import explain_costs, name_row
from glue_harness.evidence import Row
from glue_harness.panels import find_looks, finish_panel, lay_out, make_handle, use_style
from glue_harness.plots import draw_points, list_repeated
from glue_harness.records import Status
from glue_harness.selection import ROW_KEY, Selection, split_rows

MARGIN = 1.4
"""By what factor the axis reaches beyond the fastest and the slowest cell."""


@use_style()
def draw_costs(selection: Selection, title: str) -> Figure:
    """Draw score against the median training time (log), a point a cell, a panel for each model and task.

    Cells without a statistic or without a time are left out, and counted in the note below.
    """
    points = _list_timed(selection)
    panels = split_rows(points, ["model", "task"])
    looks = find_looks(selection.summary["method"])
    drawn = [row for row in points if row["seconds"] is not None]
    handles = [
        make_handle(name_row(rows[0] | {"settings": None}), looks[rows[0]["method"]])
        for rows in split_rows(drawn, ["method", "label"])
    ]
    figure, axes = lay_out(panels, title, explain_costs(selection), handles)
    for axis, panel in zip(axes, panels, strict=True):
        several = list_repeated(panel)
        known = [row for row in panel if row["seconds"] is not None]
        for row in known:
            draw_points(axis, [row["seconds"]], [row], looks[row["method"]], row["method"] in several)
        finish_panel(axis, not known, "training, s")
        seconds = [row["seconds"] for row in known] or [1.0]
        axis.set_xscale("log")
        axis.set_xlim(min(seconds) / MARGIN, max(seconds) * MARGIN)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    return figure


def _list_timed(selection: Selection) -> list[Row]:
    """Return the summary's cells with `seconds`: the median over complete runs, None without a statistic."""
    key = [*ROW_KEY, "task"]
    times = {
        tuple(runs[0][name] for name in key): [
            run["train_seconds"]
            for run in runs
            if run["status"] == Status.COMPLETE and run["train_seconds"] is not None
        ]
        for runs in split_rows(evidence.list_rows(selection.chosen), key)
    }
    timed = []
    for cell in evidence.list_rows(selection.summary):
        own = times[tuple(cell[name] for name in key)]
        known = cell["statistic"] is not None and own
        timed.append(cell | {"seconds": stats.median(own) if known else None})
    return timed
