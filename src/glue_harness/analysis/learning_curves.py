"""Evidence -> learning curves: the dev score of a table's cells, epoch by epoch.

The rules are those of `analysis.summary`. A run counts as the majority class at an epoch where it is
degenerate or has diverged; a cell has a curve only once every planned run has entered.
"""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd

from glue_harness.analysis.scoring import index_runs, read_curves
from glue_harness.analysis.summary import ROW_KEY, SERIES_KEY, STATISTICS, Selection, split_rows
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Evidence, Row


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
    runs), `low` and `high` (the lowest and the highest run). No evaluation at all, no curve. Where the halves
    of dev chose two settings, the curve is the first one's.
    """
    chosen = selection.chosen
    traces = _trace_runs(collected)  # (runs, epochs)
    numbered = chosen.assign(number=index_runs(collected.runs, chosen))
    curves = []
    for runs in split_rows(evidence.list_rows(numbered), [*ROW_KEY, "task"]):
        last = max(run["evaluated_epochs"] or 0 for run in runs)
        if last and runs[0]["entered"] == runs[0]["planned"]:
            by_epoch = traces[[run["number"] for run in runs], :last].T.tolist()  # (epochs, runs)
            curves.append(
                {name: runs[0][name] for name in (*ROW_KEY, "task")}
                | {"statistic": tuple(map(STATISTICS[selection.protocol.statistic], by_epoch))}
                | {"low": tuple(map(min, by_epoch)), "high": tuple(map(max, by_epoch))}
            )
    return pd.DataFrame(curves, columns=[*ROW_KEY, "task", "statistic", "low", "high"], dtype=object)


def _trace_runs(collected: Evidence) -> np.ndarray:
    """Return every run's score on all of dev by epoch, the majority class's where it has learnt nothing."""
    curves = read_curves(collected, "all")
    majority = collected.runs["majority_score"].to_numpy(dtype=float, na_value=np.nan)[:, None]
    return np.where(curves.degenerate | np.isnan(curves.values), majority, curves.values)
