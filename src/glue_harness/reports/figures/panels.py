"""A figure of panels: layout, legend, note, what a panel reaches over, and a figure's bytes.

No figure needs pyplot, which needs a display and leaves state.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import textwrap
from collections import Counter
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from glue_harness.analysis.rounding import show_percent
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import name_metric, name_row, name_task

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 160, "metadata": {"Software": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
"""A figure's files, by ending; their bytes hold no date."""

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: type 3 fonts are refused by many a conference
    "pdf.compression": 0,  # a deflated stream's bytes depend on the zlib at hand
}

use_style = functools.partial(style.context, STYLE, after_reset=True)
"""Returns the context, or decorator, in which figures are made: a user's matplotlibrc changes no byte."""

PANEL_WIDTH, PANEL_HEIGHT, TITLE_HEIGHT, LEAST_WIDTH = 2.1, 1.9, 0.3, 5.0  # inches
LEGEND_SIZE, NOTE_SIZE = 7.5, 6.5  # points
LINE_HEIGHT, CHARACTER = 1.5, 0.55  # height of a line and mean width of a character, over the font's size
PLACE_DIGITS = 5
"""Digits of a panel's corners, in shares of the figure: a ten-thousandth of an inch."""

LEAST_SPAN = 1.0
"""Percent that a panel spans at least: a difference that no table shows does not fill it."""

FAR = 3.0
"""What lies so far below is left outside of a panel: with it the axis were this many times as long."""

LINE_SHARE, MOST_NAMES = 0.1, 3
"""How much of a panel's height a line of text takes, and how many lines at most name what is outside."""


def lay_out(
    panels: list[list[Row]], title: str, note: str, handles: list[Line2D]
) -> tuple[Figure, list[Axes]]:
    """Return a figure and the axes of its panels, each model's from a new row on; legend and note are below.

    A panel is the rows drawn in it: of one model and of one task, or of no task for the average.
    """
    models = Counter(panel[0]["model"] for panel in panels)
    most = max(models.values())
    columns = 4 if most == 4 or most > 6 else min(most, 3)
    rows = math.ceil(most / columns)  # of each model
    figure = Figure(figsize=(max(PANEL_WIDTH * columns, LEAST_WIDTH), 1))
    foot = _write_foot(figure, note, handles)
    height = PANEL_HEIGHT * rows * len(models) + TITLE_HEIGHT + foot
    figure.set_figheight(height)
    figure.set_layout_engine("constrained", rect=(0, foot / height, 0.99, 1 - foot / height))
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    slots = {model: itertools.count(number * rows * columns) for number, model in enumerate(models)}
    axes = []
    for panel in panels:
        slot = next(slots[panel[0]["model"]])
        axis = figure.add_subplot(rows * len(models), columns, slot + 1)
        axis.set_title(_name_panel(panel[0], len(models) > 1))
        axis.set_ylabel("dev score, %" if slot % columns == 0 else "")
        axes.append(axis)
    return figure, axes


def _write_foot(figure: Figure, note: str, handles: list[Line2D]) -> float:
    """Write the legend and below it the note at the figure's bottom; return their height in inches."""
    width, inches = figure.get_figwidth(), figure.dpi_scale_trans
    lines = textwrap.wrap(note, int(width / (CHARACTER * NOTE_SIZE / 72)))
    figure.text(0.07, 0.05, "\n".join(lines), fontsize=NOTE_SIZE, color="0.3", va="bottom", transform=inches)
    note_height = LINE_HEIGHT * NOTE_SIZE / 72 * len(lines) + 0.05
    if not handles:
        return note_height
    longest = max(len(str(handle.get_label())) for handle in handles)
    per_row = min(len(handles), max(1, int(width / (CHARACTER * LEGEND_SIZE / 72 * longest + 0.45))))
    figure.legend(
        handles=handles,
        ncols=per_row,
        fontsize=LEGEND_SIZE,
        loc="lower center",
        bbox_to_anchor=(width / 2, note_height),
        bbox_transform=inches,
        borderaxespad=0,
    )
    return note_height + LINE_HEIGHT * LEGEND_SIZE / 72 * math.ceil(len(handles) / per_row) + 0.1


def _name_panel(row: Row, several_models: bool) -> str:
    task = row["task"]
    name = "Average" if task is None else f"{name_task(task)} ({name_metric(row['headline'])})"
    return f"{row['model']}\n{name}" if several_models else name


def finish_panel(axis: Axes, is_empty: bool, quantity: str) -> None:
    """Name what runs along a panel, scale it to what it holds, or say that it holds nothing."""
    axis.set_xlabel(quantity)
    axis.tick_params(length=2)
    axis.margins(y=0.08)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    low, high = axis.get_ylim()
    if is_empty:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "no complete cell", transform=axis.transAxes, ha="center", color="0.4")
    elif high - low < LEAST_SPAN:
        axis.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)


def split_far(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return the fewest rows so far below the others that the axis were FAR times as long, and the others.

    They are less than half of the rows, and each is an axis' length below the others at least; the axis would
    reach over the bars of all.
    """
    ordered = sorted(rows, key=lambda row: row["statistic"])
    top = max((_find_end(row, "high") for row in rows), default=0.0)
    lowest = min((_find_end(row, "low") for row in rows), default=0.0)
    for number in range(1, (len(rows) + 1) // 2):
        bottom = min(_find_end(row, "low") for row in ordered[number:])
        length = max(top - bottom, LEAST_SPAN / 100)
        is_apart = ordered[number - 1]["statistic"] <= bottom - length
        if is_apart and top - lowest >= FAR * length:
            return ordered[:number], ordered[number:]
    return [], rows


def _find_end(row: Row, end: str) -> float:
    """Return where a cell's bar ends; where it has none, its statistic."""
    found: float = row["statistic"] if row.get(end) is None else row[end]
    return found


def cut_panel(axis: Axes, rows: list[Row]) -> None:
    """Leave outside of a panel what `split_far` finds, and name it at the panel's foot."""
    outside, kept = split_far(rows)
    if not outside:
        return
    low, high = (
        100 * choose(_find_end(row, end) for row in kept) for choose, end in ((min, "low"), (max, "high"))
    )
    margin = max(0.08 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    names = [f"↓ {name_row(row)}: {show_percent(row['statistic'])}" for row in outside]
    if len(names) > MOST_NAMES:
        names = [f"↓ {len(names)} cells, {show_percent(outside[0]['statistic'])} at the lowest"]
    foot = (high - low + 2 * margin) * len(names) * LINE_SHARE / (1 - len(names) * LINE_SHARE)
    axis.set_ylim(low - margin - foot, high + margin)
    axis.text(0.03, 0.03, "\n".join(names), transform=axis.transAxes, fontsize=NOTE_SIZE, va="bottom")


def _settle(figure: Figure) -> None:
    """Lay the panels out for good.

    A constrained layout is solved with its unknowns in the order of their addresses in memory, so that the
    last digits may differ from process to process; a PDF would show them.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)  # not "none", whose placeholder has every file drawn twice
    for axis in figure.axes:
        axis.set_position(Bbox(axis.get_position().get_points().round(PLACE_DIGITS)))


@use_style()
def encode(figure: Figure) -> dict[str, bytes]:
    """Return a figure's content by ending: the same bytes for the same figure, on any day.

    The figure's layout is final from then on.
    """
    _settle(figure)
    encoded = {}
    for ending, options in FORMATS.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, **options)
        encoded[ending] = buffer.getvalue()
    return encoded
