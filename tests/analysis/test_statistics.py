import itertools
import math
import statistics

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, permutation_test, t, tstd, ttest_1samp

from glue_harness.analysis import statistics as stats

SCORES = [0.861, 0.874, 0.702, 0.866, 0.869]


def test_hand_worked_values():
    assert stats.median([3.0, 1.0, 2.0]) == 2.0
    assert stats.median([1.0, 2.0, 4.0, 9.0]) == 3.0
    assert stats.mean([1.0, 2.0, 6.0]) == 3.0
    assert stats.spread([1.0, 3.0]) == pytest.approx(2**0.5)  # deviations -1 and 1, divisor n - 1 = 1


@pytest.mark.parametrize("scores", [SCORES, SCORES[:4], SCORES[:2]])
def test_numpy_and_scipy_agree(scores):
    assert stats.median(scores) == pytest.approx(np.median(scores), rel=1e-15)
    assert stats.mean(scores) == pytest.approx(np.mean(scores), rel=1e-15)
    assert stats.spread(scores) == pytest.approx(np.std(scores, ddof=1), rel=1e-12)
    assert stats.spread(scores) == pytest.approx(tstd(scores), rel=1e-12)


def test_one_score_has_no_spread():
    assert stats.spread([0.5]) is None
    assert stats.spread([]) is None
    assert stats.median([0.5]) == stats.mean([0.5]) == 0.5


@pytest.mark.parametrize("statistic", [stats.median, stats.mean])
def test_no_score_is_an_error(statistic):
    with pytest.raises(statistics.StatisticsError):
        statistic([])


def test_order_does_not_move_a_bit():
    assert stats.mean(SCORES) == stats.mean(SCORES[::-1])
    assert stats.spread(SCORES) == stats.spread(SCORES[::-1])


@pytest.mark.parametrize("name", ["median", "mean"])
def test_few_seeds_have_their_range_and_it_is_called_so(name):
    for size in (2, 3, 4, 5):
        scores = [0.7, 0.91, 0.9, 0.4, 0.83][:size]
        assert stats.bound_seeds(scores, name) == (min(scores), max(scores), "range of seeds")
    assert stats.bound_seeds([0.5], name) is stats.bound_seeds([], name) is None


def test_six_seeds_are_the_fewest_whose_range_covers_their_median_at_95_percent():
    """All n lie on one side of it with probability 2 * 2^-n: 6.25 % of five, 3.1 % of six."""
    assert stats.count_needed_seeds() == 6
    bounds = stats.bound_seeds([0.3, 0.1, 0.2, 0.6, 0.5, 0.4], "median")
    assert bounds == (0.1, 0.6, "95 % bootstrap interval")


def expand_tail(size):
    """Hesterberg 2015, section 3.5, by scipy's distributions."""
    return norm.cdf(-((size / (size - 1)) ** 0.5) * t.ppf(0.975, size - 1))


@pytest.mark.parametrize("name", ["median", "mean"])
def test_an_interval_over_six_seeds_is_exact(name):
    """Every resample with replacement, longhand: 6^6 of them, in ascending order of their statistic."""
    scores = [0.7, 0.91, 0.9, 0.4, 0.83, 0.85]
    values = sorted(getattr(statistics, name)(pick) for pick in itertools.product(scores, repeat=6))
    tail = expand_tail(6) * len(values)
    expected = (values[math.ceil(tail) - 1], values[math.ceil(len(values) - tail) - 1])
    low, high, kind = stats.bound_seeds(scores, name)
    assert (low, high) == pytest.approx(expected, abs=1e-15)
    assert kind == "95 % bootstrap interval"


