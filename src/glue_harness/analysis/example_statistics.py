"""Statistics over the examples of dev, from predictions and labels: intervals, differences, McNemar. Pure.

A resample of n rows with replacement is a draw of how often each counts. What classes score follows from the
counts of (label, predictions) alone, so that a resample of any number of rows is one multinomial draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from glue_harness.analysis.statistics import LEVEL

CHUNK = 500
"""Resamples that are held at once where every row's count is."""


def bootstrap_examples(
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    metric: str,
    generator: np.random.Generator,
    draws: int = 10_000,
) -> np.ndarray:
    """Return resampled scores of each of the predictions on the same resampled rows: (predictions, draws).

    `labels` and each of `predictions`: (rows,), class ids (0 or 1 for f1 and matthews_correlation), or the
    scores of a regression. An undefined score (of constant predictions) is 0, as in the tables.

    Raises:
        KeyError: an unknown metric.
    """
    if metric in CORRELATIONS:
        return _resample_rows(labels, predictions, CORRELATIONS[metric], generator, draws)
    count_score = CLASS_METRICS[metric]
    kinds, frequency = np.unique(np.column_stack([labels, *predictions]), axis=0, return_counts=True)
    counts = generator.multinomial(frequency.sum(), frequency / frequency.sum(), draws)  # (draws, kinds)
    columns = range(1, kinds.shape[1])
    return np.array([count_score(counts, kinds[:, 0], kinds[:, column]) for column in columns])


def bound_examples(scores: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of resampled scores, or of their paired differences: (draws,)."""
    low, high = np.quantile(scores, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def compare_by_mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Return on how many rows only `first` is right, only `second` is, and McNemar's exact two-sided p-value.

    Under the null hypothesis a row on which one of them is right is as likely either's (McNemar 1947).
    """
    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((first != labels) & (second == labels)).sum())
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1))
    return only_first, only_second, min(1.0, 2 * tail / 2**discordant)


def _count_accuracy(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    right: np.ndarray = counts[:, labels == predictions].sum(axis=1) / counts.sum(axis=1)
    return right


def _count_outcomes(
    counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return true positives, false positives, false negatives and true negatives: (draws,) each."""
    outcomes = ((1, 1), (0, 1), (1, 0), (0, 0))
    found = [
        counts[:, (labels == label) & (predictions == given)].sum(axis=1).astype(float)
        for label, given in outcomes
    ]
    return found[0], found[1], found[2], found[3]


def _count_f1(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    right, false, missed, _ = _count_outcomes(counts, labels, predictions)
    return _divide(2 * right, 2 * right + false + missed)


def _count_matthews(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    right, false, missed, rejected = _count_outcomes(counts, labels, predictions)
    sides = (right + false) * (right + missed) * (rejected + false) * (rejected + missed)
    return _divide(right * rejected - false * missed, np.sqrt(sides))


def _divide(dividends: np.ndarray, divisors: np.ndarray) -> np.ndarray:
    """Return quotients, 0 where a score is undefined since all rows or predictions are alike."""
    return np.divide(dividends, divisors, out=np.zeros(len(dividends)), where=divisors > 0)


CLASS_METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _count_accuracy,
    "f1": _count_f1,
    "matthews_correlation": _count_matthews,
}
"""Metric to function of counts (draws, kinds) and of each kind's label and prediction (kinds,): (draws,)."""


def _resample_rows(
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    correlate: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    generator: np.random.Generator,
    draws: int,
) -> np.ndarray:
    rows = len(labels)
    parts = []
    for start in range(0, draws, CHUNK):
        counts = generator.multinomial(rows, np.full(rows, 1 / rows), min(CHUNK, draws - start)).astype(float)
        parts.append([correlate(counts, labels, given) for given in predictions])
    return np.concatenate(parts, axis=1)  # (predictions, draws)


def _correlate_values(counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation with each row counted `counts` (draws, rows) times."""
    # A constant is 0 once its first value is taken away; its weighted mean would leave rounding errors.
    shifted = [np.broadcast_to(values - values[0], counts.shape) for values in (first, second)]
    return _correlate_weighted(counts, *shifted)


def _correlate_ranks(counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation likewise: Pearson's of the ranks in each resample, ties at their mean."""
    return _correlate_weighted(counts, _rank(counts, first), _rank(counts, second))


def _rank(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return every row's mean rank in each resample: (draws, rows)."""
    distinct, place = np.unique(values, return_inverse=True)
    order = place.argsort(kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    together = np.add.reduceat(counts[:, order], starts, axis=1)  # (draws, distinct)
    ranks: np.ndarray = (together.cumsum(axis=1) - (together - 1) / 2)[:, place]
    return ranks


def _correlate_weighted(counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=1, keepdims=True)
    first, second = (part - (counts * part).sum(axis=1, keepdims=True) / total for part in (first, second))
    products = [(counts * a * b).sum(axis=1) for a, b in ((first, second), (first, first), (second, second))]
    return _divide(products[0], np.sqrt(products[1] * products[2]))


CORRELATIONS = {"pearson": _correlate_values, "spearman": _correlate_ranks}
