"""Evidence and a protocol -> one score per run: on one part of dev, at the epoch that a part selects.

A run that diverged, or whose selected epoch is degenerate (one prediction for every dev row, or an undefined
headline metric), has the majority class's score. A run that failed or is missing has none. All runs are
scored at once, in arrays: the authors' grid has millions of rows of epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from glue_harness.analysis import statistics as stats
from glue_harness.config.schema import Protocol
from glue_harness.errors import InputError
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import DEGENERATE, Evidence, Row
from glue_harness.runs.record import Status

FOLDS = {"whole": (("all", "all"),), "halves": (("even", "odd"), ("odd", "even"))}
"""What a protocol's `dev` means: for each fold the part of dev that selects and the part that reports."""

SCORE_COLUMNS = {
    **{"score": evidence.NUMBER, "degenerate": evidence.TRUTH},
    **dict.fromkeys(("selected_epochs", "selecting", "reported"), "object"),
}


@dataclass(frozen=True)
class Curves:
    """The headline metric of every run on one part of dev, in the order of `Evidence.runs`.

    `values`: (runs, epochs), NaN where undefined. `evaluated`, `degenerate`: (runs, epochs), bool.
    """

    values: np.ndarray
    evaluated: np.ndarray
    degenerate: np.ndarray


def score_runs(collected: Evidence, protocol: Protocol) -> pd.DataFrame:
    """Return the frame of runs with what the protocol makes of them: SCORE_COLUMNS.

    `score`: a fraction, the mean of `reported`; NA: does not enter. `degenerate`: at an epoch that was
    selected. The others are tuples, a value a fold: `selected_epochs` (from 1; None if it diverged),
    `selecting` and `reported`, the scores that choose a setting and that count.

    Raises:
        InputError: a run was not scored on a part of dev that the protocol needs.
    """
    folds = [_score_fold(collected, protocol, *parts) for parts in FOLDS[protocol.dev]]
    rows = [_join_folds(scores) for scores in zip(*folds, strict=True)]
    return pd.concat([collected.runs, evidence.build_frame(rows, SCORE_COLUMNS)], axis="columns")


def _join_folds(scores: tuple[Row, ...]) -> Row:
    if scores[0]["reported"] is None:
        return {"degenerate": False}
    joined = {name: tuple(score[name] for score in scores) for name in ("selecting", "reported")}
    epochs = tuple(score["epoch"] for score in scores)
    return {
        **joined,
        "selected_epochs": None if None in epochs else epochs,
        "score": stats.mean(joined["reported"]),
        "degenerate": any(score["degenerate"] for score in scores),
    }


def _score_fold(collected: Evidence, protocol: Protocol, selector: str, reporter: str) -> list[Row]:
    """Return for each run the epoch that one part of dev selects, its score there, and on the other part."""
    selecting = read_curves(collected, selector)
    reporting = selecting if reporter == selector else read_curves(collected, reporter)
    runs = evidence.list_rows(collected.runs[["cell", "seed", "status", "majority_score"]])
    for part, curves in ((selector, selecting), (reporter, reporting)):
        _require_part(runs, curves, protocol, part)
    if not selecting.values.size:
        epochs = np.zeros(len(runs), dtype=int)
    elif protocol.epoch == "best":
        filled = np.where(np.isnan(selecting.values), -np.inf, selecting.values)
        epochs = np.where(selecting.evaluated, filled, -np.inf).argmax(axis=1)  # the earliest of equals
    else:
        epochs = selecting.evaluated.sum(axis=1) - 1
    return [
        _score_run(run, number, int(epoch), selecting, reporting)
        for number, (run, epoch) in enumerate(zip(runs, epochs, strict=True))
    ]


def _score_run(run: Row, number: int, epoch: int, selecting: Curves, reporting: Curves) -> Row:
    majority = run["majority_score"]
    if run["status"] == Status.DIVERGED:
        return {"epoch": None, "selecting": majority, "reported": majority, "degenerate": False}
    if run["status"] != Status.COMPLETE:
        return {"epoch": None, "selecting": None, "reported": None, "degenerate": False}
    flagged = bool(selecting.degenerate[number, epoch])
    scores: list[Any] = [float(curves.values[number, epoch]) for curves in (selecting, reporting)]
    degenerate = [flagged or math.isnan(score) for score in scores]
    selector, reporter = (majority if flag else score for flag, score in zip(degenerate, scores, strict=True))
    return {"epoch": epoch + 1, "selecting": selector, "reported": reporter, "degenerate": degenerate[1]}


def _require_part(runs: list[Row], curves: Curves, protocol: Protocol, part: str) -> None:
    for run, evaluated in zip(runs, curves.evaluated, strict=True):
        if run["status"] == Status.COMPLETE and not evaluated.any():
            place = f"protocol={protocol.name}: cell {run['cell']}, seed {run['seed']}"
            raise InputError(f"{place}: has no scores on dev's part `{part}`; allowed is one with dev=whole")


def read_curves(collected: Evidence, part: str) -> Curves:
    """Return the learning curves of all runs on a part of dev, from the rows of `Evidence.epochs`."""
    runs, epochs = collected.runs, collected.epochs
    needed = epochs["part"].isin([part, DEGENERATE[0]]) & epochs["cell"].isin(runs["cell"])
    needed &= epochs["metric"].isin([DEGENERATE[1], *runs["headline"].unique()])
    rows = epochs.loc[needed, ["cell", "seed", "epoch", "part", "metric", "value"]]
    number = index_runs(runs, rows)
    planned = number >= 0
    rows, number = rows[planned], number[planned]
    column = rows["epoch"].to_numpy(dtype=int) - 1
    value = rows["value"].to_numpy(dtype=float, na_value=np.nan)
    is_part = rows["part"].eq(part).to_numpy(dtype=bool)
    is_headline = is_part & (rows["metric"].to_numpy(object) == runs["headline"].to_numpy(object)[number])
    is_flag = rows["part"].eq(DEGENERATE[0]).to_numpy(dtype=bool)
    is_flag &= rows["metric"].eq(DEGENERATE[1]).to_numpy(dtype=bool)
    shape = (len(runs), int(column.max(initial=-1)) + 1)
    values, evaluated, degenerate = np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    values[number[is_headline], column[is_headline]] = value[is_headline]
    evaluated[number[is_headline], column[is_headline]] = True
    degenerate[number[is_flag], column[is_flag]] = value[is_flag] > 0
    return Curves(values, evaluated, degenerate)


def index_runs(runs: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """Return, for each row with a `cell` and a `seed`, the number of its run in `runs`, or -1: (rows,)."""
    cells, seeds = (pd.Index(runs[name].unique()) for name in ("cell", "seed"))
    table = np.full((len(cells) + 1, len(seeds) + 1), -1)  # the last of each: not among the runs
    table[cells.get_indexer(runs["cell"]), seeds.get_indexer(runs["seed"])] = np.arange(len(runs))
    return np.asarray(table[cells.get_indexer(rows["cell"]), seeds.get_indexer(rows["seed"])])


def split_settings(settings: str | None, searched: Iterable[str]) -> tuple[str | None, str | None]:
    """Return the part of a run's settings that a table compares, and the part that a protocol chooses from.

    `searched`: axes of the grid by name, such as `method.adapter.init_std`, which a run's settings know as
    `adapter.init_std`.
    """
    names = tuple(f"{axis.removeprefix('method.')}=" for axis in searched)
    shown = settings.split(" ") if settings else []
    parts = ([text for text in shown if text.startswith(names) is wanted] for wanted in (False, True))
    compared, chosen = (" ".join(part) or None for part in parts)
    return compared, chosen
