"""A selection -> the figure of scores by rank, for the methods that a grid gives several."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from glue_harness.analysis.summary import SERIES_KEY, Selection, split_rows
from glue_harness.reports.figures.notes import explain_ranks
from glue_harness.reports.figures.panels import cut_panel, finish_panel, lay_out, use_style
from glue_harness.reports.figures.plots import draw_points, is_cut, keep_known, list_points
from glue_harness.reports.figures.styles import PlotStyles


@use_style()
def draw_ranks(selection: Selection, title: str) -> Figure:
    """Draw score against rank (log), a line a method, a panel for each model and task and for the average.

    `selection` holds methods with ranks alone. Cells without a statistic are left out, and counted below.
    """
    points = list_points(selection)
    panels = split_rows(points, ["model", "task"])
    styles = PlotStyles(selection.summary)
    ranks = sorted({row["rank"] for row in points})
    handles = styles.list_handles(keep_known(points), with_ranks=False)
    figure, axes = lay_out(panels, title, explain_ranks(selection, is_cut(panels)), handles)
    for axis, panel in zip(axes, panels, strict=True):
        known = sorted(keep_known(panel), key=lambda row: row["rank"])
        for rows in split_rows(known, SERIES_KEY):
            draw_points(axis, [row["rank"] for row in rows], rows, styles.find(rows[0]))
        finish_panel(axis, not known, "rank")
        cut_panel(axis, known)
        axis.set_xscale("log", base=2)
        axis.set_xlim(ranks[0] / 1.3, ranks[-1] * 1.3)
        axis.xaxis.set_major_locator(FixedLocator(ranks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:g}"))
    return figure
