"""What a search of rates and alpha found: trials, choices, scores. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from glue_harness.config.metric_specs import METRICS
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.runs.record import Status

SEARCHED = ("learning_rate", "head_learning_rate", "alpha")
"""What a search may vary, and what a file of conf/tuned holds; names of `trainer`'s fields."""

Values = tuple[float | None, ...]
"""A value of each of SEARCHED; a method without alpha has None for it."""

EDGE_VALUES = 3
"""A rate with fewer values than this has no inside, so that its edges say nothing."""


@dataclass(frozen=True)
class TaskFinding:
    """The trials of one method on one task, in the order of the grid.

    `choice` is `Experiment.choice`, `held_out` the number of rows that a trial is scored on, None if no trial
    has ended. `earlier`: the trials of the round that these were taken from.
    """

    trials: list[Row]
    choice: str = "best"
    held_out: int | None = None
    earlier: tuple[Row, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, method and task: what names the file of conf/tuned."""
        first = self.trials[0]
        return first["model"], first["method"], first["task"]

    @property
    def scored(self) -> list[Row]:
        """The trials with a score; one that diverged has the majority class's."""
        return [trial for trial in self.trials if trial["score"] is not None]

    @property
    def is_whole(self) -> bool:
        """Whether every trial has a score: none is missing, none has failed."""
        return len(self.scored) == len(self.trials)

    @property
    def best(self) -> Row | None:
        """The chosen trial: of the highest score, or at the lowest rates within a standard error of it.

        Of equals it is the one with the lowest rates and alpha. None while a trial is out, and where the
        highest score is of a trial that has learnt nothing.
        """
        if not self.is_whole:
            return None
        highest = min(self.scored, key=lambda trial: (-trial["score"], get_values(trial)))
        if not _has_learnt(highest):
            return None
        if self.choice == "best":
            return highest
        least = highest["score"] - self.compute_standard_error(highest["score"])
        close = [trial for trial in self.scored if _has_learnt(trial) and trial["score"] >= least]
        return min(close, key=lambda trial: (*get_values(trial)[:2], -trial["score"], trial["alpha"]))

    def compute_standard_error(self, score: float) -> float:
        """Return the standard error that a score has for being measured on so many held-out rows.

        sqrt(s (1 - s) / n) for a share s of n rows; (1 - s^2) / sqrt(n - 1) for a correlation, which
        Matthews' is of two binary variables.

        Raises:
            ValueError: no trial has ended, so that the number of rows is not known.
        """
        if self.held_out is None:
            raise ValueError(f"{self.key}: no trial has ended")
        if METRICS[self.trials[0]["headline"]].correlates:
            return (1 - score**2) / math.sqrt(self.held_out - 1)
        return math.sqrt(score * (1 - score) / self.held_out)

    @property
    def edges(self) -> list[str]:
        """The rates whose chosen value is the lowest or highest of all that were tried, in whatever round."""
        return [rate for rate in SEARCHED if self.best is not None and self._is_edge(rate, self.best[rate])]

    def _is_edge(self, rate: str, value: float) -> bool:
        tried = sorted(value for value in self.list_values(rate) if value is not None)
        return len(tried) >= EDGE_VALUES and value in (tried[0], tried[-1])

    def list_values(self, rate: str) -> set[float | None]:
        """Return the values of one of SEARCHED that were tried, in whatever round."""
        return {trial[rate] for trial in (*self.trials, *self.earlier)}


def find(
    scored: pd.DataFrame, choice: str = "best", held_out: Mapping[str, int] | None = None
) -> list[TaskFinding]:
    """Return the findings of a search's scored runs (`analysis.scoring.score_runs`), by method and task.

    `held_out`: by task, how many rows its trials are scored on.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in evidence.list_rows(scored):
        groups.setdefault((row["label"], row["task"]), []).append(row)
    sizes = held_out or {}
    return [TaskFinding(rows, choice, sizes.get(task)) for (_label, task), rows in groups.items()]


def get_values(trial: Row) -> Values:
    """Return a trial's value of each of SEARCHED."""
    return tuple(trial[name] for name in SEARCHED)


def _has_learnt(trial: Row) -> bool:
    return not trial["degenerate"] and trial["status"] != Status.DIVERGED


def score_values(finding: TaskFinding) -> dict[Values, float]:
    """Return the score of all values that have learnt something, and have not diverged."""
    return {get_values(trial): trial["score"] for trial in finding.scored if _has_learnt(trial)}


def average_scores(group: Sequence[TaskFinding]) -> dict[Values, float]:
    """Return the mean over a method's tasks of the score of all values that have learnt something on each."""
    by_task = [score_values(finding) for finding in group]
    shared = set.intersection(*(set(scores) for scores in by_task)) if by_task else set()
    return {values: statistics.fmean(scores[values] for scores in by_task) for values in shared}


def rank_values(means: Mapping[Values, float]) -> list[Values]:
    """Return values from the highest score to the lowest, of equals those with the lowest rates and alpha."""
    return sorted(means, key=lambda values: (-means[values], values))
