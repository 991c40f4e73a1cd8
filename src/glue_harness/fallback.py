"""Rates and alpha for the tasks that were not searched: the best on average over those that were. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glue_harness.captions import name_commit, name_task
from glue_harness.evidence import Row
from glue_harness.percent import show_percent
from glue_harness.search import (
    SEARCHED,
    TaskFinding,
    average_scores,
    get_values,
    rank_values,
    score_values,
    show_share,
    write_values,
)


@dataclass(frozen=True)
class Fallback:
    """The choice for a model and method on any other task; `score` is its mean over the searched tasks.

    `behind` says by how much each task's own best trial is ahead of it there, `trials` are those of all
    tasks, `description` says what they were.
    """

    model: str
    method: str
    values: dict[str, float | None]
    score: float
    behind: dict[str, float]
    trials: list[Row]
    description: str
    commits: tuple[str, ...]


def find_fallbacks(findings: Sequence[TaskFinding]) -> list[Fallback]:
    """Return a choice for each model and method that has one on all of its tasks, from the trials they share.

    Values that diverged or learnt nothing on one of the tasks are no choice; of equals those with the lowest
    rates. Where one task was searched, its choice is that of the others. Searches on different grids share no
    trials, and have none.
    """
    groups: dict[tuple[str, str], list[TaskFinding]] = {}
    for finding in findings:
        groups.setdefault(finding.key[:2], []).append(finding)
    found = (_choose(*key, group) for key, group in groups.items() if all(f.best for f in group))
    return [fallback for fallback in found if fallback is not None]


def _choose(model: str, method: str, group: list[TaskFinding]) -> Fallback | None:
    means = average_scores(group)
    if not means:
        return None
    values = rank_values(means)[0]
    if len(group) == 1 and group[0].best is not None:
        values = get_values(group[0].best)
    behind = {f.key[2]: f.best["score"] - score_values(f)[values] for f in group if f.best}
    return Fallback(
        model=model,
        method=method,
        values=dict(zip(SEARCHED, values, strict=True)),
        score=means[values],
        behind=behind,
        trials=[trial for finding in group for trial in finding.trials],
        description=_describe_trials(group, len(means)),
        commits=tuple(sorted({name_commit(trial) for finding in group for trial in finding.trials})),
    )


def _describe_trials(group: list[TaskFinding], settings: int) -> str:
    trial = group[0].trials[0]
    rank = "" if trial["rank"] is None else f"rank {trial['rank']}, "
    return f"{settings} settings, each on every task; {rank}seed {trial['seed']}, {trial['epochs']} epochs"


def describe_fallback(fallback: Fallback, command: str, table: str, holdout: float) -> str:
    """Return a file of conf/tuned/any: the rates and alpha, and above them where they come from."""
    tasks = ", ".join(fallback.behind)
    behind = ", ".join(
        f"{show_percent(gap, digits=2)} on {name_task(task)}" for task, gap in fallback.behind.items()
    )
    lines = [
        f"# For tasks without a search of their own. Found by `{command}`; all trials: {table}",
        f"# The best mean over {tasks} of the scores on {show_share(holdout)} of train: {fallback.score:.4f}",
        f"# Of {fallback.description}",
        f"# Behind each task's own choice by {behind} points; no dev row was read",
        f"# Code {', '.join(fallback.commits)}",
        *write_values(fallback.values, fallback.trials),
    ]
    return "".join(f"{line}\n" for line in lines)
