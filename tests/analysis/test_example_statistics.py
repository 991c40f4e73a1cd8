import time

import numpy as np
import pytest
from scipy.stats import binomtest

from glue_harness.analysis.example_statistics import (
    CORRELATIONS,
    bootstrap_examples,
    bound_examples,
    compare_by_mcnemar,
)
from glue_harness.data.metrics import MEASURES

ROWS = 120


def make_classes(seed=0, rows=ROWS, classes=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    return labels, [np.where(rng.random(rows) < share, labels, 1 - labels % 2) for share in (0.8, 0.7)]


def make_values(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=rows).round(1)  # with ties, as STS-B has
    return labels, [(labels + rng.normal(0, spread, rows)).round(1) for spread in (0.5, 1.0)]


def resample_longhand(labels, predictions, metric, draws, seed=1):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, len(labels), len(labels)) for _ in range(draws)]
    return np.array([[MEASURES[metric](labels[r], given[r]) for r in rows] for given in predictions])


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews_correlation", "pearson", "spearman"])
def test_resampled_scores_are_distributed_as_longhand(metric):
    """Means to a hundredth, spreads to a tenth of themselves, of each and of their paired difference."""
    labels, predictions = (make_values if metric in CORRELATIONS else make_classes)()
    found = bootstrap_examples(labels, predictions, metric, np.random.default_rng(0), 4000)
    expected = resample_longhand(labels, predictions, metric, 800)
    for ours, theirs in (
        *zip(found, expected, strict=True),
        (found[0] - found[1], expected[0] - expected[1]),
    ):
        assert ours.mean() == pytest.approx(theirs.mean(), abs=0.01)
        assert ours.std() == pytest.approx(theirs.std(), rel=0.1)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews_correlation", "pearson", "spearman"])
def test_each_row_once_is_the_metric_itself(metric):
    """A stand-in for the draws: all rows as they are."""

    class Once:
        def multinomial(self, total, shares, draws):
            return np.tile(np.rint(total * np.asarray(shares)).astype(int), (draws, 1))

    labels, predictions = (make_values if metric in CORRELATIONS else make_classes)()
    found = bootstrap_examples(labels, predictions, metric, Once(), 3)
    for scores, given in zip(found, predictions, strict=True):
        assert scores == pytest.approx([MEASURES[metric](labels, given)] * 3, abs=1e-12)


def test_accuracy_over_three_classes():
    labels, predictions = make_classes(classes=3)
    found = bootstrap_examples(labels, predictions, "accuracy", np.random.default_rng(0))
    right = (labels == predictions[0]).mean()
    assert found[0].mean() == pytest.approx(right, abs=2e-3)
    assert found[0].std() == pytest.approx((right * (1 - right) / ROWS) ** 0.5, rel=0.05)


def test_an_interval_and_its_paired_difference_by_the_normal_approximation():
    """Only-first b, only-second c of n rows: the difference's variance is (b + c)/n^2 - (b - c)^2/n^3."""
    labels, (first, second) = make_classes(rows=400)
    scores = bootstrap_examples(labels, [first, second], "accuracy", np.random.default_rng(0))
    b, c, _ = compare_by_mcnemar(labels, first, second)
    n, centre = 400, (b - c) / 400
    half = 1.96 * ((b + c) / n**2 - (b - c) ** 2 / n**3) ** 0.5
    assert bound_examples(scores[0] - scores[1]) == pytest.approx((centre - half, centre + half), abs=5e-3)


@pytest.mark.parametrize(
    ("metric", "constant"), [("matthews_correlation", 1), ("f1", 0), ("pearson", 0.1), ("spearman", 0.1)]
)
def test_a_constant_prediction_scores_zero_as_in_the_tables(metric, constant):
    labels, (given, _) = make_classes()
    constants = np.full(len(given), constant)
    found = bootstrap_examples(labels, [constants, given], metric, np.random.default_rng(0), 10)
    assert (found[0] == 0).all()
    assert (found[1] > 0).all()
    assert bound_examples(found[0]) == (0, 0)


def test_mcnemar_by_hand_and_by_scipy():
    labels = np.array([1] * 10)
    first = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 1])
    second = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 1])
    # 5 rows against 1: 2 (C(6,0) + C(6,1)) / 2^6
    assert compare_by_mcnemar(labels, first, second) == (5, 1, 14 / 64)
    assert compare_by_mcnemar(labels, second, first) == (1, 5, 14 / 64)
    assert compare_by_mcnemar(labels, first, first) == (0, 0, 1.0)
    labels, (first, second) = make_classes(rows=1000)
    b, c, p_value = compare_by_mcnemar(labels, first, second)
    assert p_value == pytest.approx(binomtest(b, b + c).pvalue)


def test_an_unknown_metric_is_an_error():
    with pytest.raises(KeyError):
        bootstrap_examples(*make_classes(), "bleu", np.random.default_rng(0))


def test_a_whole_dev_set_takes_a_moment():
    """MNLI's 19,647 rows and STS-B's 1,500."""
    before = time.process_time()
    bootstrap_examples(*make_classes(rows=19_647, classes=3), "accuracy", np.random.default_rng(0))
    bootstrap_examples(*make_values(rows=1_500), "spearman", np.random.default_rng(0), 1000)
    assert time.process_time() - before < 5
