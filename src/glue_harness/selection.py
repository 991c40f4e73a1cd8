"""Evidence and a protocol -> one score per run, and a summary per table cell.

A run that diverged, or whose selected epoch is degenerate (one prediction for every dev row, or an undefined
headline metric), enters at the majority class's score, is marked and counted. Failed and missing runs do
not enter, and a cell has a statistic only once every planned run has entered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from glue_harness import evidence, stats
from glue_harness.config import Protocol
from glue_harness.evidence import DEGENERATE, Evidence, Row
from glue_harness.records import Status

ROW_KEY = ["model", "method", "label", "rank", "settings"]
"""What makes a row of a table; `settings` keeps runs of one label but other values apart."""

SERIES_KEY = ["model", "method", "settings"]
"""What a method's ranks have in common: a row of the rank table, a line of a figure."""

STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {"median": stats.median, "mean": stats.mean}


@dataclass(frozen=True)
class Selection:
    """What a protocol makes of the evidence: the frames of `score_runs`, `summarise` and `average_tasks`."""

    protocol: Protocol
    scored: pd.DataFrame
    summary: pd.DataFrame
    averages: pd.DataFrame

    def keep(self, is_wanted: Callable[[Row], bool]) -> Selection:
        """Return the part whose rows are wanted, by their ROW_KEY; averages stay as they were."""
        frames = (self.scored, self.summary, self.averages)
        kept = (frame[[is_wanted(row) for row in evidence.list_rows(frame[ROW_KEY])]] for frame in frames)
        return Selection(self.protocol, *(frame.reset_index(drop=True) for frame in kept))


def select(collected: Evidence, protocol: Protocol) -> Selection:
    """Return everything that tables and figures show of the evidence under `protocol`."""
    scored = score_runs(collected, protocol)
    summary = summarise(scored, protocol)
    return Selection(protocol, scored, summary, average_tasks(summary))


def score_runs(collected: Evidence, protocol: Protocol) -> pd.DataFrame:
    """Return the frame of runs with what the protocol selects.

    Adds `selected_epoch` (from 1), `score` (a fraction; NA: does not enter) and `degenerate`.
    """
    by_run = evidence.group_rows(collected.epochs)
    rows = evidence.list_rows(collected.runs)
    scored = [_score_run(row, by_run.get((row["cell"], row["seed"]), []), protocol) for row in rows]
    columns = {"selected_epoch": evidence.INTEGER, "score": evidence.NUMBER, "degenerate": evidence.TRUTH}
    return pd.concat([collected.runs, evidence.build_frame(scored, columns)], axis="columns")


def _score_run(row: Row, epoch_rows: list[Row], protocol: Protocol) -> Row:
    if row["status"] == Status.DIVERGED:
        return {"score": row["majority_score"], "degenerate": False}
    if row["status"] != Status.COMPLETE:
        return {"degenerate": False}
    curve, degenerate_epochs = read_curve(epoch_rows, row["headline"])
    selected = evidence.best_epoch(curve) if protocol.epoch == "best" else max(curve)
    degenerate = selected in degenerate_epochs
    score = row["majority_score"] if degenerate else curve[selected]
    return {"selected_epoch": selected, "score": score, "degenerate": degenerate}


def read_curve(epoch_rows: list[Row], headline: str) -> tuple[dict[int, float | None], set[int]]:
    """Return one run's headline metric on all of dev by epoch, and the epochs at which it is degenerate."""
    on_all = [row for row in epoch_rows if row["part"] == "all"]
    curve = {row["epoch"]: row["value"] for row in on_all if row["metric"] == headline}
    flagged = {row["epoch"] for row in on_all if row["metric"] == DEGENERATE[1] and row["value"]}
    return curve, flagged | {epoch for epoch, value in curve.items() if value is None}


def summarise(scored: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Return a row for each (ROW_KEY, task), in order of first appearance.

    Columns: ROW_KEY, task, headline, the parameter counts (the first known), `planned`, `entered`,
    `degenerate`, `diverged`, `failed`, `missing` (numbers of runs), `scores` (a tuple, in order of the runs),
    `statistic` (None unless all planned runs entered) and `spread` (sample standard deviation; likewise).
    """
    cells = split_rows(evidence.list_rows(scored), [*ROW_KEY, "task"])
    return pd.DataFrame([_summarise_cell(runs, protocol) for runs in cells], dtype=object)


def split_rows(rows: list[Row], names: list[str]) -> list[list[Row]]:
    """Return rows in groups of equal values of `names`, groups and rows in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())


def _summarise_cell(runs: list[Row], protocol: Protocol) -> Row:
    scores = tuple(run["score"] for run in runs if run["score"] is not None)
    whole = len(scores) == len(runs)
    status_counts = {
        status: sum(run["status"] == status for run in runs)
        for status in (Status.DIVERGED.value, Status.FAILED.value, evidence.MISSING)
    }
    return {
        **{name: runs[0][name] for name in (*ROW_KEY, "task", "headline", "averaged")},
        **{name: _first_known(runs, name) for name in ("adapter_parameters", "head_parameters")},
        **{"planned": len(runs), "entered": len(scores)},
        "degenerate": sum(run["degenerate"] for run in runs),
        **status_counts,
        "scores": scores,
        "statistic": STATISTICS[protocol.statistic](scores) if whole else None,
        "spread": stats.spread(scores) if whole else None,
    }


def _first_known(runs: list[Row], name: str) -> Any:
    return next((run[name] for run in runs if run[name] is not None), None)


def average_tasks(summary: pd.DataFrame, key: list[str] = ROW_KEY) -> pd.DataFrame:
    """Return, for each `key`, the mean over tasks of the statistic: columns `key` and `average`.

    Tasks that are not `averaged` (WNLI) stay out. None unless the row has every other task of the summary,
    each with all its planned runs.
    """
    tasks = summary[summary["averaged"].astype(bool)]["task"].nunique()
    averages = []
    for cells in split_rows(evidence.list_rows(summary), key):
        counted = [cell["statistic"] for cell in cells if cell["averaged"]]
        values = [value for value in counted if value is not None]
        average = stats.mean(values) if len(values) == tasks > 0 else None
        averages.append({name: cells[0][name] for name in key} | {"average": average})
    return pd.DataFrame(averages, dtype=object)


def list_swept_methods(summary: pd.DataFrame) -> list[str]:
    """Return the methods that the grid gives several ranks, in grid order."""
    ranks = summary.groupby("method", sort=False)["rank"].nunique()
    return [method for method, number in ranks.items() if number > 1]
