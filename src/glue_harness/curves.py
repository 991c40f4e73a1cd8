"""Evidence -> learning curves: the dev score of a table's cells, epoch by epoch.

The rules are `selection`'s. A run counts as the majority class at an epoch where it is degenerate or has
diverged; a cell has a curve only once every planned run has entered.
"""

from __future__ import annotations

import statistics
from typing import Any

import pandas as pd

from glue_harness import evidence
from glue_harness.evidence import DEGENERATE, Evidence, Row
from glue_harness.selection import ROW_KEY, SERIES_KEY, STATISTICS, Selection, read_curve, split_rows


def keep_middle_ranks(selection: Selection) -> Selection:
    """Return the part with one rank a method: of several the middle one, of two middle ones the higher."""
    series = split_rows(evidence.list_rows(selection.averages), SERIES_KEY)
    middle = {_key(rows[0]): statistics.median_high(row["rank"] for row in rows) for rows in series}
    return selection.keep(lambda row: row["rank"] == middle[_key(row)])


def _key(row: Row) -> tuple:
    return tuple(row[name] for name in SERIES_KEY)


def trace_cells(collected: Evidence, selection: Selection) -> pd.DataFrame:
    """Return the learning curve of each cell of `selection` that has a statistic, in grid order.

    Columns: ROW_KEY, task, and, each a tuple of fractions by epoch from 1, `statistic` (the protocol's, over
    runs), `low` and `high` (the lowest and the highest run). No evaluation at all, no curve.
    """
    by_run = evidence.group_rows(_keep_needed(collected.epochs, selection.scored))
    curves = []
    for runs in split_rows(evidence.list_rows(selection.scored), [*ROW_KEY, "task"]):
        last = max(run["evaluated_epochs"] or 0 for run in runs)
        if last and all(run["score"] is not None for run in runs):
            traces = [_trace_run(run, by_run.get((run["cell"], run["seed"]), []), last) for run in runs]
            by_epoch = list(zip(*traces, strict=True))  # (epochs, runs)
            curves.append(
                {name: runs[0][name] for name in (*ROW_KEY, "task")}
                | {"statistic": tuple(map(STATISTICS[selection.protocol.statistic], by_epoch))}
                | {"low": tuple(map(min, by_epoch)), "high": tuple(map(max, by_epoch))}
            )
    return pd.DataFrame(curves, columns=[*ROW_KEY, "task", "statistic", "low", "high"], dtype=object)


def _keep_needed(epochs: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """Return what curves are made of: to turn all of epochs.csv into Python values takes long."""
    headlines = dict(zip(scored["task"], scored["headline"], strict=True))
    needed = epochs["metric"].eq(DEGENERATE[1]) | epochs["metric"].eq(epochs["task"].map(headlines))
    needed &= epochs["part"].eq("all") & epochs["cell"].isin(scored["cell"])
    return epochs.loc[needed, ["cell", "seed", "epoch", "part", "metric", "value"]]


def _trace_run(run: Row, epoch_rows: list[Row], last: int) -> list[float]:
    curve, degenerate = read_curve(epoch_rows, run["headline"])
    scores: dict[int, Any] = dict.fromkeys(range(1, last + 1), run["majority_score"])
    scores.update({epoch: value for epoch, value in curve.items() if epoch not in degenerate})
    return list(scores.values())
