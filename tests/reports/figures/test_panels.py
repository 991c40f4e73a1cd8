import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import rcParams
from matplotlib.layout_engine import ConstrainedLayoutEngine

from glue_harness.reports.figures.panels import encode, lay_out, split_far, use_style
from glue_harness.reports.figures.styles import METHOD_STYLES, make_handle

HANDLES = [
    make_handle(name, METHOD_STYLES["lora"]) for name in ("LoRA", "EDoRA, random bases (r=16)", "DoRA")
]


def make_panels(tasks, models=("tiny",)):
    return [[{"model": model, "task": task, "headline": "accuracy"}] for model in models for task in tasks]


@pytest.mark.parametrize(
    ("number", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (1, 4)), (6, (2, 3)), (7, (2, 4)), (10, (3, 4))],
)
def test_panels_fill_rows(number, shape):
    _, axes = lay_out(make_panels([f"task{n}" for n in range(number)]), "Title", "A note.", HANDLES)
    assert len(axes) == number
    assert axes[0].get_subplotspec().get_geometry()[:2] == shape


def test_a_models_panels_begin_a_row_in_whatever_order_they_come():
    panels = [*make_panels(["rte"], ["tiny", "large"]), *make_panels(["cola", "sst2"], ["large", "tiny"])]
    _, axes = lay_out(panels, "Title", "A note.", HANDLES)
    places = {axis.get_title(): divmod(axis.get_subplotspec().num1, 3) for axis in axes}
    assert places["tiny\nRTE (accuracy)"] == (0, 0)
    assert places["large\nRTE (accuracy)"] == (1, 0)
    assert {place[0] for title, place in places.items() if title.startswith("tiny")} == {0}


def make_cells(*values):
    """Return a cell for each (low, statistic, high)."""
    return [dict(zip(("low", "statistic", "high"), of_cell, strict=True)) for of_cell in values]


def test_what_lies_far_below_is_the_fewest_that_squeeze_the_others():
    near = [(0.83, 0.84, 0.85), (0.84, 0.84, 0.86), (0.85, 0.86, 0.86)]
    for far, outside in (
        ([(0.3, 0.4, 0.5)], [0.4]),
        ([(0.3, 0.4, 0.5), (0.39, 0.4, 0.41)], [0.4, 0.4]),
        ([(0.80, 0.80, 0.80)], []),  # 6 points beside 3
        ([(0.3, 0.4, 0.5)] * 3, []),  # as many as the others
        ([(0.3, 0.84, 0.85), (0.3, 0.4, 0.5)], []),  # the axis reaches down to a bar's end
        ([(None, 0.4, None)], [0.4]),
        ([(0.766, 0.77, 0.78), (0.826, 0.835, 0.84)], []),  # the second is near, and the first not 3 times
    ):
        found = split_far(make_cells(*near, *far))
        assert [row["statistic"] for row in found[0]] == outside
        assert len(found[0]) + len(found[1]) == len(near) + len(far)
    assert split_far([]) == ([], [])


def list_boxes(figure):
    """Return the place of the figure's title, legend, note and panels (with all that belongs to them)."""
    figure.draw_without_rendering()
    texts = {"title": figure._suptitle, "note": figure.texts[0], "legend": figure.legends[0]}
    boxes = {name: artist.get_window_extent() for name, artist in texts.items()}
    return boxes | {f"panel {n}": axis.get_tightbbox() for n, axis in enumerate(figure.axes)}


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7, 10])
@pytest.mark.parametrize("models", [("tiny",), ("tiny", "deberta_v2_xxlarge")])
def test_nothing_lies_on_anything_else_and_all_is_inside(number, models):
    with use_style():
        panels = make_panels([f"task{n}" for n in range(number)], models)
        figure, _ = lay_out(panels, "A title of some length", "A note that is long. " * 20, HANDLES * 3)
    boxes = list_boxes(figure)
    for name, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, name
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, name
        others = [other for key, other in boxes.items() if key != name]
        assert not any(box.overlaps(other) for other in others), name


def test_a_users_settings_stay_as_they_were():
    before = dict(rcParams)
    figure, _ = lay_out(make_panels(["rte"]), "Title", "A note.", HANDLES)
    encode(figure)
    assert dict(rcParams) == before


SCRIPT = """
import hashlib
from glue_harness.reports.figures.styles import METHOD_STYLES, make_handle
from glue_harness.reports.figures.panels import encode, lay_out, use_style
with use_style():
    figure, (axis,) = lay_out([[{"model": "m", "task": "cola", "headline": "f1"}]], "T ± †", "N", [make_handle("E", METHOD_STYLES["edora"])])
    axis.plot([1, 2], [3, 4], marker="D")
    axis.fill_between([1, 2], [2, 3], [4, 5], alpha=0.2)
print({ending: hashlib.sha256(content).hexdigest() for ending, content in encode(figure).items()})
"""


def test_bytes_depend_on_no_hash_seed_no_clock_no_settings_and_no_display(tmp_path):
    """Two processes; the other has another hash seed and time, a matplotlibrc and a backend that needs a display."""
    (tmp_path / "matplotlibrc").write_text("axes.linewidth: 5\nfont.size: 20\nbackend: tkagg\n")
    shared = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    shared["PYTHONPATH"] = str(Path(__file__).parents[3] / "src")
    first = {"PYTHONHASHSEED": "1"}
    other = {
        "PYTHONHASHSEED": "2",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "MPLBACKEND": "tkagg",
        "SOURCE_DATE_EPOCH": "1",
    }
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=shared | env, check=True, capture_output=True
        ).stdout
        for env in (first, other)
    ]
    assert outputs[0] == outputs[1]


def test_bytes_do_not_depend_on_the_last_digits_of_the_layouts_solver(monkeypatch):
    """Its unknowns are in the order of their addresses in memory, which no test can set."""
    execute = ConstrainedLayoutEngine.execute

    def execute_elsewhere(engine, figure):
        execute(engine, figure)
        for axis in figure.axes:
            axis._set_position([share * (1 + 2e-12) for share in axis.get_position().bounds])

    contents = []
    for patched in (execute, execute_elsewhere):
        monkeypatch.setattr(ConstrainedLayoutEngine, "execute", patched)
        with use_style():
            figure, axes = lay_out(make_panels(["rte", "cola", "sst2"]), "Title", "A note.", HANDLES)
            axes[0].fill_between([1, 2], [2, 3], [4, 5])
        contents.append(encode(figure))
    assert contents[0] == contents[1]


def test_files_hold_no_date_and_no_program():
    content = encode(lay_out(make_panels(["rte"]), "Title", "A note.", HANDLES)[0])
    assert content["png"].startswith(b"\x89PNG")
    assert content["pdf"].startswith(b"%PDF")
    for mark in (b"CreationDate", b"matplotlib", b"Matplotlib", b"/Type3"):
        assert mark not in content["pdf"] + content["png"]
