import itertools
import math
import statistics
import time

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, permutation_test, tstd, ttest_1samp

from glue_harness import stats

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


def enumerate_resamples(scores, statistic):
    """Every resample with replacement, longhand: n^n of them, in ascending order of their statistic."""
    return sorted(statistic(pick) for pick in itertools.product(scores, repeat=len(scores)))


@pytest.mark.parametrize("name", ["median", "mean"])
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_intervals_over_few_seeds_are_exact(name, size):
    scores, level = [0.7, 0.91, 0.9, 0.4, 0.83][:size], 0.8
    values = enumerate_resamples(scores, getattr(stats, name))
    tail = (1 - level) / 2 * len(values)
    expected = (values[math.ceil(tail) - 1], values[math.ceil(len(values) - tail) - 1])
    (found,) = stats.bootstrap_seeds([scores], name, level=level)
    assert found == pytest.approx(expected, abs=1e-15)


def test_five_seeds_bound_a_median_by_their_range():
    """P(the median of a resample is the lowest of five) = P(Binomial(5, 1/5) >= 3) = 0.058, above 2.5 %."""
    assert binom.sf(2, 5, 0.2) > 0.025
    assert stats.bootstrap_seeds([SCORES], "median") == [(min(SCORES), max(SCORES))]
    assert stats.bootstrap_seeds([SCORES * 3], "median") != [(min(SCORES), max(SCORES))]


@pytest.mark.parametrize("name", ["median", "mean"])
def test_intervals_over_many_seeds_agree_with_scipy(name):
    scores = np.random.default_rng(3).normal(0.8, 0.02, 25).tolist()
    ((low, high),) = stats.bootstrap_seeds([scores], name)
    theirs = bootstrap(
        (scores,), getattr(np, name), method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1.5e-3)


def test_cells_of_any_size_keep_their_order_and_a_seed_its_draws():
    cells = [SCORES, [0.5], [], [0.4, 0.6], SCORES * 2, [0.1, 0.1, 0.1]]
    found = stats.bootstrap_seeds(cells, "median")
    assert found[1:4] == [None, None, (0.4, 0.6)]
    assert found[5] == (0.1, 0.1)
    assert found == stats.bootstrap_seeds(cells, "median")
    assert found[4] == stats.bootstrap_seeds([SCORES[::-1] * 2], "median")[0]


def test_many_cells_take_a_moment():
    rng = np.random.default_rng(0)
    for size in (5, 10):
        cells = rng.normal(size=(2000, size)).tolist()
        before = time.process_time()
        stats.bootstrap_seeds(cells, "median")
        assert time.process_time() - before < 8


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
