import csv
import io
import re
from pathlib import Path

import pytest

from glue_harness.reports.notes import name_metric, name_row, name_series, name_task
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables.main import build_main_table, to_csv
from tests.support.scored_runs import PROTOCOL, make_runs, make_selection

GOLDEN = Path(__file__).parents[2] / "support" / "golden"


def build(rows, title="EDoRA & others"):
    return build_main_table(make_selection(rows), title)


@pytest.fixture
def rows():
    return [
        *make_runs("cola", "full", [0.6, 0.62, 0.61], rank=None),
        *make_runs("rte", "full", [0.78, 0.8, 0.79], rank=None, head=591_361),
        *make_runs("cola", "lora", [0.61, 0.63, 0.0], statuses=["complete"] * 2 + ["diverged"]),
        *make_runs("rte", "lora", [0.791, 0.8, 0.5], degenerate=(3,), dirty=True, commit="fedcba9876"),
        *make_runs("cola", "edora", [0.5, None, 0.52]),
        *make_runs("rte", "edora", [0.75, None, 0.77], statuses=["complete", "failed", "complete"]),
    ]


def test_golden_markdown(rows):
    assert to_markdown(build(rows)) == (GOLDEN / "table_main.md").read_text()


def test_golden_latex(rows):
    assert to_latex(build(rows), "demo") == (GOLDEN / "table_main.tex").read_text()


def test_golden_csv(rows):
    selection = make_selection(rows)
    assert to_csv(selection.summary, selection.averages, PROTOCOL) == (GOLDEN / "table_main.csv").read_text()


def test_a_task_that_is_not_averaged_is_shown_and_stays_out_of_the_average(rows):
    wnli = make_runs("wnli", "full", [0.5, 0.5, 0.5], rank=None, averaged=False)
    shown, average = cell_texts([*rows[:6], *wnli])[0][3:], cell_texts(rows[:6])[0][-1]
    assert shown[2] == "50.0 ± 0.0"
    assert shown[-1] == average
    note = (
        "- The average is the mean over tasks but WNLI, shown once a row has all of them and all their runs."
    )
    assert note in to_markdown(build([*rows[:6], *wnli]))


def test_cells_whose_runs_were_computed_in_different_ways_are_named(rows):
    assert "Within a cell" not in to_markdown(build(rows))
    rows[0]["numerics"] = rows[7]["numerics"] = 2
    rows[8]["precision"] = "bf16"
    note = "Within a cell runs differ in numerics (Full fine-tuning on CoLA, LoRA (r=16) on CoLA)"
    assert f"; numerics 2, 1. {note}; precision (LoRA (r=16) on CoLA).\n" in to_markdown(build(rows))
    rows[6] |= {"status": "failed", "score": None, "numerics": 3}
    assert note in to_markdown(build(rows))
    rows += [row | {"model": "large"} for row in rows[:1]]
    assert "numerics (tiny: Full fine-tuning on CoLA, tiny: LoRA" in to_markdown(build(rows))


def test_a_row_that_starts_from_another_task_has_a_footnote(rows):
    assert "Started from" not in to_markdown(build(rows))
    for row in rows:
        if row["method"] != "full" and row["task"] == "rte":
            row["init_from"] = "mnli"
    notes = to_markdown(build(rows))
    assert (
        "- Started from the adapter and the head, but for its output layer, of another task's run (same seed): "
        "LoRA (r=16) on RTE from MNLI; EDoRA (r=16) on RTE from MNLI.\n"
    ) in notes


