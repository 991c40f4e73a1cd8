import statistics

import numpy as np
import pytest
from scipy.stats import tstd

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
