"""How methods and their settings are drawn in figures, and the legend of what is drawn."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.lines import Line2D

from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.figures.notes import list_crowded
from glue_harness.reports.notes import name_series


class PlotStyle(NamedTuple):
    """How a method is drawn: a colour of Okabe and Ito's, and a marker that tells it apart in grey too.

    `fill` and `line` tell its settings apart. `is_faint`: there are too many, they share this one.
    """

    colour: str
    marker: str
    fill: str = "full"
    line: str | tuple = "-"
    is_faint: bool = False

    def style_line(self) -> dict[str, Any]:
        """Return matplotlib's properties of a line of this style, with its markers."""
        return {
            **{"color": self.colour, "marker": self.marker, "linestyle": self.line},
            "fillstyle": "full" if self.fill == "none" else self.fill,
            "markerfacecolor": "white" if self.fill == "none" else self.colour,
            "markerfacecoloralt": "white",
            "alpha": FAINT if self.is_faint else 1,
        }

    def style_crossing(self) -> dict[str, Any]:
        """Return matplotlib's properties of a line across a panel."""
        return {
            "color": self.colour,
            "linestyle": "--" if self.line == "-" else self.line,
            "alpha": FAINT if self.is_faint else 1,
        }


METHOD_STYLES = {
    "full": PlotStyle("#000000", "s"),
    "lora": PlotStyle("#0072B2", "o"),
    "lora_qv": PlotStyle("#56B4E9", "v"),
    "dora": PlotStyle("#009E73", "^"),
    "edora": PlotStyle("#D55E00", "D"),
    "lora_xs": PlotStyle("#E69F00", "P"),
    "edora_random": PlotStyle("#CC79A7", "X"),
    "head_only": PlotStyle("#777777", "<"),
    "magnitude_only": PlotStyle("#777777", "*"),
}
OTHER_STYLES = [PlotStyle("#444444", marker) for marker in "h>pdH8"]
SETTING_STYLES = (("full", "-"), ("none", ":"), ("left", "-."), ("bottom", (0, (4, 1, 1, 1, 1, 1))))
"""Fill and line of a method's settings, in grid order; TOLD_APART of them."""

FAINT = 0.35
"""Opacity of the style that too many settings share."""


class PlotStyles:
    """A figure's styles: a method's of METHOD_STYLES, or the next of OTHER_STYLES, and its settings'."""

    def __init__(self, summary: pd.DataFrame) -> None:
        others, crowded = itertools.cycle(OTHER_STYLES), list_crowded(summary)
        self._styles: dict[tuple, PlotStyle] = {}
        for method, rows in summary.groupby("method", sort=False):
            own = METHOD_STYLES.get(method) or next(others)
            for number, settings in enumerate(dict.fromkeys(evidence.list_column(rows["settings"]))):
                if method in crowded:
                    self._styles[method, settings] = own._replace(is_faint=True)
                    continue
                fill, line = SETTING_STYLES[number]
                self._styles[method, settings] = own._replace(fill=fill, line=line)

    def find(self, row: Row) -> PlotStyle:
        """Return the style of a row's method and settings."""
        return self._styles[row["method"], row["settings"]]

    def list_handles(self, rows: list[Row], with_ranks: bool = True, crossing: bool = False) -> list[Line2D]:
        """Return the rows' legend, an entry a style; `crossing`: what has no parameters is a line across."""
        series: dict[tuple[str, PlotStyle], list[Row]] = {}
        for row in rows:
            series.setdefault((row["method"], self.find(row)), []).append(row)
        return [
            make_handle(name_series(of, with_ranks), style, crossing and of[0]["adapter_parameters"] == 0)
            for (_, style), of in series.items()
        ]


def make_handle(label: str, style: PlotStyle, is_line: bool = False) -> Line2D:
    """Return a legend's entry, never faint; `is_line`: for a line across the panel."""
    own = style._replace(is_faint=False)
    return Line2D([], [], label=label, **(own.style_crossing() if is_line else own.style_line()))
