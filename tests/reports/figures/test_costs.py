"""Scores by training time, as they are drawn."""

import pytest

from glue_harness.reports.figures.costs import draw_costs
from glue_harness.reports.figures.styles import METHOD_STYLES
from tests.reports.figures.test_plots import legend_of, list_series, note_of, panels_of
from tests.support.scored_runs import make_runs, make_selection


def timed(rows, *seconds):
    return [row | {"train_seconds": value} for row, value in zip(rows, seconds, strict=True)]


@pytest.fixture
def figure():
    rows = [
        *timed(make_runs("cola", "full", [0.6, 0.62, 0.61], rank=None), 100.0, 300.0, 120.0),
        *timed(make_runs("cola", "edora", [0.5, 0.52, 0.51]), 50.0, 70.0, 60.0),
        *timed(make_runs("cola", "lora", [0.5, 0.52, None]), 50.0, 70.0, None),
        *timed(make_runs("rte", "edora", [0.5, 0.5, 0.5]), None, None, None),
    ]
    return draw_costs(make_selection(rows), "Title")


def test_a_point_stands_at_its_runs_median_time(figure):
    axis = panels_of(figure)["CoLA (Matthews)"]
    assert list_series(axis) == {
        METHOD_STYLES["full"].colour: [pytest.approx((120.0, 61.0, 1.0))],
        METHOD_STYLES["edora"].colour: [pytest.approx((60.0, 51.0, 1.0))],
    }
    assert axis.get_xscale() == "log"
    assert axis.get_xlim() == pytest.approx((60 / 1.4, 120 * 1.4))


def test_without_a_time_there_is_no_point(figure):
    assert list(panels_of(figure)) == ["CoLA (Matthews)", "RTE (accuracy)"]
    assert list_series(panels_of(figure)["RTE (accuracy)"]) == {}
    assert [text.get_text() for text in panels_of(figure)["RTE (accuracy)"].texts] == ["no complete cell"]


def test_a_run_that_diverged_enters_the_score_and_not_the_time():
    rows = timed(
        make_runs("rte", "edora", [0.5, 0.7, 0.7], statuses=["diverged", "complete", "complete"]),
        1.0,
        60.0,
        80.0,
    )
    (axis,) = draw_costs(make_selection(rows), "Title").axes
    assert [point[:2] for point in list_series(axis)[METHOD_STYLES["edora"].colour]] == [(70.0, 70.0)]


def test_legend_and_note_say_what_is_drawn(figure):
    assert legend_of(figure) == ["Full fine-tuning", "EDoRA (r=16)"]
    assert "It stands at the median training time of its runs, by the clock" in note_of(figure)
