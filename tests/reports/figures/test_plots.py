import itertools
import math

import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from glue_harness.reports.figures.panels import encode
from glue_harness.reports.figures.plots import APART, draw_curves, draw_scores, format_count, place_apart
from glue_harness.reports.figures.styles import METHOD_STYLES
from tests.support.scored_runs import make_runs, make_selection

NO_CURVES = pd.DataFrame(columns=["model", "task", "method", "statistic", "low", "high"])


def panels_of(figure):
    return {axis.get_title(): axis for axis in figure.axes}


def note_of(figure):
    return " ".join(figure.texts[0].get_text().split())


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def list_series(axis):
    """Return each method's points of a panel by its colour: (x, y, half the bar's height)."""
    found = {}
    for container in (c for c in axis.containers if isinstance(c, ErrorbarContainer)):
        line, _, bars = container
        heights = [(ends[1][1] - ends[0][1]) / 2 for bar in bars for ends in bar.get_segments()]
        heights = heights or [0.0] * len(line.get_xdata())
        found[line.get_color()] = list(zip(line.get_xdata(), line.get_ydata(), heights, strict=True))
    return found


@pytest.fixture
def rows():
    return [
        *make_runs("cola", "full", [0.6, 0.62], rank=None),
        *make_runs("rte", "full", [0.8, 0.8], rank=None),
        *make_runs("cola", "edora", [0.5, 0.52], rank=16),
        *make_runs("rte", "edora", [0.7, 0.72], rank=16),
        *make_runs("cola", "edora", [0.4, 0.44], rank=4, adapter_parameters=37_632),
        *make_runs("rte", "edora", [0.6, None], rank=4, adapter_parameters=37_632),
        *make_runs("cola", "head_only", [0.3, 0.32], rank=None),
        *make_runs("rte", "head_only", [0.6, 0.6], rank=None),
    ]


def test_points_stand_at_their_parameters_and_median_with_their_interval(rows):
    axis = panels_of(draw_scores(make_selection(rows), "Title"))["CoLA (Matthews)"]
    assert axis.get_xscale() == "log"
    series = list_series(axis)
    (full,) = series[METHOD_STYLES["full"].colour]
    assert full == pytest.approx((124_055_040, 61.0, 1.0))  # of two seeds it is their range
    low, high = series[METHOD_STYLES["edora"].colour]  # joined in order of the ranks, whatever the grid's
    assert low == pytest.approx((37_632, 42.0, 2.0))
    assert high == pytest.approx((49_152, 51.0, 1.0))
    assert axis.get_xlim()[0] < 37_632
    assert axis.get_xlim()[1] > 124_055_040


def test_an_interval_need_not_be_even():
    figure = draw_scores(make_selection(make_runs("rte", "edora", [0.5, 0.7, 0.71])), "Title")
    (container,) = figure.axes[0].containers
    ((low, high),) = (bar.get_segments()[0][:, 1] for bar in container[2])
    assert (low, high) == (pytest.approx(50.0), pytest.approx(71.0))
    assert list(container[0].get_ydata()) == [70.0]
    assert "bars are the range of the seeds, no confidence interval, which takes 6 of them." in note_of(
        figure
    )


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((6, 7), "bars are its 95 % bootstrap interval over seeds; averages"),
        (
            (6, 5),
            ", of fewer than 6 seeds no more than their range; averages have none.",
        ),
        ((5, 1), "bars are the range of the seeds, no confidence interval, which takes 6 of them; averages"),
    ],
)
def test_bars_are_called_what_they_are(numbers, said):
    rte, cola = ([0.6 + k / 100 for k in range(number)] for number in numbers)
    selection = make_selection([*make_runs("rte", "edora", rte), *make_runs("cola", "edora", cola)])
    assert said in note_of(draw_scores(selection, "Title"))


