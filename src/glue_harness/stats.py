"""Pure functions on scores. Python's exact arithmetic: the same bits on every machine."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def median(scores: Sequence[float]) -> float:
    """Return the median of one score or more; of an even number, the mean of the middle two.

    Raises:
        statistics.StatisticsError: there is no score.
    """
    return float(statistics.median(scores))


def mean(scores: Sequence[float]) -> float:
    """Return the arithmetic mean of one score or more.

    Raises:
        statistics.StatisticsError: there is no score.
    """
    return statistics.fmean(scores)


def spread(scores: Sequence[float]) -> float | None:
    """Return the sample standard deviation (divisor n - 1), or None for fewer than two scores."""
    return statistics.stdev(scores) if len(scores) > 1 else None
