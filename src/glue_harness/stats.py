"""Pure functions on scores: their statistics, intervals over seeds, tests of paired differences.

Statistics are of Python's exact arithmetic, and resamples are only picked and added in one order: the same
bits on every machine. What is drawn comes from a numpy Generator with the seed that is given.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95
"""Of every interval: both tails together hold the rest."""

DRAWS = 10_000
"""How many resamples are drawn where there are more than this; else all count, each as often as it occurs."""

CELLS = 500
"""Cells whose resamples are held at once."""

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


def bootstrap_seeds(
    cells: Sequence[Sequence[float]], statistic: str, seed: int = 0, level: float = LEVEL
) -> list[tuple[float, float] | None]:
    """Return the bootstrap's percentile interval of each cell's `statistic` (median, mean) over its scores.

    Up to eight scores the distribution is exact, over all n^n resamples; beyond, DRAWS are drawn with
    `seed`. An end is always the statistic of a resample. None for fewer than two scores. Of five scores'
    median the interval is their range: so few seeds bound it no better (Efron and Tibshirani, An
    Introduction to the Bootstrap, chapter 13, on percentile intervals).
    """
    by_size: dict[int, list[int]] = {}
    for number, scores in enumerate(cells):
        by_size.setdefault(len(scores), []).append(number)
    intervals: list[tuple[float, float] | None] = [None] * len(cells)
    for size, numbers in by_size.items():
        for start in range(0, len(numbers) if size > 1 else 0, CELLS):
            chunk = numbers[start : start + CELLS]
            stacked = np.sort(np.array([cells[number] for number in chunk], dtype=float))  # (cells, size)
            for number, interval in zip(chunk, _bound(stacked, statistic, seed, level), strict=True):
                intervals[number] = interval
    return intervals


def _bound(scores: np.ndarray, statistic: str, seed: int, level: float) -> list[tuple[float, float]]:
    picks, weights = _resample(scores.shape[1], seed)  # (resamples, size), (resamples,)
    values = _PICKED[statistic](scores, picks)  # (cells, resamples)
    order = values.argsort(axis=1, kind="stable")
    values, reached = np.take_along_axis(values, order, axis=1), weights[order].cumsum(axis=1)
    tail = (1 - level) / 2 * weights.sum()
    ends = [(reached < bound).sum(axis=1, keepdims=True) for bound in (tail, weights.sum() - tail)]
    low, high = (np.take_along_axis(values, end, axis=1)[:, 0].tolist() for end in ends)
    return list(zip(low, high, strict=True))


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
    size = scores.shape[1]
    middle: np.ndarray = (scores[:, picks[:, (size - 1) // 2]] + scores[:, picks[:, size // 2]]) / 2
    return middle


def _pick_mean(scores: np.ndarray, picks: np.ndarray) -> np.ndarray:
    total = np.zeros((len(scores), len(picks)))
    for column in picks.T:  # one after the other: numpy's own sum may add in another order elsewhere
        total += scores[:, column]
    return total / scores.shape[1]


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