def test_a_method_without_parameters_is_a_line_across(rows):
    figure = draw_scores(make_selection(rows), "Title")
    axis = panels_of(figure)["RTE (accuracy)"]
    (line,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert list(line.get_ydata()) == [60.0, 60.0]
    assert line.get_color() == METHOD_STYLES["head_only"].colour
    assert legend_of(figure) == ["Full fine-tuning", "EDoRA (r=4, 16)", "Head only"]


def test_the_average_has_a_panel_and_only_whole_rows(rows):
    figure = draw_scores(make_selection(rows), "Title")
    assert list(panels_of(figure)) == ["CoLA (Matthews)", "RTE (accuracy)", "Average"]
    series = list_series(panels_of(figure)["Average"])
    assert series[METHOD_STYLES["edora"].colour] == [pytest.approx((49_152, (51.0 + 71.0) / 2, 0))]
    assert series[METHOD_STYLES["full"].colour][0][:2] == pytest.approx((124_055_040, (61.0 + 80.0) / 2))


def test_missing_cells_are_left_out_and_counted(rows):
    figure = draw_scores(make_selection(rows), "Title")
    series = list_series(panels_of(figure)["RTE (accuracy)"])
    assert [point[1] for point in series[METHOD_STYLES["edora"].colour]] == [71.0]
    assert "7 of 8 cells have all their runs; the others are left out." in note_of(figure)
    whole = draw_scores(make_selection(rows[:6]), "Title")
    assert "All 3 cells have all their runs." in note_of(whole)
    assert "Protocol best_epoch: best epoch, 50% & more. A point is the median over 2 seeds" in note_of(whole)


def test_one_task_has_no_average(rows):
    assert list(panels_of(draw_scores(make_selection(rows[:2]), "Title"))) == ["CoLA (Matthews)"]


def test_one_seed_has_no_bars():
    figure = draw_scores(make_selection(make_runs("rte", "edora", [0.7])), "Title")
    (axis,) = figure.axes
    assert list_series(axis) == {METHOD_STYLES["edora"].colour: [(pytest.approx(49_152), 70.0, 0)]}
    assert "median over 1 seed." in note_of(figure)
    assert "bars" not in note_of(figure)


def make_settings(number):
    return [
        row
        for n in range(number)
        for row in make_runs("rte", "edora", [0.6 + n / 100, 0.7], settings=f"trainer.epochs={n}")
    ]


@pytest.mark.parametrize("number", [2, 4])
def test_a_few_settings_have_a_look_a_place_and_bars_each(number):
    figure = draw_scores(make_selection(make_settings(number)), "Title")
    (axis,) = figure.axes
    lines = [container[0] for container in axis.containers]
    assert len({(line.get_fillstyle(), line.get_markerfacecolor()) for line in lines}) == number
    assert len({line.get_xdata()[0] for line in lines}) == number
    assert {(line.get_color(), line.get_marker(), line.get_alpha()) for line in lines} == {
        (*METHOD_STYLES["edora"][:2], 1)
    }
    assert all(len(container[2]) == 1 for container in axis.containers)
    assert legend_of(figure) == [f"EDoRA (r=16), epochs={n}" for n in range(number)]
    assert "faint" not in note_of(figure)


def test_many_settings_are_faint_points_of_one_method():
    figure = draw_scores(make_selection(make_settings(5)), "Title")
    (axis,) = figure.axes
    assert [container[0].get_alpha() < 1 for container in axis.containers] == [True] * 5
    assert [container[2] for container in axis.containers] == [()] * 5
    assert legend_of(figure) == ["EDoRA (r=16), 5 settings"]
    assert "More than 4 settings of a method are faint, without their spread." in note_of(figure)
    assert "bars" not in note_of(figure)


def test_a_faint_setting_that_has_not_run_takes_no_place_from_the_others():
    missing = make_runs("rte", "edora", [None, None], settings="trainer.epochs=9", adapter_parameters=None)
    figure = draw_scores(make_selection(make_settings(5) + missing), "Title")
    assert len(figure.axes[0].containers) == 5
    assert "5 of 6 cells have all their runs" in note_of(figure)


@pytest.mark.parametrize("scores", [[0.4, 0.42], [0.4, None]])
def test_what_lies_far_below_is_named_and_squeezes_no_panel(scores):
    near = [
        row
        for method, score in (("full", 0.85), ("lora", 0.84), ("edora", 0.83))
        for row in make_runs("rte", method, [score, score + 0.01])
    ]
    figure = draw_scores(make_selection([*near, *make_runs("rte", "head_only", scores, rank=None)]), "Title")
    (axis,) = figure.axes
    low, high = axis.get_ylim()
    assert 80 < low < 83
    assert 86 < high < 87
    is_cut = None not in scores
    assert [text.get_text() for text in axis.texts] == ["↓ Head only: 41.0"] * is_cut
    assert ("↓ names what lies so far below" in note_of(figure)) == is_cut


@pytest.mark.parametrize("scores", [[None, None], [0.0, 0.0], [1.0, 1.0], [-0.3, 0.2]])
def test_any_scores_make_a_figure(scores):
    for method in ("edora", "head_only"):
        selection = make_selection(make_runs("cola", method, scores))
        for figure in (draw_scores(selection, "Title"), draw_curves(selection, NO_CURVES, "Title")):
            assert {ending: len(content) > 1000 for ending, content in encode(figure).items()} == {
                "png": True,
                "pdf": True,
            }


def test_a_panel_without_a_complete_cell_says_so():
    rows = [*make_runs("cola", "edora", [0.5, 0.6]), *make_runs("rte", "edora", [0.5, None])]
    rows += make_runs("rte", "lora", [None, None], adapter_parameters=None)
    figure = draw_scores(make_selection(rows), "Title")
    shown = {title: [text.get_text() for text in axis.texts] for title, axis in panels_of(figure).items()}
    nothing = ["no complete cell"]
    assert legend_of(figure) == ["EDoRA (r=16)"]
    assert shown == {"CoLA (Matthews)": [], "RTE (accuracy)": nothing, "Average": nothing}


def test_a_small_difference_does_not_fill_a_panel():
    rows = [*make_runs("rte", "edora", [0.7]), *make_runs("rte", "lora", [0.7001])]
    low, high = draw_scores(make_selection(rows), "Title").axes[0].get_ylim()
    assert high - low == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("count", "text"), [(768, "768"), (1e3, "1K"), (5e4, "50K"), (2e6, "2M"), (1e8, "100M"), (1e9, "1B")]
)
def test_counts_in_few_characters(count, text):
    assert format_count(count) == text


