"""A selection -> the figure of scores by rank, for the methods that a grid gives several."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from glue_harness.captions import explain_ranks, name_method
from glue_harness.panels import find_looks, finish_panel, lay_out, make_handle, use_style
from glue_harness.plots import draw_points, list_points, list_repeated
from glue_harness.selection import SERIES_KEY, Selection, split_rows


@use_style()
def draw_ranks(selection: Selection, title: str) -> Figure:
    """Draw score against rank (log), a line a method, a panel for each model and task and for the average.

    `selection` holds methods with ranks alone. Cells without a statistic are left out, and counted below.
    """
    points = list_points(selection)
    panels = split_rows(points, ["model", "task"])
    looks = find_looks(selection.summary["method"])
    ranks = sorted({row["rank"] for row in points})
    drawn = [row for row in points if row["statistic"] is not None]
    handles = [
        make_handle(name_method(rows[0] | {"settings": None}), looks[rows[0]["method"]])
        for rows in split_rows(drawn, ["method"])
    ]
    figure, axes = lay_out(panels, title, explain_ranks(selection), handles)
    for axis, panel in zip(axes, panels, strict=True):
        several = list_repeated(panel)
        known = sorted((row for row in panel if row["statistic"] is not None), key=lambda row: row["rank"])
        for rows in split_rows(known, SERIES_KEY):
            method = rows[0]["method"]
            draw_points(axis, [row["rank"] for row in rows], rows, looks[method], method in several)
        finish_panel(axis, not known, "rank")
        axis.set_xscale("log", base=2)
        axis.set_xlim(ranks[0] / 1.3, ranks[-1] * 1.3)
        axis.xaxis.set_major_locator(FixedLocator(ranks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:g}"))
    return figure
