from pathlib import Path

import pytest

from glue_harness.analysis.paired import PAIR_KEY, compare_methods
from glue_harness.analysis.summary import average_tasks
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables.ablation import build_ablation_table
from glue_harness.reports.tables.main import to_csv
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

GOLDEN = Path(__file__).parents[2] / "support" / "golden"
PAIR = ("edora", "edora_random")


@pytest.fixture
def rows():
    return [
        *make_runs("cola", "edora", [0.60, 0.62, 0.64]),
        *make_runs("rte", "edora", [0.78, 0.70, 0.79], head=591_361),
        *make_runs("cola", "edora_random", [0.59, 0.63, 0.60]),
        *make_runs("rte", "edora_random", [0.70, 0.71, 0.70], head=591_361, dirty=True),
        *make_runs("cola", "edora", [0.5, 0.5, None], rank=8),
        *make_runs("cola", "edora_random", [0.4, 0.6, 0.0], rank=8, statuses=["complete"] * 2 + ["diverged"]),
        *make_runs("rte", "lora", [0.9, 0.9, 0.9]),
    ]


def build(rows):
    selection = make_selection(rows)
    return build_ablation_table(selection, compare_methods(selection, *PAIR), "Bases & more")


def cell_texts(rows):
    lines = [line for line in to_markdown(build(rows)).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_golden_markdown(rows):
    assert to_markdown(build(rows)) == (GOLDEN / "table_ablation.md").read_text()


def test_golden_latex(rows):
    assert to_latex(build(rows), "demo_ablation") == (GOLDEN / "table_ablation.tex").read_text()


def test_golden_csv(rows):
    compared = compare_methods(make_selection(rows), *PAIR)
    text = to_csv(compared, average_tasks(compared, PAIR_KEY), PROTOCOL, PAIR_KEY)
    assert text == (GOLDEN / "table_ablation.csv").read_text()


def test_cells_by_hand(rows):
    assert cell_texts(rows) == [
        ["EDoRA (r=16)", "49,152", "592,130", "**62.0 ± 2.0**", "**78.0 ± 4.9**", "**70.0**"],
        ["EDoRA, random bases (r=16)", "49,152", "592,130", "_60.0 ± 2.1_", "_70.0 ± 0.6_", "_65.0_"],
        ["Difference", "", "", "+1.0 ± 2.5", "+8.0 ± 5.5", "+4.5"],
        ["Pairs ahead", "", "", "2 of 3", "2 of 3", ""],
        ["EDoRA (r=8)", "49,152", "592,130", "-- (2/3)", "not planned", "--"],
        ["EDoRA, random bases (r=8)", "49,152", "592,130", "40.0 ± 30.6 ‡1", "not planned", "--"],
        ["Difference", "", "", "-- (2/3) ‡1", "not planned", "--"],
        ["Pairs ahead", "", "", "1 of 2", "not planned", ""],
    ]


def test_other_methods_stay_out(rows):
    text = to_markdown(build(rows))
    assert "LoRA" not in text
    assert "Runs: 18 planned, 16 complete" in text


def test_one_task_and_several_models():
    rows = [
        row
        for model, score in (("tiny", 0.6), ("large", 0.8))
        for method, shift in zip(PAIR, (0.0, 0.1), strict=True)
        for row in make_runs("rte", method, [score + shift], model=model)
    ]
    texts = cell_texts(rows)
    assert [row[0] for row in texts] == ["tiny"] * 4 + ["large"] * 4
    assert texts[2][1:] == ["Difference", "", "", "-10.0"]
    assert "sample standard deviation" not in to_markdown(build(rows))


def test_no_difference_has_no_sign():
    rows = [*make_runs("rte", "edora", [0.5]), *make_runs("rte", "edora_random", [0.5 + 1e-9])]
    assert cell_texts(rows)[2][-1] == "0.0"


def test_a_missing_method_at_one_rank_is_no_pair(rows):
    rows += make_runs("rte", "edora", [0.9], rank=32)
    assert not [row for row in cell_texts(rows) if "r=32" in row[0]]
