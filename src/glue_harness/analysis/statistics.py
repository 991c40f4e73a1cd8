"""Pure functions on scores: their statistics, intervals over seeds, tests of paired differences.

Statistics are of Python's exact arithmetic: the same bits on every machine. What is drawn comes from a numpy
Generator with the seed that is given.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Of every interval: both tails together hold the rest."""

RANGE, INTERVAL = "range of seeds", "95 % bootstrap interval"
"""The kinds of bounds: the lowest and the highest of a few seeds, and an interval at LEVEL."""

DRAWS = 10_000
"""How many resamples or sign flips are drawn where there are more than this; else all count."""

TOLERANCE = 1e-9
"""Two sums of scores that differ by less are equal: fractions of dev rows differ by more."""


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


class Bounds(NamedTuple):
    """What a statistic over seeds is drawn with: its ends, and which of RANGE and INTERVAL they are."""

    low: float
    high: float
    kind: str


def bound_seeds(scores: Sequence[float], statistic: str) -> Bounds | None:
    """Return the interval at LEVEL of a `statistic` (median, mean) over seeds; of few seeds, their range.

    With fewer than `count_needed_seeds` no interval of a median reaches LEVEL unless a distribution is
    supposed: the range of two seeds covers it half of the time, of five 94 %. So it is called the range.
    From there on it is `bootstrap_seeds`. None for fewer than two scores.
    """
    ordered = sorted(scores)
    if len(ordered) < 2:
        return None
    if len(ordered) < count_needed_seeds():
        return Bounds(ordered[0], ordered[-1], RANGE)
    return Bounds(*bootstrap_seeds(ordered, statistic), INTERVAL)


def count_needed_seeds() -> int:
    """Return the least number of seeds whose range covers their median at LEVEL: 1 - 2^(1 - n)."""
    return math.ceil(1 - math.log2(1 - LEVEL))


def bootstrap_seeds(scores: Sequence[float], statistic: str, seed: int = 0) -> tuple[float, float]:
    """Return the expanded percentile interval of a bootstrap of the `statistic` over seeds, at LEVEL.

    Plain percentiles of so few are too narrow by sqrt((n - 1) / n) and take z for t; tails of
    Phi(-sqrt(n / (n - 1)) t) mend both (Hesterberg, What Teachers Should Know about the Bootstrap, 2015,
    section 3.5). Up to eight scores all n^n resamples count, beyond DRAWS are drawn with `seed`.
    """
    ordered = np.sort(np.array(scores, dtype=float))
    picks, weights = _resample(len(ordered), seed)  # (resamples, size), (resamples,)
    values = _PICKED[statistic](ordered, picks)
    order = values.argsort(kind="stable")
    values, reached = values[order], weights[order].cumsum()
    tail = _expand_tail(len(ordered)) * weights.sum()
    low, high = ((reached < end).sum() for end in (tail, weights.sum() - tail))
    return float(values[low]), float(values[high])


def _expand_tail(size: int) -> float:
    from scipy.special import stdtrit  # its import takes time: only who has many seeds waits for it

    quantile = float(stdtrit(size - 1, (1 + LEVEL) / 2))
    return statistics.NormalDist().cdf(-math.sqrt(size / (size - 1)) * quantile)


@functools.cache
def _resample(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return resamples of `size` sorted scores, each in ascending order, and how often each occurs."""
    if math.comb(2 * size - 1, size) > DRAWS:
        drawn = np.random.default_rng(seed).integers(0, size, (DRAWS, size))
        return np.sort(drawn), np.ones(DRAWS, dtype=int)
    picks = np.array(list(itertools.combinations_with_replacement(range(size), size)))
    repeats = [math.prod(math.factorial(n) for n in np.bincount(pick).tolist()) for pick in picks]
    return picks, np.array([math.factorial(size) // repeat for repeat in repeats])


def _pick_median(scores: np.ndarray, picks: np.ndarray) -> np.ndarray:
    size = len(scores)
    middle: np.ndarray = (scores[picks[:, (size - 1) // 2]] + scores[picks[:, size // 2]]) / 2
    return middle


def _pick_mean(scores: np.ndarray, picks: np.ndarray) -> np.ndarray:
    total = np.zeros(len(picks))
    for column in picks.T:  # one after the other: numpy's own sum may add in another order elsewhere
        total += scores[column]
    return total / len(scores)


_PICKED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "median": _pick_median,
    "mean": _pick_mean,
}


def flip_signs(differences: Sequence[float], margin: float = 0.0, seed: int = 0) -> float:
    """Return the one-sided p-value of paired differences against a mean of `-margin` or less.

    The sign-flip permutation test: under the null hypothesis a difference plus the margin is as likely with
    the other sign. Exact over all 2^n flips, or DRAWS of them drawn with `seed`; never below 2^-n, whatever
    the differences. It supposes symmetry and no distribution: a handful of seeds shows none.

    Raises:
        ValueError: there is no difference.
    """
    shifted = np.array([difference + margin for difference in differences])  # (pairs,)
    pairs = len(shifted)
    if not pairs:
        raise ValueError("differences: there is none")
    if 2**pairs <= DRAWS:
        signs = np.array(list(itertools.product((1, -1), repeat=pairs)))  # (flips, pairs)
    else:
        drawn = np.random.default_rng(seed).choice((1, -1), (DRAWS - 1, pairs))
        signs = np.concatenate([np.ones((1, pairs), dtype=int), drawn])  # what was seen is one of the flips
    sums = signs @ shifted
    return int((sums >= sums[0] - TOLERANCE).sum()) / len(signs)


def count_needed_pairs(level: float) -> int:
    """Return the least number of pairs with which `flip_signs` can reach `level`."""
    return math.ceil(-math.log2(level))


def estimate_needed_pairs(deviation: float, distance: float, level: float = 0.05, power: float = 0.8) -> int:
    """Return about how many pairs detect a mean `distance` off the null, where pairs spread by `deviation`.

    ((z_level + z_power) deviation / distance)^2 of the normal approximation, at least `count_needed_pairs`.
    """
    normal = statistics.NormalDist()
    quantiles = normal.inv_cdf(1 - level) + normal.inv_cdf(power)
    return max(count_needed_pairs(level), math.ceil((quantiles * deviation / distance) ** 2))


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all of them together, in their order: Holm's step-down procedure (1979).

    The k-th smallest of n is multiplied by n + 1 - k; none is below a smaller one's, none above 1.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        corrected[number] = highest
    return corrected
