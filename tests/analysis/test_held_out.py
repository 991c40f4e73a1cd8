"""One half of dev selects, the other reports: values worked by hand, and settings that a protocol chooses."""

from __future__ import annotations

import pytest

from glue_harness.analysis.learning_curves import trace_cells
from glue_harness.analysis.paired import compare_methods
from glue_harness.analysis.scoring import split_settings
from glue_harness.analysis.summary import select
from glue_harness.config.schema import Protocol
from glue_harness.errors import InputError
from glue_harness.evidence.collect import collect
from glue_harness.evidence.schema import Evidence, list_rows
from glue_harness.reports.notes import explain_cells
from glue_harness.runs.record import Epoch, Status
from tests.support.planned_runs import BEST, LAST, make_cell, make_plan, make_record, write_run

HELD_OUT = Protocol("held_out", "best", "median", "one half for the other", dev="halves")
RATES = ["trainer.learning_rate"]
SLOW, FAST = (f"trainer.learning_rate={rate}" for rate in ("0.0001", "0.001"))


@pytest.fixture
def gather(tmp_path):
    """Return the evidence of runs given as (cell, record or None where it is missing), in this order."""

    def run(pairs):
        for record in (record for _, record in pairs if record):
            write_run(record, tmp_path / "runs")
        plan = make_plan([cell for cell, _ in pairs], tmp_path)
        return collect(plan, tmp_path / "runs", tmp_path / "results")

    return run


def record_halves(cell, even, odd, degenerate=(), **changes):
    """Return a record with the headline's values on each half of dev by epoch; on all of dev their mean."""
    headline = cell.config.task.metrics[0]
    epochs = []
    for number, (first, second) in enumerate(zip(even, odd, strict=True), start=1):
        both = None if None in (first, second) else (first + second) / 2
        values = {"all": both, "even": first, "odd": second}
        metrics = {part: {headline: value} for part, value in values.items()}
        epochs.append(Epoch(epoch=number, train_loss=0.1, metrics=metrics, degenerate=number in degenerate))
    return make_record(cell, scores=()).model_copy(update={"epochs": epochs, **changes})


def runs_of(*halves, **cell):
    epochs = max(len(pair[0]) for pair in halves if pair)
    cells = [make_cell(seed=seed, epochs=epochs, **cell) for seed, _ in enumerate(halves, start=1)]
    return [(cell, pair and record_halves(cell, *pair)) for cell, pair in zip(cells, halves, strict=True)]


def test_each_half_selects_the_epoch_that_the_other_reports(gather):
    scored = select(gather(runs_of(((0.9, 0.5, 0.7), (0.4, 0.6, 0.8)))), HELD_OUT).scored
    (run,) = list_rows(scored)
    assert run["selected_epochs"] == (1, 3)  # even is best at 1, odd at 3
    assert run["reported"] == (0.4, 0.7)  # odd at 1, even at 3
    assert run["selecting"] == (0.9, 0.8)
    assert run["score"] == pytest.approx(0.55)


def test_a_held_out_score_is_below_the_best_epochs_where_noise_selects(gather):
    collected = gather(runs_of(((0.9, 0.5), (0.5, 0.8))))
    assert list(select(collected, BEST).scored["score"]) == pytest.approx([0.7])
    assert list(select(collected, HELD_OUT).scored["score"]) == pytest.approx([0.5])


def test_the_last_epoch_is_the_same_on_both_halves(gather):
    last = Protocol("p", "last", "mean", "d", dev="halves")
    (run,) = list_rows(select(gather(runs_of(((0.9, 0.5), (0.4, 0.6)))), last).scored)
    assert (run["selected_epochs"], run["reported"]) == ((2, 2), (0.6, 0.5))


def test_degenerate_and_undefined_halves_report_the_majority_class(gather):
    cells = [make_cell("cola", seed=seed) for seed in (1, 2)]
    records = [
        record_halves(cells[0], (0.9, 0.6), (0.7, 0.8), degenerate=(1,)),
        record_halves(cells[1], (0.9, 0.6), (None, 0.8)),
    ]
    runs = list_rows(select(gather(list(zip(cells, records, strict=True))), HELD_OUT).scored)
    assert [run["reported"] for run in runs] == [(0.0, 0.6), (0.0, 0.6)]
    assert [run["degenerate"] for run in runs] == [True, True]


def test_diverged_failed_and_missing_runs_are_as_under_any_protocol(gather):
    cells = [make_cell(seed=seed) for seed in (1, 2, 3)]
    records = [make_record(cells[0], status=s) for s in (Status.DIVERGED,)]
    records += [make_record(cells[1], status=Status.FAILED), None]
    selection = select(gather(list(zip(cells, records, strict=True))), HELD_OUT)
    assert list(selection.scored["score"].isna()) == [False, True, True]
    (cell,) = list_rows(selection.summary)
    assert (cell["scores"], cell["statistic"], cell["diverged"]) == ((0.5,), None, 1)


def test_a_run_without_scores_on_halves_is_one_line(gather):
    collected = gather(runs_of(((0.9,), (0.8,))))
    whole = collected.epochs[~collected.epochs["part"].isin(["even", "odd"])].reset_index(drop=True)
    with pytest.raises(InputError, match=r"protocol=held_out: cell \w+, seed 1: has no scores on .* `even`"):
        select(Evidence(collected.runs, whole, {}), HELD_OUT)