@pytest.mark.parametrize("name", ["median", "mean"])
def test_an_interval_over_many_seeds_agrees_with_scipy(name):
    scores = np.random.default_rng(3).normal(0.8, 0.02, 25).tolist()
    theirs = bootstrap(
        (scores,),
        getattr(np, name),
        confidence_level=1 - 2 * expand_tail(25),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = stats.bound_seeds(scores, name)
    assert found[:2] == pytest.approx((theirs.low, theirs.high), abs=1.5e-3)
    assert found == stats.bound_seeds(scores[::-1], name)


@pytest.mark.parametrize(("name", "size"), [("median", 6), ("median", 7), ("median", 15), ("mean", 6)])
def test_what_is_called_an_interval_covers_and_a_range_of_two_does_not(name, size):
    """1500 samples whose median and mean are 0; the mean of six is covered by 94 %, standard error 0.6 %."""

    def cover(seeds):
        samples = np.random.default_rng(0).normal(size=(1500, seeds)).tolist()
        bounds = [stats.bound_seeds(sample, name) for sample in samples]
        return np.mean([low <= 0 <= high for low, high, _ in bounds])

    assert cover(size) > 0.92
    assert cover(2) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("differences", "margin", "p_value"),
    [
        ([0.1, 0.2, 0.3], 0.0, 1 / 8),  # no flip reaches the sum as it is
        ([0.1, 0.2, -0.3], 0.0, 5 / 8),  # sums +-0.6, +-0.4, +-0.2, 0, 0: five of eight are 0 or more
        ([0.1, 0.2, 0.3], -0.3, 1.0),  # against a mean of 0.3 or less: all speak against it
        ([0.005, -0.005], 0.01, 1 / 4),  # within a margin of 0.01
        ([0.0, 0.0], 0.0, 1.0),
    ],
)
def test_sign_flips_by_hand(differences, margin, p_value):
    assert stats.flip_signs(differences, margin) == p_value


@pytest.mark.parametrize("size", [4, 9])
def test_sign_flips_agree_with_scipy(size):
    differences = np.random.default_rng(size).normal(0.3, 1.0, size)
    theirs = permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert stats.flip_signs(differences.tolist()) == pytest.approx(theirs.pvalue)


def test_drawn_sign_flips_are_near_a_t_tests_and_never_zero():
    differences = np.random.default_rng(0).normal(0.35, 1.0, 30)
    p_value = ttest_1samp(differences, 0.0, alternative="greater").pvalue
    assert stats.flip_signs(differences.tolist()) == pytest.approx(p_value, abs=0.01)
    assert stats.flip_signs([1.0] * 30) == 1 / stats.DRAWS


def test_no_difference_is_an_error():
    with pytest.raises(ValueError, match="there is none"):
        stats.flip_signs([])


def test_how_many_pairs_can_reach_a_level():
    assert [stats.count_needed_pairs(level) for level in (0.05, 0.05 / 6, 0.5)] == [5, 7, 1]
    assert stats.flip_signs([1.0] * 5) <= 0.05 < stats.flip_signs([1.0] * 4)


def test_how_many_pairs_detect_a_difference():
    """(1.6449 + 0.8416)^2 = 6.183 times (spread / distance)^2."""
    assert stats.estimate_needed_pairs(0.02, 0.01) == 25
    assert stats.estimate_needed_pairs(0.001, 0.01) == 5


def test_holm_by_hand():
    """Of the sorted 0.01, 0.03, 0.04: 3 x 0.01, 2 x 0.03, then 0.04, which is not to be below 0.06."""
    assert stats.correct_holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert stats.correct_holm([0.9, 0.6]) == [1.0, 1.0]
    assert stats.correct_holm([]) == []


def test_holm_rejects_what_its_procedure_rejects():
    p_values = np.random.default_rng(5).beta(0.3, 2, 20).tolist()
    rejected, level = set(), 0.05
    for step, number in enumerate(np.argsort(p_values)):
        if p_values[number] > level / (20 - step):
            break
        rejected.add(int(number))
    corrected = stats.correct_holm(p_values)
    assert {number for number, p_value in enumerate(corrected) if p_value <= level} == rejected != set()
