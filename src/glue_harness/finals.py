"""Which pairs of rates a search's final round runs again, at the length of the runs that are reported. Pure.

A short search favours high rates: its schedule has brought them down before they do harm, where a long one
stays high for many epochs. So of each method the best pair goes on, and the best one at the next lower rate.
"""

from __future__ import annotations

from collections.abc import Sequence

from glue_harness.search import RATES, Finding, Pair, average_pairs, choose_pair

Finalists = dict[tuple[str, str], list[Pair]]
"""Model and method to the pairs that go on."""


def choose_finalists(findings: Sequence[Finding]) -> Finalists:
    """Return the pairs that go on: two of each model and method, the same for all of its tasks.

    Compared are means over the tasks whose trials are all there, of pairs that have learnt something on each.
    The next rate is that of the two which has more values; at the lowest that is left it is the next higher.
    A method without another value has one pair, and one that has learnt nothing is left out.
    """
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.best is not None:
            groups.setdefault(finding.key[:2], []).append(finding)
    chosen = {key: _choose(group) for key, group in groups.items()}
    return {key: pairs for key, pairs in chosen.items() if pairs}


def _choose(group: Sequence[Finding]) -> list[Pair]:
    means = average_pairs(group)
    if not means:
        return []
    best = choose_pair(means)
    tried = [{trial[rate] for finding in group for trial in finding.trials} for rate in RATES]
    axis = max(range(len(RATES)), key=lambda index: len(tried[index]))
    lower, higher = ([pair for pair in means if sign * pair[axis] < sign * best[axis]] for sign in (1, -1))
    nearest = max((p[axis] for p in lower), default=None) or min((p[axis] for p in higher), default=None)
    others = {pair: mean for pair, mean in means.items() if pair[axis] == nearest}
    return [best, choose_pair(others)] if others else [best]
