import pytest

from glue_harness.analysis.paired import compare_methods, compare_rows, pair_rows
from glue_harness.config.schema import Protocol
from glue_harness.evidence.schema import list_rows
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

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


def list_compared(rows):
    """Return which rows stand against which, as (label, settings) each, with the seeds of each task."""
    return [
        (
            (first["label"], first["settings"]),
            (second["label"], second["settings"]),
            {task: list(by_seed) for task, by_seed in by_task.items()},
        )
        for first, second, by_task in pair_rows(make_selection(rows))
    ]


def test_a_row_stands_against_others_at_its_rank_without_a_rank_or_at_one_that_edora_lacks():
    rows = [
        *make_runs("rte", "edora", [0.8]),
        *make_runs("rte", "edora", [0.8], rank=4),
        *make_runs("rte", "lora", [0.7]),
        *make_runs("rte", "lora", [0.7], rank=4),
        *make_runs("rte", "lora", [0.7], rank=1),
        *make_runs("rte", "full", [0.7], rank=None),
        *make_runs("rte", "lora", [0.7], model="large"),
    ]
    found = [(first[0], second[0]) for first, second, _ in list_compared(rows)]
    assert found == [
        *(("edora_r16", other) for other in ("lora_r16", "lora_r1", "full")),
        *(("edora_r4", other) for other in ("lora_r4", "lora_r1", "full")),
    ]


def test_settings_of_edora_stand_against_its_first_and_other_methods_against_the_same_settings():
    slow, fast, third = ("trainer=paper", "trainer=fast", "trainer=smoke")
    rows = [
        run for settings in (slow, fast, third) for run in make_runs("rte", "edora", [0.8], settings=settings)
    ]
    rows += make_runs("rte", "lora", [0.7], settings=fast)
    assert [(first[1], second[0], second[1]) for first, second, _ in list_compared(rows)] == [
        (slow, "edora_r16", fast),
        (slow, "edora_r16", third),
        (fast, "lora_r16", fast),
    ]


def test_a_rate_that_several_rows_have_compares_no_methods_but_a_methods_own_rows():
    slow, fast = ("epochs=6 trainer.learning_rate=0.001", "epochs=6 trainer.learning_rate=0.01")
    rows = [
        run
        for method in ("edora", "lora")
        for settings in (slow, fast)
        for run in make_runs("rte", method, [0.8], settings=settings)
    ]
    assert [(first[1], *second) for first, second, _ in list_compared(rows)] == [(slow, "edora_r16", fast)]


def test_rows_are_paired_on_the_seeds_and_tasks_of_both():
    rows = [
        *make_runs("rte", "edora", [0.8, 0.7, 0.9]),
        *make_runs("cola", "edora", [0.8]),
        *make_runs("rte", "full", [0.7, 0.8], rank=None),
        *make_runs("mrpc", "full", [0.7], rank=None),
    ]
    assert list_compared(rows) == [(("edora_r16", None), ("full", None), {"rte": [1, 2]})]
    (row,) = list_rows(compare_rows(make_selection(rows)))
    assert row["differences"] == pytest.approx((0.1, -0.1))
    assert (row["statistic"], row["ahead"]) == (pytest.approx(0.0), 1)
    assert (row["label"], row["against_label"], row["against_rank"]) == ("edora_r16", "full", None)


def test_without_edora_no_row_is_compared():
    assert compare_rows(make_selection(make_runs("rte", "lora", SVD))).empty
