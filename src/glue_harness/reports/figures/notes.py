"""The notes under figures: what points, bars, lines and bands are, and what is left out."""

from __future__ import annotations

import pandas as pd

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.summary import Selection

QUANTITIES = {
    "scores": "adapter parameters",
    "curves": "epoch",
    "costs": "training time",
    "ranks": "rank",
}
"""What runs along the panels of each figure, by the figure's name."""

TOLD_APART = 4
"""How many settings of a method a figure tells apart; more of them share one style."""


def describe_figure(name: str) -> str:
    """Return what the file of a figure shows, for whoever cannot see it."""
    quantity = next((quantity for key, quantity in QUANTITIES.items() if key in name), None)
    along = f" by {quantity}" if quantity else ""
    return f"Dev score{along}, a panel for each model and task; the tables hold the scores."


def explain_points(selection: Selection, is_cut: bool) -> str:
    """Return the note under scores by parameters; `is_cut`: a panel leaves something outside."""
    summary = selection.summary
    is_crossed = any(summary["adapter_parameters"] == 0)
    across = "; one across is of a method that trains nothing but the head" * is_crossed
    return (
        f"{_explain_marks(selection)}. A line joins a method's ranks{across}. Points that would cover each "
        f"other stand side by side.{_explain_rest(summary, is_cut)}"
    )


def explain_ranks(selection: Selection, is_cut: bool) -> str:
    """Return the note under scores by rank."""
    return f"{_explain_marks(selection)}.{_explain_rest(selection.summary, is_cut)}"


def explain_costs(selection: Selection, is_cut: bool) -> str:
    """Return the note under scores by training time."""
    return (
        f"{_explain_marks(selection, averaged=False)}. It stands at the median training time of its runs, by "
        "the clock, whatever else the machine did meanwhile; the table of costs names the machines."
        f"{_explain_rest(selection.summary, is_cut)}"
    )


def _explain_rest(summary: pd.DataFrame, is_cut: bool) -> str:
    cut = " ↓ names what lies so far below the others that it is left outside of its panel." * is_cut
    return f"{cut}{_explain_settings(summary)} {_count_cells(summary)}"


def _explain_marks(selection: Selection, averaged: bool = True) -> str:
    protocol, seeds = selection.protocol, _range_seeds(selection.summary)
    return (
        f"Protocol {protocol.name}: {protocol.description.rstrip('.')}. A point is the {protocol.statistic} "
        f"over {seeds}{_explain_bars(selection, averaged)}"
    )


def _explain_bars(selection: Selection, averaged: bool) -> str:
    """Say what the bars are: of few seeds no confidence interval. `averaged`: averages are drawn too."""
    summary, needed = selection.summary, stats.count_needed_seeds()
    kinds = set(_keep_told_apart(summary)["bounds"].dropna())
    if not kinds:
        return ""
    interval = "95 % bootstrap interval over seeds"
    if kinds == {stats.INTERVAL}:
        bars = f"bars are its {interval}"
    elif kinds == {stats.RANGE}:
        bars = f"bars are the range of the seeds, no confidence interval, which takes {needed} of them"
    else:
        bars = f"bars are its {interval}, of fewer than {needed} seeds no more than their range"
    return f"; {bars}" + "; averages have none" * (averaged and selection.summary["task"].nunique() > 1)


def explain_curves(selection: Selection, is_cut: bool) -> str:
    """Return the note under learning curves."""
    summary, statistic = selection.summary, selection.protocol.statistic
    bands = ", the band their range" * any(_keep_told_apart(summary)["seeds"] > 1)
    return (
        f"Score on dev after each epoch: a line is the {statistic} over {_range_seeds(summary)}{bands}. Of a "
        "method's several ranks the middle one is shown. Where a run is degenerate or diverged, it is the "
        f"majority class's.{_explain_rest(summary, is_cut)}"
    )


def _range_seeds(summary: pd.DataFrame) -> str:
    low, high = min(summary["seeds"]), max(summary["seeds"])
    return f"{low} seed{'s' * (low > 1)}" if low == high else f"{low} to {high} seeds"


def _explain_settings(summary: pd.DataFrame) -> str:
    crowded = list_crowded(summary)
    return f" More than {TOLD_APART} settings of a method are faint, without their spread." if crowded else ""


def _keep_told_apart(summary: pd.DataFrame) -> pd.DataFrame:
    return summary[~summary["method"].isin(list_crowded(summary))]


def list_crowded(summary: pd.DataFrame) -> list[str]:
    """Return the methods of more settings than a figure tells apart."""
    settings = summary.groupby("method", sort=False)["settings"].nunique(dropna=False)
    return [method for method, number in settings.items() if number > TOLD_APART]


def _count_cells(summary: pd.DataFrame) -> str:
    whole = sum(summary["statistic"].notna())
    if whole == len(summary):
        return f"All {whole} cells have all their runs."
    return f"{whole} of {len(summary)} cells have all their runs; the others are left out."
