"""Which rates and alpha a search's final round runs again, and which other tasks get. Pure.

A short search favours high rates: its schedule has brought them down before they do harm, where a long one
stays high for many epochs. So of each method the best pair goes on, and the best one at the next lower rate;
and as long as the lowest rate that has run is the best one of a task, so does the next below it. To a final
round on other tasks the best two go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glue_harness.analysis.rounding import show_percent
from glue_harness.evidence.schema import Row
from glue_harness.reports.notes import name_commit, name_task
from glue_harness.tuning.descriptions import show_share, write_values
from glue_harness.tuning.findings import (
    SEARCHED,
    TaskFinding,
    Values,
    average_scores,
    get_values,
    rank_values,
    score_values,
)

Method = tuple[str, str]
"""Model and method."""

Finalists = dict[Method, list[Values]]
"""Each method's values that go on, the same for all of its tasks."""


def choose_finalists(findings: Sequence[TaskFinding], on_other_tasks: bool = False) -> Finalists:
    """Return the values that go on first: two of each model and method whose trials are all there.

    Compared are means over the tasks, of values that have learnt something on each. The next rate is that of
    the two which has more values; at the lowest that is left it is the next higher. A method without another
    value has one trial, and one that has learnt nothing none.
    """
    chosen = {}
    for method, group in group_methods(findings).items():
        means = average_scores(group)
        if not means or not all(finding.is_whole for finding in group):
            continue
        if on_other_tasks:
            chosen[method] = rank_values(means)[:2]
        else:
            best, axis = rank_values(means)[0], _find_axis(group)
            rate = best[axis]
            assert rate is not None
            other = _step_down(means, axis, rate) or _step_up(means, axis, rate)
            chosen[method] = [best] if other is None else [best, other]
    return chosen


def extend_finalists(finals: Sequence[TaskFinding], first: Sequence[TaskFinding]) -> Finalists:
    """Return the values of each method that are to go on besides: the best of `first` at the next lower rate.

    There is one where, on some task, the best of the final round's trials has the lowest rate that has run.
    """
    added = {}
    earlier = group_methods(first)
    for method, group in group_methods(finals).items():
        axis = _find_axis(earlier[method])
        lowest = min(trial[SEARCHED[axis]] for finding in group for trial in finding.trials)
        if any(finding.best is not None and finding.best[SEARCHED[axis]] == lowest for finding in group):
            pair = _step_down(average_scores(earlier[method]), axis, lowest)
            if pair is not None:
                added[method] = [pair]
    return added


def group_methods(findings: Sequence[TaskFinding]) -> dict[Method, list[TaskFinding]]:
    """Return findings by model and method."""
    groups: dict[Method, list[TaskFinding]] = {}
    for finding in findings:
        groups.setdefault(finding.key[:2], []).append(finding)
    return groups


def _find_axis(group: Sequence[TaskFinding]) -> int:
    rates = SEARCHED[:2]
    tried = [{trial[rate] for finding in group for trial in finding.trials} for rate in rates]
    return max(range(len(rates)), key=lambda index: len(tried[index]))


def _step_down(means: dict[Values, float], axis: int, rate: float) -> Values | None:
    """Return the best values at the highest rate below this one."""
    return _choose_at(means, axis, max((r for r in _list_rates(means, axis) if r < rate), default=None))


def _step_up(means: dict[Values, float], axis: int, rate: float) -> Values | None:
    return _choose_at(means, axis, min((r for r in _list_rates(means, axis) if r > rate), default=None))


def _list_rates(means: dict[Values, float], axis: int) -> list[float]:
    return [rate for values in means if (rate := values[axis]) is not None]


def _choose_at(means: dict[Values, float], axis: int, rate: float | None) -> Values | None:
    there = {values: mean for values, mean in means.items() if values[axis] == rate}
    return rank_values(there)[0] if there else None


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
