"""Summaries -> figures: score by adapter parameters, and learning curves. Frames in, figures out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.summary import ROW_KEY, SERIES_KEY, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.figures.notes import explain_curves, explain_points
from glue_harness.reports.figures.panels import cut_panel, finish_panel, lay_out, split_far, use_style
from glue_harness.reports.figures.styles import PlotStyle, PlotStyles

APART = 0.025
"""How far apart two styles' points stand at least, as a share of the axis' length."""

BAND = 0.13
"""Opacity of what reaches over the seeds beside a line."""

Spot = tuple[Hashable, str]
"""What has a place of its own along an axis: a method's style, and the label, which names the rank."""


@use_style()
def draw_scores(selection: Selection, title: str) -> Figure:
    """Draw score against adapter parameters (log), a panel for each model and task and for the average.

    Full fine-tuning stands at all that it trains outside of the head; a method that trains nothing there is a
    line across the panel. Cells without a statistic are left out, and counted in the note below.
    """
    points = list_points(selection)
    panels = split_rows(points, ["model", "task"])
    styles = PlotStyles(selection.summary)
    handles = styles.list_handles(keep_known(points), crossing=True)
    places = {
        rows[0]["model"]: place_apart({_spot(row, styles): row["adapter_parameters"] for row in rows})
        for rows in split_rows([row for row in points if row["adapter_parameters"] is not None], ["model"])
    }
    everywhere = [place for of_model in places.values() for place in of_model.values()]
    figure, axes = lay_out(panels, title, explain_points(selection, is_cut(panels)), handles)
    for axis, panel in zip(axes, panels, strict=True):
        known = keep_known(panel)
        for rows in split_rows(known, SERIES_KEY):
            _draw_series(axis, rows, places[rows[0]["model"]], styles)
        finish_panel(axis, not known, "adapter parameters")
        cut_panel(axis, known)
        _scale_to_parameters(axis, everywhere)
    return figure


def keep_known(rows: list[Row]) -> list[Row]:
    """Return the rows that have a statistic."""
    return [row for row in rows if row["statistic"] is not None]


def is_cut(panels: list[list[Row]]) -> bool:
    """Say whether one of the panels leaves something outside."""
    return any(split_far(keep_known(panel))[0] for panel in panels)


def list_points(selection: Selection) -> list[Row]:
    """Return the summary's cells and, where there are several tasks, the averages: their task is None."""
    points = evidence.list_rows(selection.summary)
    if selection.summary["task"].nunique() > 1:
        averages = evidence.list_rows(selection.averages)
        points += [{"task": None, "statistic": row["average"]} | row for row in averages]
    known = [row for row in points if row.get("adapter_parameters") is not None]
    counts = {_key(row, ROW_KEY): row["adapter_parameters"] for row in known}
    return [row | {"adapter_parameters": counts.get(_key(row, ROW_KEY))} for row in points]


def _key(row: Row, names: list[str]) -> tuple:
    return tuple(row[name] for name in names)


def _spot(row: Row, styles: PlotStyles) -> Spot:
    return (row["method"], styles.find(row)), row["label"]


def place_apart(counts: Mapping[Spot, int]) -> dict[Spot, float]:
    """Return where counts above 0 stand on a log axis: at their place, or beside it where it is taken.

    Neighbours of different styles are APART of the axis' length away at least, and all are moved as little
    as that allows: least squares on the logarithm, by pooling those that would come too close.
    """
    logs = {spot: math.log10(count) for spot, count in counts.items() if count}
    order = sorted(logs, key=lambda spot: logs[spot])
    length = max(1.0, logs[order[-1]] - logs[order[0]]) if order else 1.0
    gaps = [APART * length * (left[0] != right[0]) for left, right in itertools.pairwise(order)]
    shifts = list(itertools.accumulate(gaps, initial=0.0))
    pools: list[list[float]] = []
    for spot, shift in zip(order, shifts, strict=False):
        pools.append([logs[spot] - shift])
        while len(pools) > 1 and stats.mean(pools[-2]) >= stats.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    pooled = [stats.mean(pool) for pool in pools for _ in pool]
    return {spot: 10 ** (place + shift) for spot, place, shift in zip(order, pooled, shifts, strict=False)}


