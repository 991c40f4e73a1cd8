"""Evidence and a protocol -> the runs that count, and a summary per table cell.

A table's cell may have runs of several settings that the experiment searched through: the protocol chooses
one. Failed and missing runs do not enter, and a cell has a statistic only once every planned run has entered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from glue_harness.analysis import statistics as stats
from glue_harness.analysis.scoring import FOLDS, score_runs, split_settings
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Evidence, Row
from glue_harness.runs.record import Status

ROW_KEY = ["model", "method", "label", "rank", "settings"]
"""What makes a row of a table; `settings` keeps runs of one label but other values, not searched, apart."""

SERIES_KEY = ["model", "method", "settings"]
"""What a method's ranks have in common: a row of the rank table, a line of a figure."""

STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {"median": stats.median, "mean": stats.mean}


@dataclass(frozen=True)
class Selection:
    """What a protocol makes of the evidence.

    `scored`: a row a run, of `scoring.score_runs`, with `settings` as a table compares them and `searched`,
    the values that the protocol chooses from. `chosen`, `summary`, `averages`: the frames of
    `choose_settings`, `summarise` and `average_tasks`.
    """

    protocol: Protocol
    scored: pd.DataFrame
    chosen: pd.DataFrame
    summary: pd.DataFrame
    averages: pd.DataFrame

    def keep(self, is_wanted: Callable[[Row], bool]) -> Selection:
        """Return the part whose rows are wanted, by their ROW_KEY; averages stay as they were."""
        frames = (self.scored, self.chosen, self.summary, self.averages)
        kept = (frame[[is_wanted(row) for row in evidence.list_rows(frame[ROW_KEY])]] for frame in frames)
        return Selection(self.protocol, *(frame.reset_index(drop=True) for frame in kept))


def select(collected: Evidence, protocol: Protocol, searched: Sequence[str] = ()) -> Selection:
    """Return everything that tables and figures show of the evidence under `protocol`.

    `searched`: the axes that the experiment searched through, `Experiment.searched`.
    """
    scored = score_runs(collected, protocol)
    axes = searched if protocol.setting == "chosen" else ()
    parts = [split_settings(text, axes) for text in evidence.list_column(scored["settings"])]
    for name, values in zip(("settings", "searched"), zip(*parts, strict=True), strict=True):
        scored[name] = pd.array(values, dtype=evidence.TEXT)
    return assemble(scored, protocol)


def assemble(scored: pd.DataFrame, protocol: Protocol) -> Selection:
    """Return the selection of scored runs whose settings are split."""
    chosen = choose_settings(scored, protocol)
    summary = summarise(chosen, protocol)
    return Selection(protocol, scored, chosen, summary, average_tasks(summary))