def cell_texts(rows):
    """Return the Markdown table's body as lists of stripped cells."""
    lines = [line for line in to_markdown(build(rows)).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_markdown_lines_up_in_a_terminal(rows):
    lines = [line for line in to_markdown(build(rows)).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1


def test_latex_has_the_same_columns_in_every_line_and_nothing_unescaped(rows):
    rows += make_runs("rte", "a_new&odd%method", [0.5, 0.6, 0.7], rank=4)
    tex = to_latex(build(rows, "50% of $5 & #1_{x} ~ ^ \\ < >"), "demo")
    body = [line for line in tex.splitlines() if line.endswith(r" \\")]
    columns = re.search(r"\\begin{tabular}{(l+r+)}", tex).group(1)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(columns) - 1}
    assert r"a\_new\&odd\%method\_r4" in tex
    bare = re.sub(
        r"\$_\{\\pm [\d.]+\}\$|\$\\[a-z]+\$|\\[a-z]+(\{\})?|\\[&%$#_{}]|\\\\$|\{%$", "", tex, flags=re.M
    )
    assert not re.search(r"[%$#_^~\\<>±†‡]", bare.replace("tab:demo", ""))
    assert tex.isascii()


def test_the_csv_holds_raw_values(rows):
    selection = make_selection(rows)
    text = to_csv(selection.summary, selection.averages, PROTOCOL)
    lines = list(csv.DictReader(io.StringIO(text)))
    full = {line["task"]: line for line in lines if line["method"] == "full"}
    assert float(full["cola"]["value"]) == 0.61
    assert full["cola"]["scores"] == "0.6 0.62 0.61"
    assert float(full["average"]["value"]) == pytest.approx((0.61 + 0.79) / 2)


def test_ties_as_shown_share_a_place():
    rows = [
        *make_runs("rte", "full", [0.8001], rank=None),
        *make_runs("rte", "lora", [0.8004]),
        *make_runs("rte", "dora", [0.7]),
        *make_runs("rte", "edora", [0.7]),
        *make_runs("rte", "lora_xs", [0.6]),
    ]
    assert [row[-1] for row in cell_texts(rows)] == ["**80.0**", "**80.0**", "_70.0_", "_70.0_", "60.0"]


def test_a_column_with_one_complete_cell_has_no_best():
    rows = [*make_runs("rte", "full", [0.8]), *make_runs("rte", "lora", [None])]
    text = to_markdown(build(rows))
    assert "80.0" in text
    assert "**80.0**" not in text
    assert "Best" not in text


def test_incomplete_cells_are_never_best():
    rows = [
        *make_runs("rte", "full", [0.8, 0.8]),
        *make_runs("rte", "lora", [0.9, None]),
        *make_runs("rte", "dora", [0.7, 0.7]),
    ]
    assert [row[-1] for row in cell_texts(rows)] == ["**80.0 ± 0.0**", "-- (1/2)", "_70.0 ± 0.0_"]


def test_another_number_of_seeds_is_said_in_the_cell():
    rows = [
        *make_runs("rte", "full", [0.8]),
        *make_runs("cola", "full", [0.8] * 5),
        *make_runs("cola", "lora", [0.7] * 5),
    ]
    full, lora = cell_texts(rows)
    assert full[3:] == ["80.0 (n=1)", "**80.0 ± 0.0**", "80.0"]
    assert lora[3:] == ["not planned", "_70.0 ± 0.0_", "--"]
    assert "over 5 seeds, unless it says n, of" in to_markdown(build(rows))


def test_models_are_groups_with_their_own_best():
    rows = [
        row
        for model, shift in (("tiny", 0.0), ("large", 0.1))
        for method, score in (("full", 0.7), ("lora", 0.6))
        for row in make_runs("rte", method, [score + shift], model=model)
    ]
    texts = cell_texts(rows)
    assert [(row[0], row[-1]) for row in texts] == [
        ("tiny", "**70.0**"),
        ("tiny", "_60.0_"),
        ("large", "**80.0**"),
        ("large", "_70.0_"),
    ]
    tex = to_latex(build(rows), "demo")
    assert tex.count("\\midrule") == 2
    assert "\\begin{tabular}{llrrr}" in tex
    assert "Best of each model" in to_markdown(build(rows))


def test_settings_are_rows_of_their_own():
    rows = [
        row
        for rate, score in ((1e-3, 0.7), (5e-4, 0.6))
        for row in make_runs(
            "rte", "lora", [score], settings=f"trainer.learning_rate={rate} trainer.epochs=5"
        )
    ]
    names = [row[0] for row in cell_texts(rows)]
    assert names == [
        "LoRA (r=16), learning_rate=0.001, epochs=5",
        "LoRA (r=16), learning_rate=0.0005, epochs=5",
    ]


def test_one_task_has_no_average():
    assert "average" not in to_markdown(build(make_runs("rte", "full", [0.8]))).lower()


def test_a_table_without_any_run_shows_every_cell():
    rows = [*make_runs("rte", "full", [None] * 5, adapter_parameters=None, head_parameters=None, commit=None)]
    assert cell_texts(rows) == [["Full fine-tuning (r=16)", "--", "--", "-- (0/5)"]]


def test_names_that_people_read():
    row = {"method": "edora", "label": "edora_r16", "rank": 16, "settings": None}
    assert name_row(row) == "EDoRA (r=16)"
    assert name_row(row | {"method": "dora"}) == "DoRA (r=16)"
    assert name_row(row | {"method": "own", "label": "own_r16"}) == "own_r16"
    assert name_series([row | {"rank": rank} for rank in (8, 4)]) == "EDoRA (r=4, 8)"
    assert (
        name_series([row | {"settings": f"trainer.epochs={n}"} for n in (1, 2)]) == "EDoRA (r=16), 2 settings"
    )
    assert name_series([row | {"settings": "trainer.epochs=1"}]) == "EDoRA (r=16), epochs=1"
    assert [name_task(task) for task in ("cola", "sst2", "stsb", "rte")] == ["CoLA", "SST-2", "STS-B", "RTE"]
    assert name_metric("matthews_correlation") == "Matthews"
