"""What a search of rates and alpha found: choices, provenance, table. Pure: frames in, strings out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

from glue_harness.analysis.rounding import show_percent
from glue_harness.config.metric_specs import METRICS
from glue_harness.config.schema import Protocol
from glue_harness.evidence import schema as evidence
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import name_commit, name_metric, name_row, name_task
from glue_harness.runs.record import Status

SEARCHED = ("learning_rate", "head_learning_rate", "alpha")
"""What a search may vary, and what a file of conf/tuned holds; names of `trainer`'s fields."""

Values = tuple[float | None, ...]
"""A value of each of SEARCHED; a method without alpha has None for it."""

EDGE_VALUES = 3
"""A rate with fewer values than this has no inside, so that its edges say nothing."""

CURVE_VALUES = 12

CHOICES = {
    "best": "Chosen is the highest score, of equals the lowest rates.",
    "one_standard_error": "Chosen is the lowest learning rate whose score is within one standard error "
    "(that of measuring on so many held-out rows) of the highest.",
}


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


def describe_tuned(
    finding: TaskFinding, command: str, table: str, holdout: float, first_round: str | None = None
) -> str:
    """Return a file of conf/tuned: the chosen rates and alpha, and above them where they come from.

    `first_round`: the round from which the trials were taken, in words.

    Raises:
        ValueError: the finding has no best trial.
    """
    best = finding.best
    if best is None:
        raise ValueError(f"{finding.key}: there is no best trial")
    scores = [trial["score"] for trial in finding.scored]
    tried = [f"{name} {_span(finding, name)}" for name in SEARCHED if best[name] is not None]
    kept, held = show_share(1 - holdout), show_share(holdout)
    rank = "" if best["rank"] is None else f"rank {best['rank']}, "
    commits = sorted({name_commit(trial) for trial in finding.trials})
    numerics = sorted({trial["numerics"] for trial in finding.trials})
    lines = [
        f"# Found by `{command}`; all trials: {table}",
        f"# {_count(finding)}: {', '.join(tried)}; {rank}seed {best['seed']}, {best['epochs']} epochs",
        f"# Trained on {kept} of train, scored on the other {held}; no dev row was read",
        f"# {best['headline']} {best['score']:.4f}, the trials' median {statistics.median(scores):.4f}",
        *([f"# Taken from {first_round}"] if first_round else []),
        *_describe_choice(finding),
        *[f"# At the edge of what was tried: {rate}" for rate in finding.edges],
        f"# Code {', '.join(commits)}; numerics {', '.join(map(str, numerics))}",
        *write_values(best, finding.trials),
    ]
    return "".join(f"{line}\n" for line in lines)


def write_values(values: Mapping[str, float | None], trials: Sequence[Row]) -> list[str]:
    """Return the lines of a file of conf/tuned that hold its values.

    Alpha stands there if the trials searched it, with the rank that they had.
    """
    lines = [f"{name}: {values[name]!r}" for name in SEARCHED[:2]]
    if len({trial["alpha"] for trial in trials}) > 1:
        lines += [f"alpha: {values['alpha']:g}", f"rank: {trials[0]['rank']}"]
    return lines


def _describe_choice(finding: TaskFinding) -> list[str]:
    if finding.choice == "best" or finding.best is None:
        return []
    highest = max(trial["score"] for trial in finding.scored)
    error = finding.compute_standard_error(highest)
    return [f"# At the lowest learning rate of all within one standard error ({error:.4f}) of {highest:.4f}"]


def _count(finding: TaskFinding) -> str:
    return f"{len(finding.trials)} trials"


def _span(finding: TaskFinding, rate: str) -> str:
    tried = sorted({trial[rate] for trial in finding.trials})
    ends = (show_rate(value) for value in (tried[0], tried[-1]))
    return " to ".join(dict.fromkeys(ends))


