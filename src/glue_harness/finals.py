"""Which pairs of rates a search's final round runs again, at the length of the runs that are reported. Pure.

A short search favours high rates: its schedule has brought them down before they do harm, where a long one
stays high for many epochs. So of each method the best pair goes on, and the best one at the next lower rate;
and as long as the lowest rate that has run is the best one of a task, so does the next below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from glue_harness.search import RATES, RatePair, TaskFinding, average_pairs, choose_pair

Method = tuple[str, str]
"""Model and method."""

Finalists = dict[Method, list[RatePair]]
"""Each method's pairs that go on, the same for all of its tasks."""


def choose_finalists(findings: Sequence[TaskFinding]) -> Finalists:
    """Return the pairs that go on first: two of each model and method whose trials are all there.

    Compared are means over the tasks, of pairs that have learnt something on each. The next rate is that of
    the two which has more values; at the lowest that is left it is the next higher. A method without another
    value has one pair, and one that has learnt nothing none.
    """
    chosen = {}
    for method, group in group_methods(findings).items():
        means = average_pairs(group)
        if means and all(finding.is_whole for finding in group):
            best, axis = choose_pair(means), _find_axis(group)
            other = _step_down(means, axis, best[axis]) or _step_up(means, axis, best[axis])
            chosen[method] = [best] if other is None else [best, other]
    return chosen


def extend_finalists(finals: Sequence[TaskFinding], first: Sequence[TaskFinding]) -> Finalists:
    """Return the pair of each method that is to go on besides: the best of `first` at the next lower rate.

    There is one where, on some task, the best of the final round's trials has the lowest rate that has run.
    """
    added = {}
    earlier = group_methods(first)
    for method, group in group_methods(finals).items():
        axis = _find_axis(earlier[method])
        lowest = min(trial[RATES[axis]] for finding in group for trial in finding.trials)
        if any(finding.best is not None and finding.best[RATES[axis]] == lowest for finding in group):
            pair = _step_down(average_pairs(earlier[method]), axis, lowest)
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
    tried = [{trial[rate] for finding in group for trial in finding.trials} for rate in RATES]
    return max(range(len(RATES)), key=lambda index: len(tried[index]))


def _step_down(means: dict[RatePair, float], axis: int, rate: float) -> RatePair | None:
    """Return the best pair at the highest rate below this one."""
    return _choose_at(means, axis, max((pair[axis] for pair in means if pair[axis] < rate), default=None))


def _step_up(means: dict[RatePair, float], axis: int, rate: float) -> RatePair | None:
    return _choose_at(means, axis, min((pair[axis] for pair in means if pair[axis] > rate), default=None))


def _choose_at(means: dict[RatePair, float], axis: int, rate: float | None) -> RatePair | None:
    there = {pair: mean for pair, mean in means.items() if pair[axis] == rate}
    return choose_pair(there) if there else None
