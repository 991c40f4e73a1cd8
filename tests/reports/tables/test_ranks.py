import csv
import io
from pathlib import Path

import pytest

from glue_harness.analysis.summary import list_swept_methods
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables.main import to_csv
from glue_harness.reports.tables.ranks import build_rank_table
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

GOLDEN = Path(__file__).parents[2] / "support" / "golden"
PARAMETERS = {("edora", 4): 37_632, ("edora", 8): 39_936, ("edora", 16): 49_152, ("lora_xs", 4): 768}


def make_cell(task, method, rank, scores, **changes):
    count = PARAMETERS.get((method, rank), 3_072)
    return make_runs(task, method, scores, rank=rank, adapter_parameters=count, **changes)


@pytest.fixture
def rows():
    return [
        *make_cell("cola", "edora", 8, [0.6, 0.62, 0.61]),
        *make_cell("cola", "edora", 4, [0.5, 0.52, 0.51]),
        *make_cell("cola", "lora_xs", 8, [0.55, None, 0.5]),
        *make_cell("cola", "lora_xs", 4, [0.4, 0.41, 0.0], statuses=["complete"] * 2 + ["diverged"]),
        *make_cell("rte", "edora", 8, [0.7, 0.72, 0.71]),
        *make_cell("rte", "edora", 4, [0.6, 0.62, 0.61]),
        *make_cell("rte", "edora", 16, [0.75, 0.76]),
        *make_cell("rte", "lora_xs", 8, [0.71, 0.71, 0.71], degenerate=(2,)),
        *make_cell("rte", "lora_xs", 4, [0.5, 0.5, 0.5], dirty=True, commit="fedcba9876"),
        *make_runs("rte", "full", [0.9, 0.9, 0.9], rank=None),
        *make_runs("rte", "lora", [0.8, 0.8, 0.8], rank=16),
    ]


def select(rows):
    """Return the selection that `aggregate` would give to the table: the methods of several ranks."""
    selection = make_selection(rows)
    methods = list_swept_methods(selection.summary)
    return selection.keep(lambda row: row["method"] in methods)


def build(rows):
    return build_rank_table(select(rows), "EDoRA & ranks")


def cell_texts(rows):
    lines = [line for line in to_markdown(build(rows)).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_golden_markdown(rows):
    assert to_markdown(build(rows)) == (GOLDEN / "table_ranks.md").read_text()


def test_golden_latex(rows):
    assert to_latex(build(rows), "demo_ranks") == (GOLDEN / "table_ranks.tex").read_text()


def test_golden_csv(rows):
    kept = select(rows)
    assert to_csv(kept.summary, kept.averages, PROTOCOL) == (GOLDEN / "table_ranks.csv").read_text()


def test_only_methods_of_several_ranks_are_swept(rows):
    assert list_swept_methods(make_selection(rows).summary) == ["edora", "lora_xs"]
    assert list_swept_methods(make_selection(rows[-6:]).summary) == []


def test_rows_are_methods_and_columns_ascending_ranks(rows):
    head = to_markdown(build(rows)).splitlines()[2]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "Task (metric)",
        "Method",
        "r=4",
        "r=8",
        "r=16",
    ]
    assert [tuple(row[:2]) for row in cell_texts(rows)] == [
        (block, method)
        for block in ("Adapter (parameters)", "CoLA (Matthews)", "RTE (accuracy)", "Average")
        for method in ("EDoRA", "LoRA-XS")
    ]


def test_cells_by_hand(rows):
    by_row = {tuple(row[:2]): row[2:] for row in cell_texts(rows)}
    assert by_row["Adapter (parameters)", "EDoRA"] == ["37,632", "39,936", "49,152"]
    assert by_row["Adapter (parameters)", "LoRA-XS"] == ["768", "3,072", "not planned"]
    assert by_row["CoLA (Matthews)", "EDoRA"] == ["**51.0 ± 1.0**", "61.0 ± 1.0", "not planned"]
    assert by_row["CoLA (Matthews)", "LoRA-XS"] == ["_40.0 ± 23.4_ ‡1", "-- (2/3)", "not planned"]
    # The headline score of a degenerate run is the majority class's already; two of two ties are both best.
    assert by_row["RTE (accuracy)", "EDoRA"] == ["**61.0 ± 1.0**", "**71.0 ± 1.0**", "75.5 ± 0.7 (n=2)"]
    assert by_row["RTE (accuracy)", "LoRA-XS"] == ["_50.0 ± 0.0_", "**71.0 ± 0.0** †1", "not planned"]
    assert by_row["Average", "EDoRA"] == ["**56.0**", "66.0", "--"]
    assert by_row["Average", "LoRA-XS"] == ["_45.0_", "--", "not planned"]


def test_one_task_has_no_average(rows):
    assert {row[0] for row in cell_texts(rows[12:])} == {"Adapter (parameters)", "RTE (accuracy)"}


def test_models_have_groups_of_their_own():
    rows = [
        row
        for model, shift in (("tiny", 0.0), ("large", 0.1))
        for rank in (4, 8)
        for row in make_cell("rte", "edora", rank, [0.6 + shift], model=model)
    ]
    assert [row[:3] for row in cell_texts(rows)] == [
        ["tiny", "Adapter (parameters)", "EDoRA"],
        ["tiny", "RTE (accuracy)", "EDoRA"],
        ["large", "Adapter (parameters)", "EDoRA"],
        ["large", "RTE (accuracy)", "EDoRA"],
    ]


def test_settings_are_rows_of_their_own():
    rows = [
        row
        for rate in ("0.001", "0.0005")
        for rank in (4, 8)
        for row in make_cell("rte", "edora", rank, [0.6], settings=f"trainer.learning_rate={rate}")
    ]
    methods = [row[1] for row in cell_texts(rows) if row[0].startswith("RTE")]
    assert methods == ["EDoRA, learning_rate=0.001", "EDoRA, learning_rate=0.0005"]


def test_latex_has_the_same_columns_in_every_line(rows):
    tex = to_latex(build(rows), "demo_ranks")
    body = [line for line in tex.splitlines() if line.endswith(r" \\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {4}
    assert "\\begin{tabular}{llrrr}" in tex


def csv_lines(rows):
    kept = select(rows)
    return list(csv.DictReader(io.StringIO(to_csv(kept.summary, kept.averages, PROTOCOL))))


def test_the_csv_holds_the_swept_methods_alone(rows):
    assert {line["method"] for line in csv_lines(rows)} == {"edora", "lora_xs"}