def tabulate_findings(findings: list[TaskFinding], title: str, holdout: float, protocol: Protocol) -> str:
    """Return the search's table in Markdown: a line a method and task, and notes."""
    columns: dict[str, Callable[[TaskFinding], str]] = {
        "Task": lambda f: f"{name_task(f.key[2])} ({name_metric(f.trials[0]['headline'])})",
        "Method": _name,
        "Trials": _show_trials,
        "Learning rate": lambda f: _show_value(f, "learning_rate"),
        "Head learning rate": lambda f: _show_value(f, "head_learning_rate"),
        **({"Alpha": lambda f: _show_value(f, "alpha")} if _searches_alpha(findings) else {}),
        "Score": lambda f: _percent(f.best["score"] if f.best else None),
        "Median": lambda f: _percent(statistics.median(t["score"] for t in f.scored) if f.scored else None),
        "Best score at each rate": _show_curve,
    }
    tasks = list(dict.fromkeys(finding.key[2] for finding in findings))
    by_task = sorted(findings, key=lambda finding: tasks.index(finding.key[2]))
    rows = [[show(finding) for show in columns.values()] for finding in by_task]
    body = tabulate(rows, list(columns), tablefmt="pipe", disable_numparse=True)
    return f"**{title}**\n\n{body}\n\n" + "".join(
        f"- {note}\n" for note in _notes(findings, holdout, protocol)
    )


def _show_trials(finding: TaskFinding) -> str:
    done = len(finding.scored)
    failed = sum(trial["status"] == Status.FAILED for trial in finding.trials)
    shown = _count(finding) if finding.is_whole else f"{done} of {_count(finding)}"
    return shown + (f", {failed} failed" if failed else "")


def _show_value(finding: TaskFinding, rate: str) -> str:
    if finding.best is None or finding.best[rate] is None:
        return "--"
    return show_rate(finding.best[rate]) + (" **at the edge**" if rate in finding.edges else "")


def _searches_alpha(findings: Sequence[TaskFinding]) -> bool:
    return any(len(finding.list_values("alpha")) > 1 for finding in findings)


def show_rate(value: float) -> str:
    """Write a learning rate as people do: 0.003, 3e-5."""
    return f"{value:.3g}".replace("e-0", "e-")


def _percent(score: float | None) -> str:
    return "--" if score is None else show_percent(score, digits=2)


def _show_curve(finding: TaskFinding) -> str:
    """Show the best score at each value of the rate that has most values, where these are few."""
    rate = max(SEARCHED[:2], key=lambda name: len({trial[name] for trial in finding.trials}))
    by_value: dict[float, list[float]] = {}
    for trial in finding.scored:
        by_value.setdefault(trial[rate], []).append(trial["score"])
    if len(by_value) > CURVE_VALUES:
        return "in runs.csv"
    best = [(show_rate(value), _percent(max(scores))) for value, scores in sorted(by_value.items())]
    return " · ".join(f"{value}: {score}" for value, score in best)


def _notes(findings: list[TaskFinding], holdout: float, protocol: Protocol) -> list[str]:
    trials = [trial for finding in findings for trial in finding.trials]
    seeds, epochs = ({trial[name] for trial in trials} for name in ("seed", "epochs"))
    numbers = {len(finding.trials) for finding in findings}
    known = [trial for trial in trials if trial["status"] != evidence.MISSING]
    sources = {"commit": [name_commit(row) for row in known]}
    sources |= {name: [str(row[name]) for row in known] for name in ("precision", "hardware", "numerics")}
    return [
        f"Trained on {show_share(1 - holdout)} of train for {_join(epochs)} epochs, seed {_join(seeds)}; a "
        f"score is the {protocol.epoch} epoch's on the other {show_share(holdout)} of train, in percent. No "
        "dev row was read.",
        *(["Every method has as many trials planned on every task."] if len(numbers) == 1 else []),
        *dict.fromkeys(CHOICES[finding.choice] for finding in findings),
        *_warn(findings),
        "Provenance: "
        + "; ".join(f"{name} {', '.join(dict.fromkeys(found))}" for name, found in sources.items())
        + ".",
    ]


def _warn(findings: list[TaskFinding]) -> list[str]:
    edges = [f"{_name(finding)} on {name_task(finding.key[2])}" for finding in findings if finding.edges]
    warnings = []
    if edges:
        warnings.append(
            f"At the edge of what was tried, so that a better rate may lie outside: {', '.join(edges)}."
        )
    if any(len(f.list_values(rate)) == EDGE_VALUES - 1 for f in findings for rate in SEARCHED[:2]):
        warnings.append("Of a rate with two values either is an edge, which is not marked.")
    if any(finding.best is None for finding in findings):
        warnings.append(
            "Without a choice (--): trials are missing or have failed, or the best has learnt nothing (it "
            "diverged, or gives every row the same prediction)."
        )
    return warnings


def _name(finding: TaskFinding) -> str:
    return name_row(finding.trials[0] | {"settings": None})


def show_share(part: float) -> str:
    """Write a share as people do: 20 %."""
    return f"{100 * part:.3g} %"


def _join(values: set) -> str:
    return ", ".join(str(value) for value in sorted(values))
