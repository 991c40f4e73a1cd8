import pytest

from glue_harness.analysis.learning_curves import keep_middle_ranks, trace_cells
from glue_harness.analysis.summary import select
from glue_harness.config.schema import Protocol
from glue_harness.evidence.collect import collect
from glue_harness.evidence.schema import list_rows
from glue_harness.runs.record import Status
from tests.support.planned_runs import BEST, make_cell, make_plan, make_record, write_run


@pytest.fixture
def trace(tmp_path):
    """Return the curves of runs given as (cell, record or None where it is missing), in this order."""

    def run(pairs, protocol=BEST):
        for record in (record for _, record in pairs if record):
            write_run(record, tmp_path / "runs")
        plan = make_plan([cell for cell, _ in pairs], tmp_path)
        collected = collect(plan, tmp_path / "runs", tmp_path / "results")
        return list_rows(trace_cells(collected, select(collected, protocol)))

    return run


def runs_of(*scores, **changes):
    cells = [
        make_cell(seed=seed, epochs=max(len(s) for s in scores if s))
        for seed, _ in enumerate(scores, start=1)
    ]
    return [(cell, s and make_record(cell, s, **changes)) for cell, s in zip(cells, scores, strict=True)]


def test_median_and_range_by_epoch(trace):
    (row,) = trace(runs_of((0.5, 0.9, 0.8), (0.4, 0.6, 0.7), (0.6, 0.7, 0.1)))
    assert (row["method"], row["rank"], row["task"]) == ("lora", 16, "rte")
    assert row["statistic"] == (0.5, 0.7, 0.7)
    assert row["low"] == (0.4, 0.6, 0.1)
    assert row["high"] == (0.6, 0.9, 0.8)


def test_the_protocol_chooses_the_statistic(trace):
    (row,) = trace(runs_of((0.5,), (0.4,), (0.9,)), Protocol("p", "last", "mean", "d"))
    assert row["statistic"] == pytest.approx((0.6,))


def test_only_the_headline_on_all_of_dev_counts(trace):
    cell = make_cell("stsb")  # other metrics are 0.1, halves of dev 0.01 off
    (row,) = trace([(cell, make_record(cell, (0.5, 0.6)))])
    assert row["statistic"] == row["low"] == row["high"] == (0.5, 0.6)


def test_degenerate_and_undefined_epochs_count_as_the_majority_class(trace):
    cell = make_cell("cola", epochs=3)
    (row,) = trace([(cell, make_record(cell, (0.9, 0.8, None), degenerate=(1,)))])
    assert row["statistic"] == (0.0, 0.8, 0.0)


def test_a_diverged_run_counts_as_the_majority_class_from_then_on(trace):
    cells = [make_cell("cola", seed=seed, epochs=3) for seed in (1, 2)]
    records = [make_record(cells[0], (0.6, 0.7, 0.8)), make_record(cells[1], (0.5,), status=Status.DIVERGED)]
    (row,) = trace(list(zip(cells, records, strict=True)))
    assert row["low"] == (0.5, 0.0, 0.0)
    assert row["high"] == (0.6, 0.7, 0.8)


def test_a_cell_without_all_its_runs_has_no_curve(trace):
    pairs = runs_of((0.5,), None)
    other = make_cell(method="dora", epochs=1)
    assert [row["method"] for row in trace([*pairs, (other, make_record(other, (0.7,)))])] == ["dora"]


def test_runs_that_diverged_before_any_evaluation_have_no_curve(trace):
    cell = make_cell()
    assert trace([(cell, make_record(cell, (), status=Status.DIVERGED))]) == []


def test_no_run_at_all_is_an_empty_frame_with_its_columns(tmp_path):
    collected = collect(make_plan([make_cell()], tmp_path), tmp_path / "runs", tmp_path / "results")
    curves = trace_cells(collected, select(collected, BEST))
    assert curves.empty
    assert {"model", "task", "statistic", "low", "high"} <= set(curves.columns)


@pytest.mark.parametrize(
    ("ranks", "middle"),
    [((4, 8, 12, 16, 20, 25, 32), 16), ((8, 16), 16), ((32, 8, 16), 16), ((4, 8, 16, 32), 16), ((8,), 8)],
)
def test_a_method_is_shown_at_its_middle_rank(tmp_path, ranks, middle):
    cells = [make_cell(method="edora", rank=rank) for rank in ranks]
    plan = make_plan([*cells, make_cell(method="full")], tmp_path)
    collected = collect(plan, tmp_path / "runs", tmp_path / "results")
    kept = keep_middle_ranks(select(collected, BEST))
    expected = [("edora", middle), ("full", None)]
    for frame in (kept.scored, kept.summary, kept.averages):
        assert [(row["method"], row["rank"]) for row in list_rows(frame)] == expected
