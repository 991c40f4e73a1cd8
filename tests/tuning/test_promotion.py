"""Which rates and alpha go on from a short round to the final one."""

import pytest

from glue_harness.runs.record import Status
from glue_harness.tuning.promotion import choose_finalists, extend_finalists
from tests.tuning.test_findings import FIVE, collect_trials, search

KEY = ("tiny", "lora")


def test_the_best_mean_goes_on_and_the_best_at_the_next_lower_rate(tmp_path):
    rte = {(1e-3, 1e-3): 0.9, (3e-3, 1e-3): 0.89, (3e-4, 3e-3): 0.7, (3e-4, 1e-3): 0.65}
    cola = {(1e-3, 1e-3): 0.8, (3e-3, 1e-3): 0.79, (3e-4, 3e-3): 0.7, (1e-4, 1e-3): 0.78}
    assert choose_finalists(search(tmp_path, rte=rte, cola=cola)) == {
        KEY: [(1e-3, 1e-3, 16), (3e-4, 3e-3, 16)]
    }


def test_at_the_lowest_rate_the_next_higher_goes_on(tmp_path):
    findings = search(tmp_path, rte={(1e-4, 1e-3): 0.9, (3e-4, 3e-3): 0.7, (1e-3, 1e-3): 0.8})
    assert choose_finalists(findings) == {KEY: [(1e-4, 1e-3, 16), (3e-4, 3e-3, 16)]}


@pytest.mark.parametrize(
    "spoilt", [{"status": Status.DIVERGED}, {"scores": (0.99, 0.99), "degenerate": (1, 2)}]
)
def test_a_pair_that_learnt_nothing_on_one_task_stays_behind(tmp_path, spoilt):
    rte = {(1e-3, 1e-3): 0.9, (3e-4, 1e-3): spoilt, (3e-4, 3e-3): spoilt, (3e-3, 1e-3): spoilt}
    cola = {(1e-3, 1e-3): 0.9, (3e-4, 1e-3): 0.95, (3e-3, 1e-3): 0.99}
    assert choose_finalists(search(tmp_path, rte=rte, cola=cola)) == {
        KEY: [(1e-3, 1e-3, 16), (1e-4, 1e-3, 16)]
    }


def test_to_other_tasks_the_best_two_go_on(tmp_path):
    findings = search(tmp_path, rte={(1e-3, 1e-3): 0.9, (3e-3, 1e-3): 0.89, (3e-4, 3e-3): 0.7})
    chosen = choose_finalists(findings, on_other_tasks=True)
    assert chosen == {KEY: [(1e-3, 1e-3, 16), (3e-3, 1e-3, 16)]}


def test_of_a_search_over_head_rates_the_next_lower_head_rate_goes_on(tmp_path):
    scores = {(1e-3, 1e-3): 0.6, (1e-3, 3e-3): 0.7, (1e-3, 1e-2): 0.8, (1e-3, 3e-2): 0.75}
    findings = collect_trials(tmp_path, scores, method="head_only")
    assert choose_finalists(findings) == {("tiny", "head_only"): [(1e-3, 1e-2, 16), (1e-3, 3e-3, 16)]}


@pytest.mark.parametrize("out", [None, {"status": Status.FAILED}])
def test_a_method_waits_for_all_trials_of_all_its_tasks(tmp_path, out):
    findings = search(tmp_path, rte={(1e-3, 1e-3): 0.9}, cola={(1e-4, 1e-3): out, (1e-2, 1e-3): 0.99})
    assert choose_finalists(findings) == {}
    assert choose_finalists(findings[:1])[KEY][0] == (1e-3, 1e-3, 16)


def test_a_pair_whose_task_has_a_degenerate_best_stays_behind_too(tmp_path):
    nothing = {"scores": (0.99, 0.99), "degenerate": (1, 2)}
    rte = dict.fromkeys(FIVE, 0.4) | {(1e-2, 1e-3): nothing, (1e-3, 1e-3): 0.45}
    findings = search(tmp_path, rte=rte, cola={(1e-2, 1e-3): 0.99, (1e-3, 1e-3): 0.9})
    assert findings[0].best is None
    assert choose_finalists(findings)[KEY][0] == (1e-3, 1e-3, 16)


def test_one_pair_that_learnt_goes_on_alone(tmp_path):
    bad = {pair: {"status": Status.DIVERGED} for pair in FIVE}
    assert choose_finalists(search(tmp_path, rte=bad | {(1e-3, 1e-3): 0.9})) == {KEY: [(1e-3, 1e-3, 16)]}
    assert choose_finalists(search(tmp_path / "none", rte=bad)) == {}


def extend(tmp_path, finals, **first):
    """Return what goes on after a final round with these trials, by task, of a search with `first`'s."""
    found = [
        finding
        for task, scores in finals.items()
        for finding in collect_trials(tmp_path / "final" / task, scores, task=task)
    ]
    return extend_finalists(found, search(tmp_path, **first))


def test_below_the_lowest_that_won_on_a_task_the_next_goes_on(tmp_path):
    rte = {(1e-3, 1e-3): 0.9, (3e-4, 3e-3): 0.8}
    cola = {(1e-3, 1e-3): 0.7, (3e-4, 3e-3): 0.8}
    first = {(1e-4, 3e-3): 0.65}
    assert extend(tmp_path, {"rte": rte, "cola": cola}, rte=first, cola={}) == {KEY: [(1e-4, 3e-3, 16)]}


def test_a_round_whose_lowest_won_nowhere_is_over(tmp_path):
    assert extend(tmp_path, {"rte": {(1e-3, 1e-3): 0.9, (3e-4, 3e-3): 0.8}}, rte={}) == {}


def test_below_the_lowest_of_the_grid_there_is_nothing(tmp_path):
    assert extend(tmp_path, {"rte": {(1e-4, 1e-3): 0.9, (3e-4, 3e-3): 0.8}}, rte={}) == {}


def test_a_rate_that_learnt_nothing_in_the_short_round_does_not_go_on(tmp_path):
    bad = {(1e-4, head): {"status": Status.DIVERGED} for head in (1e-3, 3e-3)}
    assert extend(tmp_path, {"rte": {(1e-3, 1e-3): 0.8, (3e-4, 3e-3): 0.9}}, rte=bad) == {}


def test_while_a_trial_of_the_final_round_is_out_its_task_has_no_say(tmp_path):
    assert extend(tmp_path, {"rte": {(1e-3, 1e-3): None, (3e-4, 3e-3): 0.9}}, rte={}) == {}
