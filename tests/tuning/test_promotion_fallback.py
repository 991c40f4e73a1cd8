"""One choice for tasks that were not searched: the best on average, whatever each task would have."""

import pytest
from omegaconf import OmegaConf

from glue_harness.runs.record import Status
from glue_harness.tuning.promotion import describe_fallback, find_fallbacks
from tests.tuning.test_findings import collect_trials, search

LOW, HIGH = (1e-3, 1e-3), (3e-3, 3e-3)


def test_the_best_mean_is_chosen_though_it_is_no_tasks_best(tmp_path):
    between = (1e-3, 3e-3)
    rte = {LOW: 0.9, between: 0.85, HIGH: 0.6}
    cola = {LOW: 0.5, between: 0.8, HIGH: 0.84}
    (found,) = find_fallbacks(search(tmp_path, rte=rte, cola=cola))
    assert (found.model, found.method) == ("tiny", "lora")
    assert found.values == {"learning_rate": 1e-3, "head_learning_rate": 3e-3, "alpha": 16}
    assert found.score == pytest.approx((0.85 + 0.8) / 2)
    assert found.behind == {"rte": pytest.approx(0.05), "cola": pytest.approx(0.04)}


def test_of_equals_the_lowest_rates_are_chosen(tmp_path):
    (found,) = find_fallbacks(search(tmp_path, rte={LOW: 0.9, HIGH: 0.7}, cola={LOW: 0.7, HIGH: 0.9}))
    assert tuple(found.values.values()) == (*LOW, 16)


@pytest.mark.parametrize(
    "spoilt", [{"status": Status.DIVERGED}, {"scores": (0.99, 0.99), "degenerate": (1, 2)}]
)
def test_a_pair_that_learnt_nothing_somewhere_is_no_choice(tmp_path, spoilt):
    findings = search(tmp_path, rte={LOW: 0.99, HIGH: 0.8}, cola={LOW: spoilt, HIGH: 0.8})
    (found,) = find_fallbacks(findings)
    assert tuple(found.values.values()) == (*HIGH, 16)


def test_while_a_task_is_unfinished_there_is_none(tmp_path):
    assert find_fallbacks(search(tmp_path, rte={LOW: 0.9}, cola={LOW: None})) == []


def test_searches_that_share_no_trial_have_none(tmp_path):
    rte = collect_trials(tmp_path / "rte", {LOW: 0.9, HIGH: 0.8})
    cola = collect_trials(tmp_path / "cola", {(1e-2, 1e-2): 0.9, (2e-2, 1e-2): 0.8}, task="cola")
    assert find_fallbacks([*rte, *cola]) == []


def test_its_file_holds_the_rates_and_where_they_come_from(tmp_path):
    (found,) = find_fallbacks(search(tmp_path, rte={LOW: 0.9}, cola={LOW: 0.7, HIGH: 0.8}))
    text = describe_fallback(found, "make tune MODEL=tiny", "results/tune-tiny/search.md", 0.2)
    rates = {name: found.values[name] for name in ("learning_rate", "head_learning_rate")}
    assert OmegaConf.to_object(OmegaConf.create(text)) == rates
    assert "`make tune MODEL=tiny`; all trials: results/tune-tiny/search.md" in text
    assert "The best mean over rte, cola of the scores on 20 % of train: 0.8000" in text
    assert "\n# Of 10 settings, each on every task; rank 16, seed 1, 2 epochs\n" in text
    assert "by 0.00 on RTE, 10.00 on CoLA points" in text