def test_counts_apart_stay_in_their_places():
    counts = {("edora", "r4"): 1_000, ("edora", "r8"): 1_001, ("lora", "r8"): 1_000_000}
    assert place_apart(counts) == pytest.approx(counts)


def test_equal_counts_of_two_methods_stand_beside_their_place():
    places = place_apart(
        {("edora", "r16"): 50_000, ("edora_random", "r16"): 50_000, ("lora", "r16"): 5_000_000}
    )
    left, right = places["edora", "r16"], places["edora_random", "r16"]
    assert math.log10(right / left) == pytest.approx(APART * 2)  # two decades long
    assert math.sqrt(left * right) == pytest.approx(50_000)
    assert places["lora", "r16"] == pytest.approx(5_000_000)


def test_a_crowd_keeps_its_order_and_its_middle():
    counts = {(f"method{n}", "r1"): 1_000 + n for n in range(5)} | {("far", "r1"): 100_000}
    places = list(place_apart(counts).values())
    steps = [math.log10(right / left) for left, right in itertools.pairwise(places[:5])]
    assert steps == pytest.approx([steps[0]] * 4)
    assert math.prod(places[:5]) ** 0.2 == pytest.approx(math.prod(list(counts.values())[:5]) ** 0.2)


def test_nothing_and_unknown_counts_have_no_place():
    assert place_apart({}) == {}
    assert place_apart({("head_only", "head_only"): 0, ("lora", "r8"): None}) == {}


@pytest.fixture
def curves():
    shared = {"model": "tiny", "task": "rte", "rank": 16, "settings": None}
    return pd.DataFrame(
        [
            shared
            | {
                "method": "edora",
                "label": "edora_r16",
                "statistic": (0.5, 0.7),
                "low": (0.4, 0.6),
                "high": (0.6, 0.9),
            },
            shared
            | {"method": "lora", "label": "lora_r16", "statistic": (0.6,), "low": (0.6,), "high": (0.6,)},
        ],
        dtype=object,
    )


def make_curve_rows():
    rows = [*make_runs("rte", "edora", [0.7, 0.8]), *make_runs("rte", "lora", [0.6, 0.6])]
    return [*rows, *make_runs("cola", "edora", [0.7, None])]


def test_lines_run_over_epochs_with_the_range_of_seeds(curves):
    figure = draw_curves(make_selection(make_curve_rows()), curves, "Title")
    axis = panels_of(figure)["RTE (accuracy)"]
    edora, lora = axis.lines
    assert (list(edora.get_xdata()), list(edora.get_ydata())) == ([1, 2], [50.0, 70.0])
    assert (edora.get_color(), edora.get_marker()) == METHOD_STYLES["edora"][:2]
    assert (list(lora.get_xdata()), list(lora.get_ydata())) == ([1], [60.0])
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1, band.y0, band.y1) == pytest.approx((1, 2, 40.0, 90.0))
    assert set(axis.get_xticks()) >= {1, 2}
    assert legend_of(figure) == ["EDoRA (r=16)", "LoRA (r=16)"]
    assert "2 of 3 cells have all their runs" in note_of(figure)


def test_epochs_are_whole_numbers_from_one(curves):
    for number in (1, 2, 7, 50):
        row = curves.iloc[0].to_dict() | dict.fromkeys(("statistic", "low", "high"), (0.5,) * number)
        selection = make_selection(make_curve_rows()[:2])
        (axis,) = draw_curves(selection, pd.DataFrame([row], dtype=object), "Title").axes
        low, high = axis.get_xlim()
        ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
        assert low < 1 <= number < high
        assert min(ticks) >= 1
        assert 1 <= len(ticks) <= 10
        assert all(tick == int(tick) for tick in ticks)


def test_a_task_without_a_curve_says_so(curves):
    axes = panels_of(draw_curves(make_selection(make_curve_rows()), curves, "Title"))
    assert [text.get_text() for text in axes["CoLA (Matthews)"].texts] == ["no complete cell"]