def choose_settings(scored: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Return the rows that a table's cells are made of: a row a seed, of the setting that is chosen.

    Of a cell's several settings the one counts that has the highest statistic over seeds of the score that
    selects, the first of equals, in each fold of dev by itself. Adds `planned` and `entered`, the numbers of
    runs of all settings, `settings_tried`, their number, and `second_cell`: where the second fold chose
    another setting than the first, the cell of the run behind its half of the score. Without all its runs
    such a cell keeps those that there are, without scores: nothing can be chosen.
    """
    chosen = []
    for runs in split_rows(evidence.list_rows(scored), [*ROW_KEY, "task"]):
        settings = split_rows(runs, ["searched"])
        entered = sum(run["score"] is not None for run in runs)
        added = {"planned": len(runs), "entered": entered, "settings_tried": len(settings)}
        if len(settings) > 1:
            whole = entered == len(runs)
            runs = _choose(settings, protocol) if whole else [run | {"score": None} for run in runs]
        chosen += [run | added for run in runs]
    columns = {str(name): dtype.name for name, dtype in scored.dtypes.items()}
    columns |= dict.fromkeys(("planned", "entered", "settings_tried"), evidence.INTEGER)
    return evidence.build_frame(chosen, columns | {"second_cell": evidence.TEXT})


def _choose(settings: list[list[Row]], protocol: Protocol) -> list[Row]:
    """Return a row a seed, of one setting's runs, or of the runs of the two that the halves of dev choose."""
    statistic = STATISTICS[protocol.statistic]
    folds = range(len(FOLDS[protocol.dev]))
    best = [max(settings, key=lambda runs: statistic([run["selecting"][k] for run in runs])) for k in folds]
    if all(runs is best[0] for runs in best):
        return best[0]
    first, second = best
    by_seed = {run["seed"]: run for run in second}
    return [_join_halves(run, by_seed[run["seed"]]) for run in first if run["seed"] in by_seed]


def _join_halves(first: Row, second: Row) -> Row:
    """Return the row of a seed whose first fold counts from one run, and the second from another."""
    reported = (first["reported"][0], second["reported"][1])
    diverged = Status.DIVERGED in (first["status"], second["status"])
    return first | {
        "reported": reported,
        "selecting": (first["selecting"][0], second["selecting"][1]),
        "selected_epochs": None if diverged else (first["selected_epochs"][0], second["selected_epochs"][1]),
        "score": stats.mean(reported),
        "degenerate": first["degenerate"] or second["degenerate"],
        "status": (Status.DIVERGED if diverged else Status.COMPLETE).value,
        "searched": f"{first['searched']} | {second['searched']}",
        "second_cell": second["cell"],
    }


def summarise(chosen: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Return a row for each (ROW_KEY, task), in order of first appearance.

    Columns: ROW_KEY, task, headline, the parameter counts (the first known), `planned`, `entered` (numbers
    of runs), `seeds`, `settings_tried`, `chosen` (the setting, where there are several; two with ` | `
    between them where the halves of dev differ; None while it is open), `degenerate`, `diverged`, `failed`,
    `missing` (of the rows that count), `scores` (a tuple, in order of the runs), `statistic` (None unless all
    planned runs entered), `spread` (sample standard deviation), `low`, `high` and `bounds`
    (`analysis.statistics.bound_seeds`; likewise).
    """
    cells = split_rows(evidence.list_rows(chosen), [*ROW_KEY, "task"])
    rows = [_summarise_cell(runs, protocol) for runs in cells]
    return pd.DataFrame(add_bounds(rows, "scores", protocol), dtype=object)


def add_bounds(rows: list[Row], scores: str, protocol: Protocol) -> list[Row]:
    """Return rows with `low`, `high` and `bounds` (`statistics.Bounds`); None where there is no statistic."""
    known = [row[scores] if row["statistic"] is not None else () for row in rows]
    found = [stats.bound_seeds(of_row, protocol.statistic) or (None, None, None) for of_row in known]
    names = ("low", "high", "bounds")
    return [row | dict(zip(names, bounds, strict=True)) for row, bounds in zip(rows, found, strict=True)]


def split_rows(rows: list[Row], names: list[str]) -> list[list[Row]]:
    """Return rows in groups of equal values of `names`, groups and rows in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())


def _summarise_cell(runs: list[Row], protocol: Protocol) -> Row:
    first = runs[0]
    scores = tuple(run["score"] for run in runs if run["score"] is not None)
    whole = first["entered"] == first["planned"] and len(scores) > 0
    status_counts = {
        status: sum(run["status"] == status for run in runs)
        for status in (Status.DIVERGED.value, Status.FAILED.value, evidence.MISSING)
    }
    return {
        **{name: first[name] for name in (*ROW_KEY, "task", "headline", "averaged")},
        **{name: _first_known(runs, name) for name in ("adapter_parameters", "head_parameters")},
        **{name: first[name] for name in ("planned", "entered")},
        "seeds": len({run["seed"] for run in runs}),
        "settings_tried": first["settings_tried"],
        "chosen": first["searched"] if whole and first["settings_tried"] > 1 else None,
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
