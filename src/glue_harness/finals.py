"""Which rates and alpha a search's final round runs again, at more epochs or on another task. Pure.

A short search favours high rates: its schedule has brought them down before they do harm, where a long one
stays high for many epochs. So of each method the best pair goes on, and the best one at the next lower rate;
and as long as the lowest rate that has run is the best one of a task, so does the next below it. To a final
round on other tasks the best two go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from glue_harness.search import SEARCHED, TaskFinding, Values, average_scores, rank_values

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
