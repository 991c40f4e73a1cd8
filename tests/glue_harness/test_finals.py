"""Which pairs of rates go on from a short round to the final one."""

import pytest

from glue_harness.finals import choose_finalists
from glue_harness.records import Status

from .test_search import FIVE, collect_trials, search

KEY = ("tiny", "lora")


def test_the_best_mean_goes_on_and_the_best_at_the_next_lower_rate(tmp_path):
    rte = {(1e-3, 1e-3): 0.9, (3e-3, 1e-3): 0.89, (3e-4, 3e-3): 0.7, (3e-4, 1e-3): 0.65}
    cola = {(1e-3, 1e-3): 0.8, (3e-3, 1e-3): 0.79, (3e-4, 3e-3): 0.7, (1e-4, 1e-3): 0.78}
    assert choose_finalists(search(tmp_path, rte=rte, cola=cola)) == {KEY: [(1e-3, 1e-3), (3e-4, 3e-3)]}


def test_at_the_lowest_rate_the_next_higher_goes_on(tmp_path):
    findings = search(tmp_path, rte={(1e-4, 1e-3): 0.9, (3e-4, 3e-3): 0.7, (1e-3, 1e-3): 0.8})
    assert choose_finalists(findings) == {KEY: [(1e-4, 1e-3), (3e-4, 3e-3)]}


@pytest.mark.parametrize(
    "spoilt", [{"status": Status.DIVERGED}, {"scores": (0.99, 0.99), "degenerate": (1, 2)}]
)
def test_a_pair_that_learnt_nothing_on_one_task_stays_behind(tmp_path, spoilt):
    rte = {(1e-3, 1e-3): 0.9, (3e-4, 1e-3): spoilt, (3e-4, 3e-3): spoilt, (3e-3, 1e-3): spoilt}
    cola = {(1e-3, 1e-3): 0.9, (3e-4, 1e-3): 0.95, (3e-3, 1e-3): 0.99}
    assert choose_finalists(search(tmp_path, rte=rte, cola=cola)) == {KEY: [(1e-3, 1e-3), (1e-4, 1e-3)]}


def test_of_a_search_over_head_rates_the_next_lower_head_rate_goes_on(tmp_path):
    scores = {(1e-3, 1e-3): 0.6, (1e-3, 3e-3): 0.7, (1e-3, 1e-2): 0.8, (1e-3, 3e-2): 0.75}
    findings = collect_trials(tmp_path, scores, method="head_only")
    assert choose_finalists(findings) == {("tiny", "head_only"): [(1e-3, 1e-2), (1e-3, 3e-3)]}


def test_tasks_whose_trials_are_not_all_there_have_no_say(tmp_path):
    findings = search(tmp_path, rte={(1e-3, 1e-3): 0.9}, cola={(1e-3, 1e-3): None, (1e-2, 1e-3): 0.99})
    assert choose_finalists(findings)[KEY][0] == (1e-3, 1e-3)
    assert choose_finalists(findings[1:]) == {}


def test_one_pair_that_learnt_goes_on_alone(tmp_path):
    bad = {pair: {"status": Status.DIVERGED} for pair in FIVE}
    assert choose_finalists(search(tmp_path, rte=bad | {(1e-3, 1e-3): 0.9})) == {KEY: [(1e-3, 1e-3)]}
    assert choose_finalists(search(tmp_path / "none", rte=bad)) == {}
