"""Scores by rank, as they are drawn."""

import pytest

from glue_harness.reports.figures.ranks import draw_ranks
from glue_harness.reports.figures.styles import METHOD_STYLES
from tests.reports.figures.test_plots import legend_of, list_series, note_of, panels_of
from tests.support.scored_runs import make_runs, make_selection


@pytest.fixture
def figure():
    rows = [
        *make_runs("cola", "edora", [0.5, 0.52], rank=16),
        *make_runs("cola", "edora", [0.4, 0.44], rank=4),
        *make_runs("cola", "lora", [0.6, 0.6], rank=4),
        *make_runs("cola", "lora", [0.6, None], rank=16),
        *make_runs("rte", "edora", [0.7, 0.7], rank=16),
        *make_runs("rte", "edora", [0.7, 0.74], rank=4),
    ]
    return draw_ranks(make_selection(rows), "Title")


def test_a_line_a_method_over_the_grid_s_ranks(figure):
    axis = panels_of(figure)["CoLA (Matthews)"]
    series = list_series(axis)
    assert series[METHOD_STYLES["edora"].colour] == [
        pytest.approx((4, 42.0, 2.0)),
        pytest.approx((16, 51.0, 1.0)),
    ]
    assert series[METHOD_STYLES["lora"].colour] == [pytest.approx((4, 60.0, 0.0))]
    assert axis.get_xscale() == "log"
    assert list(axis.get_xticks()) == [4, 16]
    assert [axis.xaxis.get_major_formatter()(tick, 0) for tick in axis.get_xticks()] == ["4", "16"]


def test_there_is_a_panel_a_task_and_one_for_whole_averages(figure):
    assert list(panels_of(figure)) == ["CoLA (Matthews)", "RTE (accuracy)", "Average"]
    average = list_series(panels_of(figure)["Average"])
    assert [point[:2] for point in average[METHOD_STYLES["edora"].colour]] == [
        (4, pytest.approx((42.0 + 72.0) / 2)),
        (16, pytest.approx((51.0 + 70.0) / 2)),
    ]


def test_legend_and_note_say_what_is_drawn(figure):
    assert legend_of(figure) == ["EDoRA", "LoRA"]
    assert "5 of 6 cells have all their runs; the others are left out." in note_of(figure)
