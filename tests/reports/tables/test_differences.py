from glue_harness.analysis.paired import compare_rows
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables.differences import build_differences_table
from tests.support.scored_runs import make_runs, make_selection

SCORES = [0.80, 0.70, 0.75]


def build(rows):
    selection = make_selection(rows)
    return build_differences_table(selection, compare_rows(selection), "Differences & more")


def cell_texts(rows):
    lines = [line for line in to_markdown(build(rows)).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def make_all():
    return [
        *make_runs("rte", "edora", SCORES),
        *make_runs("cola", "edora", [0.5, 0.6, 0.7]),
        *make_runs("rte", "lora", [0.70, 0.72, 0.71]),
        *make_runs("cola", "lora", [0.5, None, 0.6]),
        *make_runs("rte", "full", [0.9, 0.0], rank=None, statuses=["complete", "diverged"]),
        *make_runs("rte", "head_only", [0.5, 0.5, 0.5], rank=None),
        *make_runs("cola", "head_only", [0.0, 0.1, 0.0], rank=None, degenerate=(1, 3)),
    ]


def test_cells_by_hand():
    assert cell_texts(make_all()) == [
        # 10, -2 and 4 points; their mean is 4, their variance (36 + 36 + 0) / 2
        ["EDoRA (r=16)", "LoRA (r=16)", "+4.0 ± 6.0 [2/3]", "-- (2/3)", "--"],
        # -10 and 70 points; their mean is 30, their variance 2 * 40^2
        ["EDoRA (r=16)", "Full fine-tuning", "+30.0 ± 56.6 [1/2] ‡1", "not planned", "--"],
        # 30, 20, 25 and 50, 50, 70 points
        ["EDoRA (r=16)", "Head only", "+25.0 ± 5.0 [3/3]", "+50.0 ± 11.5 [3/3] †2", "+37.5"],
    ]


def test_notes_explain_every_sign():
    notes = build(make_all()).notes
    for said in (
        "[k/n]",
        "-- (k/n)",
        "†k",
        "‡k",
        "in points",
        "20 planned, 18 complete",
    ):
        assert any(said in note for note in notes), said
    assert not any(
        "‡" in note for note in build([row for row in make_all() if row["method"] != "full"]).notes
    )


def test_a_cell_leads_to_the_pairs_behind_it():
    (group,) = build(make_all()).groups
    assert [entry.link for entry in group[0][2:]] == [
        f"pairs-tiny-r=16-LoRA-{task}" for task in ("RTE", "CoLA", "average")
    ]


def test_one_task_has_no_average_and_several_models_have_a_column():
    rows = [
        run
        for model in ("tiny", "large")
        for method in ("edora", "lora")
        for run in make_runs("rte", method, [0.5], model=model)
    ]
    assert cell_texts(rows) == [
        [model, "EDoRA (r=16)", "LoRA (r=16)", "0.0 [0/1]"] for model in ("tiny", "large")
    ]
    assert "deviation" not in to_markdown(build(rows))


def test_latex_escapes_it():
    assert r"Differences \& more" in to_latex(build(make_all()), "demo_differences")
