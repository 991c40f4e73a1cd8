"""A selection -> the figure of scores by training time."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.summary import ROW_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.figures.notes import explain_costs
from glue_harness.reports.figures.panels import cut_panel, finish_panel, lay_out, split_far, use_style
from glue_harness.reports.figures.plots import draw_points
from glue_harness.reports.figures.styles import PlotStyles
from glue_harness.runs.record import Status

MARGIN = 1.4
"""By what factor the axis reaches beyond the fastest and the slowest cell."""


@use_style()
def draw_costs(selection: Selection, title: str) -> Figure:
    """Draw score against the median training time (log), a point a cell, a panel for each model and task.

    Cells without a statistic or without a time are left out, and counted in the note below.
    """
    points = _list_timed(selection)
    panels = split_rows(points, ["model", "task"])
    styles = PlotStyles(selection.summary)
    timed = [[row for row in panel if row["seconds"] is not None] for panel in panels]
    handles = styles.list_handles([row for known in timed for row in known])
    note = explain_costs(selection, any(split_far(known)[0] for known in timed))
    figure, axes = lay_out(panels, title, note, handles)
    for axis, known in zip(axes, timed, strict=True):
        for row in known:
            draw_points(axis, [row["seconds"]], [row], styles.find(row))
        finish_panel(axis, not known, "training, s")
        cut_panel(axis, known)
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