@pytest.mark.parametrize(
    ("settings", "compared", "chosen"),
    [
        (None, None, None),
        ("trainer.learning_rate=0.1", None, "trainer.learning_rate=0.1"),
        ("adapter.init_std=1e-05 trainer.learning_rate=0.1 trainer.epochs=5", "trainer.epochs=5", None),
        ("trainer.learning_rate_decay=1", "trainer.learning_rate_decay=1", None),
    ],
)
def test_settings_are_split_into_what_is_compared_and_what_is_searched(settings, compared, chosen):
    found = split_settings(settings, ["trainer.learning_rate", "method.adapter.init_std"])
    assert found[0] == compared
    if settings and settings.startswith("adapter"):
        chosen = "adapter.init_std=1e-05 trainer.learning_rate=0.1"
    assert found[1] == chosen


def grid(slow, fast, **cell):
    return [*runs_of(*slow, learning_rate=1e-4, **cell), *runs_of(*fast, learning_rate=1e-3, **cell)]


ALIKE = [((s,), (s,)) for s in (0.5, 0.6, 0.9)], [((s,), (s,)) for s in (0.7, 0.7, 0.7)]


def test_a_searched_setting_is_chosen_by_the_statistic_over_seeds(gather):
    """The slow rate has the best run and the fast one the higher median."""
    selection = select(gather(grid(*ALIKE)), BEST, RATES)
    (cell,) = list_rows(selection.summary)
    assert (cell["statistic"], cell["chosen"], cell["settings"]) == (0.7, FAST, None)
    assert (cell["settings_tried"], cell["planned"], cell["entered"], cell["seeds"]) == (2, 6, 6, 3)
    assert cell["scores"] == (0.7, 0.7, 0.7)
    assert list(selection.chosen["learning_rate"]) == [1e-3] * 3
    assert len(selection.scored) == 6


def test_what_is_not_searched_stays_apart(gather):
    collected = gather(grid(*ALIKE))
    apart = Protocol("p", "best", "median", "d", setting="apart")
    for selection in (select(collected, BEST), select(collected, apart, RATES)):
        shown = [(cell["settings"], cell["statistic"]) for cell in list_rows(selection.summary)]
        assert shown == [(SLOW, 0.6), (FAST, 0.7)]


def test_equal_settings_the_first_of_the_grid(gather):
    same = [((0.5,), (0.5,))]
    assert list(select(gather(grid(same, same)), BEST, RATES).summary["chosen"]) == [SLOW]


def test_each_half_chooses_its_setting_for_the_other(gather):
    """On the even rows the slow rate is better, on the odd ones the fast rate: by hand, seed by seed."""
    slow = [((0.9,), (0.1,)), ((0.8,), (0.2,))]
    fast = [((0.3,), (0.7,)), ((0.4,), (0.8,))]
    selection = select(gather(grid(slow, fast)), HELD_OUT, RATES)
    (cell,) = list_rows(selection.summary)
    assert cell["scores"] == pytest.approx(((0.1 + 0.3) / 2, (0.2 + 0.4) / 2))
    assert cell["statistic"] == pytest.approx(0.25)
    assert cell["chosen"] == f"{SLOW} | {FAST}"
    first = list_rows(selection.chosen)[0]
    cells = dict(zip(selection.scored["searched"], selection.scored["cell"], strict=True))
    assert (first["cell"], first["second_cell"]) == (cells[SLOW], cells[FAST])
    (whole,) = list_rows(select(gather(grid(slow, fast)), BEST, RATES).summary)
    assert (whole["statistic"], whole["chosen"]) == (pytest.approx(0.55), FAST)


def test_the_epoch_that_reports_does_not_choose_the_setting(gather):
    """The last epoch's score chooses under a protocol of last epochs, whatever an earlier one reached."""
    slow, fast = [((0.9, 0.5), (0.9, 0.5))], [((0.6, 0.6), (0.6, 0.6))]
    collected = gather(grid(slow, fast))
    assert list(select(collected, LAST, RATES).summary["chosen"]) == [FAST]
    assert list(select(collected, BEST, RATES).summary["chosen"]) == [SLOW]


def test_nothing_is_chosen_before_every_setting_has_all_its_runs(gather):
    slow, fast = ALIKE
    selection = select(gather(grid([*slow[:2], None], fast)), BEST, RATES)
    (cell,) = list_rows(selection.summary)
    assert (cell["statistic"], cell["chosen"], cell["entered"], cell["planned"]) == (None, None, 5, 6)
    assert (cell["scores"], cell["missing"], cell["seeds"]) == ((), 1, 3)
    assert compare_methods(selection, "lora", "lora").loc[0, "entered"] == 0


def test_degenerate_and_diverged_runs_lower_their_settings_chance(gather):
    slow, fast = grid(*ALIKE)[:3], grid(*ALIKE)[3:]
    diverged = [(cell, make_record(cell, status=Status.DIVERGED)) for cell, _ in fast[:2]]
    (cell,) = list_rows(select(gather([*slow, *diverged, fast[2]]), BEST, RATES).summary)
    assert (cell["chosen"], cell["diverged"]) == (SLOW, 0)


def test_curves_are_of_the_chosen_setting(gather):
    collected = gather(grid(*ALIKE))
    (curve,) = list_rows(trace_cells(collected, select(collected, BEST, RATES)))
    assert curve["low"] == curve["high"] == (0.7,)


def test_notes_say_from_how_many_settings_each_cell_was_chosen(gather):
    pairs = [*grid(*ALIKE), *runs_of(*ALIKE[0], method="full")]
    selection = select(gather(pairs), HELD_OUT, RATES)
    notes = " ".join(explain_cells(selection))
    assert "chosen from: 2 for LoRA (r=16); 1 for Full fine-tuning; chosen is the highest median" in notes
    assert "on each half of dev for the other" in notes
    assert "the mean of the halves of dev" in notes
    assert "chosen from" not in " ".join(explain_cells(select(gather(pairs), BEST)))
