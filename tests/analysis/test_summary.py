import pytest

from glue_harness.analysis.summary import average_tasks, select
from glue_harness.config.schema import Protocol
from glue_harness.evidence.collect import collect
from glue_harness.evidence.schema import list_rows
from glue_harness.runs.record import Status
from tests.support.planned_runs import BEST, GPU, LAST, make_cell, make_plan, make_record, write_run


@pytest.fixture
def evaluate(tmp_path):
    """Score and summarise runs given as (cell, record or None where it is missing), in this order."""

    def run(pairs, protocol):
        for record in (record for _, record in pairs if record):
            write_run(record, tmp_path / "runs")
        plan = make_plan([cell for cell, _ in pairs], tmp_path)
        selection = select(collect(plan, tmp_path / "runs", tmp_path / "results"), protocol)
        return selection.scored, selection.summary

    return run


def runs_of(*scores, **cell):
    epochs = max(len(s) for s in scores if s)
    cells = [make_cell(seed=seed, epochs=epochs, **cell) for seed, _ in enumerate(scores, start=1)]
    return [
        (cell, None if s is None else make_record(cell, s)) for cell, s in zip(cells, scores, strict=True)
    ]


SCORES = [(0.9, 0.5), (0.6, 0.7), (0.8, 0.4)]


@pytest.mark.parametrize(
    ("epoch", "statistic", "epochs", "value"),
    [
        ("best", "median", [1, 2, 1], 0.8),
        ("best", "mean", [1, 2, 1], (0.9 + 0.7 + 0.8) / 3),
        ("last", "median", [2, 2, 2], 0.5),
        ("last", "mean", [2, 2, 2], (0.5 + 0.7 + 0.4) / 3),
    ],
)
def test_the_protocol_chooses_epoch_and_statistic(evaluate, epoch, statistic, epochs, value):
    scored, summary = evaluate(runs_of(*SCORES), Protocol("p", epoch, statistic, "d"))
    assert list(scored["selected_epochs"]) == [(epoch,) for epoch in epochs]
    (row,) = list_rows(summary)
    assert row["statistic"] == pytest.approx(value)
    assert (row["entered"], row["planned"]) == (3, 3)


def test_scores_and_spread_by_hand(evaluate):
    _, summary = evaluate(runs_of((0.4,), (0.6,)), BEST)
    (row,) = list_rows(summary)
    assert row["scores"] == (0.4, 0.6)
    assert row["spread"] == pytest.approx(0.2 / 2**0.5)


def test_failed_and_missing_runs_do_not_enter(evaluate):
    pairs = runs_of((0.9,), (0.8,), None)
    pairs[1] = (pairs[1][0], make_record(pairs[1][0], status=Status.FAILED))
    scored, summary = evaluate(pairs, BEST)
    (row,) = list_rows(summary)
    assert (row["entered"], row["planned"], row["failed"], row["missing"]) == (1, 3, 1, 1)
    assert row["statistic"] is None
    assert row["spread"] is None
    assert list(scored["score"].isna()) == [False, True, True]


@pytest.mark.parametrize(("task", "majority"), [("rte", 0.5), ("cola", 0.0), ("stsb", 0.0)])
def test_diverged_and_degenerate_runs_enter_at_the_majority_class(evaluate, task, majority):
    cells = [make_cell(task, seed=seed) for seed in (1, 2, 3)]
    records = [
        make_record(cells[0], (0.9, 0.8)),
        make_record(cells[1], (0.9, 0.95), status=Status.DIVERGED),
        make_record(cells[2], (0.3, 0.2), degenerate=(1,)),
    ]
    scored, summary = evaluate(list(zip(cells, records, strict=True)), BEST)
    assert list(scored["score"]) == [0.9, majority, majority]
    (row,) = list_rows(summary)
    assert (row["entered"], row["degenerate"], row["diverged"]) == (3, 1, 1)
    assert row["statistic"] == majority


def test_only_the_selected_epoch_makes_a_run_degenerate(evaluate):
    cell = make_cell()
    scored, _ = evaluate([(cell, make_record(cell, (0.5, 0.8), degenerate=(1,)))], BEST)
    assert list(scored["score"]) == [0.8]
    assert list(scored["degenerate"]) == [False]


def test_an_undefined_headline_is_degenerate(evaluate):
    cell = make_cell("stsb")
    scored, _ = evaluate([(cell, make_record(cell, (-0.1, None)))], LAST)
    assert list(scored["score"]) == [0.0]
    assert list(scored["degenerate"]) == [True]


def test_settings_and_models_are_never_mixed(evaluate):
    pairs = [
        *runs_of((0.9,), (0.8,), learning_rate=1e-3),
        *runs_of((0.1,), (0.2,), learning_rate=1e-4),
        *runs_of((0.5,), model="small"),
    ]
    _, summary = evaluate(pairs, BEST)
    rows = [(row["model"], row["settings"], row["scores"]) for row in list_rows(summary)]
    assert rows == [
        ("tiny", "trainer.learning_rate=0.001", (0.9, 0.8)),
        ("tiny", "trainer.learning_rate=0.0001", (0.1, 0.2)),
        ("small", None, (0.5,)),
    ]


def test_environments_of_one_cell_are_one_row(evaluate):
    cells = [make_cell(seed=1), make_cell(seed=2, environment=GPU)]
    _, summary = evaluate([(cell, make_record(cell)) for cell in cells], BEST)
    assert len(summary) == 1


def test_the_average_needs_every_task_in_full(evaluate):
    pairs = [
        *runs_of((0.9,), (0.7,), task="rte", method="full"),
        *runs_of((0.5,), (0.3,), task="cola", method="full"),
        *runs_of((0.9,), (0.7,), task="rte", method="lora"),
        *runs_of((0.5,), None, task="cola", method="lora"),
        *runs_of((0.9,), (0.7,), task="rte", method="dora"),
    ]
    _, summary = evaluate(pairs, BEST)
    averages = {row["method"]: row["average"] for row in list_rows(average_tasks(summary))}
    assert averages == {"full": pytest.approx((0.8 + 0.4) / 2), "lora": None, "dora": None}


def test_rows_and_tasks_keep_the_grids_order(evaluate):
    pairs = [*runs_of((0.9,), task="stsb"), *runs_of((0.9,), task="cola"), *runs_of((0.9,), method="full")]
    _, summary = evaluate(pairs, BEST)
    shown = [(row["label"], row["task"]) for row in list_rows(summary)]
    assert shown == [("lora_r16", "stsb"), ("lora_r16", "cola"), ("full", "rte")]


def test_a_whole_cell_has_bounds_over_its_seeds(evaluate):
    _, summary = evaluate([*runs_of((0.9,), (0.7,)), *runs_of((0.9,), None, method="full")], BEST)
    bounds = [tuple(row[name] for name in ("low", "high", "bounds")) for row in list_rows(summary)]
    assert bounds == [(0.7, 0.9, "range of seeds"), (None, None, None)]
