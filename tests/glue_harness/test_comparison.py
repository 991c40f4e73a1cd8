import pytest

from glue_harness.comparison import compare_methods
from glue_harness.config import Protocol
from glue_harness.evidence import list_rows

from .scored_runs import PROTOCOL, make_runs, make_selection

PAIR = ("edora", "edora_random")
SVD, RANDOM = [0.80, 0.70, 0.75], [0.70, 0.72, 0.71]


def compare(rows, protocol=PROTOCOL):
    return list_rows(compare_methods(make_selection(rows, protocol), *PAIR))


def make_pair(svd, random, task="rte", **changes):
    return [*make_runs(task, PAIR[0], svd, **changes), *make_runs(task, PAIR[1], random, **changes)]


def test_a_worked_example():
    (row,) = compare(make_pair(SVD, RANDOM))
    assert row["differences"] == pytest.approx((0.10, -0.02, 0.04))
    assert row["statistic"] == pytest.approx(0.04)  # not the medians' 0.75 - 0.71 by way of other seeds
    assert row["spread"] == pytest.approx((((0.06**2) + 0.06**2 + 0) / 2) ** 0.5)  # about their mean, 0.04
    assert (row["planned"], row["entered"], row["ahead"]) == (3, 3, 2)


def test_the_difference_of_pairs_is_not_the_difference_of_medians():
    (row,) = compare(make_pair([0.9, 0.5, 0.6], [0.5, 0.4, 0.8]))
    assert row["statistic"] == pytest.approx(0.1)  # of 0.4, 0.1, -0.2; the medians differ by 0.6 - 0.5 too
    (row,) = compare(make_pair([0.9, 0.5, 0.6], [0.8, 0.9, 0.1]))
    assert row["statistic"] == pytest.approx(0.1)  # of 0.1, -0.4, 0.5; the medians differ by 0.6 - 0.8


def test_the_protocol_chooses_the_statistic():
    mean = Protocol("mean", "last", "mean", "mean")
    assert compare(make_pair(SVD, RANDOM), mean)[0]["statistic"] == pytest.approx(0.12 / 3)


def test_seeds_are_paired_by_their_number_not_their_order():
    rows = make_pair(SVD, RANDOM)
    (row,) = compare([*rows[:3], *reversed(rows[3:])])
    assert row["differences"] == pytest.approx((0.10, -0.02, 0.04))


def test_a_pair_without_one_of_its_scores_does_not_enter_and_leaves_no_statistic():
    (row,) = compare(make_pair([0.8, None, 0.75], RANDOM))
    assert row["differences"] == pytest.approx((0.10, 0.04))
    assert (row["planned"], row["entered"], row["ahead"]) == (3, 2, 2)
    assert row["statistic"] is None
    assert row["spread"] is None


def test_only_seeds_planned_for_both_are_pairs():
    (row,) = compare(make_pair([*SVD, 0.9, 0.95], RANDOM))
    assert (row["planned"], row["entered"]) == (3, 3)


def test_a_tie_is_nobodys():
    assert compare(make_pair([0.5], [0.5]))[0]["ahead"] == 0


def test_degenerate_and_diverged_runs_are_counted():
    rows = make_pair(
        [0.8, 0.5, 0.5], [0.7, 0.7, 0.5], degenerate=(3,), statuses=["complete", "diverged", "complete"]
    )
    (row,) = compare(rows)
    assert (row["degenerate"], row["diverged"]) == (2, 2)


def test_models_ranks_settings_and_tasks_are_never_mixed():
    rows = [
        *make_pair([0.8], [0.7]),
        *make_pair([0.8], [0.6], task="cola"),
        *make_pair([0.8], [0.5], rank=8),
        *make_pair([0.8], [0.4], settings="trainer.epochs=5"),
        *make_pair([0.8], [0.3], model="large"),
        *make_runs("rte", "edora", [0.9], rank=32),
        *make_runs("rte", "lora", [0.9]),
    ]
    found = [
        (r["model"], r["task"], r["rank"], r["settings"], round(r["statistic"], 3)) for r in compare(rows)
    ]
    assert found == [
        ("tiny", "rte", 16, None, 0.1),
        ("tiny", "cola", 16, None, 0.2),
        ("tiny", "rte", 8, None, 0.3),
        ("tiny", "rte", 16, "trainer.epochs=5", 0.4),
        ("large", "rte", 16, None, 0.5),
    ]


def test_without_both_methods_there_is_nothing_to_compare():
    assert compare_methods(make_selection(make_runs("rte", "edora", SVD)), *PAIR).empty


def test_the_differences_have_bounds_once_all_entered():
    (row,) = compare(make_pair(SVD, RANDOM))
    assert (row["low"], row["high"]) == pytest.approx((-0.02, 0.10))
    assert row["bounds"] == "range of seeds"
    (row,) = compare(make_pair([0.8, None, 0.75], RANDOM))
    assert (row["low"], row["high"]) == (None, None)