def _draw_series(axis: Axes, rows: list[Row], places: Mapping[Spot, float], styles: PlotStyles) -> None:
    """Draw one series of a panel, joined in order of its ranks; without parameters, across it."""
    style = styles.find(rows[0])
    if rows[0]["adapter_parameters"] == 0:
        _draw_across(axis, rows[0], style)
        return
    rows = sorted(rows, key=lambda row: row["rank"] or 0)
    draw_points(axis, [places[_spot(row, styles)] for row in rows], rows, style)


def _draw_across(axis: Axes, row: Row, style: PlotStyle) -> None:
    axis.axhline(100 * row["statistic"], zorder=1, **style.style_crossing())
    if row.get("low") is not None and not style.is_faint:
        ends = (100 * row["low"], 100 * row["high"])
        axis.axhspan(*ends, color=style.colour, alpha=BAND, linewidth=0, zorder=0)


def draw_points(axis: Axes, places: list[float], rows: list[Row], style: PlotStyle) -> None:
    """Draw cells at their places along a panel, joined, with their bars over seeds unless they are faint."""
    reach = [[100 * _reach(row, end) for row in rows] for end in ("low", "high")]  # (2, cells)
    axis.errorbar(
        places,
        [100 * row["statistic"] for row in rows],
        yerr=None if style.is_faint else reach,
        linewidth=0.8,
        capsize=1.5,
        **style.style_line(),
    )


def _reach(row: Row, end: str) -> float:
    """Return how far a bar's end is from the statistic; 0 where there is no bar."""
    return 0.0 if row.get(end) is None else abs(row[end] - row["statistic"])


def _scale_to_parameters(axis: Axes, places: list[float]) -> None:
    """Give every panel the same logarithmic axis, at least a decade long."""
    low, high = min(places, default=1e4), max(places, default=1e5)
    margin = max(1.6, math.sqrt(10 * low / high))
    decades = math.log10(high / low * margin**2)
    axis.set_xscale("log")
    axis.set_xlim(low / margin, high * margin)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=8))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda count, _: format_count(count)))


def format_count(count: float) -> str:
    """Return a number of parameters in few characters, such as 50K."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


@use_style()
def draw_curves(selection: Selection, curves: pd.DataFrame, title: str) -> Figure:
    """Draw `analysis.learning_curves.trace_cells` by epoch, a panel for each model and task of `selection`.

    A line is the statistic over seeds, its band reaches from the lowest to the highest seed. Cells without a
    statistic are left out, and counted in the note below; a line outside of its panel is named with its
    highest score.
    """
    place = ["model", "task"]
    panels = split_rows(evidence.list_rows(selection.summary), place)
    styles, rows = PlotStyles(selection.summary), evidence.list_rows(curves)
    handles = styles.list_handles(rows)
    traced = {_key(of_panel[0], place): of_panel for of_panel in split_rows(rows, place)}
    drawn = [traced.get(_key(panel[0], place), []) for panel in panels]
    spans = [[_span_curve(row) for row in rows] for rows in drawn]
    figure, axes = lay_out(panels, title, explain_curves(selection, is_cut(spans)), handles)
    for axis, rows, of_rows in zip(axes, drawn, spans, strict=True):
        for row in rows:
            _draw_curve(axis, row, styles.find(row))
        finish_panel(axis, not rows, "epoch")
        cut_panel(axis, of_rows)
        last = max((len(row["statistic"]) for row in rows), default=1)
        margin = max(0.5, 0.03 * last)
        axis.set_xlim(1 - min(margin, 0.9), last + margin)  # no epoch 0
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    return figure


def _span_curve(row: Row) -> Row:
    """Return a curve as a cell: its highest statistic, and the ends of its band over all epochs."""
    ends = {"low": min(row["low"]), "high": max(row["high"])}
    return row | {"statistic": max(row["statistic"])} | ends


def _draw_curve(axis: Axes, row: Row, style: PlotStyle) -> None:
    line, low, high = ([100 * score for score in row[name]] for name in ("statistic", "low", "high"))
    epochs = range(1, len(line) + 1)
    every = math.ceil(len(line) / 10)
    axis.plot(epochs, line, markevery=every, **style.style_line())
    if not style.is_faint:
        axis.fill_between(epochs, low, high, color=style.colour, alpha=BAND, linewidth=0)
